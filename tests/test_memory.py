"""A compose task holds no more than its plan says: numpy's own allocations, counted."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdscale import stages
from cdscale.grid import GeoBox
from cdscale.months import Month
from cdscale.plan import REMOTE_BYTES_PER_PIXEL, task_memory
from cdscale.spec import job as jobs
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec, read_area
from cdscale.spec.scene import Scene, SceneTable
from cdscale.spec.task import Stage, Task
from cdscale.store import create
from cdscale.testing import make_scene

TILE = 512
BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")


class PlentifulReader:
    """Pixels for every scene, made when they are asked for; half of each scene is clear."""

    def mask(self, scene: Scene, geobox: GeoBox) -> Any:
        rng = np.random.default_rng(len(scene.id) + ord(scene.id[-1]))
        return rng.choice(np.array([4, 9], np.uint8), tuple(geobox.shape))

    def cloud(self, scene: Scene, geobox: GeoBox) -> Any:
        return np.zeros(tuple(geobox.shape), np.uint8)

    def bands(self, scene: Scene, names: tuple[str, ...], geobox: GeoBox) -> Any:
        shape = (len(names), *geobox.shape)
        return np.random.default_rng(0).random(shape, np.float32) * np.float32(0.5)


CUBES: list[dict[str, Any]] = [
    {"s2": "least_cloudy"},
    {"s2": "median"},
    {"s2": "medoid"},
    {"s2": "median", "s1_speckle_px": 7, "dilate_px": 3},
]


def job_of(
    folder: Path, cube: dict[str, Any], *, remote: bool, optical: int = 14, tile: int = TILE
) -> Job:
    spec = RunSpec.check(
        {
            "name": "memory",
            "catalogue": "nowhere",
            "collections": {
                "s2": "planetary-computer-sentinel-2-l2a",
                "s1": "planetary-computer-sentinel-1-rtc",
            },
            "area": read_area([3.0, 50.8, 3.0001, 50.8001], Path()),
            "period": "2020-06",
            "grid": {"tile": tile, "chunk": tile // 2},
            "cube": {"s2_bands": BANDS, **cube},
            "output": str(folder),
        },
        where="test",
    )
    scenes = [make_scene(f"s{n:02}", bands=BANDS) for n in range(optical)]
    orbits = ["161 ascending", "59 ascending", "37 descending"]
    scenes += [
        make_scene(f"r{n:02}", sensor="s1", bands=("vv", "vh"), orbit=orbits[n % 3])
        for n in range(9)
    ]
    if remote:
        scenes = [
            s.model_copy(
                update={
                    "assets": {
                        k: a.model_copy(update={"href": f"https://x/{s.id}/{k}.tif"})
                        for k, a in s.assets.items()
                    }
                }
            )
            for s in scenes
        ]
    return Job(spec=spec, scenes=SceneTable(search="x", scenes=tuple(scenes)))


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is imported and cached only once is there before anything is counted."""
    for cube in CUBES:
        peak_of(job_of(tmp_path_factory.mktemp("warm"), cube, remote=False, tile=64))


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("cube", CUBES)
def test_a_task_keeps_to_the_memory_of_its_plan(
    tmp_path: Path, cube: dict[str, Any], remote: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So small that a tile is worked on in strips, and that a few blocks are read side by side.
    monkeypatch.setattr(jobs, "STACK_BYTES", 40 * 2**20)
    job = job_of(tmp_path, cube, remote=remote)
    assert job.strip_rows(14) < TILE
    assert job.lanes(job.scenes.scenes) == (3 if remote else 1)
    peak, planned = peak_of(job), task_memory(job, Stage.COMPOSE)
    assert peak <= planned
    # A plan that asks for far too much refuses what would run. (Nothing comes over a network here.)
    assert peak >= 0.3 * (planned - remote * TILE**2 * REMOTE_BYTES_PER_PIXEL)


def test_a_medoid_of_many_passes_and_one_band_keeps_to_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each pass its distances take more than its band."""
    monkeypatch.setattr(jobs, "STACK_BYTES", 40 * 2**20)
    job = job_of(tmp_path, {"s2": "medoid", "s2_bands": ("B02",)}, remote=False, optical=24)
    assert peak_of(job) <= task_memory(job, Stage.COMPOSE)


def peak_of(job: Job) -> int:
    """Bytes that the one task of a job holds at most."""
    create(job.store_path(Stage.COMPOSE), job.layouts[Stage.COMPOSE])
    (tile,) = job.tiles
    task = Task(Stage.COMPOSE, Month(2020, 6), tile)
    tracemalloc.start()
    try:
        stages.perform(task, job, "x", PlentifulReader())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak
