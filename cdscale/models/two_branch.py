"""System A: the two-branch Siamese network on Sentinel-1 and Sentinel-2 pairs.

P. Ebel, S. Saha, X. X. Zhu, "Fusing multi-modal data for supervised change detection", ISPRS
Archives 2021, on the encoder-decoder of R. Caye Daudt, B. Le Saux, A. Boulch, "Fully convolutional
Siamese networks for change detection", ICIP 2018. One encoder per sensor, each shared over the two
dates; the decoder reads the skips of all four.

Shape suffixes: B sample, C channel (S2 bands, S1 polarisations, or features), Y row, X column.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cdscale.errors import ModelError, explain
from cdscale.models.blocks import (
    Ladder,
    check_size,
    conv_unit,
    conv_units,
    pad_to,
    run,
    symmetric,
)

Fusion = Literal["concat", "absdiff", "symmetric"]
Bottleneck = Literal["last", "concat", "absdiff", "symmetric"]

LADDER = Ladder(encoder=(2, 2, 3, 3), bottom=0, decoder=(2, 2, 3, 3), up="up3")
STRIDE = LADDER.stride
HALO = LADDER.halo()

_WIDTHS = (16, 32, 64, 128)
_UNITS = (2, 2, 3, 3)


class Encoder(nn.Module):
    """Four stages of 3x3 units (16, 32, 64, 128 channels), each followed by 2x2 pooling."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        before = (channels, *_WIDTHS[:-1])
        self.stages = nn.ModuleList(
            conv_units((c_in, *(width,) * units), dropout)
            for c_in, width, units in zip(before, _WIDTHS, _UNITS, strict=True)
        )

    def forward(self, x_BCYX: Tensor) -> list[Tensor]:
        """Outputs of the four stages at 1, 1/2, 1/4, 1/8, and the pooled last one at 1/16."""
        outputs = []
        for stage in self.stages:
            x_BCYX = run(stage, x_BCYX)
            outputs.append(x_BCYX)
            x_BCYX = functional.max_pool2d(x_BCYX, 2)
        return [*outputs, x_BCYX]


class TwoBranch(nn.Module):
    """Change between two dates from Sentinel-2 and Sentinel-1.

    Parameters
    ----------
    s2_channels, s1_channels : int
        Bands and polarisations. ``s1_channels=0`` leaves the radar branch out, which gives
        FC-Siam-conc (``skip="concat"``) and FC-Siam-diff (``skip="absdiff"``).
    skip : {"concat", "absdiff", "symmetric"}
        What the decoder sees of the two dates at each stage. "concat" is the paper's. "symmetric"
        stacks absolute difference and mean: it says as much about the pair as "concat" except
        which date came first, at the same parameter count.
    bottleneck : {"last", "concat", "absdiff", "symmetric"}
        What enters the deepest layer. "last" is what the published networks do: the pooled S2
        features of date 2 alone, so that the network is not symmetric in time and radar
        reaches the decoder through the skips only.
    dropout : float
        Probability of channel dropout after each unit (0.2 in the paper).

    Notes
    -----
    13 bands, 2 polarisations, paper options: 2,418,338 parameters. Output of the network is not
    normalised (the paper's LogSoftmax belongs to the loss and to the prediction).
    """

    def __init__(
        self,
        s2_channels: int = 13,
        s1_channels: int = 2,
        *,
        skip: Fusion = "concat",
        bottleneck: Bottleneck = "last",
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        _check_options(skip, bottleneck)
        self.skip = skip
        self.bottleneck = bottleneck
        self.s2_encoder = Encoder(s2_channels, dropout)
        self.s1_encoder = Encoder(s1_channels, dropout) if s1_channels else None
        sensors = 2 if s1_channels else 1
        maps = sensors * (1 if skip == "absdiff" else 2)
        deep = {"last": 1, "absdiff": sensors}.get(bottleneck, 2 * sensors)
        inputs = (deep * 128, 64, 32, 16)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(c_in, c, 3, stride=2, padding=1, output_padding=1)
            for c_in, c in zip(inputs, reversed(_WIDTHS), strict=True)
        )
        self.decoders = nn.ModuleList(
            (
                conv_units((128 + 128 * maps, 128, 128, 64), dropout),
                conv_units((64 + 64 * maps, 64, 64, 32), dropout),
                conv_units((32 + 32 * maps, 32, 16), dropout),
                conv_unit(16 + 16 * maps, 16, dropout),
            )
        )
        self.head = nn.Conv2d(16, 2, 3, padding=1)

    def forward(
        self, s2_before: Tensor, s2_after: Tensor, s1_before: Tensor, s1_after: Tensor
    ) -> Tensor:
        """Logits of no change and change.

        Parameters
        ----------
        s2_before, s2_after : Tensor
            Normalised reflectance, (B, s2_channels, Y, X).
        s1_before, s1_after : Tensor
            Normalised backscatter, (B, s1_channels, Y, X); zeros where there is none. Not read
            when the network has no radar branch.

        Returns
        -------
        Tensor
            (B, 2, Y, X), any height and width from 16 up.

        Raises
        ------
        ModelError
            When a side is below 16 pixels.
        """
        check_size(s2_before, STRIDE)
        pairs = [_both(self.s2_encoder, s2_before, s2_after)]
        if self.s1_encoder is not None:
            pairs.append(_both(self.s1_encoder, s1_before, s1_after))
        x = self._deepest([(before[-1], after[-1]) for before, after in pairs])
        for level, (up, decoder) in enumerate(zip(self.ups, self.decoders, strict=True)):
            stage = 3 - level
            skips = [_fuse(before[stage], after[stage], self.skip) for before, after in pairs]
            x = pad_to(run(up, x), skips[0], "replicate")
            x = run(decoder, torch.cat((x, *skips), dim=1))
        return run(self.head, x)

    def _deepest(self, pooled: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Input of the deepest layer from the pooled features of both dates, S2 first."""
        if self.bottleneck == "last":
            return pooled[0][1]
        return torch.cat([_fuse(a, b, self.bottleneck) for a, b in pooled], dim=1)


def _both(encoder: Encoder, before: Tensor, after: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Features of both dates, in one pass so that batch statistics are those of the pair."""
    features = encoder(torch.cat((before, after)))
    count = before.shape[0]
    return [f[:count] for f in features], [f[count:] for f in features]


def _fuse(before: Tensor, after: Tensor, how: str) -> Tensor:
    """Features of two dates as one stack of channels."""
    if how == "absdiff":
        return (before - after).abs()
    if how == "symmetric":
        return symmetric(before, after)
    return torch.cat((before, after), dim=1)


def _check_options(skip: str, bottleneck: str) -> None:
    """Refuse what is neither an option of the skips nor of the bottleneck."""
    fusions = ("concat", "absdiff", "symmetric")
    for option, value, known in (
        ("skip", skip, fusions),
        ("bottleneck", bottleneck, ("last", *fusions)),
    ):
        if value not in known:
            raise ModelError(
                explain(f"two-branch network: {option}", expected=" or ".join(known), got=value)
            )
