"""The land: a map of units (parcels, stands, blocks, sites) on cells of 5 m, and what each unit is.

A *unit* is a piece of land that looks alike: a parcel under one crop, a stand of trees, a block
between streets. Every cell belongs to one unit and has a share that is, or will be, built over.
What a unit looks like on a day is told by ``surface``; how much of the built share stands in a
month is told here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy import sparse

from cdscale.simulate import noise
from cdscale.simulate.growth import NEVER, Settled, Site, grow, settle
from cdscale.simulate.noise import Bools, Floats, Indices, Ints, Singles
from cdscale.simulate.region import Raster, Region

CELL_M = 5.0


class Kind(IntEnum):
    """What a unit is where nothing is built."""

    CROP = 0
    GRASS = 1
    DECIDUOUS = 2
    CONIFER = 3
    LAKE = 4
    RIVER = 5
    ROAD = 6
    BARE = 7
    GARDEN = 8
    HEDGE = 9


@dataclass
class _Canvas:
    """The map while it is painted: later layers cover earlier ones."""

    x: Floats
    y: Floats
    key: Ints
    kind: Ints
    built: Floats
    azimuth: Floats
    site: Ints
    roof: Ints

    @classmethod
    def blank(cls, x: Floats, y: Floats) -> _Canvas:
        return cls(
            x,
            y,
            np.zeros(x.shape, np.int64),
            np.full(x.shape, Kind.CROP, np.int64),
            np.zeros(x.shape),
            np.zeros(x.shape),
            np.full(x.shape, -1, np.int64),
            np.zeros(x.shape, np.int64),
        )

    def paint(self, where: Bools, kind: Kind, *keys: Ints | int) -> None:
        """Units of a kind, one for each combination of keys."""
        key = np.broadcast_to(noise.hashed(int(kind), *keys).view(np.int64), self.key.shape)
        self.key = np.where(where, key, self.key)
        self.kind = np.where(where, int(kind), self.kind)


@dataclass(frozen=True)
class Units:
    """Columns of the table of units; each is an array of shape (unit,)."""

    key: Ints
    kind: Ints
    azimuth: Floats
    """Degrees clockwise from grid north of the streets, modulo 90."""
    roof: Ints
    """0 tiles, 1 bitumen and concrete, 2 metal halls, 3 paved streets."""
    begin: Ints
    """Month, counted from the first, in which the ground is first stripped; NEVER for none."""
    done: Ints
    """Month in which everything that is to be built stands; below 0 for existing towns."""
    rise: Ints
    """Months from stripped ground to finished buildings, 1 or 2."""
    flood: Ints
    """Month in which a meadow is under water; NEVER for none."""
    felled: Ints
    """Month in which a stand of trees is cut; NEVER for none."""

    def standing(self, month: int) -> Singles:
        """Share of the eventual building that stands in a month, shape (unit,)."""
        half = (self.rise == 2) & (month == self.done - 1)
        return np.where(month >= self.done, 1.0, np.where(half, 0.45, 0.0)).astype(np.float32)

    def stripped(self, month: int) -> Bools:
        """Units whose ground lies open for construction in a month, shape (unit,)."""
        return (self.begin <= month) & (month < self.done)


@dataclass(frozen=True)
class Landscape:
    """The region and a rim around it.

    Attributes
    ----------
    raster : Raster
        The cells, on EPSG:3035.
    unit : ndarray of int32, shape (y, x)
        Row of ``units``.
    built : ndarray of float32, shape (y, x)
        Share of the cell that is built over once its unit is done.
    """

    raster: Raster
    unit: Indices
    built: Singles
    units: Units

    def mixture(self, x: Floats, y: Floats, kernel: Floats, step_m: float) -> Mixture:
        """How much of each unit the pixels around some points see.

        Parameters
        ----------
        x, y : ndarray
            EPSG:3035 metres of the pixel centres, any shape.
        kernel : ndarray, shape (k, k)
            Weights of a square of samples around each centre; they sum to 1.
        step_m : float
            Metres between these samples.
        """
        west, north = self.raster.west, self.raster.north
        half = (kernel.shape[0] - 1) / 2
        owners, shares, built = [], [], []
        for row, column in np.ndindex(kernel.shape):
            i = ((north - y - (row - half) * step_m) // CELL_M).ravel().astype(np.int64)
            j = ((x - west + (column - half) * step_m) // CELL_M).ravel().astype(np.int64)
            i, j = np.clip(i, 0, self.raster.height - 1), np.clip(j, 0, self.raster.width - 1)
            owners.append(self.unit[i, j])
            shares.append(np.full(i.size, kernel[row, column], np.float32))
            built.append(self.built[i, j] * np.float32(kernel[row, column]))
        pixels = np.tile(np.arange(x.size, dtype=np.int32), kernel.size)
        where = (pixels, np.concatenate(owners))
        shape = (x.size, len(self.units.key))
        return Mixture(
            sparse.csr_array((np.concatenate(shares), where), shape=shape),
            sparse.csr_array((np.concatenate(built), where), shape=shape),
        )


@dataclass(frozen=True)
class Mixture:
    """Linear mixing, as sparse matrices of shape (pixel, unit)."""

    share: sparse.csr_array
    """Share of a pixel that a unit covers."""
    built: sparse.csr_array
    """Share of a pixel that a unit builds over, once done."""

    def mix(self, ground: Singles, roof: Singles, standing: Singles) -> Singles:
        """Pixels from units: (unit, band) of ground and roof to (pixel, band)."""
        result: Singles = self.share @ ground + self.built @ (standing[:, None] * (roof - ground))
        return result

    def built_up(self, standing: Singles) -> Singles:
        """Built-up share of the pixels, shape (pixel,)."""
        result: Singles = self.built @ standing
        return result


def landscape(region: Region) -> Landscape:
    """Lay out the land of a region."""
    rim = 20.0 * round((0.1 * region.side_m + 400.0) / 20.0)
    inner = region.raster.bounds
    cells = 2 * region.size_px + 2 * round(rim / CELL_M)
    raster = Raster(region.raster.crs, inner.west - rim, inner.north + rim, cells, cells, CELL_M)
    x, y = raster.centres()
    canvas = _Canvas.blank(x, y)
    seed = region.seed * 1000
    river = _river(canvas, region)
    _fields(canvas, seed)
    _forests(canvas, seed)
    _meadows(canvas, seed, river)
    _waters(canvas, region, raster, river)
    settled = settle(region, raster, _open_ground(canvas))
    _towns(canvas, settled, seed)
    _highways(canvas, settled, seed)
    sites, site = grow(region, settled, raster, _open_ground(canvas) & (canvas.built == 0))
    _sites(canvas, sites, site, seed)
    return _landscape(raster, canvas, sites, region)


def _river(canvas: _Canvas, region: Region) -> Floats:
    """Distance to the river's centre line in metres, negative on one side."""
    centre_x = region.raster.west + region.side_m / 2
    centre_y = region.raster.north - region.side_m / 2
    turn, place, wave = noise.uniform(region.seed, np.array([11, 12, 13]))
    angle = np.pi * turn
    along = (canvas.x - centre_x) * np.cos(angle) + (canvas.y - centre_y) * np.sin(angle)
    across = (canvas.y - centre_y) * np.cos(angle) - (canvas.x - centre_x) * np.sin(angle)
    length = region.side_m
    bend = 0.06 * length * np.sin(2 * np.pi * (along / (0.8 * length) + wave))
    meander = 70 * np.sin(along / 110 + 2 * np.sin(along / 430)) + 40 * np.sin(along / 57)
    result: Floats = across - (place - 0.5) * 0.5 * length - bend - meander
    return result


def _fields(canvas: _Canvas, seed: int) -> None:
    """Parcels in blocks of one direction, farm tracks and hedges between the blocks."""
    warp = 40 * noise.fractal(canvas.x, canvas.y, 400, seed + 21)
    bx, by, gap = noise.worley(canvas.x + warp, canvas.y + warp, 620, seed + 22)
    angle = np.pi * noise.uniform(seed + 23, bx, by)
    width = 60 + 170 * noise.uniform(seed + 24, bx, by)
    length = 250 + 350 * noise.uniform(seed + 25, bx, by)
    u = canvas.x * np.cos(angle) + canvas.y * np.sin(angle)
    v = canvas.y * np.cos(angle) - canvas.x * np.sin(angle)
    strip, part = (u // width).astype(np.int64), (v // length).astype(np.int64)
    canvas.paint(gap >= 0, Kind.CROP, bx, by, strip, part)
    meadow = noise.uniform(seed + 26, bx, by, strip, part) < 0.12
    canvas.paint(meadow, Kind.GRASS, bx, by, strip, part)
    edge = noise.uniform(seed + 27, bx, by)
    canvas.paint((gap < 9) & (edge < 0.45), Kind.HEDGE, bx, by)
    canvas.paint((gap < 5) & (edge >= 0.35), Kind.ROAD, 1)


def _forests(canvas: _Canvas, seed: int) -> None:
    shape = noise.fractal(canvas.x, canvas.y, 1500, seed + 31, octaves=5)
    i, j, gap = noise.worley(canvas.x, canvas.y, 260, seed + 32)
    wood = shape > 0.52
    wet = noise.value_noise(canvas.x, canvas.y, 1200, seed + 33) > -0.1
    canvas.paint(wood & wet, Kind.DECIDUOUS, i, j)
    canvas.paint(wood & ~wet, Kind.CONIFER, i, j)
    canvas.paint(wood & (gap < 3) & (noise.uniform(seed + 34, i, j) < 0.3), Kind.GRASS, 77)


def _meadows(canvas: _Canvas, seed: int, river: Floats) -> None:
    """Wet grassland with groups of trees along the river."""
    width = 130 + 70 * noise.fractal(canvas.x, canvas.y, 500, seed + 41)
    i, j, _ = noise.worley(canvas.x, canvas.y, 230, seed + 42)
    near = np.abs(river) < width
    canvas.paint(near, Kind.GRASS, i, j, 41)
    trees = noise.fractal(canvas.x, canvas.y, 120, seed + 43) > 0.75
    canvas.paint(near & trees, Kind.DECIDUOUS, i, j, 41)


def _waters(canvas: _Canvas, region: Region, raster: Raster, river: Floats) -> None:
    """The river, lakes (old pits) and open pits."""
    seed, side = region.seed, region.side_m
    canvas.paint(np.abs(river) < 17, Kind.RIVER, 1)
    count = max(2, round(5 * (side / 5120) ** 2))
    for k in range(count):
        dx, dy, size, _ = noise.uniform(seed, 51, k, np.arange(4))
        x0 = region.raster.west + side * (0.05 + 0.9 * dx)
        y0 = region.raster.north - side * (0.05 + 0.9 * dy)
        radius = (0.012 + 0.035 * size**2) * min(side, 6000.0) + 30
        near = raster.around(x0, y0, 2.2 * radius)
        x, y = canvas.x[near], canvas.y[near]
        wobble = 0.45 * noise.fractal(x, y, 0.9 * radius, seed + 52 + k, octaves=3)
        distance = np.full(raster.shape, np.inf)
        distance[near] = np.hypot(x - x0, y - y0) / radius + wobble
        kind = Kind.BARE if k == 1 else Kind.LAKE
        canvas.paint(distance < 1.25, Kind.GRASS, 52, k)
        canvas.paint(distance < 1.0, kind, k)


def _open_ground(canvas: _Canvas) -> Bools:
    """Where one may build."""
    return np.isin(canvas.kind, [Kind.CROP, Kind.GRASS, Kind.HEDGE, Kind.DECIDUOUS, Kind.CONIFER])


def _towns(canvas: _Canvas, settled: Settled, seed: int) -> None:
    """Blocks between streets, dense in the middle and loose at the edge."""
    inside = settled.town >= 0
    theta = np.radians(settled.azimuth)
    u = canvas.x * np.cos(theta) - canvas.y * np.sin(theta)
    v = canvas.x * np.sin(theta) + canvas.y * np.cos(theta)
    u = u + 25 * noise.value_noise(canvas.x, canvas.y, 300, seed + 61)
    v = v + 25 * noise.value_noise(canvas.x, canvas.y, 300, seed + 62)
    iu, iv = (u // 85).astype(np.int64), (v // 115).astype(np.int64)
    street = (u % 85 < 9) | (v % 115 < 8)
    inside &= np.isin(canvas.kind, [Kind.RIVER, Kind.LAKE], invert=True)
    draw = noise.uniform(seed + 63, settled.town, iu, iv)
    canvas.paint(inside, Kind.GARDEN, settled.town, iu, iv)
    canvas.paint(inside & street, Kind.GARDEN, settled.town, -1, -1)
    density = np.clip(0.95 - 0.62 * settled.reach, 0.15, 0.9) + 0.3 * (draw - 0.5)
    house = noise.normal(seed + 64, (u // 11).astype(np.int64), (v // 13).astype(np.int64))
    share = np.clip(density + 0.2 * house, 0.02, 0.98)
    share = np.where(draw < 0.08, 0.03, np.where(street, 0.9, share))
    canvas.built = np.where(inside, share, canvas.built)
    canvas.azimuth = np.where(inside, settled.azimuth, canvas.azimuth)
    roof = np.where(draw > 0.93, 2, np.where(draw < 0.30 + 0.4 * (1 - settled.reach), 1, 0))
    canvas.roof = np.where(inside, np.where(street, 3, roof), canvas.roof)


def _highways(canvas: _Canvas, settled: Settled, seed: int) -> None:
    """Roads from each town to the one that was there before it, over bridges where need be."""
    sway = 30 * noise.fractal(canvas.x, canvas.y, 900, seed + 71, octaves=2)
    for near, far in settled.roads:
        ax, ay, bx, by = near.x, near.y, far.x, far.y
        length = max(np.hypot(bx - ax, by - ay), 1.0)
        along = ((canvas.x - ax) * (bx - ax) + (canvas.y - ay) * (by - ay)) / length
        across = ((canvas.y - ay) * (bx - ax) - (canvas.x - ax) * (by - ay)) / length + sway
        road = (np.abs(across) < 6) & (along > 0) & (along < length) & (settled.town < 0)
        canvas.paint(road, Kind.ROAD, 2)
        canvas.built[road] = 0.0


def _sites(canvas: _Canvas, sites: tuple[Site, ...], site: Ints, seed: int) -> None:
    """Split the units under building sites off, and say what will be built there."""
    inside = site >= 0
    if not inside.any():
        return
    number = np.maximum(site, 0)
    theta = np.radians(np.array([s.azimuth for s in sites])[number])
    u = canvas.x * np.cos(theta) - canvas.y * np.sin(theta)
    v = canvas.x * np.sin(theta) + canvas.y * np.cos(theta)
    hall = np.array([s.hall for s in sites])[number]
    size_u, size_v = np.where(hall, 90, 55), np.where(hall, 120, 70)
    iu, iv = (u // size_u).astype(np.int64), (v // size_v).astype(np.int64)
    street = (u % size_u < 8) | (v % size_v < 7)
    block = noise.hashed(seed + 81, site, iu, iv, street.astype(np.int64)).view(np.int64)
    # What was there before stays part of the key: one block may cover parts of two parcels.
    canvas.key = np.where(inside, noise.hashed(canvas.key, block).view(np.int64), canvas.key)
    house = noise.normal(seed + 82, (u // 10).astype(np.int64), (v // 12).astype(np.int64))
    draw = noise.uniform(seed + 83, block)
    share = np.where(hall, 0.92, 0.74) + 0.14 * (draw - 0.5) + np.where(hall, 0.04, 0.1) * house
    share = np.where(street, 0.92, np.clip(share, 0.3, 0.98))
    share = np.where(np.array([s.done >= NEVER for s in sites])[number], 0.0, share)
    canvas.built = np.where(inside, share, canvas.built)
    canvas.azimuth = np.where(inside, np.degrees(theta), canvas.azimuth)
    roof = np.where(hall, np.where(draw < 0.45, 2, 1), np.where(draw < 0.6, 0, 1))
    canvas.roof = np.where(inside, np.where(street, 3, roof), canvas.roof)
    canvas.site = site


def _landscape(
    raster: Raster, canvas: _Canvas, sites: tuple[Site, ...], region: Region
) -> Landscape:
    key, first, unit = np.unique(canvas.key, return_index=True, return_inverse=True)
    kind, site = canvas.kind.ravel()[first], canvas.site.ravel()[first]
    town = (canvas.built.ravel()[first] > 0) & (site < 0)
    seed, months = region.seed, region.months.last - region.months.first + 1
    events = np.floor(1 + (months - 1) * noise.uniform(seed, 91, key)).astype(np.int64)
    wet = (kind == Kind.GRASS) & (noise.uniform(seed, 92, key) < 0.12)
    trees = np.isin(kind, [Kind.DECIDUOUS, Kind.CONIFER])
    cut = trees & (noise.uniform(seed, 93, key) < 0.05)
    table = [(s.begin, s.done, s.rise) for s in sites] + [(NEVER, NEVER, 1)]
    begin, done, rise = np.array(table, np.int64)[site].T
    units = Units(
        key=key,
        kind=kind,
        azimuth=canvas.azimuth.ravel()[first] % 90,
        roof=canvas.roof.ravel()[first],
        begin=begin,
        done=np.where(town, -NEVER, done),
        rise=rise,
        flood=np.where(wet, events, NEVER),
        felled=np.where(cut, events, NEVER),
    )
    shape = raster.shape
    return Landscape(
        raster,
        unit.reshape(shape).astype(np.int32),
        canvas.built.astype(np.float32),
        units,
    )
