"""When the satellites pass, and what the sky is like then."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import shapely
from scipy import ndimage

from cdscale.months import Month
from cdscale.simulate import noise
from cdscale.simulate.noise import Bools, Floats, Singles
from cdscale.simulate.region import Region

_CLEAR_SKY = (0.30, 0.35, 0.44, 0.50, 0.50, 0.50, 0.52, 0.52, 0.48, 0.40, 0.28, 0.24)
"""Mean clear share of Sentinel-2 scenes by month, set by hand to what central Europe is like:
half in summer, a quarter in early winter."""
_KNOT_M = 40.0
_SWATH_CUT = 65
"""The relative orbit whose swath ends inside the region."""


@dataclass(frozen=True)
class Pass:
    """One satellite over the region at one moment."""

    mission: str
    """``sentinel-1`` or ``sentinel-2``."""
    platform: str
    """``A`` or ``B``."""
    moment: datetime
    orbit: int
    """Relative orbit."""
    ascending: bool

    @property
    def day(self) -> int:
        """Days since the year 1; keys the random numbers of the scene."""
        return self.moment.toordinal()

    @property
    def look(self) -> float:
        """Degrees clockwise from north in which a right-looking radar looks from this orbit."""
        return 79.0 if self.ascending else 281.0

    def swath(self, region: Region) -> shapely.Polygon:
        """What the satellite sees, in EPSG:3035 metres, as far as it matters for the region."""
        west, south, _, north = region.raster.bounds
        rim = region.side_m
        top, bottom = self._edge(region, north + rim), self._edge(region, south - rim)
        corners = [(west - rim, south - rim), (bottom, south - rim)]
        return shapely.Polygon([*corners, (top, north + rim), (west - rim, north + rim)])

    def seen(self, region: Region, x: Floats, y: Floats) -> Bools:
        """Points (EPSG:3035 metres) inside the swath."""
        result: Bools = x < self._edge(region, y)
        return result

    def _edge(self, region: Region, y: Any) -> Any:
        """Easting at which the swath ends; a descending track runs from NNE to SSW."""
        if self.orbit != _SWATH_CUT:
            return region.raster.west + 2 * region.side_m + 0 * y
        drift = noise.uniform(region.seed, 301, self.day)[0]
        east = region.raster.west + region.side_m * (0.64 + 0.16 * drift)
        return east + 0.22 * (y - region.raster.north + region.side_m / 2)


def passes(region: Region) -> tuple[Pass, ...]:
    """Every pass in the region's months, in order of time.

    Of the real repeat cycles some passes are left out, so that Sentinel-2 comes three to four
    times and each of the two orbits of Sentinel-1 two to three times a month.
    """
    found = []
    day = region.months.first.start
    while day < region.months.last.stop:
        if Month.of(day) in region.months:
            found += _passes_of(day)
        day += timedelta(days=1)
    return tuple(sorted(found, key=lambda p: (p.moment, p.mission)))


def _passes_of(day: datetime) -> list[Pass]:
    number = day.toordinal()
    late = day >= datetime(2021, 12, 23, tzinfo=UTC)  # Sentinel-1B fell silent on that day
    table = [
        (number % 20 == 3, "sentinel-2", "A", (10, 10, 31), 22, False),
        (number % 20 == 18, "sentinel-2", "B", (10, 10, 29), 22, False),
        (number % 30 == 11, "sentinel-2", "A", (10, 20, 31), _SWATH_CUT, False),
        (number % 12 == 4, "sentinel-1", "A", (17, 0, 42), 44, True),
        (number % 12 == 9, "sentinel-1", "A" if late else "B", (5, 18, 7), 168, False),
    ]
    return [
        Pass(mission, platform, day + timedelta(hours=h, minutes=m, seconds=s), orbit, ascending)
        for due, mission, platform, (h, m, s), orbit, ascending in table
        if due
    ]


@dataclass(frozen=True)
class Gloom:
    """The two months with less than the usual sight of the ground; None in short periods."""

    overcast: Month | None
    """No scene of it shows any ground."""
    partly: Month | None
    """No scene of it shows the ground around the corner of :func:`shaded`."""


def gloom(region: Region) -> Gloom:
    """The two gloomiest months by the calendar, neither of them first or last.

    A period needs five months to have them.
    """
    inner = region.months.members[1:-1]
    if len(inner) < 3:
        return Gloom(None, None)
    worst = sorted(inner, key=lambda m: (_CLEAR_SKY[m.month - 1], m))
    return Gloom(worst[0], worst[1])


def shaded(region: Region, x: Floats, y: Floats) -> Bools:
    """Points that no scene of the ``partly`` month shows: the land around one corner."""
    return _from_corner(region, x, y) < 0.35


def _from_corner(region: Region, x: Floats, y: Floats) -> Floats:
    """Distance from the corner in sides of the region."""
    east, south = noise.uniform(region.seed, 311, np.arange(2)) < 0.5
    corner_x = region.raster.west + region.side_m * east
    corner_y = region.raster.north - region.side_m * south
    return np.asarray(np.hypot(x - corner_x, y - corner_y) / region.side_m, dtype=np.float64)


def covers(region: Region, every: tuple[Pass, ...]) -> dict[Pass, float]:
    """Share of clouds for each optical pass.

    Single scenes are mostly clear or mostly overcast: a beta distribution with the month's mean.
    Nine in ten of the ordinary months are given one almost clear scene with a full swath.
    """
    special = gloom(region)
    result: dict[Pass, float] = {}
    for month in region.months:
        mine = [p for p in every if p.mission == "sentinel-2" and Month.of(p.moment) == month]
        rng = np.random.default_rng([region.seed, 302, month.year, month.month])
        clear = _CLEAR_SKY[month.month - 1]
        draws = rng.beta(0.9 * (1 - clear), 0.9 * clear, size=len(mine))
        low, high = (1.0, 1.0) if month == special.overcast else (0.0, 1.0)
        if month == special.partly:
            low, high = 0.3, 0.75
        result.update(zip(mine, np.clip(draws, low, high).tolist(), strict=True))
        whole = [p for p in mine if p.orbit != _SWATH_CUT]
        if whole and month not in (special.overcast, special.partly) and rng.uniform() < 0.9:
            best = min(whole, key=result.__getitem__)
            result[best] = min(result[best], 0.05 * rng.uniform())
    return result


@dataclass(frozen=True)
class Sun:
    """Where the sun stands, degrees."""

    zenith: float
    azimuth: float


def sun(moment: datetime, lat: float) -> Sun:
    """Position of the sun an hour before noon (Spencer's declination, cut after one term)."""
    day = moment.timetuple().tm_yday
    tilt = math.radians(23.44) * math.sin(2 * math.pi * (day - 81) / 365)
    phi, hour = math.radians(lat), math.radians(-16.0)
    high = math.sin(phi) * math.sin(tilt) + math.cos(phi) * math.cos(tilt) * math.cos(hour)
    north = math.cos(phi) * math.sin(tilt) - math.sin(phi) * math.cos(tilt) * math.cos(hour)
    east = -math.cos(tilt) * math.sin(hour)
    return Sun(math.degrees(math.acos(high)), math.degrees(math.atan2(east, north)) % 360)


@dataclass(frozen=True)
class Sky:
    """Clouds over the region at one moment: a periodic field on knots of 40 m."""

    west: float
    north: float
    cloud: Singles
    cirrus: Singles
    shift: tuple[float, float]
    """Metres east and north from a cloud to its shadow."""

    def _sample(self, field: Singles, x: Floats, y: Floats) -> Singles:
        place = np.stack([(self.north - y) / _KNOT_M, (x - self.west) / _KNOT_M])
        result: Singles = ndimage.map_coordinates(field, place, order=1, mode="grid-wrap")
        return result

    def opacity(self, x: Floats, y: Floats) -> tuple[Singles, Singles, Singles]:
        """Opacity in 0..1 of the clouds, of what shades the ground, and of cirrus."""
        east, north = self.shift
        return (
            self._sample(self.cloud, x, y),
            self._sample(self.cloud, x - east, y - north),
            self._sample(self.cirrus, x, y),
        )


def sky(region: Region, when: Pass, cover: float) -> Sky:
    """Clouds of one pass.

    The field is fractal, cut at the level which leaves the wanted share of the region covered, and
    grows opaque above it within a distance that differs from scene to scene.
    """
    rng = np.random.default_rng([region.seed, 303, when.day, when.orbit])
    size = 2 ** math.ceil(math.log2(1.3 * region.side_m / _KNOT_M))
    field = noise.spectral(rng, size, rng.uniform(2.6, 3.4)).astype(np.float64)
    x, y = np.meshgrid(np.arange(size) * _KNOT_M, -np.arange(size) * _KNOT_M)
    west, north = region.raster.west, region.raster.north
    special = gloom(region)
    if Month.of(when.moment) == special.partly:
        near = _from_corner(region, x + west, y + north)
        field = field + 9 * np.clip(1 - (near - 0.38) / 0.12, 0, 1)
    edge = rng.uniform(0.15, 0.5)
    inside = round(region.side_m / _KNOT_M)
    level = np.quantile(field[:inside, :inside], 1 - cover) if cover < 1 else field.min() - 4 * edge
    cloud = 0.98 * (1 - np.exp(-1.6 * np.maximum(field - level, 0) / edge))
    veil = noise.spectral(rng, size, 3.2)
    thick = rng.uniform(0.1, 0.3) if rng.uniform() < (0.12 if cover < 0.05 else 0.45) else 0.0
    cirrus = thick * np.clip(veil - 0.3, 0, 1)
    height = rng.uniform(700, 2400)
    light = sun(when.moment, region.centre_lat)
    away = math.radians(light.azimuth + 180)
    reach = height * math.tan(math.radians(min(light.zenith, 78)))
    shift = (reach * math.sin(away), reach * math.cos(away))
    return Sky(west, north, cloud.astype(np.float32), cirrus.astype(np.float32), shift)
