"""The dual-stream U-Net on pairs, ancestor of System C: one U-Net per sensor, both dates stacked.

S. Hafner, A. Nascetti, H. Azizpour, Y. Ban, "Sentinel-1 and Sentinel-2 data fusion for urban change
detection using a dual stream U-Net", IEEE Geoscience and Remote Sensing Letters, 2021. Its
single-stream baselines are here too: one sensor alone, or both stacked into one U-Net.

Shape suffixes: B sample, C channel (S2 bands, S1 polarisations, or features), Y row, X column.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from cdscale.models.blocks import Stack, check_size, require, run
from cdscale.models.missing_optical import HALO, LADDER, STRIDE, UNet

Fusion = Literal["late", "early"]


class DSUNet(nn.Module):
    """Change between two dates from Sentinel-1, Sentinel-2, or both.

    Parameters
    ----------
    s2_channels, s1_channels : int
        Bands and polarisations of one date; 13 and 1 (VV) in the paper. 0 leaves a sensor out,
        which gives the paper's "U-Net" on the other one.
    width : int
        Channels at full resolution; 64 in the paper.
    fusion : {"late", "early"}
        "late": a U-Net per sensor, their last features joined by one 1x1 convolution, which is the
        DS U-Net. "early": all channels of both sensors into one U-Net.

    Raises
    ------
    ModelError
        When no channel is left, or an option is out of range.

    Notes
    -----
    13 bands and VV: 29,590,529 parameters (the published code allocates 29,590,659, of which the
    130 of each stream's own head are unused). 13 bands alone 14,802,177; early fusion 14,803,329.

    The published network ends in one logit z of change. Here z comes second after a constant
    zero, so that every network on pairs answers alike: ``softmax((0, z)) = (1 - sigmoid(z),
    sigmoid(z))``, and the cross-entropy of the two classes is the binary one of z.
    """

    def __init__(
        self,
        s2_channels: int = 13,
        s1_channels: int = 1,
        *,
        width: int = 64,
        fusion: Fusion = "late",
    ) -> None:
        super().__init__()
        require(fusion in get_args(Fusion), "DS U-Net: fusion", "late or early", fusion)
        require(width >= 1, "DS U-Net: width", "1 or more", width)
        both = Stack(s2_channels, s1_channels)
        if fusion == "late" and s2_channels and s1_channels:
            self.stacks = [Stack(0, s1_channels), Stack(s2_channels, 0)]
        else:
            self.stacks = [both]
        self.streams = nn.ModuleList(UNet(2 * stack.channels, width) for stack in self.stacks)
        self.head = nn.Conv2d(len(self.stacks) * width, 1, 1)

    def forward(
        self, s2_before: Tensor, s2_after: Tensor, s1_before: Tensor, s1_after: Tensor
    ) -> Tensor:
        """Logits of no change (always zero) and of change.

        Parameters
        ----------
        s2_before, s2_after : Tensor
            Normalised reflectance, (B, s2_channels, Y, X).
        s1_before, s1_after : Tensor
            Normalised backscatter, (B, s1_channels, Y, X). A sensor that the network was made
            without is not read.

        Returns
        -------
        Tensor
            (B, 2, Y, X), any height and width from 16 up.

        Raises
        ------
        ModelError
            When a side is below 16 pixels, or a sensor has another number of channels.
        """
        inputs = [stack.dates(s2_before, s2_after, s1_before, s1_after) for stack in self.stacks]
        check_size(inputs[0], STRIDE)
        found = [run(net, x) for net, x in zip(self.streams, inputs, strict=True)]
        change = run(self.head, torch.cat(found, dim=1))
        return torch.cat((torch.zeros_like(change), change), dim=1)


__all__ = ["HALO", "LADDER", "STRIDE", "DSUNet"]
