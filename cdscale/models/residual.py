"""Residual blocks of FC-EF-Res and of the HRSCD networks.

R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau, "Multitask learning for large-scale semantic
change detection", CVIU 187 (2019), section 5.1 and figure 4.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from cdscale.models.blocks import Steps, require, run

SAME: Steps = ("conv3", "conv3")
"""What :class:`Same` reads; its shortcut reads less."""
SAME_POOLED: Steps = ("conv3", "pool2", "conv3")
"""The same with pooling."""
UP: Steps = ("up3", "conv3")
"""What :class:`Up` reads."""


@dataclass(frozen=True)
class Style:
    """What differs between the networks that are made of these blocks.

    Parameters
    ----------
    bias : bool
        Whether convolutions have one (FC-EF-Res: yes, HRSCD: no).
    slope : float
        Of the activation below zero: 0 is ReLU.
    dropout : float
        Probability of channel dropout after each block; no published network has any.

    Raises
    ------
    ModelError
        When the slope is not in [0, 1] or the probability not in [0, 1).
    """

    bias: bool
    slope: float
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.slope <= 1, "slope of the activation", "0 to 1", self.slope)
        require(0 <= self.dropout < 1, "dropout", "0 or more and below 1", self.dropout)

    def activation(self) -> nn.Module:
        """ReLU or leaky ReLU, in place."""
        return nn.LeakyReLU(self.slope, inplace=True) if self.slope else nn.ReLU(inplace=True)

    def conv(self, c_in: int, c_out: int, side: int) -> nn.Sequential:
        """A convolution that keeps the size, and batch normalisation."""
        return nn.Sequential(
            nn.Conv2d(c_in, c_out, side, padding=side // 2, bias=self.bias), nn.BatchNorm2d(c_out)
        )

    def up(self, c_in: int, c_out: int) -> nn.Sequential:
        """A transposed 3x3 convolution that doubles the size, and batch normalisation."""
        return nn.Sequential(
            nn.ConvTranspose2d(
                c_in, c_out, 3, stride=2, padding=1, output_padding=1, bias=self.bias
            ),
            nn.BatchNorm2d(c_out),
        )


class Same(nn.Module):
    """Two 3x3 convolutions beside a shortcut; pools, if at all, between the two.

    Parameters
    ----------
    c_in, c_out : int
        Channels. Where they differ the shortcut is a 1x1 convolution with batch normalisation.
    style : Style
        Of the network.
    pool : bool
        Whether the output has half the size (an odd size loses its last row or column).
    """

    def __init__(self, c_in: int, c_out: int, style: Style, *, pool: bool = False) -> None:
        super().__init__()
        self.first = nn.Sequential(style.conv(c_in, c_out, 3), style.activation())
        self.second = style.conv(c_out, c_out, 3)
        self.shortcut = nn.Identity() if c_in == c_out else style.conv(c_in, c_out, 1)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.last = nn.Sequential(style.activation(), nn.Dropout2d(style.dropout))

    def forward(self, x_BCYX: Tensor) -> Tensor:
        """(B, c_out, Y, X), or half the height and width."""
        main = run(self.second, run(self.pool, run(self.first, x_BCYX)))
        return run(self.last, main + run(self.pool, run(self.shortcut, x_BCYX)))


class Up(nn.Module):
    """A transposed convolution and a 3x3 convolution beside a transposed convolution.

    Parameters
    ----------
    c_in, c_out : int
        Channels; half as many come out in the published networks.
    style : Style
        Of the network.
    """

    def __init__(self, c_in: int, c_out: int, style: Style) -> None:
        super().__init__()
        self.first = nn.Sequential(style.up(c_in, c_out), style.activation())
        self.second = style.conv(c_out, c_out, 3)
        self.shortcut = style.up(c_in, c_out)
        self.last = nn.Sequential(style.activation(), nn.Dropout2d(style.dropout))

    def forward(self, x_BCYX: Tensor) -> Tensor:
        """(B, c_out, 2 Y, 2 X)."""
        main = run(self.second, run(self.first, x_BCYX))
        return run(self.last, main + run(self.shortcut, x_BCYX))
