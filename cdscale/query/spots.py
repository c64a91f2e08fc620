"""From a place that a user names to the pixel of a store that holds it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pyproj
import shapely

from cdscale.errors import SpecError, explain
from cdscale.grid import LON_LAT, Tile, reproject, to_lon_lat
from cdscale.spec.cube import CubeSpec
from cdscale.store import Source


@dataclass(frozen=True)
class Spot:
    """A point in a CRS, easting or longitude first whatever the CRS says of its axes."""

    x: float
    y: float
    crs: str = LON_LAT

    @classmethod
    def checked(cls, x: float, y: float, crs: str = LON_LAT) -> Spot:
        """A point that can be one.

        Raises
        ------
        SpecError
            For a CRS that is none, or degrees beyond the globe.
        """
        if not is_lon_lat(crs):
            return cls(x, y, checked_crs(crs))
        if not (-180 <= x <= 180 and -90 <= y <= 90):
            raise SpecError(
                explain(
                    "not a place",
                    expected="degrees",
                    got=f"longitude {x}, latitude {y}",
                    do="For metres name their CRS, too.",
                )
            )
        return cls(x, y)

    def on(self, crs: str) -> tuple[float, float]:
        """Its coordinates in another CRS; not finite where that does not reach."""
        moved = reproject(shapely.Point(self.x, self.y), self.crs, crs, resolution=1.0)
        ((x, y),) = shapely.get_coordinates(moved).tolist()
        return x, y

    def __str__(self) -> str:
        where = "" if is_lon_lat(self.crs) else f" ({self.crs})"
        return f"{self.x:.10g}, {self.y:.10g}{where}"


def is_lon_lat(crs: str) -> bool:
    """Whether a CRS is that of GeoJSON, under one of its names."""
    return crs.upper() in {LON_LAT, "OGC:CRS84", "WGS84"}


def checked_crs(crs: str) -> str:
    """A CRS that there is.

    Raises
    ------
    SpecError
        For any other text.
    """
    try:
        pyproj.CRS(crs)
    except pyproj.exceptions.CRSError:
        raise SpecError(
            explain("unknown CRS", expected="a code like EPSG:32632", got=repr(crs))
        ) from None
    return crs


@dataclass(frozen=True)
class Pixel:
    """One pixel of a store."""

    row: int
    column: int
    x: float
    """Of its centre, metres."""
    y: float
    tile: Tile

    def lon_lat(self, spec: CubeSpec) -> tuple[float, float]:
        """Its centre in degrees."""
        return to_lon_lat(self.x, self.y, spec.grid.crs)


def pixel_of(source: Source, spot: Spot) -> Pixel:
    """The pixel that holds a point.

    Raises
    ------
    SpecError
        When the point lies outside the store.
    """
    spec = source.spec
    x, y = spot.on(spec.grid.crs)
    if not _inside(spec, x, y):
        raise SpecError(
            explain(
                f"the point {spot} lies outside {source.place}",
                expected=f"a place on its tiles, which lie inside {extent(spec)}",
                do=_advice(spec, spot),
            )
        )
    box, step = spec.window.geobox(spec.grid).boundingbox, spec.grid.resolution
    column, row = int((x - box.left) / step), int((box.top - y) / step)
    tile_px, window = spec.grid.tile_px, spec.window
    return Pixel(
        row,
        column,
        box.left + (column + 0.5) * step,
        box.top - (row + 0.5) * step,
        Tile(window.ix + column // tile_px, window.iy + row // tile_px),
    )


def _inside(spec: CubeSpec, x: float, y: float) -> bool:
    box = spec.window.geobox(spec.grid).boundingbox
    return bool(box.left <= x < box.right and box.bottom < y <= box.top)


def _advice(spec: CubeSpec, spot: Spot) -> str:
    turned = Spot(spot.y, spot.x, spot.crs)
    if _inside(spec, *turned.on(spec.grid.crs)):
        return f"Turned round, {turned}, it would lie inside: longitude or easting comes first."
    return "Give longitude and latitude in degrees, longitude first, or name the CRS."


def extent(spec: CubeSpec) -> str:
    """Where a store lies, in degrees."""
    box = spec.window.geobox(spec.grid).boundingbox
    corners = [
        to_lon_lat(x, y, spec.grid.crs)
        for x in (box.left, box.right)
        for y in (box.bottom, box.top)
    ]
    lon, lat = zip(*corners, strict=True)
    if not all(map(math.isfinite, (*lon, *lat))):
        return f"{box.left:g}, {box.bottom:g}, {box.right:g}, {box.top:g} ({spec.grid.crs})"
    return f"{min(lon):.4f}, {min(lat):.4f}, {max(lon):.4f}, {max(lat):.4f} (degrees)"
