"""System E: the networks that Metric-CD fits to one pair of images, and keeps for none.

W. G. C. Bandara, V. M. Patel, "Deep metric learning for unsupervised remote sensing change
detection": a network turns the difference of two images into a probability of change, and is
optimised on that one difference; its structure alone is the prior. The paper's is the residual one.
The two it is compared with come from D. Ulyanov, A. Vedaldi, V. Lempitsky, "Deep image prior",
CVPR 2018.

All three use statistics of the image at hand in training mode, in which the map is read: a tile is
then an image of its own. In evaluation mode :class:`ResidualPrior` maps tiles as it maps the whole.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cdscale.models.blocks import Ladder, check_size, pad_to, require, run

STRIDE = 1

_SLOPE = 0.2


def ladder(blocks: int) -> Ladder:
    """Reach of the residual network: a row of convolutions at full resolution."""
    return Ladder(encoder=(), bottom=2 * blocks + 3, decoder=(), up="up2")


def halo(blocks: int) -> int:
    """Pixels of context on each side for exact tiling; 67 for 32 blocks (135 pixels in all)."""
    return ladder(blocks).halo()


class Prior(nn.Module, ABC):
    """Difference of two images in, probability of change out.

    The head has two channels of which the second is not used, as published.
    """

    smallest: int
    """Least height and width that the network can take."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        require(channels >= 1, "channels of the difference image", "1 or more", channels)
        self.channels = channels

    @abstractmethod
    def _logits(self, difference_BCYX: Tensor) -> Tensor:
        """The head's two channels before the sigmoid, (B, 2, Y, X)."""

    def logits(self, difference_BCYX: Tensor) -> Tensor:
        """The head's two channels before the sigmoid, (B, 2, Y, X); as :meth:`forward`."""
        got = difference_BCYX.shape[1]
        require(got == self.channels, "channels of the difference image", self.channels, got)
        check_size(difference_BCYX, self.smallest)
        return self._logits(difference_BCYX)

    def forward(self, difference_BCYX: Tensor) -> Tensor:
        """Probability of change.

        Parameters
        ----------
        difference_BCYX : Tensor
            Difference image (B, channels, Y, X), finite.

        Returns
        -------
        Tensor
            (B, 1, Y, X) in [0, 1]; that of no change is one minus it.

        Raises
        ------
        ModelError
            When the image is smaller than the network can take, or has other channels.
        """
        return self.logits(difference_BCYX)[:, :1].sigmoid()


class ResidualPrior(Prior):
    """The paper's network "ResNet N": full resolution throughout.

    Parameters
    ----------
    channels : int
        Of the difference image.
    blocks : int
        Residual blocks, N; 32 in the paper, which gives 604,706 parameters at 3 channels and
        607,586 at 13.
    width : int
        Channels inside; 32 in the paper.
    recompute : bool
        Whether to keep only the blocks' inputs for the backward pass and compute the rest again:
        the same gradients in a quarter of the memory, for about a third more time. A full scene
        needs it: kept whole, 32 blocks take some 16 GB per million pixels. The running statistics
        of the normalisations then move twice per step, which nothing in training mode reads.
    """

    smallest = 2

    def __init__(
        self, channels: int = 3, blocks: int = 32, *, width: int = 32, recompute: bool = False
    ) -> None:
        super().__init__(channels)
        require(blocks >= 1 and width >= 1, "blocks and width", "1 or more", (blocks, width))
        self.recompute = recompute
        self.stem = nn.Sequential(_mirrored(channels, width), nn.LeakyReLU(_SLOPE, inplace=True))
        self.blocks = nn.ModuleList(_Residual(width) for _ in range(blocks))
        self.tail = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
        self.head = _mirrored(width, 2)

    def _logits(self, difference_BCYX: Tensor) -> Tensor:
        x = run(self.stem, difference_BCYX)
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = run(block, x)
        return run(self.head, run(self.tail, x))


class _Residual(nn.Module):
    """Two convolutions around an identity; nothing after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(_SLOPE, inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x_BCYX: Tensor) -> Tensor:
        return x_BCYX + run(self.body, x_BCYX)


class HourglassPrior(Prior):
    """Comparator "hourglass": five levels down by strided convolution, skips, and up again.

    Parameters
    ----------
    channels : int
        Of the difference image; 3 give 2,965,378 parameters.
    width : int
        Channels inside and of the skips; 128 in the deep image prior.

    Notes
    -----
    Metric-CD gives the count alone. It is that of the deep image prior with 128 channels
    down, up and across; mirrored borders and nearest-neighbour steps up, which no count shows,
    are that paper's too.
    """

    smallest = 2**5 + 1

    def __init__(self, channels: int = 3, *, width: int = 128) -> None:
        super().__init__(channels)
        inputs = (channels, *(width,) * 4)
        self.skips = nn.ModuleList(_unit(c, width, side=1) for c in inputs)
        self.downs = nn.ModuleList(
            nn.Sequential(_unit(c, width, stride=2), _unit(width, width)) for c in inputs
        )
        self.ups = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(2 * width), _unit(2 * width, width), _unit(width, width, side=1)
            )
            for _ in inputs
        )
        self.head = nn.Conv2d(width, 2, 1)

    def _logits(self, difference_BCYX: Tensor) -> Tensor:
        x, skips = difference_BCYX, []
        for skip, down in zip(self.skips, self.downs, strict=True):
            skips.append(run(skip, x))
            x = run(down, x)
        for skip_BCYX, up in zip(reversed(skips), reversed(self.ups), strict=True):
            x = functional.interpolate(x, size=skip_BCYX.shape[-2:], mode="nearest")
            x = run(up, torch.cat((skip_BCYX, x), dim=1))
        return run(self.head, x)


class UNetPrior(Prior):
    """Comparator "U-Net": five levels with pooling, instance normalisation without weights.

    Parameters
    ----------
    channels : int
        Of the difference image; 3 give 2,463,362 parameters.
    width : int
        Channels at full resolution; 16 (64 by "feature scale 4") in the paper.

    Notes
    -----
    Metric-CD gives the count and the scale. They are those of the deep image prior's U-Net with
    transposed 4x4 convolutions; the normalisation, which no count shows, is that code's too.
    """

    smallest = 2**5

    def __init__(self, channels: int = 3, *, width: int = 16) -> None:
        super().__init__(channels)
        widths = tuple(width * 2**level for level in range(5))
        self.downs = nn.ModuleList(_double(a, b) for a, b in pairwise((channels, *widths)))
        upwards = list(pairwise(reversed(widths)))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in upwards
        )
        self.joins = nn.ModuleList(_double(2 * b, b) for _, b in upwards)
        self.head = nn.Conv2d(width, 2, 1)

    def _logits(self, difference_BCYX: Tensor) -> Tensor:
        x, levels = difference_BCYX, []
        for depth, down in enumerate(self.downs):
            x = run(down, functional.max_pool2d(x, 2) if depth else x)
            levels.append(x)
        for skip, up, join in zip(reversed(levels[:-1]), self.ups, self.joins, strict=True):
            x = pad_to(run(up, x), skip, "replicate")
            x = run(join, torch.cat((skip, x), dim=1))
        return run(self.head, x)


def _mirrored(c_in: int, c_out: int) -> nn.Conv2d:
    """3x3 convolution with bias, borders mirrored."""
    return nn.Conv2d(c_in, c_out, 3, padding=1, padding_mode="reflect")


def _unit(c_in: int, c_out: int, *, side: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution with mirrored borders, batch normalisation, leaky ReLU."""
    half = side // 2
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, side, stride=stride, padding=half, padding_mode="reflect"),
        nn.BatchNorm2d(c_out),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )


def _double(c_in: int, c_out: int) -> nn.Sequential:
    """Twice: 3x3 convolution with bias, instance normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.InstanceNorm2d(c_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(c_out, c_out, 3, padding=1),
        nn.InstanceNorm2d(c_out),
        nn.ReLU(inplace=True),
    )
