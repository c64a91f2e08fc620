"""``RunSpec`` and receipts to the tasks still to do, with bytes, memory and seconds.

A plan is data: it can be printed, priced and refused before the first byte is read.
"""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cdscale import models, scenes
from cdscale.errors import ModelError, PlanError, SpecError, StoreError, explain
from cdscale.kernels import States
from cdscale.months import Month
from cdscale.progress import EVERYTHING, Progress, Selection
from cdscale.spec.base import Frozen
from cdscale.spec.card import ModelCard
from cdscale.spec.job import STORES, Job
from cdscale.spec.product import state_variables
from cdscale.spec.run import RunSpec
from cdscale.spec.scene import SceneTable
from cdscale.spec.task import Stage, Task
from cdscale.store import exists, grown, read_job, read_spec
from cdscale.survey import Survey

WORKER_BYTES = 850_000_000
"""Of a worker with every library loaded and no work, and GDAL's cache of blocks full."""
REMOTE_BYTES_PER_PIXEL = 64
"""Of a tile whose scenes come over a network: sixteen assets on their way, each held as it lies in
its file."""
NETWORK_BYTES_PER_PIXEL = 2000
"""Of activations, at most, in a window of 512 pixels and its halo; see inference.Tiling."""
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
STATE_BYTES_PER_PIXEL = 160
"""Of a strip of pixels that goes on by a month, at most."""


# ---------------------------------------------------------------------------------- what to do


def freeze(spec: RunSpec, *, refresh: bool = False) -> Job:
    """Spec, scenes and cards of a run; the scenes as found by its first search.

    Parameters
    ----------
    spec : RunSpec
        What is asked for.
    refresh : bool
        Ask the catalogue again, although the run has asked before.

    Raises
    ------
    UserError
        When the spec does not fit together, the catalogue has nothing, or a card refuses.
    """
    spec.tiles()
    spec = _with_earlier_pairs(spec)
    choices = {name: getattr(spec.models, name) for name in ("urban", "change")}
    cards = {name: _card(choice.card) for name, choice in choices.items() if choice is not None}
    for name, card in cards.items():
        card.refuse_precision(choices[name].precision, force=choices[name].force)
    table = None if refresh else _frozen_scenes(spec)
    if table is None:
        table = scenes.search(spec)
    for name, card in cards.items():
        card.refuse(
            s2_bands=spec.cube.s2_bands,
            simulated=table.simulated,
            force=getattr(spec.models, name).force,
        )
        _halo_fits(spec, card)
    return Job(spec=spec, scenes=table, cards=cards)


def _with_earlier_pairs(spec: RunSpec) -> RunSpec:
    """A spec that names no pairs keeps those that its store compares already.

    A period that grows month by month then adds a map each time, and the older maps stay part of
    the run: they are made anew where a scene of their months comes late.
    """
    now, path = spec.pairs(), spec.folder / STORES[Stage.CHANGE]
    if spec.models.change is None or spec.models.change.pairs or not exists(path):
        return spec
    made = read_spec(path).reference
    stored = {Month.parse(later): Month.parse(earlier) for later, earlier in made.items()}
    kept = {m: e for m, e in stored.items() if m in spec.period and e in spec.period}
    if kept.keys() <= now.keys():
        return spec
    pairs = tuple(f"{earlier},{later}" for later, earlier in sorted((kept | now).items()))
    change = spec.models.change.model_copy(update={"pairs": pairs})
    models = spec.models.model_copy(update={"change": change})
    return spec.model_copy(update={"models": models})


def _card(name: str) -> ModelCard:
    """A card whose weights are there: workers would miss them only after the cube is made."""
    card = models.load_card(name)
    weights = models.folder_of(name) / Path(card.weights).name
    try:
        got = models.sha256_of(weights)
    except OSError as err:
        got = str(err.strerror)
    if got != card.weights_sha256:
        raise ModelError(
            explain(
                f"the weights of model {card.name} are not what its card was written for",
                expected=f"{weights} with the sha256 {card.weights_sha256}",
                got=got,
                do="Train it with its recipe, restore the file, or choose another model.",
            )
        )
    return card


def _frozen_scenes(spec: RunSpec) -> SceneTable | None:
    """The table of an earlier run in the same folder, if it searched for the same."""
    try:
        table = read_job(spec.folder / "run").scenes
    except (OSError, ValueError, SpecError, StoreError):
        return None
    return table if table.search == scenes.search_key(spec) else None


def _halo_fits(spec: RunSpec, card: ModelCard) -> None:
    if card.halo > spec.grid.tile or spec.grid.tile % card.stride:
        raise PlanError(
            explain(
                f"model {card.name} does not fit tiles of {spec.grid.tile} pixels",
                expected=f"at least {card.halo} pixels, and a multiple of {card.stride}",
                got=spec.grid.tile,
                do="Set grid.tile in the spec.",
            )
        )


# ------------------------------------------------------------------------------- what it costs


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
        memory_per_task=_memory(job, stage, survey),
        memory_in_turn=_in_turn(job, stage),
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


def _card_of(job: Job, stage: Stage) -> ModelCard | None:
    return job.cards.get("urban" if stage is Stage.MAP else "change")


def _network_pixels(job: Job, stage: Stage) -> int:
    """Pixels that go through the networks of one task: halos, members and orientations."""
    card, core = _card_of(job, stage), job.core
    if card is None:
        return 0
    windows = (-(-job.spec.grid.tile // core)) ** 2
    return windows * (core + 2 * card.halo) ** 2 * card.members * (8 if card.tta == "d4" else 1)


def _map_bytes_read(job: Job, stage: Stage, *, paired: bool) -> int:
    """Bytes that one task reads: the cube with its halo, the urban series, the states before."""
    card, tile = _card_of(job, stage), job.spec.grid.tile
    read = 0
    if card is not None and (stage is Stage.MAP or paired):
        dates = 1 if stage is Stage.MAP else 2
        cube = {v.name: v.itemsize for v in job.layouts[Stage.COMPOSE].variables}
        read += dates * (tile + 2 * card.halo) ** 2 * (cube["s2"] + cube["s1"])
    if stage is Stage.CHANGE and "urban" in job.cards:
        months = len(job.spec.period) if paired else 1
        read += tile**2 * (months + 1 + _state_bytes())
    return read


def _state_bytes() -> int:
    """Of a pixel and month, what the month after goes on from."""
    sizes = {variable.name: variable.itemsize for variable in state_variables()}
    return sum(sizes[name] for name in States.names())


def _optical_memory(job: Job, number: int) -> int:
    """Bytes of the optical side of a compose task, at most."""
    pixels, bands = job.spec.grid.tile**2, len(job.spec.cube.s2_bands)
    # Of each pass its look, its source and two masks; the composite, its flags and counts, and the
    # copies of one band as it is packed.
    held = pixels * (4 * number + 4 * bands + 10 + 16)
    block = pixels * bands * 4 * 2
    if job.spec.cube.s2 == "least_cloudy":
        return held + job.lanes(job.scenes.scenes) * block
    # A strip of all observations, sorted or as steps of its own, and what is read for it.
    rows = job.strip_rows(number)
    share = rows / job.spec.grid.tile
    stack = int(number * bands * 4 * pixels * share)
    # A medoid sums distances for each of them, between two at a time.
    sums = int(share * pixels * (17 * number + 28 * bands)) if job.spec.cube.s2 == "medoid" else 0
    read = int(job.lanes(job.scenes.scenes) * block * share)
    return held + 2 * stack + stack // 2 + sums + read


def _radar_memory(job: Job, number: int) -> int:
    """Bytes of the radar side of a compose task, at most, with the optical blocks kept."""
    cube, tile = job.spec.cube, job.spec.grid.tile
    bands = len(cube.s1_bands)
    margin = cube.s1_border_px + cube.s1_speckle_px // 2
    keys = {s.direction if cube.s1_by == "direction" else s.orbit for s in job.scenes.scenes}
    # Of each orbit a sum, a count and a mean; a pass as it is read and as it is fused, and masks.
    of_orbits = tile**2 * min(len(keys), max(1, number)) * bands * (8 + 2 + 8 + 8)
    of_passes = (tile + 2 * margin) ** 2 * (bands * 4 * 3 + 6)
    filtering = (tile + 2 * margin) ** 2 * 8 * 8 if cube.s1_speckle_px else 0
    return of_orbits + job.lanes(job.scenes.scenes) * of_passes + filtering + tile**2 * 12


def task_memory(job: Job, stage: Stage) -> int:
    """Bytes that one task of a stage holds at most, beside the libraries."""
    return _memory(job, stage, Survey.of(job))


def _memory(job: Job, stage: Stage, survey: Survey) -> int:
    tile = job.spec.grid.tile
    pixels = tile**2
    layout = job.layouts[stage]
    if stage is Stage.COMPOSE:
        busiest = survey.busiest
        most = max(_optical_memory(job, busiest["s2"]), _radar_memory(job, busiest["s1"]))
        return most + _in_turn(job, stage) + 2 * layout.shard_bytes
    total = 2 * layout.shard_bytes + _in_turn(job, stage)
    card = _card_of(job, stage)
    if card is not None:
        dates = 1 if stage is Stage.MAP else 2
        side = tile + 2 * card.halo
        bands = len(job.spec.cube.s2_bands) + len(card.s2_bands) + 2 * len(card.s1_bands)
        total += dates * side**2 * bands * 4
    if stage is Stage.CHANGE and "urban" in job.cards:
        if job.pairs:
            total += pixels * len(job.spec.period) + 256 * tile * len(job.spec.period) * 32
        # Map and states of the month before, and a strip on its way.
        total += pixels * (2 + _state_bytes()) + 256 * tile * STATE_BYTES_PER_PIXEL
    return total


def _in_turn(job: Job, stage: Stage) -> int:
    """Bytes that only one task of a worker has at a time, however many it has in hand.

    What is on its way over a network is bounded for the process, and the device is one task's.
    """
    if stage is Stage.COMPOSE:
        remote = any(scene.remote for scene in job.scenes.scenes)
        return job.spec.grid.tile**2 * REMOTE_BYTES_PER_PIXEL if remote else 0
    card = _card_of(job, stage)
    return (job.core + 2 * card.halo) ** 2 * NETWORK_BYTES_PER_PIXEL if card is not None else 0


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
