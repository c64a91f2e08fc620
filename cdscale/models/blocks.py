"""Building blocks shared by the network families, and the exact reach of a network.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from cdscale.errors import ModelError, explain

Kind = Literal["conv3", "conv7", "pool2", "up2", "up3"]
Steps = tuple[Kind, ...]
"""Layers in the order in which they run. Of branches that are summed, the one that reads most."""


@dataclass(frozen=True)
class Interval:
    """Closed range of positions along one axis, on the grid of one level of a network."""

    low: int
    high: int

    def before(self, kind: Kind) -> Interval:
        """Positions that a layer of this kind reads in order to write this range.

        ``conv3``: 3x3 convolution, stride 1, padding 1 (or none, counted from the centre).
        ``conv7``: 7x7 likewise. ``pool2``: 2x2 maximum, stride 2.
        ``up2``: transposed 2x2 convolution, stride 2. ``up3``: transposed 3x3 convolution,
        stride 2, padding 1, output padding 1, which writes position 2 i - 1 + k, k = 0, 1, 2.
        """
        if kind == "conv3":
            return Interval(self.low - 1, self.high + 1)
        if kind == "conv7":
            return Interval(self.low - 3, self.high + 3)
        if kind == "pool2":
            return Interval(2 * self.low, 2 * self.high + 1)
        if kind == "up2":
            return Interval(self.low // 2, self.high // 2)
        return Interval(self.low // 2, (self.high + 1) // 2)

    def behind(self, steps: Steps) -> Interval:
        """Positions that a row of layers reads in order to write this range."""
        found = self
        for kind in reversed(steps):
            found = found.before(kind)
        return found

    def union(self, other: Interval) -> Interval:
        """The smallest range that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class Level:
    """One level of an encoder-decoder, finer than its bottom.

    Parameters
    ----------
    encoder : Steps
        From what enters the level to what its skip carries.
    down : Steps
        From the skip to what enters the next coarser level; holds one ``pool2``.
    up : Steps
        From the decoder's output of the next coarser level to what is joined with the skip.
    decoder : Steps
        From the join to the decoder's output of this level.
    """

    encoder: Steps
    down: Steps
    up: Steps
    decoder: Steps


@dataclass(frozen=True)
class Reach:
    """An encoder-decoder with skips, or (no levels) a row of layers, as far as its reach goes.

    Parameters
    ----------
    levels : tuple of Level
        From full resolution downwards.
    bottom : Steps
        Layers of the coarsest level.
    """

    levels: tuple[Level, ...]
    bottom: Steps

    @property
    def stride(self) -> int:
        """Shift of the input, in pixels, that shifts the output by as much."""
        return int(2 ** len(self.levels))

    def reads(self, pixel: int) -> Interval:
        """Input positions that can change the output at ``pixel``, borders far away."""
        return self._reads(Interval(pixel, pixel), depth=0)

    def _reads(self, wanted: Interval, depth: int) -> Interval:
        """Input positions behind a range of the decoder's output at a level."""
        if depth == len(self.levels):
            return self._entered(wanted.behind(self.bottom), depth)
        level = self.levels[depth]
        wanted = wanted.behind(level.decoder)
        skip = self._entered(wanted.behind(level.encoder), depth)
        return skip.union(self._reads(wanted.behind(level.up), depth + 1))

    def _entered(self, wanted: Interval, depth: int) -> Interval:
        """Input positions behind a range of what enters a level."""
        for level in reversed(self.levels[:depth]):
            wanted = wanted.behind((*level.encoder, *level.down))
        return wanted

    def radius(self) -> int:
        """Largest distance, in pixels, from an output pixel to an input pixel that it reads."""
        reach = [(pixel, self.reads(pixel)) for pixel in range(self.stride)]
        return max(max(pixel - seen.low, seen.high - pixel) for pixel, seen in reach)

    def halo(self) -> int:
        """The radius rounded up to a multiple of the stride: context for exact tiling."""
        return -(-self.radius() // self.stride) * self.stride


@dataclass(frozen=True)
class Ladder:
    """The reach of an encoder-decoder of plain 3x3 convolutions, by their numbers.

    Parameters
    ----------
    encoder : sequence of int
        3x3 convolutions at full resolution, 1/2, 1/4 ... down to the last level before the
        bottom.
    bottom : int
        3x3 convolutions at the coarsest level.
    decoder : sequence of int
        3x3 convolutions after each skip, from full resolution downwards, as ``encoder``.
    up : {"up2", "up3"}
        Kind of the step from a level to the next finer one.
    """

    encoder: Sequence[int]
    bottom: int
    decoder: Sequence[int]
    up: Kind

    @property
    def reach(self) -> Reach:
        """The same, layer by layer."""
        levels = (
            Level(convolutions(down), ("pool2",), (self.up,), convolutions(up))
            for down, up in zip(self.encoder, self.decoder, strict=True)
        )
        return Reach(tuple(levels), convolutions(self.bottom))

    @property
    def stride(self) -> int:
        """Shift of the input, in pixels, that shifts the output by as much."""
        return self.reach.stride

    def reads(self, pixel: int) -> Interval:
        """Input positions that can change the output at ``pixel``, borders far away."""
        return self.reach.reads(pixel)

    def radius(self) -> int:
        """Largest distance, in pixels, from an output pixel to an input pixel that it reads."""
        return self.reach.radius()

    def halo(self) -> int:
        """The radius rounded up to a multiple of the stride: context for exact tiling."""
        return self.reach.halo()


def convolutions(count: int) -> Steps:
    """As many 3x3 convolutions in a row."""
    kind: Kind = "conv3"
    return (kind,) * count


@dataclass(frozen=True)
class Stack:
    """Both sensors of one date as channels of one image, optical bands first.

    Parameters
    ----------
    s2, s1 : int
        Bands and polarisations; 0 polarisations: radar is not read at all.

    Raises
    ------
    ModelError
        When neither has a channel, or a count is negative.
    """

    s2: int
    s1: int

    def __post_init__(self) -> None:
        require(
            min(self.s2, self.s1) >= 0 and self.channels > 0,
            "channels of a network",
            "s2_channels and s1_channels, 0 or more each and at least one in all",
            f"{self.s2} and {self.s1}",
        )

    @property
    def channels(self) -> int:
        """Channels of one date."""
        return self.s2 + self.s1

    def date(self, s2_BCYX: Tensor, s1_BPYX: Tensor) -> Tensor:
        """One date, (B, s2 + s1, Y, X).

        Raises
        ------
        ModelError
            When a sensor has another number of channels: two wrong counts may add up to a stack
            of the right depth, and the network would not notice.
        """
        parts = [x for x, count in ((s2_BCYX, self.s2), (s1_BPYX, self.s1)) if count]
        expected = [count for count in (self.s2, self.s1) if count]
        got = [x.shape[1] for x in parts]
        require(got == expected, "channels per sensor (S2, S1)", expected, got)
        return torch.cat(parts, dim=1)

    def dates(
        self, s2_before: Tensor, s2_after: Tensor, s1_before: Tensor, s1_after: Tensor
    ) -> Tensor:
        """Both dates as one image, (B, 2 (s2 + s1), Y, X), date 1 first."""
        return torch.cat((self.date(s2_before, s1_before), self.date(s2_after, s1_after)), dim=1)


def require(held: bool, what: str, expected: object, got: object) -> None:
    """Refuse an option or an input that does not hold.

    Raises
    ------
    ModelError
        When ``held`` is False.
    """
    if not held:
        raise ModelError(explain(what, expected=expected, got=got))


def conv_unit(c_in: int, c_out: int, dropout: float) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU, channel dropout."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        nn.Dropout2d(dropout),
    )


def conv_units(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """A row of :func:`conv_unit`, from the first width to the last."""
    return nn.Sequential(*(conv_unit(a, b, dropout) for a, b in pairwise(widths)))


def double_conv(c_in: int, c_out: int) -> nn.Sequential:
    """Twice: 3x3 convolution with bias, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(c_out, c_out, 3, padding=1),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


def run(module: nn.Module, x: Tensor) -> Tensor:
    """Call a module that turns one tensor into one tensor (``nn.Module`` is typed ``Any``)."""
    return cast(Tensor, module(x))


def pad_to(x_BCYX: Tensor, like: Tensor, mode: Literal["replicate", "constant"]) -> Tensor:
    """Pad at the right and bottom to the height and width of another tensor."""
    down = like.shape[-2] - x_BCYX.shape[-2]
    right = like.shape[-1] - x_BCYX.shape[-1]
    if down == 0 and right == 0:
        return x_BCYX
    return functional.pad(x_BCYX, (0, right, 0, down), mode=mode)


def check_size(x: Tensor, smallest: int) -> None:
    """Refuse images that pooling would bring down to nothing.

    Raises
    ------
    ModelError
        When height or width is below ``smallest``.
    """
    if min(x.shape[-2:]) < smallest:
        raise ModelError(
            explain(
                "the image is too small for the network",
                expected=f"at least {smallest} pixels a side",
                got=f"{x.shape[-2]} x {x.shape[-1]}",
                do="Pad it with NaN.",
            )
        )


def count_parameters(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def symmetric(a: Tensor, b: Tensor) -> Tensor:
    """All that an unordered pair of features says: absolute difference and mean, stacked."""
    return torch.cat(((a - b).abs(), (a + b) / 2), dim=1)
