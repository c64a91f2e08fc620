"""Polygons that statistics are asked for, from a vector file or from Python.

What is read: GeoJSON, GeoPackage, FlatGeobuf, shapefiles, whatever GDAL reads; in any CRS, with
longitude or easting first as these formats have it. Polygons with one value of the field are one
zone. Rings that cross themselves are mended, and it is said; what has no area is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from cdscale.errors import SpecError, explain
from cdscale.grid import LON_LAT, cut_at_antimeridian, reproject
from cdscale.query.spots import checked_crs, is_lon_lat

HALF_TURN, TURN = 180.0, 360.0


@dataclass(frozen=True)
class Zone:
    """An area by its name; in degrees it is cut at the antimeridian."""

    name: str
    geometry: BaseGeometry


@dataclass(frozen=True)
class Zones:
    """Some zones in one CRS."""

    field: str
    crs: str
    members: tuple[Zone, ...]
    notes: tuple[str, ...] = ()
    """What was done to them."""

    @property
    def bounds_lon_lat(self) -> tuple[float, float, float, float]:
        """West, south, east and north of them all, degrees, roughly."""
        frame = shapely.box(*shapely.total_bounds([zone.geometry for zone in self.members]))
        west, south, east, north = reproject(frame, self.crs, LON_LAT, resolution=1e5).bounds
        return west, south, east, north

    @classmethod
    def of(cls, geometry: BaseGeometry, crs: str = LON_LAT, *, where: str = "the area") -> Zones:
        """One geometry as the only zone.

        Raises
        ------
        SpecError
            When it has no area, or its CRS is unknown.
        """
        return _made("area", crs, [("area", geometry)], where)

    @classmethod
    def read(cls, path: Path, *, by: str = "", crs: str = "") -> Zones:
        """Zones of a vector file.

        Parameters
        ----------
        path : Path
            The file.
        by : str
            Field that names them; without one all polygons together are one zone.
        crs : str
            Of the file, where it does not say.

        Raises
        ------
        SpecError
            When it does not read, has no such field, no polygon, something else than polygons, or
            no CRS.
        """
        names, geometries, said = _table(path, by)
        known = crs or said
        if not known:
            raise SpecError(
                explain(f"{path} does not say its CRS", do="Name it: --crs EPSG:32632, say.")
            )
        if crs and said and checked_crs(crs) and not _same(crs, said):
            raise SpecError(
                explain(f"{path} says another CRS", expected=crs, got=said, do="Leave out --crs.")
            )
        return _made(by or "area", known, list(zip(names, geometries, strict=True)), str(path))


def _same(one: str, other: str) -> bool:
    import pyproj

    return bool(pyproj.CRS(one).equals(pyproj.CRS(other), ignore_axis_order=True))


def _table(path: Path, by: str) -> tuple[list[str], list[Any], str]:
    """Names, geometries and CRS of a file."""
    import pyogrio.errors
    import pyogrio.raw

    if not path.is_file() and not path.is_dir():
        raise SpecError(explain(f"cannot read {path}: there is no such file"))
    try:
        with warnings.catch_warnings():
            # What GDAL only warns of is seen below.
            warnings.simplefilter("ignore", RuntimeWarning)
            layer = _layer(path)
            about = pyogrio.read_info(str(path), layer=layer)
        fields = [str(name) for name in about["fields"]]
        if about["features"] == 0:  # of such a file GeoJSON knows no fields either
            raise _empty(str(path))
        if by and by not in fields:
            raise SpecError(
                explain(
                    f"{path} has no field {by!r}", expected=f"one of {', '.join(fields) or 'none'}"
                )
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            wanted = [by] if by else []
            meta, _, wkb, columns = pyogrio.raw.read(str(path), layer=layer, columns=wanted)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as err:
        raise SpecError(
            explain(
                f"{path} does not read",
                expected="polygons: GeoJSON, GeoPackage, or another format that GDAL reads",
                got=" ".join(str(err).split())[:160],
            )
        ) from None
    if wkb is None:
        raise SpecError(explain(f"{path} has no geometries", expected="polygons"))
    geometries = shapely.from_wkb(wkb, on_invalid="ignore").tolist()
    names = [_name(value) for value in columns[0]] if by else ["area"] * len(geometries)
    for name, given, geometry in zip(names, wkb, geometries, strict=True):
        if given is not None and geometry is None:
            raise SpecError(
                explain(
                    f"{path}: {name!r} has an outline that does not read",
                    expected="rings of at least four points, the last of which is the first",
                    do="Mend the file.",
                )
            )
    return names, geometries, str(meta["crs"] or "")


def _layer(path: Path) -> str | None:
    """The one layer of a file that has places; None where none has, and GDAL may say more of it.

    Tables without places, such as QGIS keeps its styles in, are none.
    """
    import pyogrio

    layers = [str(name) for name, kind in pyogrio.list_layers(str(path)) if kind is not None]
    if len(layers) > 1:
        raise SpecError(
            explain(
                f"{path} has several layers",
                expected="one",
                got=", ".join(layers),
                do="Write the one that is meant into a file of its own: ogr2ogr OUT IN LAYER.",
            )
        )
    return layers[0] if layers else None


def _empty(where: str) -> SpecError:
    return SpecError(explain(f"{where} is empty", expected="at least one polygon"))


def _name(value: Any) -> str:
    """A field's value as text; what is missing is the zone without a name."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _made(field: str, crs: str, rows: list[tuple[str, Any]], where: str) -> Zones:
    crs = LON_LAT if is_lon_lat(crs) else checked_crs(crs)
    if not rows:
        raise _empty(where)
    mended: list[str] = []
    empty: list[str] = []
    together: dict[str, list[BaseGeometry]] = {}
    for name, geometry in rows:
        if geometry is None or geometry.is_empty:
            empty.append(name)
            continue
        together.setdefault(name, []).append(_checked(geometry, name, crs, where, mended))
    if not together:
        raise SpecError(explain(f"{where} has no polygon", expected="at least one", got="none"))
    zones = tuple(
        Zone(name, parts[0] if len(parts) == 1 else shapely.union_all(parts))
        for name, parts in together.items()
    )
    notes = [
        f"{len(names)} {what}: {_listed(names)}"
        for names, what in ((mended, "mended, their rings cross"), (empty, "empty, left out"))
        if names
    ]
    return Zones(field, crs, zones, tuple(notes))


def _checked(
    geometry: BaseGeometry, name: str, crs: str, where: str, mended: list[str]
) -> BaseGeometry:
    """A polygon that can be measured.

    Raises
    ------
    SpecError
        When it is none, or its coordinates are none of its CRS.
    """
    title = f"{where}: {name!r}" if name != "area" else where
    if geometry.geom_type not in {"Polygon", "MultiPolygon", "GeometryCollection"}:
        raise SpecError(explain(title, expected="a polygon", got=geometry.geom_type))
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise SpecError(explain(f"{title} has a coordinate that is not a number"))
    geometry = shapely.force_2d(geometry)
    if is_lon_lat(crs):
        geometry = _on_globe(geometry, title)
    if not geometry.is_valid or geometry.geom_type == "GeometryCollection":
        if not geometry.is_valid:
            mended.append(name)
        parts = shapely.get_parts(shapely.make_valid(geometry))
        geometry = shapely.union_all(
            [p for p in parts if p.geom_type in {"Polygon", "MultiPolygon"}]
        )
    if geometry.is_empty or not geometry.area > 0:
        raise SpecError(explain(f"{title} has no area", expected="a polygon"))
    return geometry


def _on_globe(geometry: BaseGeometry, title: str) -> BaseGeometry:
    """Degrees within -180 to 180, cut where an outline crosses the antimeridian."""
    west, south, east, north = geometry.bounds
    if south < -90.000001 or north > 90.000001 or east - west > TURN or max(-west, east) > TURN:
        raise SpecError(
            explain(
                f"{title} is not in degrees",
                expected="longitude and latitude",
                got=f"bounds {west:g}, {south:g}, {east:g}, {north:g}",
                do="Reproject it, or let its file say its CRS; GeoJSON is always in degrees.",
            )
        )
    if not (_jumps(geometry) or west < -HALF_TURN or east > HALF_TURN):
        return geometry
    try:
        return shapely.union_all([_cut(part) for part in shapely.get_parts(geometry)])
    except (ValueError, shapely.errors.GEOSException) as err:
        raise SpecError(
            explain(title, got=str(err), do="Cut it in two at the antimeridian.")
        ) from None


def _jumps(geometry: BaseGeometry) -> bool:
    """Whether an edge jumps across the antimeridian.

    One that goes all the way round does not: it is the frame of a map.
    """
    rings = shapely.get_rings(shapely.get_parts(geometry, return_index=False))
    steps = [np.abs(np.diff(shapely.get_coordinates(ring)[:, 0])) for ring in rings]
    return any(bool(((step > HALF_TURN) & (step < TURN - 0.01)).any()) for step in steps)


def _cut(part: BaseGeometry) -> BaseGeometry:
    """A polygon in pieces between -180 and 180, its edges straight in degrees."""
    if _jumps(part):
        onward = shapely.transform(part, lambda xy: xy + [TURN, 0] * (xy[:, :1] < 0))
        if _jumps(onward):  # around a pole
            return cut_at_antimeridian(part)
        part = onward
    pieces = [
        translate(shapely.clip_by_rect(part, turn - HALF_TURN, -90, turn + HALF_TURN, 90), -turn)
        for turn in (-TURN, 0.0, TURN)
    ]
    return shapely.union_all([piece for piece in pieces if piece.area > 0])


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name or "(no name)" for name in names[:most]) + more
