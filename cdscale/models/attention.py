"""System D: the Siamese attention U-Net on pairs of one optical sensor.

S. Cummings et al., winning entry of the weakly supervised track of the DynamicEarthNet challenge,
EarthVision 2021. One encoder for both dates; the decoder reads the skips of both, and an attention
gate weighs what comes up, or what comes across.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from cdscale.models.blocks import Ladder, Reach, check_size, pad_to, require, run

Up = Literal["subpixel", "transposed", "bilinear"]
Attention = Literal["none", "skip", "up"]
GateKind = Literal["paper", "released"]

WIDTHS = (64, 128, 256, 512, 1024)

LADDER = Ladder(encoder=(2, 2, 2, 2), bottom=2, decoder=(2, 2, 2, 2), up="up2")
"""Of the sub-pixel and the transposed network; both write two positions from one."""
STRIDE = LADDER.stride
HALO = LADDER.halo()

# A bilinear step also reads a neighbour of the position it writes from: no more than a 3x3
# convolution before it would.
_BILINEAR = Reach(
    tuple(replace(level, up=("conv3", "up2")) for level in LADDER.reach.levels),
    LADDER.reach.bottom,
)


def halo(up: Up) -> int:
    """Pixels of context on each side beyond which nothing is read.

    ``bilinear`` needs more than :data:`HALO`, and even so tiles do not equal the whole: with
    corners aligned, the weights of each pixel depend on the size of the image. Blend its tiles.
    """
    return _BILINEAR.halo() if up == "bilinear" else HALO


class Gate(nn.Module):
    """Attention: one path times a weight in (0, 1) per pixel.

    Parameters
    ----------
    width : int
        Channels of both paths.
    kind : {"paper", "released"}
        "paper": ``g = sigmoid(BN(conv(relu(BN(conv(a)) + BN(conv(b))))))``, output ``g a`` for the
        attended path a and the other path b. "released": what the published code does, whose
        in-place ReLU overwrites the sum: ``r = relu(a)``, output ``r sigmoid(BN(conv(r)))``. The
        other path has no say then, nothing below zero passes, and the two projections (convolution
        and normalisation of a, and of b) never receive a gradient.
    """

    def __init__(self, width: int, kind: GateKind) -> None:
        super().__init__()
        self.kind = kind
        self.attended = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))
        self.other = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))
        self.score = nn.Sequential(nn.Conv2d(width, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, attended: Tensor, other: Tensor) -> Tensor:
        """The attended path, weighed (B, C, Y, X)."""
        if self.kind == "released":
            kept = functional.relu(attended)
            return kept * run(self.score, kept)
        both = functional.relu(run(self.attended, attended) + run(self.other, other))
        return attended * run(self.score, both)


class UpBlock(nn.Module):
    """Up by two, gate, join with the skip, two convolutions."""

    def __init__(
        self, c_in: int, c_skip: int, up: Up, attention: Attention, gate: GateKind
    ) -> None:
        super().__init__()
        self.up = _up_step(up, c_in, c_skip)
        self.attention = attention
        self.gate = Gate(c_skip, gate) if attention != "none" else None
        self.join = _block(2 * c_skip, c_skip)

    def forward(self, x_BCYX: Tensor, skip: Tensor) -> Tensor:
        """Features at the skip's resolution (B, c_skip, Y, X)."""
        x = pad_to(run(self.up, x_BCYX), skip, "replicate")
        if self.gate is not None and self.attention == "up":
            x = self.gate(x, skip)
        elif self.gate is not None:
            skip = self.gate(skip, x)
        return run(self.join, torch.cat((x, skip), dim=1))


class SiameseAttention(nn.Module):
    """Classes of change between two dates.

    Parameters
    ----------
    channels : int
        Of one date; 4 in the paper.
    classes : int
        8 in the paper, 0 being no change.
    up : {"subpixel", "transposed", "bilinear"}
        Step to the next finer level: 1x1 convolution and pixel shuffle (the paper's best),
        transposed 2x2 convolution, or bilinear (corners aligned) and 1x1 convolution; see
        :func:`halo`.
    attention : {"none", "skip", "up"}
        Which path the gate weighs: none, the skip (O. Oktay et al., "Attention U-Net", 2018), or
        the one that comes up (the paper's best).
    gate : {"paper", "released"}
        See :class:`Gate`. The published scores were made with "released".
    widths : five int
        Channels of the encoder, from full resolution to 1/16.

    Raises
    ------
    ModelError
        When an option is unknown or there are not five widths.

    Notes
    -----
    Parameters at 4 channels and 8 classes, without and with a gate: bilinear 59,244,928 and
    62,043,660, transposed 67,600,768 and 70,399,500, sub-pixel 67,606,528 and 70,405,260. With the
    released gate 2,796,800 of them have no gradient.
    """

    def __init__(
        self,
        channels: int = 4,
        classes: int = 8,
        *,
        up: Up = "subpixel",
        attention: Attention = "up",
        gate: GateKind = "paper",
        widths: tuple[int, ...] = WIDTHS,
    ) -> None:
        super().__init__()
        _check_options(up, attention, gate, widths)
        self.channels = channels
        self.encoder = nn.ModuleList(_block(a, b) for a, b in pairwise((channels, *widths)))
        # Both dates side by side: twice the encoder's widths.
        joined = [2 * width for width in reversed(widths)]
        self.decoder = nn.ModuleList(
            UpBlock(a, b, up, attention, gate) for a, b in pairwise(joined)
        )
        self.head = nn.Conv2d(joined[-1], classes, 1, bias=False)
        self.apply(_initialise)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Logits of the classes.

        Parameters
        ----------
        before, after : Tensor
            Normalised images (B, channels, Y, X).

        Returns
        -------
        Tensor
            (B, classes, Y, X), any height and width from 16 up.

        Raises
        ------
        ModelError
            When a side is below 16 pixels, or the dates differ in shape or channels from what
            the network was made for.
        """
        wanted = (before.shape[0], self.channels, *before.shape[2:])
        shapes = (tuple(before.shape), tuple(after.shape))
        require(shapes == (wanted, wanted), "shapes of before and after", (wanted,) * 2, shapes)
        check_size(before, STRIDE)
        # In one pass, so that batch statistics are those of the pair.
        x, count = torch.cat((before, after)), before.shape[0]
        levels = []
        for depth, stage in enumerate(self.encoder):
            x = run(stage, functional.max_pool2d(x, 2) if depth else x)
            levels.append(torch.cat((x[:count], x[count:]), dim=1))
        *skips, found = levels
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            found = block(found, skip)
        return run(self.head, found)


def _block(c_in: int, c_out: int) -> nn.Sequential:
    """Twice: 3x3 convolution without bias, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


def _up_step(up: Up, c_in: int, c_out: int) -> nn.Module:
    """From one level to the next finer one."""
    if up == "subpixel":
        return nn.Sequential(nn.Conv2d(c_in, 4 * c_out, 1), nn.PixelShuffle(2))
    if up == "transposed":
        return nn.ConvTranspose2d(c_in, c_out, 2, stride=2)
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Conv2d(c_in, c_out, 1)
    )


def _initialise(module: nn.Module) -> None:
    """Kaiming normal by fan-out for weights, zero for biases; normalisation starts at 1 and 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check_options(up: str, attention: str, gate: str, widths: tuple[int, ...]) -> None:
    """Refuse what is no option."""
    for option, value, known in (
        ("up", up, get_args(Up)),
        ("attention", attention, get_args(Attention)),
        ("gate", gate, get_args(GateKind)),
    ):
        require(value in known, f"Siamese attention U-Net: {option}", " or ".join(known), value)
    held = len(widths) == len(WIDTHS) and min(widths) > 0
    require(held, "Siamese attention U-Net: widths", f"{len(WIDTHS)} of them", widths)
