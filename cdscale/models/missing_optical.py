"""System C: urban mapping from Sentinel-1 and a Sentinel-2 image that may be missing.

S. Hafner, Y. Ban, "Multi-modal deep learning for multi-temporal urban mapping with a partly missing
optical modality", IGARSS 2023. Two U-Nets, one per sensor; a third reconstructs the features of the
optical one from radar, and takes its place where there is no optical image. In the paper that is a
property of a whole image; choosing per pixel is our extension. So are two simpler ways to fill the
gap, against which reconstruction has to prove its worth: the mean feature and a learned one.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from cdscale.errors import ModelError, explain
from cdscale.models.blocks import Ladder, check_size, double_conv, pad_to, require, run

Reconstruction = Literal["separate", "shared", "code", "none", "mean", "token"]

LADDER = Ladder(encoder=(2, 2, 2, 2), bottom=2, decoder=(2, 2, 2, 2), up="up2")
STRIDE = LADDER.stride
HALO = LADDER.halo()

MEAN_RATE = 0.1
"""Share of the newest batch in the running mean feature; that of batch normalisation."""


@dataclass(frozen=True)
class Features:
    """Decoder features (B, width, Y, X) of radar, of optical, and what stands in for the latter."""

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
    recon : {"separate", "shared", "code", "none", "mean", "token"}
        What takes the place of optical features where there is no optical image.

        - "separate": a U-Net of its own on radar, as the paper's text has it.
        - "shared": a first double convolution of its own, then the body of the radar U-Net; what
          the published code computes. 29,616,257 parameters.
        - "code": as "shared", with the body of its own allocated all the same, as published:
          14,749,888 of 44,366,145 parameters never receive a gradient. For reproduction only.
        - "none": nothing; the optical U-Net sees zeros. Baseline "DS U-Net", 29,577,857.
        - "mean": the running mean of the optical features of seen pixels (the code's
          "DSUNet+"). One value per channel, not the published map of the size of a
          training crop, so that it fits images of any size. 29,577,857.
        - "token": one learned value per channel. 29,577,921.

    Notes
    -----
    Under "mean" and "token" the similarity term of the loss has no meaning: set its weight to 0.
    """

    mean_s2: Tensor
    mean_updates: Tensor

    def __init__(
        self,
        s2_channels: int = 4,
        s1_channels: int = 2,
        *,
        width: int = 64,
        recon: Reconstruction = "separate",
    ) -> None:
        super().__init__()
        known = get_args(Reconstruction)
        require(recon in known, "missing-optical network: recon", " or ".join(known), recon)
        self.inputs = (s1_channels, s2_channels)
        self.recon = recon
        self.s1_net = UNet(s1_channels, width)
        self.s2_net = UNet(s2_channels, width)
        stemmed = recon in ("separate", "shared", "code")
        self.recon_stem = double_conv(s1_channels, width) if stemmed else None
        self.recon_body = Body(width) if recon in ("separate", "code") else None
        self.head = nn.Conv2d(2 * width, 1, 1)
        if recon == "token":
            self.token = nn.Parameter(torch.zeros(width))
        if recon == "mean":
            self.register_buffer("mean_s2", torch.zeros(width))
            self.register_buffer("mean_updates", torch.tensor(0))

    def adopt_radar(self, trained: UNet) -> None:
        """Start the radar branch from a U-Net that was trained on radar alone; its head is left.

        The published code does so in one variant; whether the branch then stays frozen is for
        the training to say.

        Raises
        ------
        ModelError
            When the two differ in channels or width.
        """
        try:
            self.s1_net.stem.load_state_dict(trained.stem.state_dict())
            self.s1_net.body.load_state_dict(trained.body.state_dict())
        except RuntimeError as err:
            what = "the trained radar U-Net does not fit the radar branch"
            raise ModelError(explain(what, got=str(err)[:300])) from None

    def features(self, s1_BCYX: Tensor, s2_BCYX: Tensor, seen: Tensor | None = None) -> Features:
        """All three sets of features, as training needs them.

        Parameters
        ----------
        s1_BCYX, s2_BCYX : Tensor
            As for :meth:`forward`.
        seen : Tensor, optional
            As for :meth:`forward`; without it nothing is hidden from the optical branch.
            ``recon="mean"`` needs it in training mode: it learns the mean of seen pixels.

        Raises
        ------
        ModelError
            When ``seen`` is needed and absent, or has another shape.
        """
        mask = None if seen is None else per_pixel(seen, s1_BCYX)
        s2 = run(self.s2_net, s2_BCYX if mask is None else s2_BCYX.masked_fill(~mask, 0.0))
        if self.recon == "mean" and self.training:
            if mask is None:
                what = 'missing-optical network: recon="mean" learns from seen pixels only'
                raise ModelError(explain(what, expected="their mask", do="Pass `seen`."))
            self._learn_mean(s2.detach(), mask)
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
            Normalised reflectance (B, s2_channels, Y, X). What is not seen is set to zero here,
            whatever stands there.
        seen : Tensor
            Boolean, (B,) per sample, or (B, Y, X) or (B, 1, Y, X) per pixel: optical was seen.

        Returns
        -------
        Tensor
            (B, 1, Y, X), any height and width from 16 up.

        Raises
        ------
        ModelError
            When a side is below 16 pixels, a sensor has another number of channels, or ``seen``
            has another shape.
        """
        got = (s1.shape[1], s2.shape[1])
        require(got == self.inputs, "channels per sensor (S1, S2)", self.inputs, got)
        check_size(s1, STRIDE)
        mask = per_pixel(seen, s1)
        if self.training:
            found = self.features(s1, s2, mask)
            chosen = torch.where(mask, found.s2, found.s2_from_s1)
            return self.fuse(found.s1, chosen)
        chosen = self._needed(s1, s2.masked_fill(~mask, 0.0), mask)
        return self.fuse(run(self.s1_net, s1), chosen)

    def _needed(self, s1: Tensor, s2: Tensor, mask: Tensor) -> Tensor:
        """Optical features, real or not, without computing what no pixel takes."""
        if bool(mask.all()) or self.recon == "none":
            return run(self.s2_net, s2)
        if not bool(mask.any()):
            return self._reconstruct(s1, s1)
        real = run(self.s2_net, s2)
        return torch.where(mask, real, self._reconstruct(s1, real))

    def _reconstruct(self, s1: Tensor, s2_features: Tensor) -> Tensor:
        """What stands in for optical features (B, width, Y, X); for "none" the real ones."""
        if self.recon == "none":
            return s2_features
        if self.recon_stem is None:
            fill = self.token if self.recon == "token" else self.mean_s2
            count, _, height, width = s1.shape
            return fill[None, :, None, None].expand(count, -1, height, width)
        own = self.recon_body if self.recon == "separate" else None
        return run(self.s1_net.body if own is None else own, run(self.recon_stem, s1))

    @torch.no_grad()
    def _learn_mean(self, s2_features: Tensor, mask: Tensor) -> None:
        """Move the running mean towards that of this batch; the first batches weigh alike."""
        weight = mask.expand(-1, 1, *s2_features.shape[-2:]).to(self.mean_s2.dtype)
        if not bool(weight.any()):
            return
        self.mean_updates += 1
        mean = (s2_features * weight).sum(dim=(0, 2, 3)) / weight.sum()
        self.mean_s2.lerp_(mean.to(self.mean_s2.dtype), max(MEAN_RATE, 1 / int(self.mean_updates)))


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
