"""``Area``: what a user asked for, a polygon in degrees."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from shapely.geometry import box, mapping, shape
from shapely.geometry.base import BaseGeometry

from cdscale.errors import SpecError, explain
from cdscale.grid.degrees import LON_LAT, Bounds, polygons, reproject

ROUNDING_DEG = 1e-6
"""By so much a coordinate may lie beyond the antimeridian or a pole; published polygons do."""


@dataclass(frozen=True)
class Area:
    """What a user asked for: a polygon in longitude and latitude."""

    geometry: BaseGeometry

    @classmethod
    def from_bounds(cls, bounds: Bounds) -> Area:
        """A box in degrees.

        Raises
        ------
        SpecError
            When west is not west of east, or south not south of north: a box that crosses the
            antimeridian would otherwise become its own complement.
        """
        if not (bounds.west < bounds.east and bounds.south < bounds.north):
            raise SpecError(
                explain(
                    "the bounding box is empty or turned round",
                    expected="west < east and south < north",
                    got=", ".join(f"{value:g}" for value in bounds),
                    do="Cut a box that crosses the antimeridian in two, as a MultiPolygon.",
                )
            )
        return cls._checked(box(*bounds), "the bounding box")

    @classmethod
    def from_geojson(cls, data: Any, *, where: str) -> Area:
        """Read a GeoJSON geometry, Feature or FeatureCollection (RFC 7946: lon, lat in degrees).

        Raises
        ------
        SpecError
            When it is not GeoJSON, holds no polygon, or its coordinates are not degrees.
        """
        kind = data.get("type") if isinstance(data, dict) else None
        try:
            if kind == "FeatureCollection":
                raw = [feature["geometry"] for feature in data["features"]]
            else:
                raw = [data["geometry"] if kind == "Feature" else data]
            # Shapely warns of numbers that are none, and its repair fails at them: seen below.
            with np.errstate(invalid="ignore"):
                # A feature may have no place (RFC 7946, 3.2).
                parts = [shape(part) for part in raw if part is not None or kind is None]
            finite = all(np.isfinite(shapely.get_coordinates(part)).all() for part in parts)
            surfaces = [polygons(part) for part in parts] if finite else []
        except (LookupError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError):
            raise SpecError(
                explain(
                    f"{where} is not GeoJSON",
                    expected="a Polygon, MultiPolygon, Feature or FeatureCollection",
                    got=f"type {kind!r}",
                )
            ) from None
        if not finite:
            raise SpecError(
                explain(f"{where} has a coordinate that is not a number", expected="degrees")
            )
        return cls._checked(shapely.union_all(surfaces), where)

    @classmethod
    def _checked(cls, geometry: BaseGeometry, where: str) -> Area:
        if geometry.is_empty or not geometry.area > 0:
            raise SpecError(
                explain(f"{where} has no area", expected="at least one polygon", got="none")
            )
        west, south, east, north = geometry.bounds
        if not (max(-west, east) <= 180 + ROUNDING_DEG and max(-south, north) <= 90 + ROUNDING_DEG):
            raise SpecError(
                explain(
                    f"{where} is not in degrees",
                    expected="longitude in -180..180 and latitude in -90..90",
                    got=f"bounds {west:g}, {south:g}, {east:g}, {north:g}",
                    do="GeoJSON is always longitude and latitude (EPSG:4326): reproject it, and "
                    "cut a polygon that crosses the antimeridian in two.",
                )
            )
        if max(-west, east) > 180 or max(-south, north) > 90:
            geometry = geometry.intersection(box(-180, -90, 180, 90))
        return cls(geometry)

    @property
    def bounds(self) -> Bounds:
        """West, south, east and north in degrees."""
        return Bounds(*self.geometry.bounds)

    @property
    def geojson(self) -> dict[str, Any]:
        """GeoJSON geometry, plain data: lists, as it comes back from a file."""
        geometry: dict[str, Any] = json.loads(json.dumps(mapping(self.geometry)))
        return geometry

    def to_crs(self, crs: str, *, resolution: float = 0.05) -> BaseGeometry:
        """The polygon in another CRS, its long edges bent as the projection bends them."""
        return reproject(self.geometry, LON_LAT, crs, resolution=resolution)
