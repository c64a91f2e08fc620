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

Kind = Literal["conv3", "pool2", "up2", "up3"]


@dataclass(frozen=True)
class Interval:
    """Closed range of positions along one axis, on the grid of one level of a network."""

    low: int
    high: int

    def before(self, kind: Kind) -> Interval:
        """Positions that a layer of this kind reads in order to write this range.

        ``conv3``: 3x3 convolution, stride 1, padding 1. ``pool2``: 2x2 maximum, stride 2.
        ``up2``: transposed 2x2 convolution, stride 2. ``up3``: transposed 3x3 convolution,
        stride 2, padding 1, output padding 1, which writes position 2 i - 1 + k, k = 0, 1, 2.
        """
        if kind == "conv3":
            return Interval(self.low - 1, self.high + 1)
        if kind == "pool2":
            return Interval(2 * self.low, 2 * self.high + 1)
        if kind == "up2":
            return Interval(self.low // 2, self.high // 2)
        return Interval(self.low // 2, (self.high + 1) // 2)

    def union(self, other: Interval) -> Interval:
        """The smallest range that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class Ladder:
    """Layers of an encoder-decoder with skips, as far as its reach depends on them.

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
    def stride(self) -> int:
        """Shift of the input, in pixels, that shifts the output by as much."""
        return int(2 ** len(self.encoder))

    def reads(self, pixel: int) -> Interval:
        """Input positions that can change the output at ``pixel``, borders far away."""
        return self._reads(Interval(pixel, pixel), level=0)

    def _reads(self, wanted: Interval, level: int) -> Interval:
        """Input positions behind a range of the decoder's output at a level."""
        if level == len(self.encoder):
            return self._encoded(wanted, self.bottom, level)
        for _ in range(self.decoder[level]):
            wanted = wanted.before("conv3")
        skip = self._encoded(wanted, self.encoder[level], level)
        return skip.union(self._reads(wanted.before(self.up), level + 1))

    def _encoded(self, wanted: Interval, convolutions: int, level: int) -> Interval:
        """Input positions behind a range of the encoder's output at a level."""
        for _ in range(convolutions):
            wanted = wanted.before("conv3")
        if level == 0:
            return wanted
        return self._encoded(wanted.before("pool2"), self.encoder[level - 1], level - 1)

    def radius(self) -> int:
        """Largest distance, in pixels, from an output pixel to an input pixel that it reads."""
        reach = [(pixel, self.reads(pixel)) for pixel in range(self.stride)]
        return max(max(pixel - seen.low, seen.high - pixel) for pixel, seen in reach)

    def halo(self) -> int:
        """The radius rounded up to a multiple of the stride: context for exact tiling."""
        return -(-self.radius() // self.stride) * self.stride


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
