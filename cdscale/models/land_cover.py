"""System B: the land cover network of the HRSCD paper, whose parts its change networks share.

R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau, "Multitask learning for large-scale semantic
change detection", CVIU 187 (2019), section 4 and figure 4. The layers are those of the network
files that survive with the authors' header.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from cdscale.models.blocks import Level, Reach, Steps, check_size, pad_to, require, run
from cdscale.models.residual import SAME, SAME_POOLED, UP, Same, Style, Up

_LEVELS = 5
_TWO: Steps = (*SAME, *SAME)
_PLAIN = Level(_TWO, SAME_POOLED, UP, _TWO)

REACH = Reach(levels=(Level(_TWO, SAME_POOLED, UP, (*_TWO, *SAME)), *(_PLAIN,) * 4), bottom=_TWO)
STRIDE = REACH.stride
HALO = REACH.halo()


@dataclass(frozen=True)
class Size:
    """Width and activation of a network of this family.

    Parameters
    ----------
    width : int
        Channels at full resolution; 8 in the paper. They double at each of the five poolings.
    slope : float
        Of the activation below zero. The network files that survive have 0.01, FC-EF-Res of
        the same paper has 0 (ReLU).

    Raises
    ------
    ModelError
        When the width is below 1 or the slope not in [0, 1].
    """

    width: int = 8
    slope: float = 0.01

    def __post_init__(self) -> None:
        require(self.width >= 1, "HRSCD network: width", "1 or more", self.width)
        _ = self.style  # it refuses a slope out of range

    @property
    def style(self) -> Style:
        """Of the residual blocks."""
        return Style(bias=False, slope=self.slope)

    @property
    def widths(self) -> list[int]:
        """Channels of the five levels."""
        return [self.width * 2**level for level in range(_LEVELS)]


class Encoder(nn.Module):
    """Five levels of three residual blocks; the third pools and doubles the channels."""

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        require(channels >= 1, "HRSCD network: channels", "1 or more", channels)
        entering = (channels, *size.widths[1:])
        self.stages = nn.ModuleList(
            nn.Sequential(Same(c_in, c, size.style), Same(c, c, size.style))
            for c_in, c in zip(entering, size.widths, strict=True)
        )
        self.downs = nn.ModuleList(Same(c, 2 * c, size.style, pool=True) for c in size.widths)

    def forward(self, x_BCYX: Tensor) -> list[Tensor]:
        """Skips at 1, 1/2, 1/4, 1/8, 1/16, before pooling, and the pooled last one at 1/32."""
        outputs = []
        for stage, down in zip(self.stages, self.downs, strict=True):
            x_BCYX = run(stage, x_BCYX)
            outputs.append(x_BCYX)
            x_BCYX = run(down, x_BCYX)
        return [*outputs, x_BCYX]


class Decoder(nn.Module):
    """From the outputs of an encoder to logits.

    Parameters
    ----------
    outputs : int
        Channels of the logits.
    size : Size
        Of the encoder too.
    copies : int
        How often each of the encoder's outputs is there: 1; 2 where land cover differences are
        stacked onto them.
    """

    def __init__(self, outputs: int, size: Size, *, copies: int = 1) -> None:
        super().__init__()
        require(outputs >= 1, "HRSCD network: outputs", "1 or more", outputs)
        style, deepest = size.style, 2 * size.widths[-1]
        self.bottom = nn.Sequential(
            Same(copies * deepest, deepest, style), Same(deepest, deepest, style)
        )
        self.ups = nn.ModuleList(Up(2 * c, c, style) for c in reversed(size.widths))
        self.joins = nn.ModuleList(
            nn.Sequential(Same((1 + copies) * c, c, style), Same(c, c, style))
            for c in reversed(size.widths)
        )
        self.last = Same(size.width, size.width, style)
        self.head = nn.Conv2d(size.width, outputs, 1)

    def forward(self, encoded: Sequence[Tensor]) -> Tensor:
        """Logits (B, outputs, Y, X) from the six outputs of an encoder."""
        *skips, deepest = encoded
        x = run(self.bottom, deepest)
        for up, join, skip in zip(self.ups, self.joins, reversed(skips), strict=True):
            x = pad_to(run(up, x), skip, "replicate")
            x = run(join, torch.cat((x, skip), dim=1))
        return run(self.head, run(self.last, x))


class LandCover(nn.Module):
    """The land cover network ("LCM"): an encoder and a decoder on one date."""

    def __init__(self, channels: int, classes: int, size: Size) -> None:
        super().__init__()
        self.channels = channels
        self.encoder = Encoder(channels, size)
        self.decoder = Decoder(classes, size)

    def forward(self, x_BCYX: Tensor) -> Tensor:
        """Logits (B, classes, Y, X) of one date."""
        check_size(x_BCYX, STRIDE)
        return decode(self.decoder, self.encoder(x_BCYX))

    def both(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of two dates, in one pass so that batch statistics are those of the pair."""
        check_pair(before, after, self.channels)
        first, second = run(self, torch.cat((before, after))).chunk(2)
        return first, second


def decode(decoder: nn.Module, encoded: Sequence[Tensor]) -> Tensor:
    """Call a decoder (``nn.Module`` is typed ``Any``)."""
    return cast(Tensor, decoder(encoded))


def check_pair(before: Tensor, after: Tensor, channels: int) -> None:
    """Refuse two dates that do not fit each other or the network.

    Raises
    ------
    ModelError
        When shapes differ, channels are not as many as given, or a side is below 32 pixels.
    """
    shape = (before.shape[0], channels, *before.shape[2:])
    got = (tuple(before.shape), tuple(after.shape))
    require(got == (shape, shape), "shapes of before and after", (shape, shape), got)
    check_size(before, STRIDE)
