"""Where scenes lie on a tile: what they may cover, and which window of the tile is wanted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import shapely
from scipy import ndimage

from cdscale.grid import LON_LAT, Area, GeoBox, covered, reproject
from cdscale.kernels import Bool
from cdscale.spec.scene import FOOTPRINT_MARGIN, Asset, Scene

EXTENT_MARGIN = 2
"""Pixels by which a file reaches beyond the outline of its own pixels when it is resampled."""


class Window(NamedTuple):
    """Rows and columns of a block."""

    rows: slice
    columns: slice

    @classmethod
    def around(cls, wanted_YX: Bool) -> Window | None:
        """The smallest one that holds every wanted pixel; None where there is none."""
        rows = np.flatnonzero(wanted_YX.any(axis=1))
        if not len(rows):
            return None
        columns = np.flatnonzero(wanted_YX.any(axis=0))
        return cls(slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))

    def of(self, geobox: GeoBox) -> GeoBox:
        """Its part of a GeoBox."""
        return geobox[self.rows, self.columns]


def reach(scene: Scene, geobox: GeoBox) -> Bool:
    """Pixels that a scene may cover, at most: (y, x).

    The catalogue's footprint with a margin, cut down to the extent of the file where the item
    tells it.
    """
    near = scene.polygon.buffer(FOOTPRINT_MARGIN)
    inside_YX = _covered(near, geobox)
    asset = scene.mask or next(iter(scene.assets.values()))
    extent = _extent(asset)
    if extent is None or not inside_YX.any():
        return inside_YX
    exact_YX = ndimage.maximum_filter(_covered(extent, geobox), size=2 * EXTENT_MARGIN + 1)
    return np.asarray(inside_YX & exact_YX)


def _covered(polygon: shapely.geometry.base.BaseGeometry, geobox: GeoBox) -> Bool:
    return np.asarray(covered(Area(polygon), geobox), dtype=bool)


def _extent(asset: Asset) -> shapely.geometry.base.BaseGeometry | None:
    """Outline of a file in degrees, as far as the item tells; None where it does not."""
    if not (asset.crs and asset.transform and asset.shape):
        return None
    a, b, c, d, e, f = asset.transform
    height, width = asset.shape
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    outline = shapely.Polygon([(a * x + b * y + c, d * x + e * y + f) for x, y in corners])
    step = max(width, height) * abs(a) / 16
    polygon = reproject(outline, asset.crs, LON_LAT, resolution=step)
    west, _, east, _ = polygon.bounds
    # One that leaves the projection, or straddles the antimeridian, is judged by its footprint.
    if not np.isfinite(polygon.bounds).all() or east - west > 180:
        return None
    return shapely.make_valid(polygon)
