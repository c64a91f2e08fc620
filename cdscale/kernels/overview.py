"""One pixel for every four: how classes, probabilities and states are seen from farther away.

Shape suffixes: Q one of the four pixels, in reading order; Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Block = NDArray[Any]


def quads(block_YX: Block) -> Block:
    """The four pixels that become one: (4, Y / 2, X / 2) of an even number of rows and columns."""
    rows, columns = block_YX.shape
    cut = block_YX.reshape(rows // 2, 2, columns // 2, 2)
    return cut.transpose(1, 3, 0, 2).reshape(4, rows // 2, columns // 2)


def mean(block_YX: Block, fill: int) -> Block:
    """Mean of bytes that are there, halves rounded up; fill where nothing is."""
    values_QYX = quads(block_YX)
    there_QYX = values_QYX != fill
    count_YX = there_QYX.sum(axis=0, dtype=np.uint16)
    total_YX = np.where(there_QYX, values_QYX, 0).sum(axis=0, dtype=np.uint16)
    whole_YX = (2 * total_YX + count_YX) // np.maximum(2 * count_YX, 1)
    return np.where(count_YX > 0, whole_YX, fill).astype(block_YX.dtype)


def mode(block_YX: Block, fill: int) -> Block:
    """The commonest of codes that are bytes and not fill, of several the largest; else fill."""
    codes_QYX = quads(block_YX)
    most_YX = np.zeros(codes_QYX.shape[1:], np.uint16)
    for code_YX in codes_QYX:
        votes_YX = (codes_QYX == code_YX).sum(axis=0, dtype=np.uint16)
        key_YX = np.where(code_YX == fill, 0, (votes_YX << 8) + code_YX)
        np.maximum(most_YX, key_YX, out=most_YX)
    return np.where(most_YX == 0, fill, most_YX & 255).astype(block_YX.dtype)


def largest(block_YX: Block, fill: int) -> Block:
    """The largest of what is there; fill where nothing is."""
    return _extreme(block_YX, fill, np.max, np.iinfo(block_YX.dtype).min)


def least(block_YX: Block, fill: int) -> Block:
    """The least of what is there, of dates the first; fill where nothing is."""
    return _extreme(block_YX, fill, np.min, np.iinfo(block_YX.dtype).max)


def _extreme(block_YX: Block, fill: int, of: Callable[..., Block], loses: int) -> Block:
    """The extreme of four; what is not there takes a value that never wins."""
    values_QYX = quads(block_YX)
    there_QYX = values_QYX != fill
    best_YX = of(np.where(there_QYX, values_QYX, loses), axis=0)
    return np.where(there_QYX.any(axis=0), best_YX, fill).astype(block_YX.dtype)


def leader(rank_YX: Block, weight_YX: Block) -> Block:
    """Which of the four pixels leads: highest rank, then weight, then first in reading order.

    Parameters
    ----------
    rank_YX : array of uint8
        Rank of each pixel.
    weight_YX : array of uint8
        Decides between pixels of one rank.

    Returns
    -------
    array of uint8
        0 to 3, (Y / 2, X / 2).
    """
    key_QYX = (quads(rank_YX).astype(np.uint16) << 8) + quads(weight_YX)
    best_YX, which_YX = key_QYX[0].copy(), np.zeros(key_QYX.shape[1:], np.uint8)
    for number, key_YX in enumerate(key_QYX[1:], start=1):
        better_YX = key_YX > best_YX
        which_YX[better_YX] = number
        np.maximum(best_YX, key_YX, out=best_YX)
    return which_YX


def led(block_YX: Block, leader_YX: Block) -> Block:
    """Values of the pixels that lead."""
    first_YX, *others = quads(block_YX)
    made_YX: Block = first_YX.copy()
    for number, value_YX in enumerate(others, start=1):
        np.copyto(made_YX, value_YX, where=leader_YX == number)
    return made_YX
