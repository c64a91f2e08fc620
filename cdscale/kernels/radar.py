"""Radar backscatter: units, the edge of a swath, means and speckle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cdscale.kernels.types import Bool, Float

Power = NDArray[np.float64]

LOOKS = 4.4
"""Equivalent number of looks of one scene: Sentinel-1 IW GRDH, by ESA's product definition."""
BORDER_FLOOR_DB = {"vv": -30.0, "hh": -30.0, "vh": -37.0, "hv": -37.0}
"""Backscatter below which a pixel at the edge of a swath is noise: calm water at the noise floor of
the instrument lies some 5 dB higher (Sentinel-1 NESZ: -22 dB specified, about -28 dB measured)."""


def to_power(decibel: Float) -> Float:
    """Linear power of backscatter in dB."""
    return np.asarray(np.float32(10.0) ** (decibel / np.float32(10.0)), dtype=np.float32)


def to_decibel(power: Float) -> Float:
    """Backscatter in dB; NaN where the power is not positive."""
    positive = np.where(power > 0, power, np.float32(np.nan))
    return np.asarray(np.float32(10.0) * np.log10(positive), dtype=np.float32)


def drop_powerless(power_BYX: Float) -> None:
    """Blank, in place, what is zero or less: nothing on Earth scatters nothing back."""
    with np.errstate(invalid="ignore"):
        power_BYX[power_BYX <= 0] = np.nan


def border_noise(power_BYX: Float, bands: Sequence[str], reach_px: int) -> Bool:
    """Noise along the edge of a swath: dark pixels that hang together with what was not seen.

    A path of pixels below :data:`BORDER_FLOOR_DB`, in every polarisation that they have, leads from
    each of them to a pixel without data, in at most ``reach_px`` steps. So a block with a margin of
    that many pixels gives the same answer inside, however it is cut.

    Parameters
    ----------
    power_BYX : array of float32
        Linear power of one pass, NaN where it has none.
    bands : sequence of str
        Polarisation of each band.
    reach_px : int
        Steps, diagonal ones included.
    """
    unseen_YX: Bool = np.all(np.isnan(power_BYX), axis=0)
    if not reach_px or not unseen_YX.any() or unseen_YX.all():
        return np.zeros(unseen_YX.shape, bool)
    dark_YX = below_floor(power_BYX, bands)
    if not dark_YX.any():
        return dark_YX
    reached_YX = ndimage.binary_dilation(
        unseen_YX, np.ones((3, 3), bool), iterations=reach_px, mask=dark_YX | unseen_YX
    )
    return np.asarray(reached_YX & dark_YX)


def below_floor(power_BYX: Float, bands: Sequence[str]) -> Bool:
    """Pixels below :data:`BORDER_FLOOR_DB` in every polarisation that they have."""
    dark_YX: Bool = ~np.all(np.isnan(power_BYX), axis=0)
    for power_YX, band in zip(power_BYX, bands, strict=True):
        # In every polarisation: over land one of them falls that low now and then.
        # A profile of one's own may name a polarisation in its own way.
        floor = BORDER_FLOOR_DB.get(band.lower(), min(BORDER_FLOOR_DB.values()))
        dark_YX &= np.isnan(power_YX) | (power_YX < 10 ** (floor / 10))
    return dark_YX


class Mean:
    """Mean of several blocks of linear power, over those that have a value.

    Parameters
    ----------
    shape_BYX : tuple of int
        Bands, rows and columns.
    """

    def __init__(self, shape_BYX: tuple[int, ...]) -> None:
        # In float64, so that neither the order nor the number of scenes shows in the result.
        self._total_BYX = np.zeros(shape_BYX, np.float64)
        self._count_BYX = np.zeros(shape_BYX, np.uint16)

    def add(self, power_BYX: NDArray[Any]) -> None:
        """Take in one block."""
        finite_BYX = np.isfinite(power_BYX)
        np.add(self._total_BYX, power_BYX, out=self._total_BYX, where=finite_BYX)
        self._count_BYX += finite_BYX

    @property
    def count_BYX(self) -> NDArray[np.uint16]:
        """Blocks behind each value."""
        return self._count_BYX

    def result(self) -> Power:
        """Mean power (B, Y, X), NaN where no block had any."""
        return _ratio(self._total_BYX, self._count_BYX)


def despeckle(mean_BYX: Power, count_BYX: NDArray[np.uint16], side: int) -> Power:
    """A mean of several scenes without most of its speckle, edges and bright targets kept.

    Lee's filter of least mean square error, told by the number of scenes how much of the variance
    in a window is speckle. The multi-temporal filter of Quegan and Yu (IEEE TGRS 39, 2001) is not
    used: each of its images has less speckle, but their mean is the mean of the scenes all over
    again, up to the local means (measured on gamma speckle, five scenes: a coefficient of variation
    of 0.222 before and after).

    Parameters
    ----------
    mean_BYX : array of float64
        Linear power, with a margin of ``side // 2`` pixels if its edge matters.
    count_BYX : array of uint16
        Scenes behind each value.
    side : int
        Pixels along a side of the window, odd.

    Returns
    -------
    array of float64
        NaN where ``mean_BYX`` is. Source: Lee, IEEE TPAMI 2 (1980), 165-168, in the form for
        multiplicative noise.
    """
    out_BYX = np.full(mean_BYX.shape, np.nan)
    for b, (mean_YX, count_YX) in enumerate(zip(mean_BYX, count_BYX, strict=True)):
        local_YX = window_mean(mean_YX, side)
        variance_YX = np.maximum(window_mean(mean_YX**2, side) - local_YX**2, 0)
        speckle_YX = 1 / (LOOKS * np.maximum(count_YX, 1))
        signal_YX = np.maximum(variance_YX - local_YX**2 * speckle_YX, 0) / (1 + speckle_YX)
        weight_YX = np.zeros(mean_YX.shape)
        np.divide(signal_YX, variance_YX, out=weight_YX, where=variance_YX > 0)
        out_BYX[b] = local_YX + weight_YX * (mean_YX - local_YX)
    out_BYX[np.isnan(mean_BYX)] = np.nan
    return out_BYX


def window_mean(power_YX: NDArray[Any], side: int) -> NDArray[np.float64]:
    """Mean over the finite pixels of a square window around each pixel; NaN where there is none."""
    finite_YX = np.isfinite(power_YX)
    # Sums of small windows, not a running sum, which would carry bright targets along.
    kernel = np.ones(side)
    total_YX, count_YX = (
        ndimage.convolve1d(
            ndimage.convolve1d(layer, kernel, axis=0, mode="constant"), kernel, 1, mode="constant"
        )
        for layer in (np.where(finite_YX, power_YX, 0).astype(np.float64), finite_YX * 1.0)
    )
    return _ratio(total_YX, np.rint(count_YX))


def mean_of_means(means: Sequence[Power]) -> Float:
    """Mean over orbits of their means.

    An orbit seen more often than another does not weigh more: the two look at a slope from two
    sides, and a mean that drifts with the acquisition plan would look like change.
    """
    total = Mean(means[0].shape)
    for mean_BYX in means:
        total.add(mean_BYX)
    return total.result().astype(np.float32)


def _ratio(total: NDArray[Any], count: NDArray[Any]) -> NDArray[np.float64]:
    out = np.full(total.shape, np.nan)
    np.divide(total, count, out=out, where=count > 0)
    return out
