"""The eight orientations of a square, for test-time augmentation and for crops."""

from __future__ import annotations

import torch
from torch import Tensor


def turned(x: Tensor, orientation: int) -> Tensor:
    """Rows and columns (the last two axes) in one of the eight orientations of a square.

    Quarter turns by ``orientation % 4``, of the transposed image from 4 on; 0 is the image itself.
    """
    return torch.rot90(x.mT if orientation > 3 else x, orientation % 4, (-2, -1))


def turned_back(x: Tensor, orientation: int) -> Tensor:
    """What :func:`turned` undoes."""
    back = torch.rot90(x, -(orientation % 4), (-2, -1))
    return back.mT if orientation > 3 else back
