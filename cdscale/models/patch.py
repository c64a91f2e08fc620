"""Patch classifiers: the change of a pixel from the 15 x 15 pixels around it.

R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau, "Urban change detection for multispectral Earth
observation using convolutional neural networks", IGARSS 2018. Their linear layers are written here
as the convolutions that they are on a 15 x 15 patch (a layer on a flattened 7 x 7 map is a 7 x 7
convolution), so that one network with one set of weights classifies patches in training and maps
scenes afterwards: each pixel of a map is what its patch alone gives.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from cdscale.models.blocks import Reach, Stack, convolutions, require, run

SIDE = 15
"""Rows and columns of a patch."""

REACH = Reach(levels=(), bottom=convolutions(7))
SIAM_REACH = Reach(levels=(), bottom=(*convolutions(4), "conv7"))
STRIDE = REACH.stride
HALO = REACH.halo()


class PatchNet(nn.Module, ABC):
    """What both classifiers share: the same network on patches and on scenes.

    Parameters
    ----------
    s2_channels, s1_channels : int
        Bands and polarisations per date, stacked; 0 where a sensor is left out.
    dropout : float
        Probability of channel dropout.

    Raises
    ------
    ModelError
        When there is no channel, or the probability is not in [0, 1).
    """

    def __init__(self, s2_channels: int, s1_channels: int, dropout: float) -> None:
        super().__init__()
        require(0 <= dropout < 1, "patch network: dropout", "0 or more and below 1", dropout)
        self.stack = Stack(s2_channels, s1_channels)

    @abstractmethod
    def valid(self, before_BCYX: Tensor, after_BCYX: Tensor) -> Tensor:
        """Logits (B, 2, Y - 14, X - 14) of the pixels whose patch lies inside the image."""

    def classify(
        self, s2_before: Tensor, s2_after: Tensor, s1_before: Tensor, s1_after: Tensor
    ) -> Tensor:
        """Logits of the central pixel of each patch: what training needs.

        Parameters
        ----------
        s2_before, s2_after, s1_before, s1_after : Tensor
            As for :meth:`forward`, with Y = X = 15.

        Returns
        -------
        Tensor
            (B, 2).

        Raises
        ------
        ModelError
            When the patches are not 15 x 15, or a sensor has another number of channels.
        """
        before, after = self._dates(s2_before, s2_after, s1_before, s1_after)
        got = tuple(before.shape[-2:])
        require(got == (SIDE, SIDE), "size of a patch", (SIDE, SIDE), got)
        return self.valid(before, after)[..., 0, 0]

    def forward(
        self, s2_before: Tensor, s2_after: Tensor, s1_before: Tensor, s1_after: Tensor
    ) -> Tensor:
        """Logits of no change and change of every pixel.

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
            (B, 2, Y, X), any height and width. Beyond the border the patches hold zeros, as
            where there is no image.

        Raises
        ------
        ModelError
            When a sensor has another number of channels.
        """
        dates = self._dates(s2_before, s2_after, s1_before, s1_after)
        margin = SIDE // 2
        before, after = (functional.pad(date, (margin,) * 4) for date in dates)
        return self.valid(before, after)

    def _dates(
        self, s2_before: Tensor, s2_after: Tensor, s1_before: Tensor, s1_after: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Each date with its sensors stacked."""
        return self.stack.date(s2_before, s1_before), self.stack.date(s2_after, s1_after)


class Siam15(PatchNet):
    """The Siamese patch classifier: one set of convolutions for both dates.

    Parameters
    ----------
    s2_channels, s1_channels : int
        Bands and polarisations per date, stacked; 0 where a sensor is left out.
    dropout : float
        Probability of channel dropout (0.2 in the published network).

    Raises
    ------
    ModelError
        When there is no channel, or the probability is not in [0, 1).

    Notes
    -----
    13 bands: 1,069,826 parameters; RGB: 1,064,066.
    """

    def __init__(
        self, s2_channels: int = 13, s1_channels: int = 0, *, dropout: float = 0.2
    ) -> None:
        super().__init__(s2_channels, s1_channels, dropout)
        widths = (self.stack.channels, 64, 64, 128, 128)
        # The last of the four has no dropout.
        chances = (dropout, dropout, dropout, 0.0)
        self.features = nn.Sequential(
            *(_unit(a, b, 3, p) for (a, b), p in zip(pairwise(widths), chances, strict=True))
        )
        self.classifier = nn.Sequential(_unit(256, 64, 7, dropout), nn.Conv2d(64, 2, 1))

    def valid(self, before_BCYX: Tensor, after_BCYX: Tensor) -> Tensor:
        """Logits (B, 2, Y - 14, X - 14) of the pixels whose patch lies inside the image."""
        features = run(self.features, torch.cat((before_BCYX, after_BCYX)))
        # Batch and date share an axis, so that batch statistics are those of the pair.
        return run(self.classifier, torch.cat(features.chunk(2), dim=1))


class Ef15(PatchNet):
    """The early-fusion patch classifier: both dates as channels of one patch.

    Parameters
    ----------
    s2_channels, s1_channels : int
        Bands and polarisations per date, stacked; 0 where a sensor is left out.
    dropout : float
        Probability of channel dropout (0.2 in the published network).

    Raises
    ------
    ModelError
        When there is no channel, or the probability is not in [0, 1).

    Notes
    -----
    13 bands: 443,178 parameters; RGB: 437,418. The seventh convolution has neither batch
    normalisation nor dropout.
    """

    def __init__(
        self, s2_channels: int = 13, s1_channels: int = 0, *, dropout: float = 0.2
    ) -> None:
        super().__init__(s2_channels, s1_channels, dropout)
        widths = (2 * self.stack.channels, 32, 32, 64, 64, 128, 128)
        self.features = nn.Sequential(
            *(_unit(a, b, 3, dropout) for a, b in pairwise(widths)),
            nn.Conv2d(128, 128, 3),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Sequential(_unit(128, 8, 1, dropout), nn.Conv2d(8, 2, 1))

    def valid(self, before_BCYX: Tensor, after_BCYX: Tensor) -> Tensor:
        """Logits (B, 2, Y - 14, X - 14) of the pixels whose patch lies inside the image."""
        features = run(self.features, torch.cat((before_BCYX, after_BCYX), dim=1))
        return run(self.classifier, features)


def _unit(c_in: int, c_out: int, side: int, dropout: float) -> nn.Sequential:
    """A convolution without padding, batch normalisation, ReLU, channel dropout."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, side),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        nn.Dropout2d(dropout),
    )
