"""What each unit of land looks like on a day: reflectance in ten bands, backscatter in VV and VH.

The numbers are set by hand to usual magnitudes, not taken from tables. For reflectances compare the
ECOSTRESS spectral library (Meerdink et al. 2019, doi:10.1016/j.rse.2019.05.015); for backscatter of
crops in central Europe Vreugdenhil et al. 2018 (doi:10.3390/rs10091396); for buildings and the
angle of streets Koppel et al. 2017 (Int. J. Remote Sensing 38, 22).
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import numpy as np

from cdscale.simulate import noise
from cdscale.simulate.landscape import Kind, Units
from cdscale.simulate.noise import Bools, Floats, Ints, Singles

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")

_SPECTRA = {
    "dry soil": (0.090, 0.122, 0.162, 0.186, 0.205, 0.222, 0.240, 0.262, 0.335, 0.300),
    "wet soil": (0.052, 0.070, 0.092, 0.108, 0.122, 0.134, 0.148, 0.160, 0.198, 0.160),
    "gravel": (0.135, 0.175, 0.220, 0.243, 0.258, 0.272, 0.285, 0.300, 0.360, 0.330),
    "crop": (0.026, 0.058, 0.032, 0.095, 0.295, 0.395, 0.430, 0.450, 0.200, 0.100),
    "flowers": (0.040, 0.125, 0.115, 0.160, 0.290, 0.355, 0.385, 0.400, 0.210, 0.115),
    "straw": (0.075, 0.112, 0.155, 0.192, 0.225, 0.252, 0.280, 0.300, 0.350, 0.245),
    "leaves": (0.020, 0.044, 0.022, 0.075, 0.255, 0.335, 0.365, 0.385, 0.180, 0.080),
    "bare trees": (0.036, 0.050, 0.058, 0.082, 0.115, 0.135, 0.155, 0.175, 0.190, 0.125),
    "needles": (0.019, 0.034, 0.022, 0.050, 0.138, 0.172, 0.188, 0.202, 0.100, 0.048),
    "grass": (0.031, 0.064, 0.046, 0.102, 0.255, 0.315, 0.345, 0.365, 0.240, 0.132),
    "brown grass": (0.055, 0.080, 0.100, 0.132, 0.180, 0.208, 0.232, 0.255, 0.300, 0.205),
    "water": (0.046, 0.047, 0.030, 0.024, 0.018, 0.016, 0.014, 0.012, 0.007, 0.005),
    "turbid": (0.058, 0.075, 0.060, 0.058, 0.040, 0.036, 0.030, 0.026, 0.012, 0.008),
    "asphalt": (0.082, 0.090, 0.096, 0.101, 0.104, 0.107, 0.110, 0.114, 0.126, 0.120),
    "tiles": (0.066, 0.086, 0.142, 0.168, 0.186, 0.200, 0.212, 0.224, 0.258, 0.240),
    "concrete": (0.125, 0.138, 0.150, 0.156, 0.162, 0.168, 0.176, 0.184, 0.212, 0.205),
    "metal": (0.205, 0.218, 0.228, 0.234, 0.240, 0.245, 0.252, 0.258, 0.262, 0.240),
    "litter": (0.050, 0.066, 0.090, 0.112, 0.142, 0.162, 0.184, 0.205, 0.290, 0.215),
}
SPECTRA = {name: np.array(values) for name, values in _SPECTRA.items()}
_ROOFS = np.stack([SPECTRA[name] for name in ("tiles", "concrete", "metal", "asphalt")])


class _Crop(NamedTuple):
    """A crop's year: day of the harvest year, green cover and straw cover at knots."""

    weight: float
    day: tuple[int, ...]
    green: tuple[float, ...]
    straw: tuple[float, ...]
    follow: int
    """Day on which the next crop's year begins."""
    canopy_db: tuple[float, float]
    """VV and VH of the closed canopy."""


_CROPS = (
    _Crop(  # winter cereals
        0.40,
        (-120, -85, -40, 30, 80, 110, 140, 168, 186, 200, 206, 232, 250),
        (0.0, 0.0, 0.30, 0.34, 0.58, 0.86, 0.96, 0.72, 0.25, 0.06, 0.0, 0.0, 0.05),
        (0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.20, 0.68, 0.90, 0.66, 0.45, 0.35),
        252,
        (-14.0, -19.5),
    ),
    _Crop(  # rape
        0.14,
        (-125, -85, -40, 30, 80, 108, 140, 165, 185, 198, 205, 230),
        (0.02, 0.50, 0.66, 0.50, 0.72, 0.92, 0.88, 0.70, 0.30, 0.05, 0.0, 0.05),
        (0.1, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.12, 0.55, 0.75, 0.6, 0.4),
        236,
        (-10.8, -15.0),
    ),
    _Crop(  # maize
        0.16,
        (-120, -60, 60, 95, 128, 152, 180, 205, 240, 260, 274, 280),
        (0.05, 0.12, 0.10, 0.0, 0.0, 0.15, 0.62, 0.92, 0.90, 0.55, 0.12, 0.0),
        (0.2, 0.1, 0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 0.05, 0.35, 0.50, 0.35),
        312,
        (-9.8, -15.6),
    ),
    _Crop(  # sugar beet
        0.10,
        (-120, -70, 40, 85, 112, 142, 166, 190, 262, 288, 298),
        (0.05, 0.30, 0.20, 0.0, 0.0, 0.20, 0.72, 0.96, 0.90, 0.80, 0.0),
        (0.1, 0.0, 0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.05),
        306,
        (-9.2, -14.6),
    ),
    _Crop(  # spring barley
        0.12,
        (-120, -60, 50, 72, 100, 130, 155, 180, 199, 214, 235),
        (0.0, 0.05, 0.05, 0.0, 0.22, 0.78, 0.86, 0.42, 0.05, 0.0, 0.1),
        (0.1, 0.05, 0.0, 0.0, 0.0, 0.0, 0.06, 0.55, 0.85, 0.50, 0.30),
        246,
        (-13.4, -19.2),
    ),
    _Crop(  # potatoes
        0.08,
        (-120, -60, 60, 100, 126, 150, 175, 215, 240, 255, 265),
        (0.0, 0.05, 0.05, 0.0, 0.0, 0.36, 0.86, 0.80, 0.40, 0.06, 0.0),
        (0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.05, 0.30, 0.22, 0.05),
        272,
        (-9.6, -15.2),
    ),
)


class Cover(NamedTuple):
    """Shares of the ground of each unit, shape (unit,); the rest is bare soil."""

    green: Floats
    straw: Floats
    flowers: Floats
    canopy_db: Floats
    """VV and VH of closed vegetation, shape (unit, 2)."""


def moisture(seed: int, moment: datetime) -> float:
    """Wetness of the topsoil in 0..1: wet in winter, with rain that lasts for some days."""
    day = moment.timetuple().tm_yday
    season = 0.5 + 0.25 * np.cos(2 * np.pi * (day - 20) / 365)
    rain = noise.uniform(seed, 201, moment.toordinal() // 5)[0] - 0.5
    return float(np.clip(season + 0.6 * rain, 0.02, 0.98))


def crops(units: Units, moment: datetime) -> Cover:
    """Cover of the fields on a day.

    A parcel keeps its crop from sowing to harvest and bears another one in the next year, and its
    farmer is up to two weeks early or late.
    """
    count = len(units.key)
    shift = 24 * (noise.uniform(units.key, 211) - 0.5)
    strength = 0.85 + 0.2 * noise.uniform(units.key, 212)
    day = moment.timetuple().tm_yday + shift
    edges = np.cumsum([crop.weight for crop in _CROPS])[:-1]
    this, after = (
        np.searchsorted(edges, noise.uniform(units.key, 213, moment.year + step)) for step in (0, 1)
    )
    over = day > np.array([crop.follow for crop in _CROPS])[this]
    number, day = np.where(over, after, this), np.where(over, day - 365, day)
    green, straw, canopy = np.zeros(count), np.zeros(count), np.zeros((count, 2))
    for k, crop in enumerate(_CROPS):
        mine = number == k
        green[mine] = np.interp(day[mine], crop.day, crop.green)
        straw[mine] = np.interp(day[mine], crop.day, crop.straw)
        canopy[mine] = crop.canopy_db
    flowers = np.where(number == 1, np.exp(-(((day - 124) / 11) ** 2)), 0.0)
    return Cover(np.clip(green * strength, 0, 1), straw, flowers * green, canopy)


def leaf_on(day: float | Floats) -> Floats:
    """Share of full foliage of broadleaved trees in central Europe by the day of the year."""
    return np.asarray(np.interp(day, (100, 132, 262, 312), (0.0, 1.0, 1.0, 0.0)))


def grassland(units: Units, day: int) -> Floats:
    """Green share of grassland: dull in winter, mown twice, shape (unit,)."""
    shift = 30 * (noise.uniform(units.key, 221) - 0.5)
    season = np.interp(day, (0, 60, 120, 180, 240, 300, 365), (0.5, 0.5, 0.9, 0.8, 0.72, 0.7, 0.5))
    since = [(day - start - shift) % 365 for start in (152, 218)]
    mown = sum(np.exp(-d / 14.0) for d in since)
    result: Floats = np.clip(season * (1 - 0.55 * np.asarray(mown)), 0.1, 1)
    return result


def reflectance(units: Units, moment: datetime, month: int, seed: int) -> tuple[Singles, Singles]:
    """Surface reflectance of the ground and of the roofs of each unit.

    Parameters
    ----------
    moment : datetime
        Time of the scene.
    month : int
        Its month, counted from the first.
    seed : int
        Seed of the weather.

    Returns
    -------
    ground, roof : ndarray of float32, shape (unit, 10)
        In the order of :data:`BANDS`.
    """
    day = moment.timetuple().tm_yday
    wet = moisture(seed, moment)
    soil = SPECTRA["dry soil"] * (1 - wet) + SPECTRA["wet soil"] * wet
    loam = 0.75 + 0.5 * noise.uniform(units.key, 231)[:, None]
    ground = _kinds(units, moment, soil * loam)
    _events(units, ground, month, day)
    own = 1 + 0.09 * noise.normal(units.key, 232)[:, None]
    tint = 1 + 0.035 * noise.normal(units.key[:, None], 233, np.arange(len(BANDS))[None, :])
    low_sun = 1 - 0.12 * np.cos(2 * np.pi * (day - 355) / 365)  # shadows in rough canopies
    trees = np.isin(units.kind, [Kind.DECIDUOUS, Kind.CONIFER, Kind.HEDGE])[:, None]
    ground *= np.where(trees, low_sun, 1.0)
    roof = _ROOFS[units.roof] * np.exp(0.22 * noise.normal(units.key, 234)[:, None])
    bounds = (0.002, 0.9)
    return (
        np.clip(ground * own * tint, *bounds).astype(np.float32),
        np.clip(roof * tint, *bounds).astype(np.float32),
    )


def _kinds(units: Units, moment: datetime, soil: Floats) -> Floats:
    """Reflectance of the ground by kind, before anything happens to it, shape (unit, 10)."""
    day = moment.timetuple().tm_yday
    cover, grass = crops(units, moment), grassland(units, day)[:, None]
    ground = np.empty((len(units.key), len(BANDS)))
    green, straw, yellow = (v[:, None] for v in (cover.green, cover.straw, cover.flowers))
    plants = SPECTRA["crop"] * green + (SPECTRA["flowers"] - SPECTRA["crop"]) * yellow
    rest = np.clip(1 - green - straw, 0, 1)
    field = plants + SPECTRA["straw"] * straw + soil * rest
    meadow = SPECTRA["grass"] * grass + SPECTRA["brown grass"] * (1 - grass)
    leaf = leaf_on(day + 16 * (noise.uniform(units.key, 241) - 0.5))[:, None]
    broad = SPECTRA["leaves"] * leaf + SPECTRA["bare trees"] * (1 - leaf)
    look = {
        Kind.CROP: field,
        Kind.GRASS: meadow,
        Kind.DECIDUOUS: broad,
        Kind.CONIFER: 0.9 * SPECTRA["needles"] + 0.1 * meadow,
        Kind.LAKE: np.broadcast_to(SPECTRA["water"], ground.shape),
        Kind.RIVER: np.broadcast_to(SPECTRA["turbid"], ground.shape),
        Kind.ROAD: np.broadcast_to(SPECTRA["asphalt"], ground.shape),
        Kind.BARE: np.broadcast_to(SPECTRA["gravel"], ground.shape),
        Kind.GARDEN: 0.7 * meadow + 0.3 * broad,
        Kind.HEDGE: 0.7 * broad + 0.3 * meadow,
    }
    for kind, values in look.items():
        ground[units.kind == kind] = values[units.kind == kind]
    return ground


def _events(units: Units, ground: Floats, month: int, day: int) -> None:
    """Change the ground where it is stripped, flooded, felled, or newly laid out."""
    stripped = units.stripped(month)
    mud = 0.25 + 0.5 * noise.uniform(units.key, 251, month)[:, None]
    open_ = SPECTRA["gravel"] * (1 - mud) + SPECTRA["wet soil"] * mud
    ground[stripped] = open_[stripped]
    age = np.clip((month - units.done) / 8.0, 0, 1)[:, None]
    lawn = SPECTRA["grass"] * 0.6 + SPECTRA["brown grass"] * 0.4
    young = _built_here(units) & (month >= units.done)
    ground[young] = (open_ * (1 - age) + lawn * age)[young]
    flooded = units.flood == month
    ground[flooded] = 0.25 * ground[flooded] + 0.75 * SPECTRA["turbid"]
    cleared = (units.felled <= month) & ~stripped & ~young
    regrown = np.clip((month - units.felled) / 10.0, 0, 1)[:, None] * leaf_on(day)
    floor = SPECTRA["litter"] * (1 - regrown) + SPECTRA["grass"] * regrown
    ground[cleared] = floor[cleared]


def _built_here(units: Units) -> Bools:
    """Units of building sites, as opposed to towns that were always there."""
    return units.done >= 0


def facing(azimuth: Floats, look: float) -> Floats:
    """How squarely walls face the radar: 1 at right angles, falling off within some 15 degrees.

    Parameters
    ----------
    azimuth : ndarray
        Degrees of the streets clockwise from north, modulo 90.
    look : float
        Degrees from north in which the radar looks.
    """
    off = (azimuth - look + 45.0) % 90.0 - 45.0
    result: Floats = np.exp(-((off / 15.0) ** 2))
    return result


_FIXED_DB = {
    Kind.GRASS: (-12.2, -19.2),
    Kind.DECIDUOUS: (-9.4, -14.9),
    Kind.CONIFER: (-10.4, -15.6),
    Kind.LAKE: (-19.5, -27.0),
    Kind.RIVER: (-16.5, -24.0),
    Kind.ROAD: (-14.0, -21.5),
    Kind.BARE: (-12.0, -20.0),
    Kind.GARDEN: (-10.5, -16.8),
    Kind.HEDGE: (-9.8, -15.4),
}


def _power(db: Floats) -> Floats:
    return np.asarray(10.0 ** (np.asarray(db) / 10.0), dtype=np.float64)


def backscatter(
    units: Units, moment: datetime, month: int, seed: int, look: float
) -> tuple[Singles, Singles]:
    """Gamma naught of the ground and of the buildings of each unit, linear power.

    Parameters
    ----------
    moment, month, seed
        As for :func:`reflectance`.
    look : float
        Degrees from north in which the radar looks.

    Returns
    -------
    ground, roof : ndarray of float32, shape (unit, 2)
        VV and VH.
    """
    wet = moisture(seed, moment)
    rough = noise.normal(units.key, 261, moment.year)
    soil_vv = -12.6 + 4.2 * wet + 0.9 * rough
    soil = _power(np.stack([soil_vv, soil_vv - 8.2 + 0.4 * rough], axis=-1))
    cover = crops(units, moment)
    green = cover.green[:, None]
    ground = (1 - green) * soil + green * _power(cover.canopy_db)
    for kind, db in _FIXED_DB.items():
        ground[units.kind == kind] = _power(np.array(db))
    wind = _power(np.array(2.2 * noise.normal(seed, 262, moment.toordinal())[0]))
    ground[units.kind == Kind.LAKE] *= wind
    bare_twigs = 1 + 0.15 * (1 - leaf_on(moment.timetuple().tm_yday))
    ground[units.kind == Kind.DECIDUOUS, 1] *= bare_twigs
    ground[units.kind == Kind.GRASS] *= _power(np.array(2.0 * (wet - 0.5)))
    _radar_events(units, ground, month, soil)
    ground *= _power(0.4 * noise.normal(units.key, 263))[:, None]
    return ground.astype(np.float32), _walls(units, look).astype(np.float32)


def _radar_events(units: Units, ground: Floats, month: int, soil: Floats) -> None:
    stripped = units.stripped(month)
    # Machines and heaps make a building site rougher than a field, a little more in some months.
    heaps = _power(1.0 + 1.2 * noise.normal(units.key, 264, month))[:, None]
    ground[stripped] = (soil * heaps)[stripped]
    young = _built_here(units) & (month >= units.done)
    ground[young] = _power(np.array((-11.2, -18.0)))
    ground[units.flood == month] = _power(np.array((-15.8, -22.5)))
    cleared = (units.felled <= month) & ~stripped & ~young
    ground[cleared] = _power(np.array((-11.6, -18.2)))


def _walls(units: Units, look: float) -> Floats:
    """Backscatter of what is built: streets are dark, facing walls bright, halls brightest."""
    base = np.array([(-6.4, -12.6), (-5.0, -12.0), (-4.2, -12.6), (-8.6, -15.4)])[units.roof]
    gain = facing(units.azimuth, look)[:, None] * np.array((4.5, 2.0))
    own = 1.7 * noise.normal(units.key, 271)[:, None]
    result: Floats = _power(base + gain + own)
    return result


def texture_scale(units: Units) -> Ints:
    """Standard deviation of reflectance within units of each kind, in percent."""
    scale = np.full(len(units.key), 5, np.int64)
    scale[np.isin(units.kind, [Kind.DECIDUOUS, Kind.CONIFER, Kind.HEDGE])] = 11
    scale[np.isin(units.kind, [Kind.LAKE, Kind.RIVER])] = 2
    scale[np.isin(units.kind, [Kind.GARDEN, Kind.BARE])] = 9
    return scale
