"""``compose``: scenes of a month to one block of the cube."""

from __future__ import annotations

from datetime import date
from functools import partial

import numpy as np

from cdscale import kernels
from cdscale.grid import Area, GeoBox, covered
from cdscale.kernels import Bool, UInt8
from cdscale.pixels import Reader
from cdscale.spec.cube import SensorQuality
from cdscale.spec.scene import Scene
from cdscale.spec.task import Stage
from cdscale.stages.work import Work


def compose(work: Work) -> None:
    """Scenes of a month to one optical composite and one mean of radar, and why pixels lack."""
    geobox = work.job.spec.lattice.geobox(work.task.tile)
    scenes = work.job.scenes_of(work.task)
    _compose_optical(work, [s for s in scenes if s.sensor == "s2"], geobox)
    _compose_radar(work, [s for s in scenes if s.sensor == "s1"], geobox)


def _compose_optical(work: Work, scenes: list[Scene], geobox: GeoBox) -> None:
    """The clearest scene first, holes filled from the next clearest."""
    bands = work.job.spec.cube.s2_bands
    composite_BYX = np.full((len(bands), *geobox.shape), np.nan, np.float32)
    covered_YX = np.zeros(geobox.shape, np.uint16)
    clear_YX = np.zeros(geobox.shape, np.uint16)
    date_YX = np.full(geobox.shape, 65535, np.uint16)
    failed_YX = np.zeros(geobox.shape, bool)
    views = []
    for scene in scenes:
        sky = work.attempt(scene, partial(_sky, work.reader, scene, geobox))
        if sky is None:
            failed_YX |= _inside(scene, geobox)
            continue
        covered_YX += sky[0]
        clear_YX += sky[1]
        views.append((int(sky[1].sum()), scene, sky[1]))
    views.sort(key=lambda view: (-view[0], view[1].start, view[1].id))
    left = composite_BYX[0].size
    for count, scene, usable_YX in views:
        if not left or not count:
            break
        block_BYX = work.attempt(scene, partial(work.reader.bands, scene, bands, geobox))
        if block_BYX is None:
            failed_YX |= usable_YX
            continue
        empty_YX = np.isnan(composite_BYX[0])
        filled = left - kernels.fill_holes(composite_BYX, block_BYX, usable_YX)
        left -= filled
        day = (scene.start.date() - date(1970, 1, 1)).days
        date_YX[empty_YX & np.isfinite(composite_BYX[0])] = day
        if filled:
            work.used.append(scene.id)
    variable = work.job.layouts[Stage.COMPOSE].variable("s2")
    valid_YX = np.isfinite(composite_BYX[0])
    work.blocks |= {
        "s2": kernels.pack_reflectance(
            composite_BYX, scale=variable.scale or 1.0, fill=int(variable.fill)
        ),
        "s2_quality": _sensor_quality(covered_YX > 0, failed_YX, valid_YX),
        "s2_scenes": kernels.pack_count(covered_YX),
        "s2_clear": kernels.pack_count(clear_YX),
        "s2_date": date_YX,
    }


def _sky(reader: Reader, scene: Scene, geobox: GeoBox) -> Bool:
    """Where a scene covers the tile, and where it shows the ground: (2, y, x)."""
    if scene.mask is None:
        first = next(iter(scene.assets))
        seen_YX = np.isfinite(reader.bands(scene, (first,), geobox)[0])
        return np.stack([seen_YX, seen_YX])
    sky = kernels.clear_sky(
        reader.mask(scene, geobox),
        clear=scene.mask_clear,
        nodata=scene.mask_nodata,
        dilate_px=scene.mask_dilate_px,
    )
    return np.stack(sky)


def _compose_radar(work: Work, scenes: list[Scene], geobox: GeoBox) -> None:
    """Mean of the month in linear power, over the scenes of each orbit and then over orbits."""
    bands = work.job.spec.cube.s1_bands
    mean = kernels.PowerMean((len(bands), *geobox.shape))
    covered_YX = np.zeros(geobox.shape, np.uint16)
    failed_YX = np.zeros(geobox.shape, bool)
    for scene in scenes:
        there = tuple(band for band in bands if band in scene.assets)
        values = work.attempt(scene, partial(work.reader.bands, scene, there, geobox))
        if values is None:
            failed_YX |= _inside(scene, geobox)
            continue
        power_BYX = np.full((len(bands), *geobox.shape), np.nan, np.float32)
        power_BYX[[bands.index(band) for band in there]] = values
        mean.add(scene.orbit, power_BYX)
        seen_YX = np.isfinite(values).any(axis=0)
        covered_YX += seen_YX
        if seen_YX.any():
            work.used.append(scene.id)
    power_BYX = mean.result()
    valid_YX = np.asarray(np.isfinite(power_BYX).any(axis=0))
    work.blocks |= {
        "s1": power_BYX,
        "s1_quality": _sensor_quality(covered_YX > 0, failed_YX, valid_YX),
        "s1_scenes": kernels.pack_count(covered_YX),
    }


def _inside(scene: Scene, geobox: GeoBox) -> Bool:
    return covered(Area(scene.polygon), geobox)


def _sensor_quality(covered_YX: Bool, failed_YX: Bool, valid_YX: Bool) -> UInt8:
    layers = [
        (SensorQuality.no_scene, np.ones_like(covered_YX)),
        (SensorQuality.cloud, covered_YX),
        (SensorQuality.read_failed, failed_YX),
        (SensorQuality.valid, valid_YX),
    ]
    return kernels.quality_codes(layers, covered_YX.shape)
