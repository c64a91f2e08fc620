"""Windows: a block cut into pieces of one shape, mapped batch by batch, put together again.

Shape suffixes: N window, D date, B band, P polarisation, Y row, X column.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cdscale.errors import DeviceError, ModelError, explain
from cdscale.inference.blocks import Block, Floats, Sent, check_type
from cdscale.inference.compiling import compiled
from cdscale.inference.device import device_of, out_of_memory
from cdscale.inference.sizes import Sizes, best_batch, fitting, limits, memory
from cdscale.models.mapping import precision_of
from cdscale.spec.card import ModelCard

TIMED = 3
"""Passes that the time of a batch is taken from; the fastest counts."""

log = logging.getLogger(__name__)

Forward = Callable[[Any, Tensor, Tensor], Tensor]
"""What a network says (N, Y, X) of windows in physical units: the network, S2 (N, D, B, Y, X) and
S1 (N, D, P, Y, X)."""


@dataclass(frozen=True)
class Tiling:
    """How a block goes through a network; but for ``tta``, this decides no result.

    Parameters
    ----------
    core : int
        Side, in pixels, of what one window yields; a multiple of the card's stride. A window of
        the two-branch network on ten bands and one polarisation takes 2 kB per pixel, halo
        included; one of the missing-optical network of width 10 takes 0.9 kB (CPU, float32).
        Where a device has too little memory it is halved.
    batch : int or "measured"
        Windows per pass. Measured: 1 on a CPU; on a GPU the fastest, searched once for each card,
        kind of GPU, core and precision, and remembered in the user's cache. Where a device has too
        little memory it is halved.
    tta : {"card", "none", "d4"}
        Test-time augmentation: as the card says, none, or the mean of the probabilities over the
        eight orientations of a square, one after another: eight times as long, not as large.
    """

    core: int = 512
    batch: int | Literal["measured"] = "measured"
    tta: Literal["card", "none", "d4"] = "card"

    def orientations(self, card: ModelCard) -> range:
        """Numbers of the orientations in which a network of this card sees a window."""
        said = card.tta if self.tta == "card" else self.tta
        return range(8 if said == "d4" else 1)


@dataclass(frozen=True)
class Place:
    """The inner part of a block, without its halo.

    Windows reach over its right and bottom edge where its size is no multiple of the core: all have
    one shape, so that every pixel goes through the same arithmetic.
    """

    card: ModelCard
    height: int
    width: int

    @classmethod
    def of(cls, card: ModelCard, blocks: tuple[Block, ...]) -> Place:
        """Check blocks against a card.

        Raises
        ------
        ModelError
            When blocks do not have the card's bands, or one size, or are smaller than the halo.
        """
        shape = blocks[0].s2_BYX.shape[1:]
        for block in blocks:
            _check(card, block, shape)
        height, width = (n - 2 * card.halo for n in shape)
        return cls(card, height, width)

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns without the halo."""
        halo = self.card.halo
        return slice(halo, halo + self.height), slice(halo, halo + self.width)

    def core(self, how: Tiling) -> int:
        """The core asked for, no larger than the place.

        Raises
        ------
        ModelError
            When it is off the card's stride, or the batch is none.
        """
        stride = self.card.stride
        batch = 1 if how.batch == "measured" else how.batch
        if how.core < 1 or how.core % stride or batch < 1:
            raise ModelError(
                explain(
                    "size of the windows",
                    expected=f"core a multiple of {stride}, batch at least 1",
                    got=f"core {how.core}, batch {how.batch}",
                )
            )
        return min(how.core, -(-max(self.height, self.width) // stride) * stride)

    def corners(self, blocks: tuple[Block, ...], core: int) -> list[tuple[int, int]]:
        """Windows that any sensor saw any pixel of at any date."""
        return [corner for corner in self._corners(core) if self._holds(blocks, corner, core)]

    def _corners(self, core: int) -> Iterator[tuple[int, int]]:
        for top in range(0, self.height, core):
            for left in range(0, self.width, core):
                yield top, left

    def _holds(self, blocks: tuple[Block, ...], corner: tuple[int, int], core: int) -> bool:
        halo = self.card.halo
        spans = zip(corner, (self.height, self.width), strict=True)
        where = [slice(halo + start, halo + min(start + core, size)) for start, size in spans]
        return any(bool(b.lit(*where).any() or b.sounded(*where).any()) for b in blocks)


@dataclass(frozen=True)
class Passes:
    """A network over the windows of a place."""

    place: Place
    network: nn.Module
    forward: Forward
    blocks: tuple[Block, ...]
    dates: tuple[Sent, ...]

    @torch.inference_mode()
    def run(self, how: Tiling) -> Floats:
        """Yield of all windows put together, (Y, X), NaN where no window was worth a pass.

        Raises
        ------
        DeviceError
            When memory does not suffice for one window of the smallest size.
        """
        core = self.place.core(how)
        key = f"{self._name}/{precision_of(self.network)}"
        while True:
            sizes, corners = self._sizes(how, core, key)
            try:
                return self._all(corners, sizes)
            except RuntimeError as err:
                if not out_of_memory(err):
                    raise
                said = " ".join(str(err).split())[:200]
            # Not before the error is gone: its traceback holds what did not fit.
            self._free()
            limits.lower(key, self._less(sizes, said))

    def _sizes(self, how: Tiling, core: int, key: str) -> tuple[Sizes, list[tuple[int, int]]]:
        """Sizes asked for, or found, as far as memory suffices; and the windows of that size."""
        held = limits.of(key)
        core = Sizes(core, 1).within(held).core
        corners = self.place.corners(self.blocks, core)
        if how.batch != "measured":
            batch = how.batch
        elif len(corners) < 2 or self._device.type == "cpu":
            batch = 1
        else:
            found = memory.batch(f"{key}/{core}", lambda: best_batch(self._timed(core)))
            self._free()
            batch = fitting(found, len(corners))
        return Sizes(core, batch).within(held), corners

    def _less(self, sizes: Sizes, said: str) -> Sizes:
        smaller = sizes.smaller(self.place.card.stride)
        if smaller is None:
            raise DeviceError(
                explain(
                    f"model {self.place.card.name} on {self._device}: too little memory for one "
                    f"window of {sizes.core} pixels and its halo of {self.place.card.halo}",
                    got=said,
                    do="Free memory of the device, or map with a smaller network.",
                )
            )
        log.warning(
            "model %s: out of memory with %d windows of %d pixels at once; going on with %d of %d",
            self.place.card.name, sizes.batch, sizes.core, smaller.batch, smaller.core,
        )  # fmt: skip
        return smaller

    def _all(self, corners: list[tuple[int, int]], sizes: Sizes) -> Floats:
        """Every window, the yield gathered on the device: nothing waits until the end."""
        run, core = compiled(self.network), sizes.core
        result_YX = torch.full(
            (self.place.height, self.place.width), torch.nan, device=self._device
        )
        inner = slice(self.place.card.halo, self.place.card.halo + core)
        for start in range(0, len(corners), sizes.batch):
            part = corners[start : start + sizes.batch]
            # A short batch is filled up: the arithmetic may depend on the batch's size.
            full = part + part[-1:] * (sizes.batch - len(part))
            said_NYX = self.forward(run, *self._cut(full, core))[:, inner, inner]
            for (top, left), said_YX in zip(part, said_NYX, strict=False):
                place_YX = result_YX[top : top + core, left : left + core]
                place_YX.copy_(said_YX[: place_YX.shape[0], : place_YX.shape[1]])
        return np.asarray(result_YX.cpu().numpy())

    def _cut(self, corners: list[tuple[int, int]], core: int) -> tuple[Tensor, Tensor]:
        side = core + 2 * self.place.card.halo
        s2, s1 = zip(
            *(date.window(corner, side) for corner in corners for date in self.dates), strict=True
        )
        count = len(corners), len(self.dates)
        return torch.stack(s2).unflatten(0, count), torch.stack(s1).unflatten(0, count)

    def _timed(self, core: int) -> Callable[[int], float]:
        """Seconds that a batch of noise takes, compilation left out."""
        card, side = self.place.card, core + 2 * self.place.card.halo

        def seconds_of(batch: int) -> float:
            s2, s1 = (
                torch.rand((batch, len(self.dates), bands, side, side), device=self._device)
                for bands in (len(card.s2_bands), len(card.s1_bands))
            )
            seconds = []
            for _ in range(TIMED + 1):
                self._wait()
                started = time.perf_counter()
                self.forward(self.network, s2, s1)
                self._wait()
                seconds.append(time.perf_counter() - started)
            return min(seconds[1:])

        return seconds_of

    @property
    def _device(self) -> torch.device:
        return device_of(self.network)

    @property
    def _name(self) -> str:
        """Of the card, and of the kind of device."""
        kind = self._device.type
        if kind == "cuda":
            kind = torch.cuda.get_device_name(self._device)
        return f"{self.place.card.weights_sha256[:16]}/{kind}"

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _free(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _check(card: ModelCard, block: Block, shape: tuple[int, ...]) -> None:
    """Refuse a block that is not what the card asks for."""
    check_type(block, card.name)
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
