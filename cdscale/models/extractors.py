"""Feature extractors of Metric-CD: what they share, and one that needs no weights at all.

A feature extractor turns one image into a list of feature maps, the first at full resolution, and
treats both dates alike. :class:`FilterBank` is made of fixed filters, for any bands;
:class:`cdscale.models.vgg.Vgg` is the paper's, for RGB, with weights that the user brings.

Shape suffixes: B sample, C channel (band or feature), Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cdscale.models.blocks import Interval, check_size, require

LEVELS = 5
"""Levels that extractors have: full resolution, 1/2, 1/4, 1/8, 1/16."""

_TAPS_2 = (1.0, 3.0, 3.0, 1.0)
_TAPS_5 = (1.0, 4.0, 6.0, 4.0, 1.0)
_SIDE = 7


class Extractor(Protocol):
    """Image (B, C, Y, X) in, one feature map per level out."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each feature map."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image per pixel of each feature map."""

    @property
    def halo(self) -> int:
        """Pixels of context around a feature map's own pixels that the coarsest map reads."""

    def __call__(self, image_BCYX: Tensor) -> list[Tensor]:
        """Feature maps (B, channels[i], Y // strides[i], X // strides[i])."""


def zscored(features_BCYX: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over space, each sample and channel; 0 where it is flat.

    Takes out what gain and offset of an image leave in its features. The statistics are those of
    the image given, so that of tiles each would have its own.
    """
    centred = features_BCYX - features_BCYX.mean(dim=(-2, -1), keepdim=True)
    spread = centred.square().mean(dim=(-2, -1), keepdim=True).sqrt()
    # Against the mean, not against zero: a flat channel varies by its rounding errors.
    flat = spread <= 1e-5 * (features_BCYX - centred).abs()
    return torch.where(flat, 0.0, centred / spread.masked_fill(flat, 1.0))


class FilterBank(nn.Module):
    """Oriented energy and local brightness at several scales: fixed filters, no weights.

    The first layer of a wavelet scattering network (J. Bruna, S. Mallat, "Invariant scattering
    convolution networks", IEEE TPAMI 2013), on a pyramid. At each level and for each band:

    - the brightness, smoothed by a binomial filter;
    - for each orientation, the modulus of the response to a complex Morlet wavelet, smoothed
      likewise.

    Why these: the first layers of a trained VGG, the only ones that Metric-CD uses, are known to
    become such edge and blob filters. The modulus does not care for the phase, so that a
    registration error of a fraction of a pixel changes far less of it than of an edge; the wavelets
    have zero mean, so that haze, which adds a constant, changes the brightness alone; and the
    z-score over the image takes out gain, and with it a change of illumination between the dates.
    Nothing is drawn at random and nothing is fitted: two machines have the same features.

    What they are worth: the mean absolute difference of the maps of three levels, summed, has a
    mean AUC of 0.914 (RGB) and 0.905 (13 bands) over the 14 labelled cities of OSCD, where the
    Euclidean distance of z-scored bands has 0.847 and 0.858. Brightness alone reaches 0.873 and
    0.859, energy alone 0.902 and 0.895, levels 1 and 2 alone 0.906 and 0.905; 8 orientations are
    no better than 4. These options were looked at with the labels; the features use none.

    Parameters
    ----------
    bands : int
        Channels of the image; each is filtered by itself.
    levels : tuple of int
        From 1 (full resolution) to 5 (1/16), ascending.
    orientations : int
        Of the wavelets, evenly spaced over half a turn.
    standardise : bool
        Whether to return z-scores over the image (:func:`zscored`).

    Raises
    ------
    ModelError
        When a number is out of range.
    """

    smooth_taps: Tensor
    halve_taps: Tensor
    wavelets: Tensor

    def __init__(
        self,
        bands: int,
        levels: tuple[int, ...] = (1, 2, 3),
        *,
        orientations: int = 4,
        standardise: bool = True,
    ) -> None:
        super().__init__()
        check_levels("filter bank", levels)
        held = bands >= 1 and orientations >= 1
        require(held, "filter bank: bands and orientations", "1 or more", (bands, orientations))
        self.bands = bands
        self.levels = levels
        self.standardise = standardise
        self.channels: tuple[int, ...] = (bands * (1 + orientations),) * len(levels)
        self.strides: tuple[int, ...] = tuple(2 ** (level - 1) for level in levels)
        # Not in the state: they follow from the options.
        for name, value in (
            ("smooth_taps", _outer(_TAPS_5)),
            ("halve_taps", _outer(_TAPS_2)),
            ("wavelets", morlets(orientations)),
        ):
            self.register_buffer(name, value, persistent=False)

    @property
    def halo(self) -> int:
        """Pixels of the image around a pixel of the coarsest map that it reads."""
        seen = Interval(0, 0)
        for _ in range(_SIDE // 2 + len(_TAPS_5) // 2):
            seen = seen.before("conv3")
        for _ in range(self.levels[-1] - 1):
            # 1 3 3 1 around the two pixels that become one.
            seen = Interval(2 * seen.low - 1, 2 * seen.high + 2)
        return max(-seen.low, seen.high - self.strides[-1] + 1)

    def forward(self, image_BCYX: Tensor) -> list[Tensor]:
        """Feature maps of the levels.

        Parameters
        ----------
        image_BCYX : Tensor
            Any unit, finite; its height and width at least 4 at the coarsest level.

        Returns
        -------
        list of Tensor
            (B, bands * (1 + orientations), Y // stride, X // stride) for each level: brightness
            of all bands, then the energies, orientation by orientation within a band.

        Raises
        ------
        ModelError
            When the image is too small for the levels, or has other bands.
        """
        got = image_BCYX.shape[1]
        require(got == self.bands, "bands of the filter bank", self.bands, got)
        # Reflection needs more pixels than it mirrors.
        check_size(image_BCYX, (_SIDE // 2 + 1) * self.strides[-1])
        maps = []
        for level in range(1, self.levels[-1] + 1):
            if level > 1:
                image_BCYX = _filtered(image_BCYX, self.halve_taps, stride=2)
            if level in self.levels:
                maps.append(self._features(image_BCYX))
        return [zscored(found) for found in maps] if self.standardise else maps

    def _features(self, image_BCYX: Tensor) -> Tensor:
        """Brightness and energies at the resolution of the image."""
        real, imaginary = (_filtered(image_BCYX, part) for part in self.wavelets)
        # The square root has no slope at zero: whoever optimises the image must not meet it.
        energy = (real.square() + imaginary.square() + 1e-12).sqrt()
        both = torch.cat((image_BCYX, energy), dim=1)
        return _filtered(both, self.smooth_taps)


@dataclass(frozen=True)
class Maps:
    """An extractor for who knows nothing of torch: array in, arrays out."""

    extractor: nn.Module

    @torch.inference_mode()
    def features(self, image_BYX: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Feature maps of one image, (F, y, x) for each level."""
        maps = self.extractor(torch.from_numpy(image_BYX)[None].float())
        return [found[0].numpy() for found in maps]


def morlets(orientations: int) -> Tensor:
    """Complex Morlet wavelets as real and imaginary parts (2, orientations, 7, 7).

    A plane wave of frequency 3 pi / 4 under a Gaussian of standard deviation 0.8 pixels along it
    and ``0.8 orientations / 4`` times less steep across it, less the multiple of the Gaussian
    that gives the whole zero mean; sum of moduli 1 (Bruna and Mallat 2013, section 2.1).
    """
    sigma, frequency, slant = 0.8, 3 * torch.pi / 4, 4 / orientations
    axis = torch.arange(_SIDE, dtype=torch.float64) - _SIDE // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    found = []
    for step in range(orientations):
        angle = torch.tensor(torch.pi * step / orientations, dtype=torch.float64)
        along = x * angle.cos() + y * angle.sin()
        across = y * angle.cos() - x * angle.sin()
        envelope = torch.exp(-(along**2 + (slant * across) ** 2) / (2 * sigma**2))
        wave = torch.polar(envelope, frequency * along)
        wavelet = wave - envelope * (wave.sum() / envelope.sum())
        found.append(wavelet / wavelet.abs().sum())
    stacked = torch.stack(found)
    return torch.stack((stacked.real, stacked.imag)).to(torch.get_default_dtype())


def check_levels(what: str, levels: tuple[int, ...]) -> None:
    """Refuse levels that are not ascending numbers from 1 to 5.

    Raises
    ------
    ModelError
        Naming them.
    """
    held = bool(levels) and list(levels) == sorted(set(levels) & set(range(1, LEVELS + 1)))
    require(held, f"{what}: levels", f"ascending numbers from 1 to {LEVELS}", levels)


def _outer(taps: tuple[float, ...]) -> Tensor:
    """One two-dimensional filter (1, Y, X) from a one-dimensional one, with sum 1."""
    row = torch.tensor(taps, dtype=torch.float64)
    return (torch.outer(row, row) / row.sum() ** 2)[None].to(torch.get_default_dtype())


def _filtered(x_BCYX: Tensor, filters_FYX: Tensor, stride: int = 1) -> Tensor:
    """Every channel by every filter (B, C F, Y, X), borders mirrored."""
    channels, side = x_BCYX.shape[1], filters_FYX.shape[-1]
    before, after = (side - 1) // 2, (side - stride) // 2
    weight = filters_FYX.to(x_BCYX.dtype)[:, None].repeat(channels, 1, 1, 1)
    padded = functional.pad(x_BCYX, (before, after, before, after), mode="reflect")
    return functional.conv2d(padded, weight, stride=stride, groups=channels)
