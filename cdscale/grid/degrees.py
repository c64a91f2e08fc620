"""Longitude and latitude: to a projection and back, and across the antimeridian."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, TypeVar

import antimeridian
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

Shape = TypeVar("Shape", BaseGeometry, NDArray[np.object_])

LON_LAT = "EPSG:4326"


class Bounds(NamedTuple):
    """West, south, east, north, in the units of the CRS that goes with them."""

    west: float
    south: float
    east: float
    north: float


@functools.cache
def transformer(source: str, target: str) -> pyproj.Transformer:
    """From one CRS to another, easting or longitude first; made once."""
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def reproject(geometry: Shape, source: str, target: str, *, resolution: float) -> Shape:
    """A geometry, or an array of them, in another CRS.

    Edges longer than ``resolution`` (source units) bend with it.
    """
    change: Any = transformer(source, target).transform
    bent = shapely.segmentize(geometry, resolution)
    moved: Shape = shapely.transform(bent, change, interleaved=False)
    return moved


HALF_GLOBE_DEG2 = 360 * 180 / 2
"""No scene and no tile covers more."""


def cut_at_antimeridian(geometry: BaseGeometry) -> BaseGeometry:
    """Polygons in degrees, valid, and cut in two where they cross the antimeridian.

    An edge that jumps by more than half a turn goes the short way, across the antimeridian, as it
    does in footprints of scenes and in tiles brought to degrees; an outline around a pole gets the
    pole. Longitudes beyond 180 come back into -180 to 180.

    Raises
    ------
    ValueError
        For an outline that cannot be cut: one that crosses itself there.
    """
    parts = [
        part
        for whole in shapely.get_parts(geometry)
        for part in shapely.get_parts(whole)
        if part.geom_type == "Polygon" and not part.is_empty
    ]
    return shapely.union_all([polygons(_cut(part)) for part in parts])


def _cut(polygon: shapely.Polygon) -> BaseGeometry:
    west, _, east, _ = polygon.bounds
    longitudes = shapely.get_coordinates(polygon.exterior)[:, 0]
    if west >= -180 and east <= 180 and np.abs(np.diff(longitudes)).max() <= 180:
        return polygon
    # The library takes a ring around a pole for counterclockwise, and gets the rest of the globe
    # from one that is not; of the two the scene is the smaller.
    cuts: list[BaseGeometry] = []
    for ring in (polygon, polygon.reverse()):
        try:
            cuts.append(antimeridian.fix_polygon(ring, fix_winding=True))
        except (AssertionError, IndexError, ValueError):
            continue
    small = [cut for cut in cuts if cut.area < HALF_GLOBE_DEG2]
    if not small:
        raise ValueError("the outline cannot be cut at the antimeridian")
    return min(small, key=lambda cut: cut.area)


def polygons(geometry: BaseGeometry) -> BaseGeometry:
    """The polygonal part of a geometry, repaired where rings cross themselves."""
    parts = shapely.get_parts(shapely.make_valid(geometry))
    return shapely.union_all([p for p in parts if p.geom_type in {"Polygon", "MultiPolygon"}])


def project(lon: float, lat: float, crs: str) -> tuple[float, float]:
    """Easting and northing of a point given in degrees."""
    x, y = transformer(LON_LAT, crs).transform(lon, lat)
    return float(x), float(y)


def to_lon_lat(x: float, y: float, crs: str) -> tuple[float, float]:
    """Longitude and latitude, degrees, of a projected point."""
    lon, lat = transformer(crs, LON_LAT).transform(x, y)
    return float(lon), float(lat)
