"""Whole scenes in one pass, as the pipeline maps them block by block.

Shape suffixes: C channel, Y row, X column.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def surrounded(x_CYX: NDArray[Any], halo: int, stride: int) -> Tensor:
    """Surround a scene with ``halo`` absent pixels, and fill it up to a multiple of ``stride``.

    A network then sees beyond the scene what :mod:`cdscale.predict` shows it beyond a cube:
    nothing, rather than the zero padding of its own convolutions.

    Returns
    -------
    Tensor
        (1, C, Y', X').
    """
    down, right = (-n % stride for n in x_CYX.shape[-2:])
    around = (halo, halo + right, halo, halo + down)
    return functional.pad(torch.from_numpy(x_CYX)[None], around, value=torch.nan)


def centre(x_YX: Tensor, halo: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Cut the scene out of what a network says of its surrounded form."""
    height, width = shape[-2:]
    found: NDArray[Any] = x_YX[halo : halo + height, halo : halo + width].numpy()
    return found
