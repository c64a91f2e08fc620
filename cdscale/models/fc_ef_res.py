"""System A: FC-EF-Res, early fusion with residual blocks.

R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau, "Multitask learning for large-scale semantic
change detection", CVIU 187 (2019), section 5.1, there measured on OSCD.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cdscale.models.blocks import Level, Reach, Stack, check_size, pad_to, require, run
from cdscale.models.residual import SAME, SAME_POOLED, UP, Same, Style, Up

REACH = Reach(
    levels=(Level(SAME, SAME_POOLED, UP, ()), *(Level(SAME, SAME_POOLED, UP, SAME),) * 3),
    bottom=SAME,
)
STRIDE = REACH.stride
HALO = REACH.halo()


class FcEfRes(nn.Module):
    """FC-EF-Res: change between two dates from one stack of dates and sensors.

    Parameters
    ----------
    s2_channels, s1_channels : int
        Bands and polarisations per date; 0 where a sensor is left out.
    width : int
        Channels at full resolution; 8 in the paper. They double at each of the four poolings.
    dropout : float
        Probability of channel dropout after each residual block; none in the paper.

    Raises
    ------
    ModelError
        When there is no channel, the width is below 1, or the probability is not in [0, 1).

    Notes
    -----
    RGB: 1,103,874 parameters; RGB and near infrared: 1,103,946; ten bands: 1,104,994; 13 bands:
    1,105,474. The output is not normalised (the paper's LogSoftmax belongs to the loss).
    """

    def __init__(
        self,
        s2_channels: int = 13,
        s1_channels: int = 0,
        *,
        width: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require(width >= 1, "FC-EF-Res: width", "1 or more", width)
        style = Style(bias=True, slope=0.0, dropout=dropout)
        self.stack = Stack(s2_channels, s1_channels)
        widths = [width * 2**level for level in range(4)]
        entering = (2 * self.stack.channels, *widths[1:])
        self.stages = nn.ModuleList(
            Same(c_in, c, style) for c_in, c in zip(entering, widths, strict=True)
        )
        self.downs = nn.ModuleList(Same(c, 2 * c, style, pool=True) for c in widths)
        self.bottom = Same(16 * width, 16 * width, style)
        self.ups = nn.ModuleList(Up(2 * c, c, style) for c in reversed(widths))
        self.joins = nn.ModuleList(Same(2 * c, c, style) for c in reversed(widths[1:]))
        self.head = nn.Conv2d(2 * width, 2, 1)

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
        skips = []
        for stage, down in zip(self.stages, self.downs, strict=True):
            x = run(stage, x)
            skips.append(x)
            x = run(down, x)
        x = run(self.bottom, x)
        # The finest join has no block of its own: the head reads it.
        joins = (*self.joins, nn.Identity())
        for up, join, skip in zip(self.ups, joins, reversed(skips), strict=True):
            x = pad_to(run(up, x), skip, "replicate")
            x = run(join, torch.cat((x, skip), dim=1))
        return run(self.head, x)
