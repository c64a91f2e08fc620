"""Bands onto the grid of their scene: as they are, resized by shape, or placed by georeference.

Shape suffixes: B band, Y row, X column.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from rasterio.crs import CRS
from rasterio.transform import array_bounds
from rasterio.warp import Resampling, reproject, transform_bounds

from cdscale.learn.data.files import Floats, Header

Fit = Literal["same", "resize", "place"]
"""``same``: pixel for pixel. ``resize``: the same ground in another number of pixels. ``place``:
wherever the georeference says."""

_NEAR = 0.5
"""Corners that differ by less than this many pixels are those of one grid."""


def misfit(own: Header, grid: Header, fit: Fit) -> str:
    """Say why a file does not go onto the grid of its scene; empty if it does."""
    if fit == "same" and own.shape != grid.shape:
        return f"shape: expected {grid.shape} as the scene has; got {own.shape}"
    if fit == "place":
        return _misplaced(own, grid)
    if own.crs and grid.crs:
        if CRS.from_user_input(own.crs) != CRS.from_user_input(grid.crs):
            return f"crs: expected {grid.crs} as the scene has; got {own.crs}"
        if fit == "same" and (distance := _distance(own, grid)) > _NEAR:
            return f"crs: its corners lie {distance:.1f} pixels from those of the scene"
    return ""


def same_grid(own: Header, grid: Header) -> bool:
    """Whether a file can be taken pixel for pixel: nothing says that it lies elsewhere."""
    if own.shape != grid.shape:
        return False
    if not own.crs or not grid.crs:
        return True
    return own.crs == grid.crs and _distance(own, grid) < 1e-3


def resize(planes_BYX: Floats, shape: tuple[int, int]) -> Floats:
    """Bilinear, by shape alone, pixel centres aligned and edges held: both cover the same ground.

    Gives what ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`` does.
    """
    if planes_BYX.shape[1:] == shape:
        return planes_BYX
    # Columns first: the gather across rows is then the cheap one, of whole lines.
    return _along(_along(planes_BYX, shape[1], axis=2), shape[0], axis=1)


def place(planes_BYX: Floats, own: Header, grid: Header) -> Floats:
    """Bilinear resampling by georeference onto the grid of the scene, NaN outside."""
    target: Floats = np.full((len(planes_BYX), *grid.shape), np.nan, np.float32)
    reproject(
        planes_BYX,
        target,
        src_transform=own.transform,
        src_crs=own.crs,
        dst_transform=grid.transform,
        dst_crs=grid.crs,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
    )
    return target


def _along(planes: Floats, length: int, axis: int) -> Floats:
    size = planes.shape[axis]
    # Coordinates in float32, as torch has them: weights differ by 1e-5 from those in float64.
    step, half = np.float32(size / length), np.float32(0.5)
    at = np.maximum(step * (np.arange(length, dtype=np.float32) + half) - half, np.float32(0))
    first = np.minimum(at.astype(np.int64), size - 1)
    second = np.minimum(first + 1, size - 1)
    sides = [-1 if k == axis else 1 for k in range(3)]
    share = (at - first.astype(np.float32)).reshape(sides)
    mixed: Floats = planes.take(first, axis)
    mixed *= 1 - share
    mixed += planes.take(second, axis) * share
    return mixed


def _distance(own: Header, grid: Header) -> float:
    """Largest distance of matching corners, in pixels of the grid."""
    inverse = ~grid.transform
    height, width = own.shape
    corners = ((0, 0), (width, 0), (0, height), (width, height))
    found = 0.0
    for x, y in corners:
        column, row = inverse * (own.transform * (x, y))
        found = max(found, abs(column - x), abs(row - y))
    return found


def _misplaced(own: Header, grid: Header) -> str:
    if not own.crs or not grid.crs:
        if own.shape == grid.shape:
            return ""
        return f"crs: expected a georeference or the shape {grid.shape}; got shape {own.shape}"
    west, south, east, north = transform_bounds(
        own.crs, grid.crs, *array_bounds(*own.shape, own.transform)
    )
    left, bottom, right, top = array_bounds(*grid.shape, grid.transform)
    if min(east, right) <= max(west, left) or min(north, top) <= max(south, bottom):
        return "crs: it lies elsewhere than the scene"
    return ""
