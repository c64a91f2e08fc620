"""System A: one encoder for all sensors, on the stacked dates or on each date.

R. Caye Daudt, B. Le Saux, A. Boulch, "Fully convolutional Siamese networks for change detection",
ICIP 2018: FC-EF (early fusion), FC-Siam-conc and FC-Siam-diff. P. Ebel, S. Saha, X. X. Zhu, "Fusing
multi-modal data for supervised change detection", ISPRS Archives 2021, calls the first "U-Net" and
the second "Siamese", on Sentinel-2 alone and on Sentinel-2 and -1 stacked. Layer by layer they
are the two-branch network of :mod:`cdscale.models.two_branch` with one branch, so they have its
reach.

Shape suffixes: B sample, C channel (S2 bands, S1 polarisations, or features), Y row, X column.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cdscale.models.blocks import Stack, check_size, conv_unit, conv_units, pad_to, require, run
from cdscale.models.two_branch import HALO, LADDER, STRIDE, Bottleneck, Encoder, Fusion, TwoBranch

__all__ = ["HALO", "LADDER", "STRIDE", "FcEf", "FcSiam"]


class FcEf(nn.Module):
    """FC-EF, early fusion: the dates and the sensors are channels of one image.

    Parameters
    ----------
    s2_channels, s1_channels : int
        Bands and polarisations per date; 0 where a sensor is left out.
    dropout : float
        Probability of channel dropout after each unit (0.2 in the papers).

    Raises
    ------
    ModelError
        When there is no channel, or the probability is not in [0, 1).

    Notes
    -----
    13 bands: 1,353,458 parameters; RGB: 1,350,578; 13 bands and 2 polarisations: 1,354,034. The
    output is not normalised (the papers' LogSoftmax belongs to the loss and to the prediction).
    """

    def __init__(
        self, s2_channels: int = 13, s1_channels: int = 0, *, dropout: float = 0.2
    ) -> None:
        super().__init__()
        require(0 <= dropout < 1, "FC-EF: dropout", "0 or more and below 1", dropout)
        self.stack = Stack(s2_channels, s1_channels)
        self.encoder = Encoder(2 * self.stack.channels, dropout)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(c, c, 3, stride=2, padding=1, output_padding=1)
            for c in (128, 64, 32, 16)
        )
        self.decoders = nn.ModuleList(
            (
                conv_units((256, 128, 128, 64), dropout),
                conv_units((128, 64, 64, 32), dropout),
                conv_units((64, 32, 16), dropout),
                conv_unit(32, 16, dropout),
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
            by a network without polarisations.

        Returns
        -------
        Tensor
            (B, 2, Y, X), any height and width from 16 up.

        Raises
        ------
        ModelError
            When a side is below 16 pixels, or a sensor has another number of channels.
        """
        x = self.stack.dates(s2_before, s2_after, s1_before, s1_after)
        check_size(x, STRIDE)
        *skips, x = self.encoder(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips), strict=True):
            x = pad_to(run(up, x), skip, "replicate")
            x = run(decoder, torch.cat((x, skip), dim=1))
        return run(self.head, x)


class FcSiam(TwoBranch):
    """FC-Siam-conc and FC-Siam-diff: one encoder, shared by the dates, on the stacked sensors.

    Parameters
    ----------
    s2_channels, s1_channels : int
        Bands and polarisations per date. Radar, if any, is stacked onto the bands of its date
        and goes through the one encoder; an encoder of its own is :class:`TwoBranch`'s.
    skip : {"concat", "absdiff", "symmetric"}
        "concat" is FC-Siam-conc, "absdiff" FC-Siam-diff; "symmetric" as in :class:`TwoBranch`.
    bottleneck : {"last", "concat", "absdiff", "symmetric"}
        What enters the deepest layer; "last", the pooled features of date 2 alone, is what the
        published networks do. No parameter is dead then, as the encoder is shared, but the
        network is not symmetric in time even if its skips are.
    dropout : float
        Probability of channel dropout after each unit (0.2 in the papers).

    Raises
    ------
    ModelError
        When an option is unknown, or there is no channel.

    Notes
    -----
    FC-Siam-conc on 13 bands: 1,547,426 parameters; RGB: 1,545,986; 13 bands and 2 polarisations:
    1,547,714. FC-Siam-diff on 13 bands: 1,351,586; RGB: 1,350,146. Weights fit a ``TwoBranch``
    with ``s1_channels=0`` and as many ``s2_channels`` as there are in all, and the other way.
    """

    def __init__(
        self,
        s2_channels: int = 13,
        s1_channels: int = 0,
        *,
        skip: Fusion = "concat",
        bottleneck: Bottleneck = "last",
        dropout: float = 0.2,
    ) -> None:
        require(0 <= dropout < 1, "FC-Siam: dropout", "0 or more and below 1", dropout)
        stack = Stack(s2_channels, s1_channels)
        super().__init__(stack.channels, 0, skip=skip, bottleneck=bottleneck, dropout=dropout)
        self.stack = stack

    def forward(
        self, s2_before: Tensor, s2_after: Tensor, s1_before: Tensor, s1_after: Tensor
    ) -> Tensor:
        """Logits of no change and change; arguments and errors as of :meth:`FcEf.forward`."""
        before = self.stack.date(s2_before, s1_before)
        after = self.stack.date(s2_after, s1_after)
        # The one encoder reads what TwoBranch calls S2; it has no other.
        return super().forward(before, after, s1_before, s1_after)
