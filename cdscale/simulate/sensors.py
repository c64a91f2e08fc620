"""From the land to digital numbers: what Sentinel-2 and Sentinel-1 record of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special

from cdscale.months import Month
from cdscale.simulate import noise, surface
from cdscale.simulate.landscape import Landscape, Mixture
from cdscale.simulate.noise import Bools, Floats, Singles
from cdscale.simulate.region import Raster, Region
from cdscale.simulate.surface import BANDS
from cdscale.simulate.weather import Pass, Sky

OFFSET_FROM = "2022-01-25"
"""Scenes from this day on are of processing baseline 04.00, which adds 1000 to every DN."""
LOOKS = 4.4
"""Equivalent number of looks of Sentinel-1 IW GRDH (Sentinel-1 product specification)."""
FINE = ("B02", "B03", "B04", "B08")
_CLOUD = np.array((1.0, 0.99, 0.98, 0.97, 0.97, 0.97, 0.97, 0.96, 0.70, 0.52), np.float32)
_SHADE = np.array((0.55, 0.48, 0.42, 0.40, 0.38, 0.37, 0.36, 0.36, 0.33, 0.32), np.float32)
_HAZE = np.array((1.0, 0.72, 0.48, 0.40, 0.30, 0.25, 0.20, 0.18, 0.05, 0.03), np.float32)
_OPTICS = np.outer((0.22, 0.56, 0.22), (0.22, 0.56, 0.22))
"""Point spread of the instrument on samples 5 m apart."""

Digits = npt.NDArray[np.uint16]
Classes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """A raster on which a sensor records the land, prepared once for all passes."""

    region: Region
    land: Landscape
    raster: Raster
    x: Floats
    y: Floats
    mixture: Mixture
    _corners: dict[int, Singles] = field(default_factory=dict)

    @classmethod
    def of(cls, region: Region, land: Landscape, raster: Raster) -> View:
        """Prepare a raster."""
        x, y = raster.centres()
        return cls(region, land, raster, x, y, land.mixture(x, y, _OPTICS, 5.0))

    @cached_property
    def texture(self) -> Singles:
        """Deviation of the reflectance within units, in shares of it, shape (y, x)."""
        x, y, seed = self.x, self.y, self.region.seed * 1000
        grain = (
            0.7 * noise.value_noise(x, y, 17.0, seed + 401)
            + 0.5 * noise.value_noise(x, y, 55.0, seed + 402)
            + 0.6 * noise.fractal(x, y, 240.0, seed + 403, octaves=2)
        )
        scale = surface.texture_scale(self.land.units).astype(np.float32) / 100
        roughness = (self.mixture.share @ scale).reshape(self.raster.shape)
        result: Singles = (grain * roughness).astype(np.float32)
        return result

    def corners(self, orbit: int) -> Singles:
        """Where single strong corners reflect towards an orbit, in -1..1, shape (y, x).

        They stand out of built-up land, others from each orbit, and they stay where they are.
        """
        if orbit not in self._corners:
            key = self.region.seed * 1000 + 440 + orbit
            self._corners[orbit] = noise.value_noise(self.x, self.y, 14.0, key).astype(np.float32)
        return self._corners[orbit]


@dataclass(frozen=True)
class Optical:
    """One Sentinel-2 scene on one raster."""

    bands: dict[str, Digits]
    """DN by band: four at 10 m, six at 20 m; 0 is no data."""
    scl: Classes
    """Scene classification at 20 m."""


def offset_of(when: Pass) -> int:
    """What the processing baseline of a scene adds to the DN."""
    return 1000 if when.moment.date().isoformat() >= OFFSET_FROM else 0


def optical(view: View, when: Pass, sky: Sky) -> Optical:
    """Record the land through the sky with the MSI of Sentinel-2."""
    region, units = view.region, view.land.units
    month = Month.of(when.moment) - region.months.first
    rng = np.random.default_rng([region.seed, 411, when.day, int(view.raster.crs[5:])])
    ground, roof = surface.reflectance(units, when.moment, month, region.seed)
    mixed = view.mixture.mix(ground, roof, units.standing(month))
    clean = mixed.reshape(*view.raster.shape, len(BANDS)) * (1 + view.texture[..., None])
    coarse = (view.x[::2, ::2], view.y[::2, ::2])  # 5 m off the 20 m centres; clouds are softer
    cloud, shade, cirrus = sky.opacity(*coarse)
    shade = np.where(cloud > 0.6, 0, shade).astype(np.float32)
    toned = _air(region, clean, when)
    seen = _through(toned, _twice(cloud), _twice(shade), _twice(cirrus))
    inside = when.seen(region, view.x, view.y)
    bands = {}
    for number, band in enumerate(BANDS):
        value = seen[..., number]
        if band not in FINE:
            value = _halved(value)
        error = (0.0012 + 0.006 * value) * rng.standard_normal(value.shape, dtype=np.float32)
        there = inside if band in FINE else inside[::2, ::2]
        bands[band] = _digits(value + error, offset_of(when), there)
    scl = _classify(_halved(clean), (cloud, shade, cirrus), view, rng)
    return Optical(bands, np.where(inside[::2, ::2], scl, 0).astype(np.uint8))


def _digits(value: Singles, offset: int, there: Bools) -> Digits:
    """Reflectance as stored; 1 is the least DN of a pixel that was seen."""
    stored = np.clip(np.rint(value * 10000) + offset, 1, 65535)
    return np.where(there, stored, 0).astype(np.uint16)


def _twice(field: Singles) -> Singles:
    """Pixels of 20 m as pixels of 10 m."""
    return field.repeat(2, axis=0).repeat(2, axis=1)


def _halved(field: Singles) -> Singles:
    """Means over 2 x 2 pixels."""
    total = field[::2, ::2] + field[1::2, ::2] + field[::2, 1::2] + field[1::2, 1::2]
    return (total / 4).astype(np.float32)


def _air(region: Region, clean: Singles, when: Pass) -> Singles:
    """What the atmospheric correction leaves behind: a gain of some percent, haze in the blue."""
    draw = noise.normal(region.seed, 421, when.day, np.arange(3))
    gain = np.float32(1 + 0.025 * draw[0])
    haze = np.float32(0.006 * draw[1]) * _HAZE + np.float32(0.0015 * draw[2])
    result: Singles = np.maximum(clean * gain + haze, np.float32(0.0005))
    return result


def _through(clean: Singles, cloud: Singles, shade: Singles, cirrus: Singles) -> Singles:
    """Ground, shaded by clouds elsewhere, seen through clouds and cirrus."""
    lit = clean * (1 - shade[..., None] * (1 - _SHADE))
    bright = (0.36 + 0.38 * cloud * cloud)[..., None] * _CLOUD
    dimmed = lit + cloud[..., None] * (bright - lit)
    result: Singles = dimmed + cirrus[..., None] * (np.float32(0.42) * _CLOUD - dimmed)
    return result


def _classify(
    clean: Singles,
    opacity: tuple[Singles, Singles, Singles],
    view: View,
    rng: np.random.Generator,
) -> Classes:
    """Scene classification with the errors that Sen2Cor makes.

    Thin cloud and the rims of shadows are missed, bright roofs are taken for cloud now and then,
    patches stay unclassified (omission of thin cloud: Baetens et al. 2019, doi:10.3390/rs11040433).
    """
    cloud, shade, cirrus = opacity
    blue, red, nir, swir = (clean[..., BANDS.index(b)] for b in ("B02", "B04", "B8A", "B11"))
    ndvi = (nir - red) / (nir + red)
    patch = noise.value_noise(view.x[::2, ::2], view.y[::2, ::2], 90.0, int(rng.integers(2**31)))
    scl = np.where(ndvi > 0.40, 4, 5)
    scl[(ndvi > 0.30) & (ndvi < 0.40) & (patch > 0.35)] = 7
    scl[(nir < 0.055) & (ndvi < 0.25)] = 6
    scl[(nir < 0.075) & (scl == 5)] = 2
    scl[shade + 0.08 * patch > 0.40] = 3
    scl[cirrus + 0.02 * patch > 0.07] = 10
    judged = cloud + 0.07 * patch
    scl[(judged > 0.13) & (judged <= 0.22)] = 7
    scl[(judged > 0.22) & (judged <= 0.5)] = 8
    scl[judged > 0.5] = 9
    scl[(blue > 0.20) & (swir > 0.2) & (patch > 0.1) & (judged < 0.2)] = 8
    return scl.astype(np.uint8)


@dataclass(frozen=True)
class Radar:
    """One Sentinel-1 scene on one raster: gamma naught, linear power, float32."""

    vv: Singles
    vh: Singles


def radar(view: View, when: Pass) -> Radar:
    """Record the land with the C-band radar of Sentinel-1."""
    region, units = view.region, view.land.units
    month = Month.of(when.moment) - region.months.first
    rng = np.random.default_rng([region.seed, 431, when.day, when.orbit])
    ground, wall = surface.backscatter(units, when.moment, month, region.seed, when.look)
    mean = view.mixture.mix(ground, wall, units.standing(month))
    built = view.mixture.built_up(units.standing(month)).reshape(view.raster.shape)
    spread = np.exp((0.9 * built + 0.15) * view.corners(when.orbit)).astype(np.float32)
    offset_db = (0.5 if when.ascending else -0.5) + 0.15 * rng.standard_normal()
    gain = spread * np.float32(10 ** (offset_db / 10))
    vv, vh = (
        _stored(mean[:, k].reshape(view.raster.shape) * gain * speckle(rng, view.raster.shape))
        for k in (0, 1)
    )
    return Radar(vv, vh)


_NORMAL = np.linspace(-5.5, 5.5, 4001)
_GAMMA = special.gammaincinv(LOOKS, np.clip(special.ndtr(_NORMAL), 1e-12, 1 - 1e-9)) / LOOKS


def speckle(rng: np.random.Generator, shape: tuple[int, int]) -> Singles:
    """Multiplicative noise of mean 1: gamma distributed with :data:`LOOKS` looks.

    Neighbours correlate by about 0.3, as pixels of 10 m do at a resolution of some 20 m: a
    Gaussian field is smoothed, brought back to unit variance, and mapped to the quantiles of the
    gamma distribution.
    """
    field = rng.standard_normal(shape, dtype=np.float32)
    taps = np.array((0.17, 0.97, 0.17), np.float32)
    taps /= np.sqrt((taps**2).sum())
    for axis in (0, 1):
        field = ndimage.correlate1d(field, taps, axis=axis, mode="wrap")
    result: Singles = np.interp(field, _NORMAL, _GAMMA).astype(np.float32)
    return result


def _stored(power: Singles) -> Singles:
    """Power with 10 bits of mantissa, 0.004 dB: far below speckle, and half the bytes on disk."""
    bits = power.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)
