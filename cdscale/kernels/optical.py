"""Optical observations: what a mask says of them, and how several become one."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from cdscale.kernels.masks import grown
from cdscale.kernels.types import Bool, Float, UInt8, UInt16

REFLECTANCE_STEP = np.float32(1e-4)
"""In which catalogues and the cube hold reflectance."""
REFLECTANCE_LIMIT = 3.2767
"""Reflectance from which a pixel counts as saturated: the most that the cube can hold, and twice
what snow in full sun or a greenhouse roof reaches."""
DARK_BANDS = ("B02", "B04")
"""Bands in which vegetation and water reflect next to nothing."""
DARK_PIXELS = 400
"""Dark pixels that it takes to judge an offset."""
DARK_LOW, DARK_HIGH = -0.02, 0.095
"""Bounds of the reflectance of dark objects: the 5th percentile of the darkest band. On the 98 real
scenes of the tests that have enough dark pixels it lies between 0.000 and 0.080, so that an offset
of 0.1 taken off twice (-0.100 to -0.020) or left in (0.100 to 0.180) lies outside."""


class Look(IntEnum):
    """What one pass shows of a pixel."""

    unseen = 0
    cloud = 1
    saturated = 2
    clear = 3
    dark = 4
    """Clear, and of a class that is dark in some band."""


def look_of(
    classes_YX: UInt8,
    *,
    nodata: Sequence[int],
    clear: Sequence[int],
    saturated: Sequence[int] = (),
    dark: Sequence[int] = (),
) -> UInt8:
    """What the classes of a mask asset say of each pixel, as codes of :class:`Look`.

    Parameters
    ----------
    classes_YX : array of uint8
        Classes, like those of the Sentinel-2 scene classification.
    nodata, clear, saturated, dark : sequence of int
        Classes outside the swath; that show the ground; that are saturated or defective; and those
        of the clear ones that are dark. Every other class counts as cloud.
    """
    table = np.full(256, Look.cloud, np.uint8)
    # Later lines win: a class that the spec calls clear is clear, whatever the profile thinks.
    for code, classes in (
        (Look.saturated, saturated),
        (Look.clear, clear),
        (Look.dark, [value for value in dark if value in clear]),
        (Look.unseen, nodata),
    ):
        table[list(classes)] = code
    return np.asarray(table[classes_YX])


def add_cloud(look_YX: UInt8, cloud_YX: Bool) -> None:
    """Turn what is seen, and free of cloud so far, into cloud, in place."""
    look_YX[cloud_YX & (look_YX != Look.unseen)] = Look.cloud


def dilate_cloud(look_YX: UInt8, pixels: int) -> None:
    """Let cloud grow by so many pixels on each side, in place."""
    add_cloud(look_YX, grown(look_YX == Look.cloud, pixels))


def is_clear(look_YX: UInt8) -> Bool:
    """Pixels that show the ground."""
    return look_YX >= Look.clear


def drop_saturated(reflectance_BYX: Float) -> Bool:
    """Blank, in place, the pixels of which a band is beyond what can be stored; and say which."""
    with np.errstate(invalid="ignore"):
        saturated_YX: Bool = np.any(reflectance_BYX > REFLECTANCE_LIMIT, axis=0)
    reflectance_BYX[:, saturated_YX] = np.nan
    return saturated_YX


def dark_level(reflectance_BN: Float) -> float | None:
    """The reflectance of dark objects: the 5th percentile of the darkest band.

    Parameters
    ----------
    reflectance_BN : array of float32
        Dark pixels in some of :data:`DARK_BANDS`; NaN is left out.

    Returns
    -------
    float or None
        None where there are fewer than :data:`DARK_PIXELS`.
    """
    whole_BN = reflectance_BN[:, np.isfinite(reflectance_BN).all(axis=0)]
    if not len(whole_BN) or whole_BN.shape[1] < DARK_PIXELS:
        return None
    return float(np.percentile(whole_BN, 5, axis=1).min())


def fill(composite_BYX: Float, scene_BYX: Float, wanted_YX: Bool) -> Bool:
    """Fill wanted pixels of a composite, in place, from a scene; says which it filled.

    A pixel is taken whole, from one scene, so that its bands belong together; a scene that lacks a
    band there does not fill it.
    """
    take_YX: Bool = wanted_YX & np.all(np.isfinite(scene_BYX), axis=0)
    np.copyto(composite_BYX, scene_BYX, where=take_YX)
    return take_YX


def median(stack_SBYX: Float) -> Float:
    """Median over scenes, each band by itself; NaN where no scene has one of the bands.

    Of an even number it is the mean of the middle two. The stack is sorted in place.
    """
    stack_SBYX.sort(axis=0)  # NaN goes last
    count_BYX = np.isfinite(stack_SBYX).sum(axis=0)
    low = np.maximum((count_BYX - 1) // 2, 0)[None]
    high = np.minimum(count_BYX // 2, len(stack_SBYX) - 1)[None]
    middle = np.take_along_axis(stack_SBYX, low, 0) + np.take_along_axis(stack_SBYX, high, 0)
    result_BYX: Float = middle[0] * np.float32(0.5)
    result_BYX[:, (count_BYX == 0).any(axis=0)] = np.nan
    return result_BYX


def medoid(stack_SBYX: Float) -> NDArray[np.int16]:
    """The observation whose bands lie nearest to those of all others.

    Parameters
    ----------
    stack_SBYX : array of float32
        Reflectance; an observation that is NaN in any band is none.

    Returns
    -------
    array of int16, (Y, X)
        Index of the scene with the least sum of Euclidean distances to the others, the first of
        equals; -1 where there is none. Source: Flood, Remote Sensing 5 (2013), 6481-6500.
    """
    scenes = len(stack_SBYX)
    whole_SYX: Bool = np.all(np.isfinite(stack_SBYX), axis=1)
    # Distances between what can be stored: two that are equal there are equal, not nearly so.
    steps_SBYX = np.rint(stack_SBYX / REFLECTANCE_STEP)
    total_SYX = np.zeros((scenes, *stack_SBYX.shape[2:]), np.float64)
    for i in range(scenes):
        for j in range(i + 1, scenes):
            both_YX = whole_SYX[i] & whole_SYX[j]
            if not both_YX.any():
                continue
            apart_BN = steps_SBYX[i][:, both_YX] - steps_SBYX[j][:, both_YX]
            distance_N = np.sqrt((apart_BN.astype(np.float64) ** 2).sum(axis=0))
            total_SYX[i, both_YX] += distance_N
            total_SYX[j, both_YX] += distance_N
    np.round(total_SYX, 6, out=total_SYX)
    total_SYX[~whole_SYX] = np.inf
    chosen_YX: NDArray[np.int16] = total_SYX.argmin(axis=0).astype(np.int16)
    chosen_YX[~whole_SYX.any(axis=0)] = -1
    return chosen_YX


def middle_day(day_SYX: UInt16, none: int) -> UInt16:
    """The middle one of the days on which each pixel was seen, the earlier of two.

    Parameters
    ----------
    day_SYX : array of uint16
        Days, ``none`` where a pixel was not seen; sorted in place.
    none : int
        A number larger than any day.
    """
    day_SYX.sort(axis=0)
    count_YX = (day_SYX != none).sum(axis=0)
    index = np.maximum((count_YX - 1) // 2, 0)[None]
    return np.asarray(np.take_along_axis(day_SYX, index, 0)[0])
