"""The radar side of ``compose``: passes over a tile, and their mean of a month."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from cdscale import kernels
from cdscale.grid import GeoBox
from cdscale.kernels import Bool, Float, radar
from cdscale.spec.scene import Scene, passes
from cdscale.stages.sight import Window, reach
from cdscale.stages.work import Work


@dataclass
class Swath:
    """One pass over a tile, its slices fused."""

    key: str
    """What it is averaged with."""
    power_BYX: Float
    failed_YX: Bool


@dataclass
class RadarMonth:
    """The mean of a month, linear power, and what stands behind it."""

    power_BYX: Float
    passes_YX: np.ndarray
    failed_YX: Bool


def mean_backscatter(work: Work, scenes: list[Scene], geobox: GeoBox, lanes: int) -> RadarMonth:
    """Mean in linear power: over the passes of each orbit, or direction, and then over these."""
    cube = work.job.spec.cube
    half = cube.s1_speckle_px // 2
    shape = (len(cube.s1_bands), *geobox.shape)
    passes_YX = np.zeros(geobox.shape, np.uint16)
    failed_YX = np.zeros(geobox.shape, bool)
    means: dict[str, radar.Mean] = {}
    groups = passes(scenes)
    for swath in work.side_by_side(partial(_swath, work, geobox), groups, lanes):
        means.setdefault(swath.key, radar.Mean(swath.power_BYX.shape)).add(swath.power_BYX)
        passes_YX += np.isfinite(_inner(swath.power_BYX, half)).any(axis=0)
        # The filter looks at pixels around: with those that failed it would have made others.
        failed_YX |= _inner(kernels.grown(swath.failed_YX, half), half)
    every = []
    for mean in means.values():
        power_BYX = mean.result()
        if half:
            power_BYX = radar.despeckle(power_BYX, mean.count_BYX, cube.s1_speckle_px)
        every.append(_inner(power_BYX, half))
    if not every:
        return RadarMonth(np.full(shape, np.nan, np.float32), passes_YX, failed_YX)
    return RadarMonth(radar.mean_of_means(every), passes_YX, failed_YX)


def _inner(block: np.ndarray, margin: int) -> np.ndarray:
    return block[..., margin:-margin, margin:-margin] if margin else block


def _swath(work: Work, geobox: GeoBox, group: tuple[Scene, ...]) -> Swath:
    """One pass, its edge cleaned; as wide as the speckle filter needs it."""
    cube = work.job.spec.cube
    half, margin = cube.s1_speckle_px // 2, cube.s1_speckle_px // 2 + cube.s1_border_px
    wide = geobox.pad(margin) if margin else geobox
    power_BYX = np.full((len(cube.s1_bands), *wide.shape), np.nan, np.float32)
    failed_YX = np.zeros(wide.shape, bool)
    for scene in sorted(group, key=lambda scene: scene.id):
        wanted_YX: Bool = np.all(np.isnan(power_BYX), axis=0)
        if len(group) > 1:
            wanted_YX &= reach(scene, wide)
        window = Window.around(wanted_YX)
        if window is None:
            work.unused[scene.id] = "others of the same pass show all that it shows here"
            continue
        there = tuple(band for band in cube.s1_bands if band in scene.assets)
        read = partial(work.reader.bands, scene, there, window.of(wide))
        block_BYX = work.attempt(scene, read)
        if block_BYX is None:
            failed_YX |= wanted_YX & reach(scene, wide)
            continue
        radar.drop_powerless(block_BYX)
        seen = _merge(power_BYX[:, *window], block_BYX, [cube.s1_bands.index(b) for b in there])
        if seen:
            work.used.append(scene.id)
        else:
            work.unused[scene.id] = "it shows no pixel of the tile"
    if cube.s1_border_px and failed_YX.any():
        # Whether what is dark near by is noise, the edge of what failed would have told.
        dark_YX = radar.below_floor(power_BYX, cube.s1_bands)
        failed_YX |= dark_YX & kernels.grown(failed_YX, cube.s1_border_px)
    noise_YX = radar.border_noise(power_BYX, cube.s1_bands, cube.s1_border_px)
    power_BYX[:, noise_YX] = np.nan
    first = group[0]
    key = first.direction if cube.s1_by == "direction" and first.direction else first.orbit
    edge = margin - half
    return Swath(key, _inner(power_BYX, edge), _inner(failed_YX, edge))


def _merge(power_BYX: Float, block_BYX: Float, bands: list[int]) -> bool:
    """Put a slice where none before it has anything; says whether it left a pixel."""
    new_YX = np.isnan(power_BYX).all(axis=0) & np.isfinite(block_BYX).any(axis=0)
    for band, values_YX in zip(bands, block_BYX, strict=True):
        power_BYX[band][new_YX] = values_YX[new_YX]
    return bool(new_YX.any())
