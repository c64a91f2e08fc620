"""System C on pairs: change between two dates whose optical images may be missing, pixel by pixel.

S. Hafner, Y. Ban, IGARSS 2023, map one month; here both dates of a sensor are stacked, as in the DS
U-Net of S. Hafner et al., GRSL 2021, which ``recon="none"`` is. A change is seen by optical only
where both dates are: the features of the optical *pair* are what is reconstructed from radar.

Shape suffixes: B sample, C channel (S2 bands, S1 polarisations, or features), Y row, X column.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cdscale.models.blocks import Stack, require
from cdscale.models.missing_optical import (
    HALO,
    LADDER,
    STRIDE,
    Features,
    MissingOptical,
    Reconstruction,
)


class MissingOpticalPair(nn.Module):
    """Change between two dates from radar and, where both dates have it, optical.

    Parameters
    ----------
    s2_channels, s1_channels : int
        Bands and polarisations of one date, 1 or more each; 13 and 1 (VV) on OSCD.
    width : int
        Channels at full resolution; 64 in the paper.
    recon : {"separate", "shared", "code", "none", "mean", "token"}
        What takes the place of optical features; see
        :class:`~cdscale.models.missing_optical.MissingOptical`.

    Raises
    ------
    ModelError
        When a sensor has no channel, or an option is out of range.

    Notes
    -----
    13 bands, VV and width 64: "separate" 44,378,817 parameters, "shared" 29,628,929, "none" and
    "mean" 29,590,529 (the DS U-Net), "token" 29,590,593.

    Inputs say by themselves where optical is missing: :func:`~cdscale.models.inputs.change_inputs`
    feeds a pixel that either date lacks as 0 in all bands of both. No standardised pixel that was
    seen is exactly 0 in all of them, unless its image is constant in every band, which shows
    nothing either. What fills the surroundings of a scene counts as missing too.

    As in :class:`~cdscale.models.ds_unet.DSUNet` the one logit comes second after a constant zero.
    """

    def __init__(
        self,
        s2_channels: int = 13,
        s1_channels: int = 1,
        *,
        width: int = 64,
        recon: Reconstruction = "separate",
    ) -> None:
        super().__init__()
        channels, got = min(s2_channels, s1_channels, width), (s2_channels, s1_channels, width)
        what = "missing-optical network of pairs: s2_channels, s1_channels and width"
        require(channels >= 1, what, "1 or more each", got)
        self.optical, self.radar = Stack(s2_channels, 0), Stack(0, s1_channels)
        self.net = MissingOptical(2 * s2_channels, 2 * s1_channels, width=width, recon=recon)

    def forward(
        self,
        s2_before: Tensor,
        s2_after: Tensor,
        s1_before: Tensor,
        s1_after: Tensor,
        seen: Tensor | None = None,
    ) -> Tensor:
        """Logits of no change (always zero) and of change.

        Parameters
        ----------
        s2_before, s2_after : Tensor
            Normalised reflectance, (B, s2_channels, Y, X); 0 in all bands, or NaN, where missing.
        s1_before, s1_after : Tensor
            Normalised backscatter, (B, s1_channels, Y, X), zeros where absent.
        seen : Tensor, optional
            Boolean, (B,) per sample, or (B, Y, X) or (B, 1, Y, X) per pixel: both dates were seen.
            None: as the optical images say, :func:`both_seen`.

        Returns
        -------
        Tensor
            (B, 2, Y, X), any height and width from 16 up.

        Raises
        ------
        ModelError
            When a side is below 16 pixels, a sensor has another number of channels, or ``seen``
            has another shape.
        """
        s1, s2 = self._stacked(s2_before, s2_after, s1_before, s1_after)
        mask = both_seen(s2_before, s2_after) if seen is None else seen
        change: Tensor = self.net(s1, s2, mask)
        return torch.cat((torch.zeros_like(change), change), dim=1)

    def features(
        self,
        s2_before: Tensor,
        s2_after: Tensor,
        s1_before: Tensor,
        s1_after: Tensor,
        seen: Tensor | None = None,
    ) -> Features:
        """Features of radar, of optical, and what stands in for the latter, as training needs them.

        Parameters and errors are those of :meth:`forward`; ``net.fuse`` makes logits of them.
        """
        s1, s2 = self._stacked(s2_before, s2_after, s1_before, s1_after)
        return self.net.features(s1, s2, both_seen(s2_before, s2_after) if seen is None else seen)

    def _stacked(self, *dates: Tensor) -> tuple[Tensor, Tensor]:
        """Both dates of radar, and both of optical."""
        return self.radar.dates(*dates), self.optical.dates(*dates)


def both_seen(s2_before: Tensor, s2_after: Tensor) -> Tensor:
    """Boolean (B, 1, Y, X): optical was seen at both dates, as the network's inputs say it.

    A pixel of a date is missing where any band is NaN, or all bands are exactly 0.
    """
    each = [torch.isfinite(x).all(dim=1) & (x != 0).any(dim=1) for x in (s2_before, s2_after)]
    return (each[0] & each[1])[:, None]


__all__ = ["HALO", "LADDER", "STRIDE", "MissingOpticalPair", "both_seen"]
