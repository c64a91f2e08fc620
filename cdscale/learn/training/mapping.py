"""Whole scenes through a network under training, as the finished network will map them.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor
from torch.nn import functional

from cdscale.learn.training.recipe import Network
from cdscale.models.families import FAMILIES
from cdscale.spec.card import ModelCard, Normalisation

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

    @classmethod
    def of(cls, card: ModelCard, copies: int = 1) -> Mapping:
        """As a card has it."""
        return cls(card.normalisation, card.halo, card.stride, copies)


def tiles_of(network: Network) -> tuple[int, int]:
    """Halo and stride of a network, which may depend on how it enlarges features."""
    family = FAMILIES[network.family]
    code = import_module(f"cdscale.models.{family.module}")
    if family.halo_of and "up" in network.options:
        return getattr(code, family.halo_of)(network.options["up"]), code.STRIDE
    return code.HALO, code.STRIDE


@torch.inference_mode()
def map_scene(say: Callable[..., Tensor], inputs: tuple[Tensor, ...], how: Mapping) -> Tensor:
    """What a network says of a whole scene, (..., Y, X).

    Beyond the scene the network sees nothing, as beyond a cube.

    Parameters
    ----------
    say : callable
        From a window of each input to what is said of it, (..., Y, X) without sample: a
        probability, or one for each class.
    inputs : tuple of Tensor
        Network inputs of the scene, (1, C, Y, X), 0 where absent; no moments of an image are taken
        here.
    how : Mapping
        Tiles and copies.
    """
    height, width = inputs[0].shape[-2:]
    down, right = (-n % how.stride for n in (height, width))
    around = (how.halo, how.halo + right, how.halo, how.halo + down)
    # 0 is what absent pixels are fed as.
    parts = tuple(functional.pad(x, around) for x in inputs)
    copies = [_said(say, parts, how, copy) for copy in range(how.copies)]
    return torch.stack(copies).mean(dim=0)[..., :height, :width]


def _said(say: Callable[..., Tensor], parts: tuple[Tensor, ...], how: Mapping, copy: int) -> Tensor:
    """Map of a surrounded scene in one of eight orientations, turned back, (..., Y, X)."""
    height, width = (n - 2 * how.halo for n in parts[0].shape[-2:])
    rows: dict[int, list[Tensor]] = {}
    for top, left in _corners(height, width):
        bottom, end = min(top + CORE, height), min(left + CORE, width)
        window = [x[..., top : bottom + 2 * how.halo, left : end + 2 * how.halo] for x in parts]
        said = _turned_back(say(*(_turned(x, copy).contiguous() for x in window)), copy)
        inner = said[..., how.halo :, how.halo :][..., : bottom - top, : end - left]
        rows.setdefault(top, []).append(inner)
    return torch.cat([torch.cat(row, dim=-1) for row in rows.values()], dim=-2)


def _corners(height: int, width: int) -> Iterator[tuple[int, int]]:
    for top in range(0, height, CORE):
        for left in range(0, width, CORE):
            yield top, left


def _turned(x: Tensor, copy: int) -> Tensor:
    return torch.rot90(x.flip(-1) if copy >= 4 else x, copy % 4, (-2, -1))


def _turned_back(x: Tensor, copy: int) -> Tensor:
    x = torch.rot90(x, -(copy % 4), (-2, -1))
    return x.flip(-1) if copy >= 4 else x
