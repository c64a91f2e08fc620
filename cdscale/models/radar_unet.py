"""Baseline "U-Net S1" of System C: urban mapping from radar alone.

S. Hafner, Y. Ban, IGARSS 2023. It is trained on all months, whether they have an optical image or
not, and is what a network that reads optical too has to beat where there is none.

Shape suffixes: B sample, P polarisation, Y row, X column.
"""

from __future__ import annotations

from torch import Tensor, nn

from cdscale.models.blocks import check_size, require, run
from cdscale.models.missing_optical import HALO, STRIDE, UNet

__all__ = ["HALO", "STRIDE", "RadarUNet"]


class RadarUNet(nn.Module):
    """Urban logits from radar, called as the other networks on months are.

    Parameters
    ----------
    s2_channels : int
        Of the optical image that it is handed and does not read; 0 where a card names none.
    s1_channels : int
        2 in the paper, which with ``width=64`` gives 14,788,353 parameters.
    width : int
        Channels at full resolution.
    """

    def __init__(self, s2_channels: int = 0, s1_channels: int = 2, *, width: int = 64) -> None:
        super().__init__()
        del s2_channels
        self.channels = s1_channels
        self.net = UNet(s1_channels, width, outputs=1)

    def forward(self, s1: Tensor, s2: Tensor, seen: Tensor) -> Tensor:
        """Logits (B, 1, Y, X) from normalised backscatter (B, P, Y, X), zeros where absent.

        ``s2`` and ``seen`` are those of the other networks on months, and are not read.

        Raises
        ------
        ModelError
            When a side is below 16 pixels, or radar has another number of channels.
        """
        del s2, seen
        require(s1.shape[1] == self.channels, "channels of radar", self.channels, s1.shape[1])
        check_size(s1, STRIDE)
        return run(self.net, s1)
