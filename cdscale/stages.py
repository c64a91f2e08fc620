"""The verbs of a run: ``compose``, ``map_urban``, ``detect_change``; a task in, a receipt out.

Each wires a reader or a network to the stores and leaves the pixels to ``kernels``. A task is
idempotent: done twice, it writes the same bytes. ``predict``, and with it torch, is imported where
a network runs: the driver, which imports this module to name its tasks, does without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cdscale import kernels, models
from cdscale.errors import ReadError
from cdscale.grid import Area, GeoBox, covered
from cdscale.kernels import Bool, Float, UInt8
from cdscale.months import Month
from cdscale.pixels import Reader, StackstacReader
from cdscale.spec.card import ModelCard
from cdscale.spec.cube import ChangeQuality, SensorQuality, UrbanQuality
from cdscale.spec.job import Job
from cdscale.spec.scene import Scene
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.store import Ledger, Store

if TYPE_CHECKING:
    from cdscale.predict import Block

Blocks = dict[str, NDArray[Any]]
STRIP = 256
"""Rows that the series of months is worked on at once, to bound memory."""


@dataclass
class Work:
    """One task under way: the blocks that it makes and what it has to say about them."""

    task: Task
    job: Job
    reader: Reader
    blocks: Blocks = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def store(self, stage: Stage) -> Store:
        """The store of a stage."""
        return Store(self.job.store_path(stage), self.job.layouts[stage])

    def attempt(self, scene: Scene, read: Callable[[], Float | Bool]) -> Any:
        """Read from a scene; None where it cannot be read, which the receipt then says."""
        try:
            return read()
        except ReadError as err:
            if not err.permanent:
                raise
            self.failed[scene.id] = str(err)
            return None


def perform(task: Task, job: Job, fingerprint: str, reader: Reader | None = None) -> Receipt:
    """Do one task: make its blocks, write its shards, then its receipt.

    Parameters
    ----------
    task : Task
        What to do.
    job : Job
        The run that it belongs to.
    fingerprint : str
        Of everything that decides the pixels; kept in the receipt.
    reader : Reader, optional
        Where pixels come from; stackstac unless told otherwise.

    Raises
    ------
    ReadError
        When a scene did not come and may come on another try.
    TaskError
        When what was written does not read back.
    """
    started = time.perf_counter()
    work = Work(task, job, reader or StackstacReader())
    VERBS[task.stage](work)
    store = work.store(task.stage)
    checksums = store.write(task.tile, task.month, work.blocks)
    receipt = Receipt(
        task=str(task),
        fingerprint=fingerprint,
        checksums=checksums,
        scenes=tuple(work.used),
        failed=work.failed,
        pixels=_pixel_counts(store, work.blocks),
        seconds=round(time.perf_counter() - started, 3),
        bytes_written=store.spec.shard_bytes,
    )
    Ledger(job.ledger_folder).write(receipt)
    return receipt


def perform_from(task: Task, folder: str, digest: str, fingerprint: str) -> Receipt:
    """:func:`perform` for a worker, which finds the job in the run's folder."""
    return perform(task, _job(folder, digest), fingerprint, _reader())


@cache
def _reader() -> Reader:
    # One a process: it keeps what lets it read.
    return StackstacReader()


@lru_cache(maxsize=2)
def _job(folder: str, digest: str) -> Job:
    # The digest is part of the name under which a worker remembers a job, so that a folder whose
    # job changed is read again.
    del digest
    return Job.model_validate_json((Path(folder) / "job.json").read_text(encoding="utf-8"))


def _pixel_counts(store: Store, blocks: Blocks) -> dict[str, dict[str, int]]:
    counts = {}
    for variable in store.spec.variables:
        if "flag_meanings" in variable.attrs:
            names = variable.attrs["flag_meanings"].split()
            codes = dict(zip(variable.attrs["flag_values"], names, strict=True))
            values, number = np.unique(blocks[variable.name], return_counts=True)
            pairs = zip(values.tolist(), number.tolist(), strict=True)
            counts[variable.name] = {codes.get(v, "no_data"): n for v, n in pairs}
    return counts


# --------------------------------------------------------------------------------------- compose


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
        filled = left - kernels.fill_holes(composite_BYX, block_BYX, usable_YX)
        left -= filled
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


# ------------------------------------------------------------------------------------------- map


def map_urban(work: Work) -> None:
    """Urban probability of a month; where no optical image is, its features are reconstructed."""
    from cdscale import predict

    card = work.job.cards["urban"]
    block = _block(work, card, work.task.month)
    tiling = predict.Tiling(core=work.job.core)
    result = predict.predict_urban(_network(work, "urban"), card, block, tiling)
    optical_YX, radar_YX = result.optical_YX, result.radar_YX
    layers = [
        (UrbanQuality.no_data, np.ones_like(optical_YX)),
        (UrbanQuality.radar_missing, optical_YX),
        (UrbanQuality.optical_reconstructed, radar_YX),
        (UrbanQuality.both_sensors, optical_YX & radar_YX),
    ]
    work.blocks |= {
        "probability": kernels.pack_probability(result.probability_YX),
        "quality": kernels.quality_codes(layers, optical_YX.shape),
    }


def _network(work: Work, name: str) -> Any:
    from cdscale import predict

    choice = getattr(work.job.spec.models, name)
    card = work.job.cards[name]
    return models.load(card, device=predict.best_device(), folder=models.folder_of(choice.card))


def _block(work: Work, card: ModelCard, month: Month) -> Block:
    """What a network eats of one month: the card's bands, its halo around the tile."""
    from cdscale.predict import Block

    cube = work.store(Stage.COMPOSE)
    tile, halo = work.task.tile, card.halo
    s2, s1 = cube.spec.variable("s2"), cube.spec.variable("s1")
    stored_BYX = cube.read("s2", tile, month, halo=halo)
    chosen_BYX = stored_BYX[[s2.bands.index(band) for band in card.s2_bands]]
    s2_BYX = chosen_BYX.astype(np.float32) * np.float32(s2.scale or 1.0)
    s2_BYX[chosen_BYX == s2.fill] = np.nan
    power_PYX = cube.read("s1", tile, month, halo=halo)
    s1_PYX = np.full((len(card.s1_bands), *s2_BYX.shape[1:]), np.nan, np.float32)
    for i, band in enumerate(card.s1_bands):
        if band in s1.bands:
            s1_PYX[i] = power_PYX[s1.bands.index(band)]
    return Block(s2_BYX, s1_PYX)


# ---------------------------------------------------------------------------------------- change


def detect_change(work: Work) -> None:
    """What changed since the reference month: the pair network's view, and the urban series'."""
    if "change" in work.job.cards:
        _change_of_pair(work)
    if "urban" in work.job.cards:
        work.blocks["change_month"] = _change_of_series(work)


def _change_of_pair(work: Work) -> None:
    from cdscale import predict

    card = work.job.cards["change"]
    before = _block(work, card, work.job.spec.pairs()[work.task.month])
    after = _block(work, card, work.task.month)
    network = _network(work, "change")
    tiling = predict.Tiling(core=work.job.core)
    probability_YX = predict.predict_change(network, card, before, after, tiling)
    inner = slice(card.halo, -card.halo or None)
    optical = [_whole(b.s2_BYX[:, inner, inner]) for b in (before, after)]
    radar = [_whole(b.s1_PYX[:, inner, inner]) for b in (before, after)]
    seen_YX: Bool = optical[0] & optical[1]
    probability_YX = np.where(seen_YX, probability_YX, np.float32(np.nan))
    layers = [
        (ChangeQuality.radar_missing, seen_YX),
        (ChangeQuality.both_sensors, seen_YX & radar[0] & radar[1]),
        (ChangeQuality.no_optical_after, ~optical[1]),
        (ChangeQuality.no_optical_before, ~optical[0]),
    ]
    packed_YX = kernels.pack_probability(probability_YX)
    changed_YX = (kernels.unpack_probability(packed_YX) >= card.threshold).astype(np.uint8)
    work.blocks |= {
        "probability": packed_YX,
        "change": np.where(seen_YX, changed_YX, np.uint8(255)),
        "quality": kernels.quality_codes(layers, seen_YX.shape),
    }


def _whole(values_BYX: Float) -> Bool:
    """Pixels that have every band."""
    return np.asarray(np.isfinite(values_BYX).all(axis=0))


def _change_of_series(work: Work) -> NDArray[np.int32]:
    """First day of the month in which each pixel became built up, as days since 1970."""
    urban = work.store(Stage.MAP)
    reference = work.job.spec.pairs()[work.task.month]
    months = work.job.spec.period.between(reference, work.task.month)
    series_TYX = np.stack([urban.read("probability", work.task.tile, m) for m in months])
    threshold = work.job.cards["urban"].threshold
    index_YX = np.empty(series_TYX.shape[1:], np.int32)
    for top in range(0, len(index_YX), STRIP):
        strip = np.s_[:, top : top + STRIP]
        index_YX[strip[1]] = kernels.onset(kernels.unpack_probability(series_TYX[strip]), threshold)
    days = months.to_numpy().astype("datetime64[D]").astype(np.int32)
    return np.where(index_YX < 0, np.int32(-1), days[index_YX])


VERBS: dict[Stage, Callable[[Work], None]] = {
    Stage.COMPOSE: compose,
    Stage.MAP: map_urban,
    Stage.CHANGE: detect_change,
}
