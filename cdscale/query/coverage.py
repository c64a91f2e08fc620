"""How much of each pixel a polygon covers, exactly: exactextract walks the outline once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from numpy.typing import NDArray
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from cdscale.grid import LON_LAT, GeoBox, cut_at_antimeridian, reproject
from cdscale.query.spots import is_lon_lat

EVERY_M = 100.0
"""Metres along an edge after which it bends with the projection: to a millimetre. With 500 m,
quarters of a city are wrong by up to 1.6 millionths of their area."""
EVERY_DEG = 0.001
EQUAL_AREA = "EPSG:6933"
"""In which shares of polygons are measured that no one grid holds."""


@dataclass(frozen=True)
class Coverage:
    """Pixels of a block that a zone touches."""

    rows: slice
    columns: slice
    """The least rectangle that holds them, within the block."""
    cells: NDArray[np.int64]
    """Their numbers in that rectangle, row by row."""
    shares: NDArray[np.float64]
    """Of each the part that the zone covers."""

    @property
    def pixels(self) -> float:
        """Area in pixels."""
        return float(self.shares.sum())


def cover(polygon: BaseGeometry, geobox: GeoBox) -> Coverage | None:
    """Which pixels of a block a polygon covers, and how much of each.

    Parameters
    ----------
    polygon : geometry
        In the CRS of the block.
    geobox : GeoBox
        The block: north up, square pixels.

    Returns
    -------
    Coverage or None
        None where they share no area.
    """
    box, step = geobox.boundingbox, abs(geobox.affine.a)
    height, width = geobox.shape
    near = shapely.clip_by_rect(polygon, box.left, box.bottom, box.right, box.top)
    if near.is_empty or not near.area > 0:
        return None
    west, south, east, north = near.bounds
    rows = slice(
        max(0, int((box.top - north) // step)), min(height, int(-((south - box.top) // step)))
    )
    columns = slice(
        max(0, int((west - box.left) // step)), min(width, int(-((box.left - east) // step)))
    )
    left, top = box.left + columns.start * step, box.top - rows.start * step
    shape = rows.stop - rows.start, columns.stop - columns.start
    if min(shape) < 1:
        return None
    # Of the raster only its place is used; a view of one byte takes no memory.
    nothing = np.broadcast_to(np.zeros((1, 1), np.uint8), shape)
    raster = NumPyRasterSource(nothing, left, top - shape[0] * step, left + shape[1] * step, top)
    feature = {"type": "Feature", "properties": {}, "geometry": mapping(near)}
    (found,) = exact_extract(raster, [feature], ["cell_id", "coverage"])
    told: dict[str, Any] = found["properties"]
    return Coverage(
        rows,
        columns,
        np.asarray(told["cell_id"], np.int64),
        np.asarray(told["coverage"], np.float64),
    )


def on_grid(polygon: BaseGeometry, crs: str, geobox: GeoBox) -> BaseGeometry:
    """What of a polygon lies near a block, in the CRS of the block.

    Only what is near is projected: far away a projection turns polygons inside out.
    """
    near = shapely.intersection(polygon, outline(geobox, crs, around=geobox.boundingbox.span_x / 8))
    if near.is_empty:
        return near
    every = EVERY_DEG if is_lon_lat(crs) else EVERY_M
    return _valid(reproject(near, crs, str(geobox.crs), resolution=every))


def outline(geobox: GeoBox, crs: str, *, around: float = 0.0) -> BaseGeometry:
    """Outline of a block in another CRS, with a margin in metres."""
    own = geobox.extent.geom.buffer(around, join_style="mitre")
    bent = reproject(own, str(geobox.crs), crs, resolution=geobox.boundingbox.span_x / 64)
    return cut_at_antimeridian(bent) if is_lon_lat(crs) else _valid(bent)


def share_outside(polygon: BaseGeometry, crs: str, geobox: GeoBox) -> float:
    """Share of a polygon's area on the ground that lies outside a block, 0 to 1."""
    inside = shapely.intersection(polygon, outline(geobox, crs))
    if inside.is_empty:
        return 1.0
    whole = _ground(polygon, crs)
    return max(0.0, 1.0 - _ground(inside, crs) / whole) if whole > 0 else 0.0


def _ground(polygon: BaseGeometry, crs: str) -> float:
    every = EVERY_DEG * 100 if is_lon_lat(crs) else EVERY_M * 100
    lon_lat = reproject(polygon, crs, LON_LAT, resolution=every)
    flat = reproject(lon_lat, LON_LAT, EQUAL_AREA, resolution=1.0)
    return float(shapely.area(flat))


def _valid(geometry: BaseGeometry) -> BaseGeometry:
    if geometry.is_valid and geometry.geom_type in {"Polygon", "MultiPolygon"}:
        return geometry
    parts = shapely.get_parts(shapely.make_valid(geometry))
    return shapely.union_all([p for p in parts if p.geom_type in {"Polygon", "MultiPolygon"}])
