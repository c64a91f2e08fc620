"""What a settled run still has to do, in tasks, bytes, memory and seconds; and whether it fits."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cdscale.errors import PlanError, StoreError, explain
from cdscale.months import Month
from cdscale.plan.memory import WORKER_BYTES, card_of, in_turn, memory_of, state_bytes
from cdscale.progress import EVERYTHING, Progress, Selection
from cdscale.spec.base import Frozen
from cdscale.spec.job import Job
from cdscale.spec.task import Stage, Task
from cdscale.store import grown
from cdscale.survey import Survey

COMPRESSED = 0.7
"""Bytes on disk for one in memory; Sentinel-2 packs to 0.6, radar hardly at all."""
SECONDS_PER_READ = 0.04
"""Of one asset warped onto a tile of 512 x 512 pixels from a local disk, on one core."""
SAMPLE = 1000
"""Tasks that are done, of which the seconds are looked at."""
SECONDS_PER_MPX = {Stage.MAP: 1.2, Stage.CHANGE: 6.0}
"""Of a network over a million pixels, halo included, on one core."""
SECONDS_PER_STATE_MPX = 0.6
"""Of a million pixels that go on by a month, what is read and written included."""


class StagePlan(Frozen):
    """One stage of a plan."""

    tasks: int
    done: int
    todo: int
    bytes_read: int
    bytes_written: int
    memory_per_task: int
    memory_in_turn: int
    """Of it, what only one task of a worker has at a time."""
    cpu_seconds: float


class Plan(Frozen):
    """A run, priced: what it will do and what that takes."""

    name: str
    output: str
    grid: str
    crs: str
    tile_px: int
    tiles: int
    area_km2: float
    months: str
    month_count: int
    scenes: dict[str, int]
    set_aside: int
    simulated: bool
    stages: dict[str, StagePlan]
    bytes_read: int
    """At most, before compression: every band of every scene of every tile."""
    bytes_written: int
    """About, after compression."""
    disk_free: int
    workers: int
    lanes: int
    """Tasks that each worker has in hand at once."""
    memory_per_worker: int
    seconds: float
    """About, on a local cluster of so many workers."""


def price(
    job: Job, *, workers: int, memory: int, lanes: int = 1, selection: Selection = EVERYTHING
) -> Plan:
    """What is left to do of a run, and what it takes.

    Parameters
    ----------
    job : Job
        From :func:`freeze`.
    workers : int
        Workers of the cluster.
    memory : int
        Bytes of each.
    lanes : int
        Tasks that each has in hand at once.
    selection : Selection
        What of the run is wanted.

    Raises
    ------
    SpecError
        When the selection names what the run does not have.
    StoreError
        When a store in the output folder was made with another spec, or cannot grow to this one.
    """
    selection.check(job)
    for stage in job.stages:
        grown(job.store_path(stage), job.layouts[stage])
    progress = Progress.of(job, selection)
    survey = Survey.of(job)
    stages = {str(stage): _price_stage(job, stage, progress, survey) for stage in job.stages}
    grid = job.spec.lattice
    table = job.scenes.scenes
    return Plan(
        name=job.spec.name,
        output=str(job.spec.folder),
        grid=grid.name,
        crs=grid.crs,
        tile_px=grid.tile_px,
        tiles=len(job.tiles),
        area_km2=round(len(job.tiles) * (grid.tile_m / 1000) ** 2, 3),
        months=str(job.spec.period),
        month_count=len(job.spec.period),
        scenes={s: sum(scene.sensor == s for scene in table) for s in ("s1", "s2")},
        set_aside=len(job.scenes.set_aside),
        simulated=job.scenes.simulated,
        stages=stages,
        bytes_read=sum(s.bytes_read for s in stages.values()),
        bytes_written=sum(s.bytes_written for s in stages.values()),
        disk_free=_disk_free(job.spec.folder),
        workers=workers,
        lanes=lanes,
        memory_per_worker=memory,
        seconds=round(sum(s.cpu_seconds for s in stages.values()) / workers, 1),
    )


def _price_stage(job: Job, stage: Stage, progress: Progress, survey: Survey) -> StagePlan:
    undone_MT = progress.undone(stage)
    layout = job.layouts[stage]
    todo = int(undone_MT.sum())
    pixels = job.spec.grid.tile**2
    if stage is Stage.COMPOSE:
        assets = int(survey.assets_MT[undone_MT].sum())
        read = assets * pixels * 2
        seconds = assets * SECONDS_PER_READ * max(pixels / 512**2, 0.25)
        if done := _some_done(stage, progress, frozenset(job.months(stage))):
            seconds = todo * sum(done) / len(done)
    else:
        read, seconds = _price_maps(job, stage, progress, undone_MT)
    asked = undone_MT.size if progress.selection.whole else len(_asked(job, stage, progress))
    return StagePlan(
        tasks=undone_MT.size,
        done=asked - todo,
        todo=todo,
        bytes_read=read,
        bytes_written=int(todo * layout.shard_bytes * COMPRESSED),
        memory_per_task=memory_of(job, stage, survey),
        memory_in_turn=in_turn(job, stage),
        cpu_seconds=round(seconds, 1),
    )


def _price_maps(
    job: Job, stage: Stage, progress: Progress, undone_MT: NDArray[np.bool_]
) -> tuple[int, float]:
    """Bytes read and seconds of a stage with a network: of months of pairs, and of the others."""
    read, seconds, months = 0, 0.0, job.months(stage)
    for paired in (True, False):
        chosen = [m for m in months if (m in job.pairs and stage is Stage.CHANGE) is paired]
        todo = int(undone_MT[[months.index(month) for month in chosen]].sum())
        read += todo * _map_bytes_read(job, stage, paired=paired)
        done = _some_done(stage, progress, frozenset(chosen)) if todo else []
        each = sum(done) / len(done) if done else _map_seconds(job, stage, paired=paired)
        seconds += todo * each
    return read, seconds


def _map_seconds(job: Job, stage: Stage, *, paired: bool) -> float:
    """Of one task, about."""
    seconds = 0.0
    if stage is Stage.MAP or paired:
        seconds += SECONDS_PER_MPX[stage] * _network_pixels(job, stage) / 1e6
    if stage is Stage.CHANGE and "urban" in job.cards:
        seconds += SECONDS_PER_STATE_MPX * job.spec.grid.tile**2 / 1e6
    return seconds


def _asked(job: Job, stage: Stage, progress: Progress) -> list[Task]:
    return [task for task in job.tasks(stage) if task in progress.wanted]


def _some_done(stage: Stage, progress: Progress, months: frozenset[Month]) -> list[float]:
    """Seconds that tasks of some months took which are done, of some where there are many."""
    known = (task for task in progress.ledger.tasks(stage) if task.month in months)
    receipts = (progress.receipt(task) for task in known if progress.done(task))
    return [r.seconds for r in islice(receipts, SAMPLE) if r is not None]


def _network_pixels(job: Job, stage: Stage) -> int:
    """Pixels that go through the networks of one task: halos, members and orientations."""
    card, core = card_of(job, stage), job.core
    if card is None:
        return 0
    windows = (-(-job.spec.grid.tile // core)) ** 2
    return windows * (core + 2 * card.halo) ** 2 * card.members * (8 if card.tta == "d4" else 1)


def _map_bytes_read(job: Job, stage: Stage, *, paired: bool) -> int:
    """Bytes that one task reads: the cube with its halo, the urban series, the states before."""
    card, tile = card_of(job, stage), job.spec.grid.tile
    read = 0
    if card is not None and (stage is Stage.MAP or paired):
        dates = 1 if stage is Stage.MAP else 2
        cube = {v.name: v.itemsize for v in job.layouts[Stage.COMPOSE].variables}
        read += dates * (tile + 2 * card.halo) ** 2 * (cube["s2"] + cube["s1"])
    if stage is Stage.CHANGE and "urban" in job.cards:
        months = len(job.spec.period) if paired else 1
        read += tile**2 * (months + 1 + state_bytes())
    return read


def check(plan: Plan) -> None:
    """Refuse what cannot fit.

    Raises
    ------
    PlanError
        Naming the memory or the disk that is too small.
    """
    for stage, part in plan.stages.items():
        of_each = part.memory_per_task - part.memory_in_turn
        need = plan.lanes * of_each + part.memory_in_turn + WORKER_BYTES
        if part.todo and need > plan.memory_per_worker:
            many = plan.lanes > 1
            tasks = f"{plan.lanes} {stage} tasks do" if many else f"a {stage} task does"
            raise PlanError(
                explain(
                    f"{tasks} not fit into a worker's memory",
                    expected=f"at least {need / 1e9:.1f} GB",
                    got=f"{plan.memory_per_worker / 1e9:.1f} GB",
                    do="Raise workers.memory, or lower "
                    f"{'workers.lanes or ' if many else ''}grid.tile, in the spec.",
                )
            )
    if plan.bytes_written > plan.disk_free:
        raise PlanError(
            explain(
                f"the products do not fit on the disk of {plan.output}",
                expected=f"{_megabytes(plan.bytes_written)} free",
                got=_megabytes(plan.disk_free),
                do="Choose another --output, a smaller area, or fewer months.",
            )
        )


def _megabytes(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"


def _disk_free(folder: Path) -> int:
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    try:
        return shutil.disk_usage(there).free
    except OSError as err:
        raise StoreError(explain(f"cannot look at {there}: {err.strerror}")) from None
