"""Where an item lies: its footprint in degrees, and the CRS of its pixels."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import shapely
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from cdscale.grid import LON_LAT, cut_at_antimeridian
from cdscale.scenes.names import Json
from cdscale.scenes.unusable import Unusable
from cdscale.spec.scene import Asset

_CODE = re.compile(r"([A-Za-z][\w-]*):([\w.-]+)")
_URI = re.compile(
    r"(?:urn:ogc:def:crs:|https?://www\.opengis\.net/def/crs/)([\w]+)[:/][\w.]*[:/](\w+)"
)
_EARTH_M = (6_300_000, 6_420_000)
"""Semi-major axes of the ellipsoids in use for the Earth lie within."""


APART = 0.2
"""Of the size of a file, between it and the footprint of its item: they do not belong together."""
DECIMALS = 9
"""Of a degree in which a footprint is written: a tenth of a millimetre."""


def footprint_of(item: Json) -> str:
    """WKT of an item's footprint, degrees: valid, and cut where it crosses the antimeridian.

    An item without a geometry is taken by its bounding box.

    Raises
    ------
    Unusable
        Where neither reads, where it has no area or is not in degrees.
    """
    geometry = item.get("geometry")
    polygon = _polygon(geometry) if geometry else shapely.Polygon()
    if polygon.is_empty:
        polygon = _box(item.get("bbox"))
    if polygon.area > 0:
        written = str(shapely.to_wkt(polygon, rounding_precision=DECIMALS))
        if shapely.from_wkt(written).is_valid:
            return written
        # A part thinner than the last decimal, such as one that ends on the antimeridian.
        whole = shapely.set_precision(polygon, 10.0**-DECIMALS)
        if whole.area > 0:
            return str(shapely.to_wkt(whole, rounding_precision=DECIMALS))
    raise Unusable("its footprint has no area")


def _polygon(geometry: Any) -> BaseGeometry:
    try:
        if geometry["type"] == "MultiPolygon":
            # Some catalogues leave empty members beside the good ones.
            members = [member for member in geometry["coordinates"] if member]
            geometry = {"type": "MultiPolygon", "coordinates": members}
        with np.errstate(invalid="ignore"):
            raw = shape(geometry)
    except (LookupError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError):
        raise Unusable("its footprint does not read") from None
    corners = shapely.get_coordinates(raw)
    if len(corners) and not np.isfinite(corners).all():
        raise Unusable("its footprint does not read")
    if len(corners) and not (np.abs(corners) <= (360, 90)).all():
        raise Unusable("its footprint is not in degrees")
    try:
        return cut_at_antimeridian(shapely.force_2d(raw))
    except (ValueError, shapely.errors.ShapelyError):
        raise Unusable("its footprint does not read") from None


def _box(bounds: Any) -> BaseGeometry:
    """The area of a GeoJSON bounding box, whose west is greater than its east where it crosses."""
    numbers = isinstance(bounds, list) and len(bounds) in {4, 6}
    if not numbers or not all(isinstance(v, int | float) and np.isfinite(v) for v in bounds):
        raise Unusable("its footprint does not read")
    half = len(bounds) // 2
    (west, south), (east, north) = bounds[:2], bounds[half : half + 2]
    if not (max(abs(west), abs(east)) <= 180 and -90 <= south <= north <= 90):
        raise Unusable("its footprint is not in degrees")
    if west <= east:
        return box(west, south, east, north)
    return shapely.union(box(west, south, 180, north), box(-180, south, east, north))


def misplaced(asset: Asset, footprint: str) -> bool:
    """Whether an asset, by its CRS and transform, lies where its item's footprint is not.

    One of the two is then wrong: a zone, a hemisphere, or the order of the axes. Outlines are drawn
    coarsely, so only what lies apart altogether counts.

    Parameters
    ----------
    asset : Asset
        One that says nothing of its CRS, transform or shape is not misplaced.
    footprint : str
        WKT, degrees.
    """
    if not (asset.crs and asset.transform and asset.shape):
        return False
    corners = shapely.get_coordinates(shapely.from_wkt(footprint))
    try:
        seen = np.column_stack(_from_degrees(asset.crs).transform(corners[:, 0], corners[:, 1]))
    except ProjError:
        raise Unusable("no way is known from its CRS to degrees") from None
    seen = seen[np.isfinite(seen).all(axis=1)]
    if not len(seen):
        return True
    a, b, c, d, e, f = asset.transform
    rows, columns = asset.shape
    file = np.array(
        [(a * x + b * y + c, d * x + e * y + f) for x in (0, columns) for y in (0, rows)]
    )
    spare = APART * (file.max(axis=0) - file.min(axis=0))
    low, high = file.min(axis=0) - spare, file.max(axis=0) + spare
    return bool((seen.max(axis=0) < low).any() or (seen.min(axis=0) > high).any())


@lru_cache(maxsize=256)
def _from_degrees(crs: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(LON_LAT, crs, always_xy=True)


def crs_of(asset: Json, properties: Json) -> str:
    """CRS of an asset: ``EPSG:32631``, another authority's code, or WKT; empty where none is told.

    What the asset says counts before what the item says.

    Raises
    ------
    Unusable
        For a CRS that does not exist or is none of a map of the Earth.
    """
    for where in (asset, properties):
        for key in ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson"):
            told = where.get(key)
            if told is not None and told != "":
                text = told if isinstance(told, str) else json.dumps(told)
                return _known(key, text)
    return ""


@lru_cache(maxsize=1024)
def _known(key: str, text: str) -> str:
    """The CRS in its shortest form, looked up once."""
    shown = re.sub(r"[^\x20-\x7e]", "?", text)[:60]
    try:
        crs = _parsed(key, text)
    # PROJ's own errors, and what its reader of JSON lets through.
    except (CRSError, ValueError, TypeError):
        raise Unusable(f"its {key} is no known CRS: {shown}") from None
    axis = crs.ellipsoid.semi_major_metre if crs.ellipsoid else 0
    if not (crs.is_projected or crs.is_geographic) or not _EARTH_M[0] < axis < _EARTH_M[1]:
        raise Unusable(f"its {key} is no CRS of a map of the Earth: {shown}")
    # Anything less than full confidence may be another datum.
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else crs.to_wkt()


def _parsed(key: str, text: str) -> pyproj.CRS:
    if key == "proj:wkt2":
        return pyproj.CRS.from_wkt(text)
    if key == "proj:projjson":
        return pyproj.CRS.from_json(text)
    text = text.removesuffix(".0") if key == "proj:epsg" else text
    match = _CODE.fullmatch(text) or _URI.fullmatch(text)
    # Never PROJ's free form: it would open files.
    authority, code = (match[1], match[2]) if match else ("EPSG", str(int(text)))
    return pyproj.CRS.from_authority(authority.upper(), code)
