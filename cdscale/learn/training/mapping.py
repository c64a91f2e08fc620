"""Whole scenes through a network under training, as the finished network will map them.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cdscale.models.families import FAMILIES
from cdscale.models.inputs import Pair, change_inputs
from cdscale.spec.card import Normalisation

CORE = 512
"""Side of what one pass yields; decides memory, not the result."""


@dataclass(frozen=True)
class Mapping:
    """How scenes are mapped: the rule of the inputs, the tiles of the family, and copies."""

    rule: Normalisation
    halo: int
    stride: int
    copies: int = 1
    """1, 4 (turned) or 8 (mirrored too): maps are means over the copies."""


def tiles_of(family: str) -> tuple[int, int]:
    """Halo and stride of a family."""
    code = import_module(f"cdscale.models.{FAMILIES[family].module}")
    return code.HALO, code.STRIDE


@torch.inference_mode()
def map_pair(network: nn.Module, s2: Tensor, s1: Tensor, how: Mapping) -> NDArray[np.float32]:
    """Probability of change of a whole scene, (Y, X); NaN where no sensor saw both dates.

    Beyond the scene the network sees nothing, as beyond a cube.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    s2, s1 : Tensor
        Reflectance (2, B, Y, X) and linear power (2, P, Y, X), NaN where absent, on the network's
        device.
    how : Mapping
        Moments, if of the image, are those of this scene.
    """
    dates = [x[None] for x in (s2[0], s2[1], s1[0], s1[1])]
    height, width = s2.shape[-2:]
    down, right = (-n % how.stride for n in (height, width))
    around = (how.halo, how.halo + right, how.halo, how.halo + down)
    inputs = change_inputs(Pair(*dates), how.rule).tensors()
    # 0 is what absent pixels are fed as.
    parts = [functional.pad(x, around) for x in inputs]
    copies = [_probability(network, parts, how, copy) for copy in range(how.copies)]
    probability = torch.stack(copies).mean(dim=0)[:height, :width]
    seen = [torch.isfinite(x[0]).all(dim=0) & (x.shape[1] > 0) for x in dates]
    absent = ~((seen[0] & seen[1]) | (seen[2] & seen[3]))
    found: NDArray[np.float32] = probability.masked_fill(absent, torch.nan).cpu().numpy()
    return found


def _probability(network: nn.Module, parts: list[Tensor], how: Mapping, copy: int) -> Tensor:
    """Map of a surrounded scene in one of eight orientations, turned back, (Y, X)."""
    height, width = (n - 2 * how.halo for n in parts[0].shape[-2:])
    result = parts[0].new_empty(height, width)
    for rows, columns in _windows(height, width):
        window = [
            x[
                ...,
                rows.start : rows.stop + 2 * how.halo,
                columns.start : columns.stop + 2 * how.halo,
            ]
            for x in parts
        ]
        logits_BCYX: Tensor = network(*(_turned(x, copy).contiguous() for x in window))
        change_YX = _turned_back(logits_BCYX.float().softmax(dim=1)[0, 1], copy)
        inner = change_YX[how.halo :, how.halo :]
        result[rows, columns] = inner[: rows.stop - rows.start, : columns.stop - columns.start]
    return result


def _windows(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, height, CORE):
        for left in range(0, width, CORE):
            yield slice(top, min(top + CORE, height)), slice(left, min(left + CORE, width))


def _turned(x: Tensor, copy: int) -> Tensor:
    return torch.rot90(x.flip(-1) if copy >= 4 else x, copy % 4, (-2, -1))


def _turned_back(x: Tensor, copy: int) -> Tensor:
    x = torch.rot90(x, -(copy % 4), (-2, -1))
    return x.flip(-1) if copy >= 4 else x
