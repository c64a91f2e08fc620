"""The road over real pixels: a city against its label, a month against plain rasterio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from benchmarks import oscd_cities
from cdscale import pixels
from cdscale.grid import GeoBox
from cdscale.plan import freeze
from cdscale.progress import Progress
from cdscale.run import prepared
from cdscale.spec.cube import SensorQuality
from cdscale.spec.job import Job
from cdscale.spec.run import load_run
from cdscale.spec.task import Stage
from cdscale.stages import perform
from cdscale.store import Ledger, Store

EXAMPLES = Path(__file__).parents[1] / "examples"
CLEAR = (4, 5, 6, 7, 11)


def perform_all(job: Job, maps: int | None = None) -> None:
    """A whole run in this process."""
    with prepared(job):
        for stage in job.stages:
            ready = list(Progress(job, Ledger(job.ledger_folder)).agenda(stage).ready.items())
            for task, mark in ready[: maps if stage == Stage.CHANGE else None]:
                perform(task, job, mark)


@pytest.mark.realdata
def test_a_city_from_the_catalogue_to_the_map(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rennes; the label is OSCD's, and one that the network was trained on."""
    monkeypatch.setenv("CDSCALE_DATA", str(data_root))
    monkeypatch.setattr(oscd_cities, "IMAGES", data_root / "oscd" / oscd_cities.IMAGES.name)
    monkeypatch.setattr(oscd_cities, "LABELS", data_root / "oscd" / oscd_cities.LABELS.name)
    spec = oscd_cities.spec_of("rennes", tmp_path)
    perform_all(freeze(spec), maps=2)  # of four tiles
    found = oscd_cities.mapped_onto("rennes", spec.folder / "change.zarr", "2017-06")
    counts = oscd_cities.compare(found)
    assert sum(counts) > 2000
    assert counts.figures["f1"] > 0.5
    assert counts.figures["recall"] > 0.4


def warp(path: str, geobox: GeoBox, how: Resampling) -> np.ndarray:
    with (
        rasterio.open(path) as file,
        WarpedVRT(
            file, crs=str(geobox.crs), transform=geobox.affine, height=geobox.shape[0],
            width=geobox.shape[1], resampling=how, tolerance=pixels.TOLERANCE, XSCALE=1, YSCALE=1,
            src_nodata=0, nodata=0,
        ) as warped,
    ):  # fmt: skip
        return warped.read(1).astype(np.float32)


@pytest.mark.realdata
def test_a_month_of_flanders_is_the_clearest_scene_with_its_holes_filled(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """September 2019, in which no scene of the site is clear all over."""
    monkeypatch.setenv("CDSCALE_DATA", str(data_root))
    job = freeze(
        load_run(
            EXAMPLES / "flanders.yaml",
            {"period": "2019-09", "output": str(tmp_path), "models": {}},
        )
    )
    tasks = [task for task in job.tasks(Stage.COMPOSE) if job.scenes_of(task)]
    task = max(tasks, key=lambda t: len(job.scenes_of(t)))
    with prepared(job):
        receipt = perform(task, job, "mark")
    store = Store(job.store_path(Stage.COMPOSE), job.layouts[Stage.COMPOSE])
    got = store.read("s2", task.tile, task.month)
    geobox = job.spec.lattice.geobox(task.tile)
    views = []
    for scene in job.scenes_of(task):
        if scene.mask is not None:
            classes = warp(scene.mask.href, geobox, Resampling.nearest)
            clear = np.isin(classes, CLEAR)
            views.append((-int(clear.sum()), scene.start, scene, clear))
    views.sort(key=lambda view: view[:2])
    expected = np.full(got.shape, np.nan, np.float32)
    for _, _, scene, clear in views:
        bands = np.stack([warp(a.href, geobox, Resampling.bilinear) for a in scene.assets.values()])
        take = np.isnan(expected[0]) & clear & (bands > 0).all(axis=0)
        expected[:, take] = bands[:, take]
    assert np.isfinite(expected[0]).sum() > 2000
    np.testing.assert_array_equal(got != -32768, np.isfinite(expected))
    assert np.abs(got[got != -32768] - expected[got != -32768]).max() <= 1
    quality = store.read("s2_quality", task.tile, task.month)
    np.testing.assert_array_equal(quality == SensorQuality.valid, np.isfinite(expected[0]))
    assert (quality == SensorQuality.cloud).sum() > 20
    assert receipt.complete
