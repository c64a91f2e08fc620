"""``compose``: scenes of a month to one block of the cube, and why pixels lack."""

from __future__ import annotations

import numpy as np

from cdscale import kernels
from cdscale.grid import GeoBox
from cdscale.kernels import Bool, UInt8, optical
from cdscale.kernels.optical import Look
from cdscale.spec.cube import SensorQuality
from cdscale.spec.scene import Scene
from cdscale.spec.task import Stage
from cdscale.stages.optical import Composite, View, composite, observe
from cdscale.stages.radar import mean_backscatter
from cdscale.stages.work import Work


def compose(work: Work) -> None:
    """Scenes of a month to one optical composite and one mean of radar, and why pixels lack."""
    geobox = work.job.spec.lattice.geobox(work.task.tile)
    scenes = work.job.scenes_of(work.task)
    _compose_optical(work, [s for s in scenes if s.sensor == "s2"], geobox)
    _compose_radar(work, [s for s in scenes if s.sensor == "s1"], geobox)


def _compose_optical(work: Work, scenes: list[Scene], geobox: GeoBox) -> None:
    lanes = work.job.lanes(scenes)
    views = observe(work, scenes, geobox, lanes)
    made = composite(work, views, geobox, lanes)
    seen_YX, clear_YX = (np.zeros(geobox.shape, np.uint16) for _ in range(2))
    saturated_YX = made.saturated_YX
    for view in views:
        seen_YX += view.look_YX != Look.unseen
        clear_YX += optical.is_clear(view.look_YX)
        saturated_YX |= view.look_YX == Look.saturated
    _tell(work, views, made)
    variable = work.job.layouts[Stage.COMPOSE].variable("s2")
    valid_YX = np.isfinite(made.values_BYX[0])
    layers = [
        (SensorQuality.cloud, seen_YX > 0),
        (SensorQuality.saturated, saturated_YX),
        (SensorQuality.valid, valid_YX),
        (SensorQuality.read_failed, made.failed_YX),
    ]
    work.blocks |= {
        "s2": kernels.pack_reflectance(
            made.values_BYX, scale=variable.scale or 1.0, fill=int(variable.fill)
        ),
        "s2_quality": _quality(layers, geobox),
        "s2_scenes": kernels.pack_count(seen_YX),
        "s2_clear": kernels.pack_count(clear_YX),
        "s2_date": made.day_YX,
    }


def _tell(work: Work, views: list[View], made: Composite) -> None:
    """Say of every scene whether it was used, and why not."""
    for view in views:
        for i, scene in enumerate(view.scenes):
            if scene.id in made.used:
                work.used.append(scene.id)
                work.unused.pop(scene.id, None)
            elif scene.id not in work.failed and scene.id not in work.unused:
                work.unused[scene.id] = _why_unused(view.look_YX[view.source_YX == i])


def _why_unused(look_N: UInt8) -> str:
    if not (look_N != Look.unseen).any():
        return "it shows no pixel of the tile"
    if not optical.is_clear(look_N).any():
        return "it shows no clear pixel of the tile"
    return "others were taken for every clear pixel that it shows"


def _compose_radar(work: Work, scenes: list[Scene], geobox: GeoBox) -> None:
    month = mean_backscatter(work, scenes, geobox, work.job.lanes(scenes))
    layers = [
        (SensorQuality.valid, np.any(np.isfinite(month.power_BYX), axis=0)),
        (SensorQuality.read_failed, month.failed_YX),
    ]
    work.blocks |= {
        "s1": month.power_BYX,
        "s1_quality": _quality(layers, geobox),
        "s1_scenes": kernels.pack_count(month.passes_YX),
    }


def _quality(layers: list[tuple[SensorQuality, Bool]], geobox: GeoBox) -> UInt8:
    everywhere = (SensorQuality.no_scene, np.ones(geobox.shape, bool))
    return kernels.quality_codes([everywhere, *layers], (geobox.shape.y, geobox.shape.x))
