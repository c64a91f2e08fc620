"""Which region is simulated, and on which grids its sensors see it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from affine import Affine
from shapely.geometry import box

from cdscale.errors import SpecError, explain
from cdscale.grid import LON_LAT, Bounds, Grid, project, reproject
from cdscale.months import Months
from cdscale.simulate.noise import Floats

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

SNAP_PX = 256
CRS = "EPSG:3035"
_OVERLAP_M = 1200.0
"""How far a zone's scenes reach into the next zone; tiles of the real archive overlap likewise."""
_RIM_M = 160.0
"""How far scenes reach beyond the region, so that resampling has neighbours there."""


@dataclass(frozen=True)
class Raster:
    """A north-up raster of square pixels in a CRS with metres."""

    crs: str
    west: float
    north: float
    width: int
    height: int
    resolution: float = 10.0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def bounds(self) -> Bounds:
        """Edges in metres of the CRS."""
        return Bounds(
            self.west,
            self.north - self.height * self.resolution,
            self.west + self.width * self.resolution,
            self.north,
        )

    @property
    def affine(self) -> Affine:
        """Column and row to metres."""
        return Affine(self.resolution, 0.0, self.west, 0.0, -self.resolution, self.north)

    def coarser(self) -> Raster:
        """The same extent in pixels of twice the size; width and height are even."""
        return Raster(
            self.crs, self.west, self.north, self.width // 2, self.height // 2, self.resolution * 2
        )

    def around(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Rows and columns within ``reach`` metres of a point, along both axes."""
        row, column = (self.north - y) / self.resolution, (x - self.west) / self.resolution
        half = reach / self.resolution
        top, left = max(0, math.floor(row - half)), max(0, math.floor(column - half))
        bottom, right = max(0, math.ceil(row + half)), max(0, math.ceil(column + half))
        return slice(top, bottom), slice(left, right)

    def centres(self) -> tuple[Floats, Floats]:
        """X and y of the pixel centres in EPSG:3035 metres, each of shape (y, x)."""
        return europe_metres(self.affine, self.shape, self.crs)


def europe_metres(affine: Affine, shape: tuple[int, int], crs: str) -> tuple[Floats, Floats]:
    """EPSG:3035 coordinates of pixel centres.

    The projection is evaluated on a lattice of every 16th pixel and interpolated in between, which
    is exact to millimetres at 10 m and far cheaper.
    """
    rows = np.arange(-8.0, shape[0] + 24.0, 16.0)
    columns = np.arange(-8.0, shape[1] + 24.0, 16.0)
    knot_x, knot_y = affine * (np.meshgrid(columns + 0.5, rows + 0.5))
    knots = np.stack([knot_x.ravel(), knot_y.ravel()], axis=-1)
    if crs != CRS:
        moved = reproject(shapely.MultiPoint(knots), crs, CRS, resolution=math.inf)
        knots = shapely.get_coordinates(moved)
    return (
        _between(knots[:, 0].reshape(knot_x.shape), shape),
        _between(knots[:, 1].reshape(knot_x.shape), shape),
    )


def _between(knots: Floats, shape: tuple[int, int]) -> Floats:
    """Bilinear interpolation of every 16th pixel, the first knot being pixel -8."""
    row, column = (np.arange(n) + 8 for n in shape)
    i, u = row // 16, (row % 16 / 16.0)[:, None]
    j, v = column // 16, (column % 16 / 16.0)[None, :]
    upper = knots[i][:, j] * (1 - v) + knots[i][:, j + 1] * v
    lower = knots[i + 1][:, j] * (1 - v) + knots[i + 1][:, j + 1] * v
    result: Floats = upper * (1 - u) + lower * u
    return result


@dataclass(frozen=True)
class Region:
    """A square of simulated land on the European 10 m grid.

    Its corner lies on a multiple of 256 pixels of the grid, so that a side of a multiple of 256
    (128) pixels fills whole tiles of 256 (128) pixels. With the default centre, on the border of
    UTM zones 32 and 33, its scenes come in both zones.

    Parameters
    ----------
    seed : int
        Another seed, another place.
    size_px : int
        Pixels of 10 m along a side; at least 128.
    centre_lon, centre_lat : float
        Degrees; the region's centre is within 1.3 km of it.
    months : Months
        The months for which there are scenes.

    Raises
    ------
    SpecError
        For a seed or side out of range, or a centre outside of Europe.
    """

    seed: int = 0
    size_px: int = 512
    centre_lon: float = 12.0
    centre_lat: float = 51.4
    months: Months = field(default_factory=lambda: Months.parse("2021-07..2022-08"))

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise SpecError(explain("seed out of range", expected="0..2147483647", got=self.seed))
        if not 128 <= self.size_px <= 4096 or self.size_px % 2:
            raise SpecError(
                explain(
                    "this side of a simulated region is not possible",
                    expected="an even number of pixels from 128 to 4096",
                    got=self.size_px,
                )
            )
        if not (-10 <= self.centre_lon <= 40 and 36 <= self.centre_lat <= 66):
            raise SpecError(
                explain(
                    "the simulation knows central Europe only",
                    expected="longitude -10..40 and latitude 36..66",
                    got=f"{self.centre_lon:g}, {self.centre_lat:g}",
                )
            )

    @property
    def side_m(self) -> float:
        """Metres along a side."""
        return self.size_px * 10.0

    @property
    def raster(self) -> Raster:
        """The region's own pixels on the continental grid."""
        grid = Grid.preset("europe", tile_px=SNAP_PX)
        x, y = project(self.centre_lon, self.centre_lat, CRS)
        column = round((x - self.side_m / 2 - grid.extent.west) / grid.tile_m)
        row = round((grid.extent.north - y - self.side_m / 2) / grid.tile_m)
        west = grid.extent.west + column * grid.tile_m
        north = grid.extent.north - row * grid.tile_m
        return Raster(CRS, west, north, self.size_px, self.size_px)

    @property
    def border_lon(self) -> float:
        """Longitude of the border between UTM zones that is nearest to the centre."""
        return 6.0 * round(self.centre_lon / 6.0)

    def zone_raster(self, epsg: int) -> Raster:
        """The smallest raster of a UTM zone that holds the whole region."""
        crs = f"EPSG:{epsg}"
        around = reproject(box(*self.raster.bounds), CRS, crs, resolution=500).buffer(_RIM_M)
        return _snapped(crs, Bounds(*around.bounds))

    def zone_side(self, epsg: int) -> Raster | None:
        """The part of :meth:`zone_raster` on a zone's side of the border, with some overlap.

        None where the region does not reach into that zone.
        """
        whole = self.zone_raster(epsg)
        border = [project(self.border_lon, lat, whole.crs)[0] for lat in self._latitudes()]
        west, south, east, north = whole.bounds
        if epsg == self.zones[0]:
            east = min(east, min(border) + _OVERLAP_M)
        else:
            west = max(west, max(border) - _OVERLAP_M)
        if east - west < _OVERLAP_M:
            return None
        return _snapped(whole.crs, Bounds(west, south, east, north))

    def _latitudes(self) -> tuple[float, float]:
        outline = reproject(box(*self.raster.bounds), CRS, LON_LAT, resolution=500)
        _, south, _, north = outline.bounds
        return south, north

    @property
    def zones(self) -> tuple[int, int]:
        """EPSG codes of the UTM zones west and east of the border."""
        east = round(self.border_lon / 6.0) + 31
        return 32600 + east - 1, 32600 + east

    def parameters(self) -> dict[str, Any]:
        """What a region is made from, as plain data."""
        return {
            "seed": self.seed,
            "size_px": self.size_px,
            "centre_lon": self.centre_lon,
            "centre_lat": self.centre_lat,
            "months": str(self.months),
        }

    def area(self) -> dict[str, Any]:
        """GeoJSON feature of the region, a quarter pixel smaller so that it hits its own tiles."""
        inner = box(*self.raster.bounds).buffer(-2.5, join_style="mitre")
        outline = reproject(inner, CRS, LON_LAT, resolution=200)
        ring = [[round(x, 7), round(y, 7)] for x, y in shapely.get_coordinates(outline)]
        return {
            "type": "Feature",
            "properties": {"name": "simulated region", "cdscale:simulated": True},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }


def _snapped(crs: str, bounds: Bounds) -> Raster:
    """The 10 m raster with even counts, on multiples of 20 m, that holds the bounds."""
    west, south, east, north = (v / 20 for v in bounds)
    left, top = math.floor(west), math.ceil(north)
    width, height = math.ceil(east) - left, top - math.floor(south)
    return Raster(crs, left * 20.0, top * 20.0, 2 * width, 2 * height)


def raster_of(geobox: GeoBox) -> tuple[Affine, tuple[int, int], str]:
    """Affine, shape and CRS of a GeoBox."""
    return geobox.affine, (int(geobox.shape[0]), int(geobox.shape[1])), str(geobox.crs)
