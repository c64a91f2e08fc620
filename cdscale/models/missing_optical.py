"""System C: urban mapping from Sentinel-1 and a Sentinel-2 image that may be missing.

S. Hafner, Y. Ban, "Multi-modal deep learning for multi-temporal urban mapping with a partly missing
optical modality", IGARSS 2023. Two U-Nets, one per sensor; a third reconstructs the features of the
optical one from radar, and takes its place where there is no optical image. In the paper that is a
property of a whole image; choosing per pixel is our extension.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cdscale.errors import ModelError, explain
from cdscale.models.blocks import Ladder, check_size, double_conv, pad_to, run

Reconstruction = Literal["separate", "shared", "none"]

LADDER = Ladder(encoder=(2, 2, 2, 2), bottom=2, decoder=(2, 2, 2, 2), up="up2")
STRIDE = LADDER.stride
HALO = LADDER.halo()


@dataclass(frozen=True)
class Features:
    """Decoder features (B, width, Y, X) of radar, of optical, and of optical as radar has it."""

    s1: Tensor
    s2: Tensor
    s2_from_s1: Tensor


class Body(nn.Module):
    """A U-Net without its first double convolution and without its head.

    Widths w, 2w, 4w, 8w, 8w on the way down; transposed 2x2 convolutions on the way up.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.downs = nn.ModuleList(
            double_conv(a, b) for a, b in ((w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w), (8 * w,) * 2)
        )
        running = (8 * w, 4 * w, 2 * w, w)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(c, c, 2, stride=2) for c in running)
        outputs = (4 * w, 2 * w, w, w)
        self.joins = nn.ModuleList(
            double_conv(2 * c_in, c_out) for c_in, c_out in zip(running, outputs, strict=True)
        )

    def forward(self, x_BCYX: Tensor) -> Tensor:
        """Features (B, width, Y, X) from those of the first double convolution."""
        skips = []
        for down in self.downs:
            skips.append(x_BCYX)
            x_BCYX = run(down, functional.max_pool2d(x_BCYX, 2))
        for up, join, skip in zip(self.ups, self.joins, reversed(skips), strict=True):
            x_BCYX = pad_to(run(up, x_BCYX), skip, "constant")
            x_BCYX = run(join, torch.cat((skip, x_BCYX), dim=1))
        return x_BCYX


class UNet(nn.Module):
    """One U-Net; alone on radar it is the paper's baseline "U-Net S1".

    Parameters
    ----------
    channels : int
        Input channels.
    width : int
        Channels at full resolution; 64 in the paper.
    outputs : int
        Channels of a 1x1 head; 0: none, features come out.
    """

    def __init__(self, channels: int, width: int = 64, outputs: int = 0) -> None:
        super().__init__()
        self.stem = double_conv(channels, width)
        self.body = Body(width)
        self.head = nn.Conv2d(width, outputs, 1) if outputs else nn.Identity()

    def forward(self, x_BCYX: Tensor) -> Tensor:
        """Features or logits, (B, width or outputs, Y, X)."""
        return run(self.head, run(self.body, run(self.stem, x_BCYX)))


class MissingOptical(nn.Module):
    """Urban logits from radar and, where there is one, an optical image.

    Parameters
    ----------
    s2_channels, s1_channels : int
        4 and 2 in the paper.
    width : int
        Channels at full resolution; 64 in the paper, which gives 44,366,145 parameters.
    recon : {"separate", "shared", "none"}
        Where reconstructed optical features come from: a U-Net of its own on radar (the paper's
        text), a first layer of its own before the body of the radar U-Net (the published code,
        29,616,257 parameters), or nowhere: the optical U-Net then sees zeros (baseline
        "DS U-Net", 29,577,857).
    """

    def __init__(
        self,
        s2_channels: int = 4,
        s1_channels: int = 2,
        *,
        width: int = 64,
        recon: Reconstruction = "separate",
    ) -> None:
        super().__init__()
        if recon not in ("separate", "shared", "none"):
            raise ModelError(
                explain(
                    "missing-optical network: recon", expected="separate, shared or none", got=recon
                )
            )
        self.recon = recon
        self.s1_net = UNet(s1_channels, width)
        self.s2_net = UNet(s2_channels, width)
        self.recon_stem = double_conv(s1_channels, width) if recon != "none" else None
        self.recon_body = Body(width) if recon == "separate" else None
        self.head = nn.Conv2d(2 * width, 1, 1)

    def features(self, s1_BCYX: Tensor, s2_BCYX: Tensor) -> Features:
        """All three sets of features, as training needs them."""
        s2 = run(self.s2_net, s2_BCYX)
        return Features(run(self.s1_net, s1_BCYX), s2, self._reconstruct(s1_BCYX, s2))

    def fuse(self, s1_features: Tensor, s2_features: Tensor) -> Tensor:
        """Logits (B, 1, Y, X) from the features of radar and of optical."""
        return run(self.head, torch.cat((s1_features, s2_features), dim=1))

    def forward(self, s1: Tensor, s2: Tensor, seen: Tensor) -> Tensor:
        """Logits with optical features where optical was seen, else reconstructed ones.

        Parameters
        ----------
        s1 : Tensor
            Normalised backscatter (B, s1_channels, Y, X), zeros where absent.
        s2 : Tensor
            Normalised reflectance (B, s2_channels, Y, X), zeros where absent.
        seen : Tensor
            Boolean, (B,) per sample, or (B, Y, X) or (B, 1, Y, X) per pixel: optical was seen.

        Returns
        -------
        Tensor
            (B, 1, Y, X), any height and width from 16 up.

        Raises
        ------
        ModelError
            When a side is below 16 pixels or ``seen`` has another shape.
        """
        check_size(s1, STRIDE)
        mask = per_pixel(seen, s1)
        if self.training:
            found = self.features(s1, s2)
            chosen = torch.where(mask, found.s2, found.s2_from_s1)
            return self.fuse(found.s1, chosen)
        return self.fuse(run(self.s1_net, s1), self._needed(s1, s2, mask))

    def _needed(self, s1: Tensor, s2: Tensor, mask: Tensor) -> Tensor:
        """Optical features, real or reconstructed, without computing what no pixel takes."""
        if bool(mask.all()) or self.recon == "none":
            return run(self.s2_net, s2)
        if not bool(mask.any()):
            return self._reconstruct(s1, s1)
        real = run(self.s2_net, s2)
        return torch.where(mask, real, self._reconstruct(s1, real))

    def _reconstruct(self, s1: Tensor, s2_features: Tensor) -> Tensor:
        """Optical features from radar; without a reconstruction branch the real ones."""
        if self.recon_stem is None:
            return s2_features
        stem = run(self.recon_stem, s1)
        return run(self.s1_net.body if self.recon_body is None else self.recon_body, stem)


def per_pixel(seen: Tensor, like_BCYX: Tensor) -> Tensor:
    """A mask per sample or per pixel as boolean (B, 1, 1, 1) or (B, 1, Y, X).

    Raises
    ------
    ModelError
        When its shape fits neither.
    """
    count, _, height, width = like_BCYX.shape
    if seen.shape == (count,):
        return seen.bool()[:, None, None, None]
    if seen.shape == (count, height, width):
        return seen.bool()[:, None]
    if seen.shape in ((count, 1, height, width), (count, 1, 1, 1)):
        return seen.bool()
    raise ModelError(
        explain(
            "mask of seen optical pixels",
            expected=f"({count},) or ({count}, {height}, {width})",
            got=tuple(seen.shape),
        )
    )
