"""The continental lattice: ``Grid``, ``Tile``, ``Window`` and ``Area``.

An area becomes tiles, a tile becomes a GeoBox, and nothing above this module handles coordinates.
Every preset is an equal-area projection with a fixed origin, so that two runs made years apart
share their pixels, and an area is a count of pixels.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import antimeridian
import numpy as np
import pyproj
import shapely
import shapely.affinity
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox as GeoBox
from odc.geo.geobox import GeoboxTiles as GeoboxTiles
from odc.geo.geom import Geometry
from odc.geo.xr import rasterize
from shapely.geometry import box, mapping, shape
from shapely.geometry.base import BaseGeometry

from cdscale.errors import SpecError, explain

Shape = TypeVar("Shape", BaseGeometry, NDArray[np.object_])

_TILE = re.compile(r"x(\d{4,})y(\d{4,})")
LON_LAT = "EPSG:4326"
ROUNDING_DEG = 1e-6
"""By so much a coordinate may lie beyond the antimeridian or a pole; published polygons do."""


class Bounds(NamedTuple):
    """West, south, east, north, in the units of the CRS that goes with them."""

    west: float
    south: float
    east: float
    north: float


class Preset(NamedTuple):
    """A continent's projection, the extent of its lattice, and where in the world it is meant."""

    crs: str
    extent: Bounds
    """Metres; multiples of 204.8 km, that is of ten default tiles."""
    lon_lat: Bounds
    """Where ``auto`` chooses it: the first of the table whose box holds the area. Arabia goes with
    Africa, whose projection bends it far less than that of Asia."""


PRESETS = {
    "europe": Preset("EPSG:3035", Bounds(0, 0, 8192000, 8192000), Bounds(-32, 33, 45, 73)),
    "north-america": Preset(
        "EPSG:5070", Bounds(-8192000, -1228800, 5324800, 6758400), Bounds(-170, 12, -50, 73)
    ),
    "south-america": Preset(
        "ESRI:102033", Bounds(-4096000, -3072000, 3481600, 5120000), Bounds(-93, -57, -32, 14)
    ),
    "africa": Preset(
        "ESRI:102022", Bounds(-5529600, -4300800, 3891200, 4300800), Bounds(-26, -36, 60, 38.5)
    ),
    "australia": Preset(
        "EPSG:3577", Bounds(-2662400, -5529600, 3276800, -819200), Bounds(110, -48, 160, -8)
    ),
    "asia": Preset(
        "ESRI:102025", Bounds(-8806400, -4505600, 10240000, 6963200), Bounds(25, -12, 180, 80)
    ),
    "world": Preset(
        "EPSG:6933", Bounds(-17408000, -7372800, 17408000, 7372800), Bounds(-180, -85, 180, 85)
    ),
}
ACROSS = {"asia": Bounds(25, 50, 191, 72)}
"""Where ``auto`` chooses a preset beyond the antimeridian, longitudes east of it counted on:
Chukotka. Without it what crosses would go to the grid of the world, one part at either end."""


@dataclass(frozen=True, order=True, slots=True)
class Tile:
    """One cell of a lattice, counted eastward and southward from its north-west corner.

    Prints as ``x0123y0045``.
    """

    ix: int
    iy: int

    def __str__(self) -> str:
        return f"x{self.ix:04d}y{self.iy:04d}"

    @classmethod
    def parse(cls, text: str) -> Tile:
        """Read ``x0123y0045``.

        Raises
        ------
        SpecError
            For anything else.
        """
        match = _TILE.fullmatch(text)
        if match is None:
            raise SpecError(explain("not a tile", expected="like x0123y0045", got=repr(text)))
        return cls(int(match[1]), int(match[2]))

    def neighbours(self) -> Iterator[Tile]:
        """The tile and the eight around it."""
        for iy in range(self.iy - 1, self.iy + 2):
            for ix in range(self.ix - 1, self.ix + 2):
                yield Tile(ix, iy)


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
                parts = [shape(part) for part in raw]
            finite = all(np.isfinite(shapely.get_coordinates(part)).all() for part in parts)
            polygons = [_polygons(part) for part in parts] if finite else []
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
        return cls._checked(shapely.union_all(polygons), where)

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


def _polygons(geometry: BaseGeometry) -> BaseGeometry:
    """The polygonal part of a geometry, repaired where rings cross themselves."""
    parts = shapely.get_parts(shapely.make_valid(geometry))
    return shapely.union_all([p for p in parts if p.geom_type in {"Polygon", "MultiPolygon"}])


@dataclass(frozen=True)
class Grid:
    """A lattice of square tiles over a projected CRS.

    Parameters
    ----------
    name : str
        Name of the preset, or what the user calls it.
    crs : str
        A projected CRS with metres, like ``EPSG:3035``.
    extent : Bounds
        Metres; tiles are counted from the north-west corner.
    resolution : float
        Metres per pixel.
    tile_px : int
        Pixels along a side of a tile.
    """

    name: str
    crs: str
    extent: Bounds
    resolution: float = 10.0
    tile_px: int = 2048

    @classmethod
    def preset(cls, name: str, *, resolution: float = 10.0, tile_px: int = 2048) -> Grid:
        """One of the continental grids of :data:`PRESETS`, or the lattice of a projected CRS.

        The lattice of a CRS spans its area of use; its origin is a multiple of 204.8 km, so that
        it is the same however the area of a run is chosen, and so that the pixels of Sentinel-2 and
        of Sentinel-1 RTC in their own UTM zone are pixels of it.

        Raises
        ------
        SpecError
            For a name that is neither, or a CRS without metres.
        """
        if ":" in name:
            return cls(name, name, _extent_of_use(name), resolution, tile_px)
        if name not in PRESETS:
            raise SpecError(
                explain(
                    "unknown grid",
                    expected=f"one of {', '.join(PRESETS)}, or a projected CRS like EPSG:32631",
                    got=repr(name),
                )
            )
        return cls(name, PRESETS[name].crs, PRESETS[name].extent, resolution, tile_px)

    @property
    def tile_m(self) -> float:
        """Metres along a side of a tile."""
        return self.tile_px * self.resolution

    @cached_property
    def _count(self) -> tuple[int, int]:
        width = self.extent.east - self.extent.west
        height = self.extent.north - self.extent.south
        return math.ceil(width / self.tile_m), math.ceil(height / self.tile_m)

    def tiles(self, area: Area) -> tuple[Tile, ...]:
        """Every tile that shares area with the polygon, in reading order.

        Raises
        ------
        SpecError
            When part of the polygon lies outside the lattice.
        """
        polygon = area.to_crs(self.crs)
        bounds = Bounds(*polygon.bounds)
        if not (
            all(map(math.isfinite, bounds))
            and self.extent.west <= bounds.west
            and self.extent.south <= bounds.south
            and bounds.east <= self.extent.east
            and bounds.north <= self.extent.north
        ):
            lon_lat = ", ".join(f"{value:g}" for value in area.bounds)
            raise SpecError(
                explain(
                    f"the area lies outside the grid {self.name} ({self.crs})",
                    expected=f"an area inside {self.extent} metres",
                    got=f"{lon_lat} (west, south, east, north in degrees)",
                    do="Choose another grid: " + ", ".join(PRESETS) + ", or auto.",
                )
            )
        ix = np.arange(*self._span(bounds.west - self.extent.west, bounds.east - self.extent.west))
        iy = np.arange(
            *self._span(self.extent.north - bounds.north, self.extent.north - bounds.south)
        )
        rows, columns = (index.ravel() for index in np.meshgrid(iy, ix, indexing="ij"))
        west = self.extent.west + columns * self.tile_m
        north = self.extent.north - rows * self.tile_m
        cells = shapely.box(west, north - self.tile_m, west + self.tile_m, north)
        shapely.prepare(polygon)
        # Two tests of a prepared polygon are far cheaper than an intersection: what only touches
        # along an edge or in a corner shares no area.
        hit = shapely.intersects(polygon, cells) & ~shapely.touches(polygon, cells)
        return tuple(Tile(int(x), int(y)) for x, y in zip(columns[hit], rows[hit], strict=True))

    def _span(self, low: float, high: float) -> tuple[int, int]:
        return math.floor(low / self.tile_m), math.ceil(high / self.tile_m)

    def __contains__(self, tile: Tile) -> bool:
        nx, ny = self._count
        return 0 <= tile.ix < nx and 0 <= tile.iy < ny

    def geobox(self, tile: Tile) -> GeoBox:
        """Pixels of a tile: shape, transform and CRS, north up."""
        return self.window([tile]).geobox(self)

    def footprint(self, tile: Tile) -> BaseGeometry:
        """Outline of a tile in degrees, in two parts where it crosses the antimeridian."""
        outline = self.geobox(tile).extent.geom
        bent = reproject(outline, self.crs, LON_LAT, resolution=self.tile_m / 16)
        return cut_at_antimeridian(bent)

    def footprints(self, tiles: Sequence[Tile]) -> NDArray[np.object_]:
        """:meth:`footprint` of many tiles at once, to the metre, in a tenth of the time."""
        west = self.extent.west + np.array([tile.ix for tile in tiles]) * self.tile_m
        north = self.extent.north - np.array([tile.iy for tile in tiles]) * self.tile_m
        cells = shapely.box(west, north - self.tile_m, west + self.tile_m, north)
        bent = reproject(cells, self.crs, LON_LAT, resolution=max(STRAIGHT_M, self.tile_m / 16))
        left, _, right, _ = shapely.bounds(bent).T
        for index in np.flatnonzero(~(right - left < 180)):
            bent[index] = self.footprint(tiles[int(index)])
        return bent

    def window(self, tiles: Iterable[Tile]) -> Window:
        """The smallest rectangle of tiles that holds them all."""
        every = list(tiles)
        left, top = min(t.ix for t in every), min(t.iy for t in every)
        return Window(
            left, top, max(t.ix for t in every) - left + 1, max(t.iy for t in every) - top + 1
        )


STRAIGHT_M = 5_000
"""Metres over which no edge bends by more than one when it is brought to degrees."""
_STEP_M = 204_800
"""Multiples of it are the corners of every lattice: ten default tiles of 10 m."""


def _extent_of_use(code: str) -> Bounds:
    """Where a CRS may be used, in its own metres, rounded outward."""
    wanted = "a projected CRS with metres and an area of use, like EPSG:32631"
    try:
        crs = pyproj.CRS(code)
    except pyproj.exceptions.CRSError:
        raise SpecError(explain("unknown grid", expected=wanted, got=repr(code))) from None
    metres = crs.is_projected and all(a.unit_name in {"metre", "meter"} for a in crs.axis_info)
    if not metres or crs.area_of_use is None:
        raise SpecError(explain("no grid can lie on this CRS", expected=wanted, got=crs.name))
    box = _transformer(LON_LAT, code).transform_bounds(*crs.area_of_use.bounds)
    low, high = (
        [f(v / _STEP_M) * _STEP_M for v in part]
        for f, part in ((math.floor, box[:2]), (math.ceil, box[2:]))
    )
    return Bounds(*low, *high)


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of tiles: what one store covers."""

    ix: int
    iy: int
    nx: int
    ny: int

    def __contains__(self, tile: Tile) -> bool:
        return 0 <= tile.ix - self.ix < self.nx and 0 <= tile.iy - self.iy < self.ny

    def geobox(self, grid: Grid) -> GeoBox:
        """Pixels of the whole rectangle."""
        west = grid.extent.west + self.ix * grid.tile_m
        north = grid.extent.north - self.iy * grid.tile_m
        shape_ = (self.ny * grid.tile_px, self.nx * grid.tile_px)
        affine = Affine(grid.resolution, 0, west, 0, -grid.resolution, north)
        return GeoBox(shape_, affine, CRS(grid.crs))

    def slices(self, grid: Grid, tile: Tile) -> tuple[slice, slice]:
        """Rows and columns of a tile in arrays that cover the rectangle."""
        if tile not in self:
            raise SpecError(explain(f"tile {tile} is not part of the store", expected=str(self)))
        y = (tile.iy - self.iy) * grid.tile_px
        x = (tile.ix - self.ix) * grid.tile_px
        return slice(y, y + grid.tile_px), slice(x, x + grid.tile_px)


@functools.cache
def _transformer(source: str, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def reproject(geometry: Shape, source: str, target: str, *, resolution: float) -> Shape:
    """A geometry, or an array of them, in another CRS.

    Edges longer than ``resolution`` (source units) bend with it.
    """
    change: Any = _transformer(source, target).transform
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
    return shapely.union_all([_polygons(_cut(part)) for part in parts])


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


def choose_preset(area: Area) -> str:
    """The continental grid in whose part of the world an area lies; ``world`` where none fits."""
    chosen = next((n for n, p in PRESETS.items() if _holds(p.lon_lat, area.bounds)), "world")
    if chosen != "world":
        return chosen
    onward = [
        shapely.affinity.translate(part, 360) if part.bounds[2] <= 0 else part
        for part in shapely.get_parts(area.geometry)
    ]
    bounds = Bounds(*shapely.total_bounds(onward))
    return next((name for name, box_ in ACROSS.items() if _holds(box_, bounds)), "world")


def _holds(outer: Bounds, inner: Bounds) -> bool:
    across = outer.west <= inner.west and inner.east <= outer.east
    return across and outer.south <= inner.south and inner.north <= outer.north


def project(lon: float, lat: float, crs: str) -> tuple[float, float]:
    """Easting and northing of a point given in degrees."""
    x, y = _transformer(LON_LAT, crs).transform(lon, lat)
    return float(x), float(y)


def covered(area: Area, geobox: GeoBox) -> np.ndarray:
    """Pixels whose centre lies in the area: bool of shape (y, x)."""
    crs, box_m = str(geobox.crs), geobox.boundingbox
    bent = reproject(geobox.extent.geom, crs, LON_LAT, resolution=box_m.span_x / 16)
    outline = cut_at_antimeridian(bent)
    # Only what is near is projected: far away a projection turns polygons inside out.
    near = [
        _polygons(shapely.clip_by_rect(area.geometry, *part.buffer(0.1).bounds))
        for part in shapely.get_parts(outline)
    ]
    polygon = shapely.union_all([Area(part).to_crs(crs) for part in near if not part.is_empty])
    if polygon.is_empty:
        return np.zeros(geobox.shape, bool)
    return np.asarray(rasterize(Geometry(polygon, geobox.crs), geobox))


def crs_attributes(geobox: GeoBox) -> dict[str, Any]:
    """CF grid mapping of a GeoBox, with the WKT and the transform that GDAL and rioxarray read."""
    crs = pyproj.CRS(str(geobox.crs))
    cf = {key: list(v) if isinstance(v, tuple) else v for key, v in crs.to_cf().items()}
    transform = " ".join(f"{value:.17g}" for value in geobox.affine.to_gdal())
    return {**cf, "spatial_ref": crs.to_wkt(), "GeoTransform": transform}


def to_lon_lat(x: float, y: float, crs: str) -> tuple[float, float]:
    """Longitude and latitude, degrees, of a projected point."""
    lon, lat = _transformer(crs, LON_LAT).transform(x, y)
    return float(lon), float(lat)
