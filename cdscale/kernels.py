"""Pixel maths on plain arrays: no files, no metadata, no dates.

Shape suffixes: B bands, Y rows, X columns, T months, S scenes. Reflectance and linear power are
float32 with NaN where there is nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
UInt8 = NDArray[np.uint8]

PROBABILITY_LEVELS = 250
"""A probability is stored in steps of 1/250; 255 is left for no data."""


def to_power(decibel: Float) -> Float:
    """Linear power of backscatter in dB."""
    return np.asarray(np.float32(10.0) ** (decibel / np.float32(10.0)), dtype=np.float32)


def to_decibel(power: Float) -> Float:
    """Backscatter in dB; NaN where the power is not positive."""
    positive = np.where(power > 0, power, np.float32(np.nan))
    return np.asarray(np.float32(10.0) * np.log10(positive), dtype=np.float32)


def clear_sky(
    classes_YX: UInt8, *, clear: Sequence[int], nodata: Sequence[int], dilate_px: int = 0
) -> tuple[Bool, Bool]:
    """What a mask asset says of each pixel.

    Parameters
    ----------
    classes_YX : array of uint8
        Classes, like those of the Sentinel-2 scene classification.
    clear, nodata : sequence of int
        Classes that show the ground, and classes outside the swath.
    dilate_px : int
        Pixels by which cloud grows on each side.

    Returns
    -------
    seen_YX, clear_YX : array of bool
        Inside the swath; and showing the ground.
    """
    seen = ~np.isin(classes_YX, nodata)
    cloudy = seen & ~np.isin(classes_YX, clear)
    if dilate_px and cloudy.any():
        size = 2 * dilate_px + 1
        cloudy = ndimage.binary_dilation(cloudy, np.ones((size, size), bool))
    return seen, seen & ~cloudy


def fill_holes(composite_BYX: Float, scene_BYX: Float, usable_YX: Bool) -> int:
    """Fill the empty pixels of a composite, in place, from the next scene.

    A pixel is taken whole, from one scene, so that its bands belong together; a scene that lacks a
    band there does not fill it.

    Returns
    -------
    int
        Pixels that are still empty.
    """
    empty_YX = np.isnan(composite_BYX[0])
    take_YX = empty_YX & usable_YX & np.isfinite(scene_BYX).all(axis=0)
    np.copyto(composite_BYX, scene_BYX, where=take_YX)
    return int(empty_YX.sum() - take_YX.sum())


class PowerMean:
    """Mean backscatter of a month: first over each orbit in linear power, then over the orbits.

    An orbit seen more often than another does not weigh more: the two look at a slope from two
    sides, and a mean that drifts with the acquisition plan would look like change.

    Parameters
    ----------
    shape_BYX : tuple of int
        Bands, rows and columns.
    """

    def __init__(self, shape_BYX: tuple[int, int, int]) -> None:
        self._shape = shape_BYX
        self._orbits: dict[str, tuple[Float, Float]] = {}

    def add(self, orbit: str, power_BYX: Float) -> None:
        """Take in one scene, linear power."""
        if orbit not in self._orbits:
            self._orbits[orbit] = (
                np.zeros(self._shape, np.float32),
                np.zeros(self._shape, np.float32),
            )
        total_BYX, count_BYX = self._orbits[orbit]
        finite = np.isfinite(power_BYX)
        np.add(total_BYX, power_BYX, out=total_BYX, where=finite)
        count_BYX += finite

    def result(self) -> Float:
        """Mean power (B, Y, X), NaN where no scene had any."""
        means = [_ratio(total, count) for total, count in self._orbits.values()]
        total = np.zeros(self._shape, np.float32)
        count = np.zeros(self._shape, np.float32)
        for mean in means:
            finite = np.isfinite(mean)
            np.add(total, mean, out=total, where=finite)
            count += finite
        return _ratio(total, count)


def _ratio(total: Float, count: Float) -> Float:
    out = np.full(total.shape, np.nan, np.float32)
    np.divide(total, count, out=out, where=count > 0)
    return out


def quality_codes(layers: Iterable[tuple[int, Bool]], shape_YX: tuple[int, int]) -> UInt8:
    """Codes of a quality variable; each layer overrides those before it."""
    quality_YX = np.zeros(shape_YX, np.uint8)
    for code, where_YX in layers:
        quality_YX[where_YX] = code
    return quality_YX


def pack_reflectance(reflectance_BYX: Float, *, scale: float, fill: int) -> NDArray[np.int16]:
    """Reflectance as integers: small negative values are kept, zero is a value like any other."""
    limit = np.iinfo(np.int16)
    steps = np.rint(reflectance_BYX / np.float32(scale))
    packed: NDArray[np.int16] = np.clip(np.nan_to_num(steps), limit.min + 1, limit.max).astype(
        np.int16
    )
    packed[np.isnan(reflectance_BYX)] = fill
    return packed


def pack_count(count_YX: NDArray[np.uint16]) -> UInt8:
    """Counts as bytes; 255 stands for 255 and more."""
    return np.minimum(count_YX, 255).astype(np.uint8)


def pack_probability(probability_YX: Float) -> UInt8:
    """Probability in steps of 1/250, 255 where it is NaN."""
    steps = np.rint(np.clip(np.nan_to_num(probability_YX), 0, 1) * PROBABILITY_LEVELS)
    packed = steps.astype(np.uint8)
    packed[np.isnan(probability_YX)] = 255
    return packed


def unpack_probability(packed: UInt8) -> Float:
    """Probability of stored steps, NaN where there is none."""
    values: Float = packed.astype(np.float32) / np.float32(PROBABILITY_LEVELS)
    values[packed == 255] = np.nan
    return values


def onset(probability_TYX: Float, threshold: float) -> NDArray[np.int32]:
    """Month at which a pixel turns from open land to built-up, and stays.

    The step that splits the series best: before it the probability lies below the threshold in the
    mean, after it above, and the difference of the two means is the largest of all steps. Months
    without a value are left out. This needs no state and no tuning; products with confirmation
    states build on the same series.

    Parameters
    ----------
    probability_TYX : array of float32
        Urban probability, NaN where a month has none.
    threshold : float
        Probability from which a pixel counts as built up.

    Returns
    -------
    array of int32, (Y, X)
        Index of the first month on the built-up side, -1 where there is none.
    """
    months = probability_TYX.shape[0]
    valid_TYX = np.isfinite(probability_TYX)
    values_TYX = np.where(valid_TYX, probability_TYX, 0).astype(np.float64)
    sum_TYX, count_TYX = values_TYX.cumsum(axis=0), valid_TYX.cumsum(axis=0)
    best_YX = np.full(probability_TYX.shape[1:], -np.inf)
    index_YX = np.full(probability_TYX.shape[1:], -1, np.int32)
    for t in range(1, months):
        n_before, n_after = count_TYX[t - 1], count_TYX[-1] - count_TYX[t - 1]
        before = sum_TYX[t - 1] / np.maximum(n_before, 1)
        after = (sum_TYX[-1] - sum_TYX[t - 1]) / np.maximum(n_after, 1)
        step = after - before
        # A split at a month without a value says the same as the next one: wait for the value.
        turns = (n_before > 0) & valid_TYX[t] & (before < threshold) & (after >= threshold)
        better = turns & (step > best_YX)
        best_YX[better] = step[better]
        index_YX[better] = t
    return index_YX
