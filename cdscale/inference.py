"""Networks over blocks of pixels: normalisation, exact tiling, batches.

A block is the pixels of a place with ``card.halo`` pixels of context on every side, NaN where there
is nothing. Whoever cuts blocks out of one grid at multiples of ``card.stride`` gets, block by
block, what one pass over the whole grid would give; but for a card that standardises by the image
at hand, for which the block is the image.

With test-time augmentation every window is seen in the eight orientations of a square, and the
probabilities, turned back, are averaged. Windows and halos are whole strides, so that a turned
window lies on the network's own grid of strides, and tiles join as they do without.

Shape suffixes: N window, B band, P polarisation, C channel, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cdscale.errors import ModelError, explain
from cdscale.models.inputs import (
    Pair,
    PairMoments,
    absent,
    s1_input,
    s1_moments,
    s2_input,
    s2_moments,
    views_of_change,
)
from cdscale.models.orientations import turned as turned
from cdscale.models.orientations import turned_back as turned_back
from cdscale.spec.card import ModelCard

Floats = NDArray[np.float32]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """One date of a place and its surroundings, in physical units.

    Parameters
    ----------
    s2_BYX : float32 array
        Reflectance of the card's bands, in its order; NaN where absent.
    s1_PYX : float32 array
        Backscatter of the card's polarisations in **linear power**; NaN where absent.

    Both have the same height and width: those of the place plus twice ``card.halo``.
    """

    s2_BYX: Floats
    s1_PYX: Floats

    @classmethod
    def without_radar(cls, s2_BYX: Floats, polarisations: int) -> Block:
        """A block of a cube that has no radar."""
        return cls(s2_BYX, np.full((polarisations, *s2_BYX.shape[1:]), np.nan, np.float32))


@dataclass(frozen=True)
class Tiling:
    """How a block goes through a network; but for ``tta``, this decides no result.

    Parameters
    ----------
    core : int
        Side, in pixels, of what one window yields; a multiple of the card's stride. A window of
        the two-branch network on ten bands and one polarisation takes 2 kB per pixel, halo
        included; one of the missing-optical network of width 10 takes 0.9 kB (CPU, float32).
    batch : int
        Windows per pass.
    tta : {"card", "none", "d4"}
        Test-time augmentation: as the card says, none, or the mean of the probabilities over the
        eight orientations of a square, one after another: eight times as long, not as large.
    """

    core: int = 512
    batch: int = 1
    tta: Literal["card", "none", "d4"] = "card"

    def orientations(self, card: ModelCard) -> range:
        """Numbers of the orientations in which a network of this card sees a window."""
        said = card.tta if self.tta == "card" else self.tta
        return range(8 if said == "d4" else 1)


@dataclass(frozen=True)
class UrbanMap:
    """Urban probability (Y, X) in [0, 1], NaN where nothing was seen, and what it rests on.

    Where ``optical`` is False the optical features were reconstructed from radar; where
    ``radar`` is False the map rests on the optical image alone.
    """

    probability_YX: Floats
    optical_YX: Booleans
    radar_YX: Booleans


def predict_change(
    network: nn.Module, card: ModelCard, before: Block, after: Block, how: Tiling | None = None
) -> Floats:
    """Probability of change between two dates of one place.

    Parameters
    ----------
    network : nn.Module
        From :func:`cdscale.models.load`, on any device and in any precision.
    card : ModelCard
        Its card.
    before, after : Block
        The two dates, (Y + 2 halo, X + 2 halo) each.
    how : Tiling, optional
        Size and number of windows.

    Returns
    -------
    float32 array
        (Y, X) in [0, 1]; NaN where neither sensor saw both dates. Where one of them did, the
        other enters as absent, as in training.

    Raises
    ------
    ModelError
        When blocks do not have the card's bands, or one size, or are smaller than the halo.
    """
    how, views = how or Tiling(), card.views
    plan = _Windows.over(card, (before, after), how)
    planes = (before.s2_BYX, after.s2_BYX, before.s1_PYX, after.s1_PYX)
    whole = Pair(*map(torch.from_numpy, planes))
    moments = [PairMoments.of(whole, rule) for rule in views]

    def forward(s2_NDBYX: Tensor, s1_NDPYX: Tensor) -> Tensor:
        pair = Pair(s2_NDBYX[:, 0], s2_NDBYX[:, 1], s1_NDPYX[:, 0], s1_NDPYX[:, 1])
        inputs = views_of_change(pair, views, moments)
        return _mean_over(how.orientations(card), changed, inputs)

    def changed(*inputs: Tensor) -> Tensor:
        logits_NCYX: Tensor = network(*(_like(network, x) for x in inputs))
        return logits_NCYX.float().softmax(dim=1)[:, 1]

    probability = plan.run(forward, (before, after), _device(network))
    seen = _seen(plan.centre(before.s2_BYX), plan.centre(after.s2_BYX))
    seen |= _seen(plan.centre(before.s1_PYX), plan.centre(after.s1_PYX))
    probability[~seen] = np.nan
    return probability


def predict_urban(
    network: nn.Module, card: ModelCard, block: Block, how: Tiling | None = None
) -> UrbanMap:
    """Urban probability of one place in one month, with or without optical pixels.

    Parameters
    ----------
    network : nn.Module
        From :func:`cdscale.models.load`, on any device and in any precision.
    card : ModelCard
        Its card.
    block : Block
        The month, (Y + 2 halo, X + 2 halo).
    how : Tiling, optional
        Size and number of windows.

    Returns
    -------
    UrbanMap
        (Y, X); optical features are real where the pixel was seen, reconstructed elsewhere.

    Raises
    ------
    ModelError
        When the block does not have the card's bands or is smaller than the halo.
    """
    how, rule = how or Tiling(), card.normalisation
    plan = _Windows.over(card, (block,), how)
    of_s2 = s2_moments(torch.from_numpy(block.s2_BYX), rule)
    of_s1 = s1_moments(torch.from_numpy(block.s1_PYX), rule)

    def forward(s2_NDBYX: Tensor, s1_NDPYX: Tensor) -> Tensor:
        s1 = _like(network, s1_input(s1_NDPYX[:, 0], rule, of_s1))
        s2 = _like(network, s2_input(s2_NDBYX[:, 0], rule, of_s2))
        seen = ~absent(s2_NDBYX[:, 0])
        return _mean_over(how.orientations(card), urban, (s1, s2, seen))

    def urban(*inputs: Tensor) -> Tensor:
        logits_NCYX: Tensor = network(*inputs)
        return logits_NCYX.float().sigmoid()[:, 0]

    probability = plan.run(forward, (block,), _device(network))
    optical, radar = _seen(plan.centre(block.s2_BYX)), _seen(plan.centre(block.s1_PYX))
    probability[~(optical | radar)] = np.nan
    return UrbanMap(probability, optical, radar)


def _mean_over(
    orientations: range, say: Callable[..., Tensor], inputs: tuple[Tensor, ...]
) -> Tensor:
    """Mean of what is said (N, Y, X) of inputs in some orientations."""
    total = say(*inputs)
    for orientation in orientations[1:]:
        # Networks may ask for memory in order.
        seen = (turned(x, orientation).contiguous() for x in inputs)
        total = total + turned_back(say(*seen), orientation)
    return total / len(orientations)


@dataclass(frozen=True)
class _Windows:
    """Fixed-shape windows that together yield the inner part of a block.

    Windows reach over the right and bottom edge of the block where its size is no multiple of
    ``core``: all have one shape, so that every pixel goes through the same arithmetic.
    """

    height: int
    width: int
    halo: int
    core: int
    batch: int

    @classmethod
    def over(cls, card: ModelCard, blocks: tuple[Block, ...], how: Tiling) -> _Windows:
        """Check blocks against a card, and cut them up."""
        shape = blocks[0].s2_BYX.shape[1:]
        height, width = (n - 2 * card.halo for n in shape)
        for block in blocks:
            _check(card, block, shape)
        if how.core < 1 or how.core % card.stride or how.batch < 1:
            raise ModelError(
                explain(
                    "size of the windows",
                    expected=f"core a multiple of {card.stride}, batch at least 1",
                    got=f"core {how.core}, batch {how.batch}",
                )
            )
        largest = -(-max(height, width) // card.stride) * card.stride
        return cls(height, width, card.halo, min(how.core, largest), how.batch)

    def centre(self, x_CYX: Floats) -> Floats:
        """A view without the halo."""
        rows = slice(self.halo, self.halo + self.height)
        return x_CYX[:, rows, self.halo : self.halo + self.width]

    def run(
        self, forward: Callable[[Tensor, Tensor], Tensor], dates: tuple[Block, ...], device: str
    ) -> Floats:
        """Yield of all windows put together, (Y, X); windows without any pixel are passed over."""
        result = np.full((self.height, self.width), np.nan, np.float32)
        waiting: list[tuple[int, int]] = []
        corners = [corner for corner in self._corners() if self._holds_pixels(dates, corner)]
        for corner in corners:
            waiting.append(corner)
            if len(waiting) == self.batch or corner == corners[-1]:
                # A short batch is filled up: the arithmetic may depend on the batch's size.
                full = waiting + waiting[-1:] * (self.batch - len(waiting))
                self._one_pass(forward, dates, device, full, result)
                waiting = []
        return result

    @torch.inference_mode()
    def _one_pass(
        self,
        forward: Callable[[Tensor, Tensor], Tensor],
        dates: tuple[Block, ...],
        device: str,
        corners: list[tuple[int, int]],
        result: Floats,
    ) -> None:
        """One batch of windows into the result."""
        s2 = np.stack([[self._cut(date.s2_BYX, c) for date in dates] for c in corners])
        s1 = np.stack([[self._cut(date.s1_PYX, c) for date in dates] for c in corners])
        output_NYX = forward(torch.from_numpy(s2).to(device), torch.from_numpy(s1).to(device))
        inner = slice(self.halo, self.halo + self.core)
        cores = output_NYX[:, inner, inner].cpu().numpy()
        for (top, left), core in zip(corners, cores, strict=True):
            place = result[top : top + self.core, left : left + self.core]
            place[:] = core[: place.shape[0], : place.shape[1]]

    def _corners(self) -> Iterator[tuple[int, int]]:
        for top in range(0, self.height, self.core):
            for left in range(0, self.width, self.core):
                yield top, left

    def _cut(self, x_CYX: Floats, corner: tuple[int, int]) -> Floats:
        """One window with its halo, NaN beyond the block."""
        top, left = corner
        side = self.core + 2 * self.halo
        part = x_CYX[:, top : top + side, left : left + side]
        if part.shape[1:] == (side, side):
            return part
        full = np.full((len(x_CYX), side, side), np.nan, np.float32)
        full[:, : part.shape[1], : part.shape[2]] = part
        return full

    def _holds_pixels(self, dates: tuple[Block, ...], corner: tuple[int, int]) -> bool:
        """Whether any sensor saw any pixel of a window's core."""
        top, left = corner
        rows, columns = slice(top, top + self.core), slice(left, left + self.core)
        return any(
            bool(np.isfinite(self.centre(x)[:, rows, columns]).any())
            for date in dates
            for x in (date.s2_BYX, date.s1_PYX)
        )


def _check(card: ModelCard, block: Block, shape: tuple[int, ...]) -> None:
    """Refuse a block that is not what the card asks for."""
    expected = [(len(card.s2_bands), *shape), (len(card.s1_bands), *shape)]
    got = [block.s2_BYX.shape, block.s1_PYX.shape]
    if got != expected:
        raise ModelError(
            explain(f"block for model {card.name}: shapes of S2 and S1", expected=expected, got=got)
        )
    if min(shape) <= 2 * card.halo:
        raise ModelError(
            explain(
                f"block for model {card.name}",
                expected=f"more than {2 * card.halo} pixels a side: the place and its halo",
                got=f"{shape[0]} x {shape[1]}",
            )
        )


def _seen(*dates_CYX: Floats) -> Booleans:
    """Pixels (Y, X) with all channels at all dates; none of a sensor without channels."""
    seen: Booleans = np.logical_and.reduce(
        [np.isfinite(x).all(axis=0) & bool(len(x)) for x in dates_CYX]
    )
    return seen


def _device(network: nn.Module) -> str:
    return str(next(network.parameters()).device)


def _like(network: nn.Module, x: Tensor) -> Tensor:
    """Cast to the precision of the network's weights."""
    return x.to(next(network.parameters()).dtype)


def best_device() -> str:
    """The GPU that this process was given, or the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"
