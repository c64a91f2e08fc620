"""One pixel for every four: how classes, probabilities and states are seen from farther away.

Shape suffixes: Q one of the four pixels, in reading order; Y row, X column.
"""

from __future__ import annotations

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
    """Mean of what is there, halves rounded up; fill where nothing is."""
    values_QYX = quads(block_YX)
    there_QYX = values_QYX != fill
    count_YX = there_QYX.sum(axis=0, dtype=np.int64)
    total_YX = np.where(there_QYX, values_QYX, 0).sum(axis=0, dtype=np.int64)
    whole_YX = (2 * total_YX + count_YX) // np.maximum(2 * count_YX, 1)
    return np.where(count_YX > 0, whole_YX, fill).astype(block_YX.dtype)


def mode(block_YX: Block, fill: int) -> Block:
    """The commonest code of those that are not fill, of several the largest; else fill."""
    codes_QYX = quads(block_YX)
    there_QYX = codes_QYX != fill
    votes_QYX = (codes_QYX[:, None] == codes_QYX[None]).sum(axis=1, dtype=np.int64)
    key_QYX = np.where(there_QYX, (votes_QYX << 32) + codes_QYX, -1)
    return _taken(codes_QYX, np.argmax(key_QYX, axis=0))


def largest(block_YX: Block, fill: int) -> Block:
    """The largest of what is there; fill where nothing is."""
    values_QYX = quads(block_YX).astype(np.int64)
    most_YX = np.where(values_QYX == fill, np.iinfo(np.int64).min, values_QYX).max(axis=0)
    return np.where(most_YX == np.iinfo(np.int64).min, fill, most_YX).astype(block_YX.dtype)


def least(block_YX: Block, fill: int) -> Block:
    """The least of what is there, of dates the first; fill where nothing is."""
    values_QYX = quads(block_YX).astype(np.int64)
    first_YX = np.where(values_QYX == fill, np.iinfo(np.int64).max, values_QYX).min(axis=0)
    return np.where(first_YX == np.iinfo(np.int64).max, fill, first_YX).astype(block_YX.dtype)


def leader(rank_YX: Block, weight_YX: Block) -> NDArray[np.intp]:
    """Which of the four pixels leads: highest rank, then weight, then first in reading order.

    Parameters
    ----------
    rank_YX : array of int
        Rank of each pixel, not negative.
    weight_YX : array of uint8
        Decides between pixels of one rank.
    """
    key_QYX = (quads(rank_YX).astype(np.int64) << 8) + quads(weight_YX)
    return np.asarray(np.argmax(key_QYX, axis=0))


def led(block_YX: Block, leader_YX: NDArray[np.intp]) -> Block:
    """Values of the pixels that lead."""
    return _taken(quads(block_YX), leader_YX)


def _taken(values_QYX: Block, which_YX: NDArray[np.intp]) -> Block:
    taken_YX: Block = np.take_along_axis(values_QYX, which_YX[None], axis=0)[0]
    return taken_YX
