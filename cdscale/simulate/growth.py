"""Where people settled, and where and when they build: the change that is to be found."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cdscale.simulate import noise
from cdscale.simulate.noise import Bools, Floats, Ints
from cdscale.simulate.region import Raster, Region

NEVER = 9999
_CHANGED = 0.036
"""Share of the region that is stripped in order to be built over."""
_QUARRIED = 0.006
"""Share that is stripped and stays bare: change, but not urban."""


@dataclass(frozen=True)
class Town:
    """A settlement: a blob around a centre, in EPSG:3035 metres."""

    x: float
    y: float
    radius: float
    azimuth: float

    def distance(self, other: Town) -> float:
        """Metres between the centres."""
        return math.hypot(self.x - other.x, self.y - other.y)


@dataclass(frozen=True)
class Settled:
    """Settlements on the cells of a landscape; arrays of shape (y, x)."""

    towns: tuple[Town, ...]
    town: Ints
    """Index of the town, -1 outside."""
    reach: Floats
    """Distance from the centre as a share of the way to the edge; above 1 outside."""
    azimuth: Floats
    """Degrees clockwise from grid north of the nearest town's streets."""
    roads: tuple[tuple[Town, Town], ...]


@dataclass(frozen=True)
class Site:
    """One piece of ground that is built over at one time.

    Attributes
    ----------
    x, y, half_u, half_v, azimuth : float
        A rectangle: centre and half sides in EPSG:3035 metres, degrees clockwise from north.
    begin, done, rise : int
        As in ``Units``; months from the first of the region.
    hall : bool
        Halls and yards rather than houses.
    """

    x: float
    y: float
    half_u: float
    half_v: float
    azimuth: float
    begin: int
    done: int
    rise: int
    hall: bool

    def window(self, raster: Raster) -> tuple[slice, slice]:
        """Rows and columns that hold the site."""
        return raster.around(self.x, self.y, 1.3 * math.hypot(self.half_u, self.half_v))

    def inside(self, x: Floats, y: Floats, key: int) -> Bools:
        """Cells of the site: a rectangle with somewhat frayed edges."""
        theta = math.radians(self.azimuth)
        u = (x - self.x) * math.cos(theta) - (y - self.y) * math.sin(theta)
        v = (x - self.x) * math.sin(theta) + (y - self.y) * math.cos(theta)
        fray = 0.12 * noise.value_noise(x, y, 60.0, key)
        result: Bools = np.maximum(np.abs(u) / self.half_u, np.abs(v) / self.half_v) + fray < 1
        return result


def settle(region: Region, raster: Raster, free: Bools) -> Settled:
    """Found one small town and some villages on open ground.

    Parameters
    ----------
    raster : Raster
        The cells.
    free : ndarray of bool
        Cells on which one may build.
    """
    x, y = raster.centres()
    towns = _found(region, raster, free)
    town = np.full(x.shape, -1, np.int64)
    reach, azimuth = np.full(x.shape, np.inf), np.zeros(x.shape)
    for number, place in enumerate(towns):
        near = raster.around(place.x, place.y, 2.0 * place.radius)
        px, py, key = x[near], y[near], region.seed * 1000 + 110 + number
        fray = 0.38 * noise.fractal(px, py, 0.8 * place.radius, key)
        here = np.hypot(px - place.x, py - place.y) / place.radius + fray
        nearer = here < reach[near]
        reach[near][nearer] = here[nearer]
        azimuth[near][nearer] = place.azimuth
        town[near][nearer & (here < 1)] = number
    return Settled(towns, town, np.maximum(reach, 0), azimuth, _roads(towns))


def _found(region: Region, cells: Raster, free: Bools) -> tuple[Town, ...]:
    rng = np.random.default_rng([region.seed, 101])
    side, raster = region.side_m, region.raster
    count = max(2, round(6 * (side / 5120) ** 2))
    towns: list[Town] = []
    for attempt in range(60 * count):
        if len(towns) == count:
            break
        px = raster.west + side * rng.uniform(0.08, 0.92)
        py = raster.north - side * rng.uniform(0.08, 0.92)
        chief = len(towns) % 7 == 0
        radius = min(0.13 * side, 720) if chief else min(0.075 * side, rng.uniform(170, 360))
        azimuth = rng.uniform(0, 90)
        i, j = int((cells.north - py) / cells.resolution), int((px - cells.west) / cells.resolution)
        apart = all(math.hypot(px - t.x, py - t.y) > 1.5 * (radius + t.radius) for t in towns)
        if (apart and free[i, j]) or attempt > 50 * count:
            towns.append(Town(px, py, radius, azimuth))
    return tuple(towns)


def _roads(towns: tuple[Town, ...]) -> tuple[tuple[Town, Town], ...]:
    """Each town is joined to the nearest of those founded before it."""
    return tuple(
        (min(towns[:number], key=here.distance), here)
        for number, here in enumerate(towns[1:], start=1)
    )


def grow(
    region: Region, settled: Settled, raster: Raster, free: Bools
) -> tuple[tuple[Site, ...], Ints]:
    """Place building sites until the region changes as much as it should.

    Returns
    -------
    sites : tuple of Site
    site : ndarray of int64, shape (y, x)
        Index of the site of each cell, -1 for none.
    """
    x, y = raster.centres()
    rng = np.random.default_rng([region.seed, 102])
    inner = region.raster.bounds
    home = (x > inner.west) & (x < inner.east) & (y > inner.south) & (y < inner.north)
    site = np.full(x.shape, -1, np.int64)
    sites: list[Site] = []
    goal, stripped = _CHANGED * home.sum(), 0.0
    for attempt in range(600):
        if stripped >= goal:
            break
        plan = _plan(region, settled, rng, len(sites))
        near = plan.window(raster)
        cells = plan.inside(x[near], y[near], region.seed + 130 + attempt) & (site[near] < 0)
        usable = cells & (free & home)[near]
        # A site that mostly does not fit is looked for elsewhere.
        if usable.sum() < 0.8 * cells.sum() or stripped + usable.sum() > 1.2 * goal:
            continue
        site[near][usable] = len(sites)
        sites.append(plan)
        stripped += usable.sum()
    return _quarry(region, sites, site, raster, home & free)


def _plan(region: Region, settled: Settled, rng: np.random.Generator, number: int) -> Site:
    """A site at the edge of a town, or for one in four anywhere."""
    largest = min(400.0, region.side_m / 9)
    width = 80 + (largest - 80) * rng.uniform() ** 1.6
    hall = bool(rng.uniform() < 0.4)
    if rng.uniform() < 0.25:
        px = region.raster.west + region.side_m * rng.uniform(0.05, 0.95)
        py = region.raster.north - region.side_m * rng.uniform(0.05, 0.95)
        azimuth = rng.uniform(0, 90)
    else:
        town = settled.towns[int(rng.integers(len(settled.towns)))]
        bearing, off = rng.uniform(0, 2 * math.pi), town.radius * rng.uniform(0.75, 1.3)
        px, py = town.x + off * math.sin(bearing), town.y + off * math.cos(bearing)
        azimuth = town.azimuth + rng.normal(0, 6)
    begin, done, rise = _calendar(region, rng, number)
    half_v = 0.5 * width * rng.uniform(0.55, 1.0)
    return Site(px, py, width / 2, half_v, azimuth % 90, begin, done, rise, hall)


def _calendar(region: Region, rng: np.random.Generator, number: int) -> tuple[int, int, int]:
    """First month stripped, first month complete, and months of rising.

    The golden ratio's multiples spread the first months evenly however many sites there will be,
    so that every part of the period has some. Late ones are still bare when it ends.
    """
    months = region.months.last - region.months.first + 1
    rise = int(rng.integers(1, 3))
    bare = int(rng.integers(1, 4 if months > 8 else 3))
    begin = math.floor((number * 0.618034 + 0.3) % 1 * max(months - 1.5, 1.0))
    return begin, begin + bare + rise - 1, rise


def _quarry(
    region: Region, sites: list[Site], site: Ints, raster: Raster, free: Bools
) -> tuple[tuple[Site, ...], Ints]:
    """Ground that is stripped and stays bare (sand pits, storage yards): not urban."""
    rng = np.random.default_rng([region.seed, 103])
    x, y = raster.centres()
    goal = _QUARRIED * region.size_px**2 * 4
    for attempt in range(200):
        half = float(rng.uniform(40, max(50.0, region.side_m / 50)))
        px = region.raster.west + region.side_m * rng.uniform(0.05, 0.95)
        py = region.raster.north - region.side_m * rng.uniform(0.05, 0.95)
        begin = int(rng.integers(0, max(region.months.last - region.months.first, 1)))
        plan = Site(px, py, half, 0.8 * half, rng.uniform(0, 90), begin, NEVER, 1, False)
        near = plan.window(raster)
        cells = plan.inside(x[near], y[near], region.seed + 930 + attempt) & (site[near] < 0)
        if (cells & free[near]).sum() < 0.9 * cells.sum() or not cells.any():
            continue
        site[near][cells & free[near]] = len(sites)
        sites.append(plan)
        goal -= float(cells.sum())
        if goal <= 0:
            break
    return tuple(sites), site
