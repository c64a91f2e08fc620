"""How numbers are stored: codes, counts, reflectance and probability as small integers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cdscale.kernels.types import Bool, Float, UInt8, UInt16

PROBABILITY_LEVELS = 250
"""A probability is stored in steps of 1/250; 255 is left for no data."""


def quality_codes(layers: Iterable[tuple[int, Bool]], shape_YX: tuple[int, int]) -> UInt8:
    """Codes of a quality variable; each layer overrides those before it."""
    quality_YX = np.zeros(shape_YX, np.uint8)
    for code, where_YX in layers:
        quality_YX[where_YX] = code
    return quality_YX


def pack_reflectance(reflectance_BYX: Float, *, scale: float, fill: int) -> NDArray[np.int16]:
    """Reflectance as integers: small negative values are kept, zero is a value like any other."""
    limit = np.iinfo(np.int16)
    packed = np.empty(reflectance_BYX.shape, np.int16)
    for b, reflectance_YX in enumerate(reflectance_BYX):  # one band's copies at a time
        within_YX = np.clip(np.nan_to_num(reflectance_YX), -4 * 8192 * scale, 4 * 8192 * scale)
        packed[b] = np.clip(np.rint(within_YX / np.float32(scale)), limit.min + 1, limit.max)
        packed[b, np.isnan(reflectance_YX)] = fill
    return packed


def pack_count(count_YX: UInt16) -> UInt8:
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
