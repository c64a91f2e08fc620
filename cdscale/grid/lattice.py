"""``Grid``, ``Tile`` and ``Window``: continents in tiles, and rectangles of tiles."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyproj
import shapely
import shapely.affinity
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from cdscale.errors import SpecError, explain
from cdscale.grid.area import Area
from cdscale.grid.degrees import LON_LAT, Bounds, cut_at_antimeridian, reproject, transformer

_TILE = re.compile(r"x(\d{4,})y(\d{4,})")
STRAIGHT_M = 5_000
"""Metres over which no edge bends by more than one when it is brought to degrees."""
_STEP_M = 204_800
"""Multiples of it are the corners of every lattice: ten default tiles of 10 m."""


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


MOST_CELLS = 20_000_000
"""Of a lattice that an area may span: the Earth at the least tile of the default resolution's."""


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
        span = (bounds.east - bounds.west) * (bounds.north - bounds.south)
        if span / self.tile_m**2 > MOST_CELLS:
            raise SpecError(
                explain(
                    "the area has too many tiles for one run",
                    expected=f"at most {MOST_CELLS:,}",
                    got=f"about {span / self.tile_m**2:,.0f} of {self.tile_m:g} metres",
                    do="Set a larger grid.tile or grid.resolution, or a smaller area.",
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
    box = transformer(LON_LAT, code).transform_bounds(*crs.area_of_use.bounds)
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
