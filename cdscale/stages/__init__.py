"""The verbs of a run: ``compose``, ``map_urban``, ``detect_change``; a task in, a receipt out.

Each wires a reader or a network to the stores and leaves the pixels to ``kernels``. A task is
idempotent: done twice, it writes the same bytes.
"""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from cdscale.pixels import Reader, make_reader
from cdscale.spec.job import Job
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.stages import lanes
from cdscale.stages.change import detect_change
from cdscale.stages.cube import compose
from cdscale.stages.ending import ended_without_gpu
from cdscale.stages.maps import map_urban
from cdscale.stages.work import Blocks, Work
from cdscale.store import Ledger, Store, read_job_by_month

__all__ = ["VERBS", "compose", "detect_change", "map_urban", "perform", "perform_from"]

VERBS: dict[Stage, Callable[[Work], None]] = {
    Stage.COMPOSE: compose,
    Stage.MAP: map_urban,
    Stage.CHANGE: detect_change,
}


def perform(task: Task, job: Job, fingerprint: str, reader: Reader | None = None) -> Receipt:
    """Do one task: make its blocks, write its shards, then its receipt.

    Several may be under way in one process, on threads of their own; see ``lanes``.

    Parameters
    ----------
    task : Task
        What to do.
    job : Job
        The run that it belongs to.
    fingerprint : str
        Of everything that decides the pixels; kept in the receipt.
    reader : Reader, optional
        Where pixels come from; the library that the spec names unless told otherwise.

    Raises
    ------
    TaskError
        When what was written does not read back.
    """
    started = time.perf_counter()
    work = Work(task, job, reader or make_reader(job.spec.reader))
    with lanes.in_hand() as lane:
        VERBS[task.stage](work)
        return _keep(work, fingerprint, started, lane)


def _keep(work: Work, fingerprint: str, started: float, lane: int) -> Receipt:
    """Write what was made, and the receipt last."""
    task, job = work.task, work.job
    store, ledger = work.store(task.stage), Ledger(job.ledger_folder)
    held = ledger.read(task)
    if held is not None and held.fingerprint == fingerprint and held.complete:
        return held  # sent twice, and the other one was faster
    ledger.void(task)
    checksums = store.write(task.tile, task.month, work.blocks)
    receipt = Receipt(
        task=str(task),
        fingerprint=fingerprint,
        checksums=checksums,
        scenes=tuple(sorted(set(work.used))),
        failed=dict(sorted(work.failed.items())),
        may_pass=work.may_pass,
        unused={id: why for id, why in sorted(work.unused.items()) if id not in work.failed},
        pixels=_pixel_counts(store, work.blocks),
        seconds=round(time.perf_counter() - started, 3),
        bytes_written=store.spec.shard_bytes,
        notes={"worker": _whose(lane)},
    )
    ledger.write(receipt)
    return receipt


def _whose(lane: int) -> str:
    """Who did a task: machine and process, and the lane where it is not the first."""
    process = f"{socket.gethostname()}:{os.getpid()}"
    return process if lane == 1 else f"{process}/{lane}"


def perform_from(task: Task, folder: str, digest: str, fingerprint: str) -> Receipt:
    """:func:`perform` for a worker, which finds the job in the run's folder."""
    job = _job(folder, digest)
    with ended_without_gpu(task):
        return perform(task, job, fingerprint, _reader(job.spec.reader))


@cache
def _reader(name: Literal["stackstac", "odc"]) -> Reader:
    # One a process: it keeps what lets it read. rasterio hides this warning by a filter of the
    # whole process, which another lane may lift meanwhile.
    warnings.filterwarnings("ignore", "Dataset has no geotransform")
    return make_reader(name)


@lru_cache(maxsize=2)
def _job(folder: str, digest: str) -> Job:
    # The digest is part of the name under which a worker remembers a job, so that a folder whose
    # job changed is read again.
    del digest
    return read_job_by_month(Path(folder))


def _pixel_counts(store: Store, blocks: Blocks) -> dict[str, dict[str, int]]:
    counts = {}
    for variable in store.spec.variables:
        if codes := variable.meanings:
            values, number = np.unique(blocks[variable.name], return_counts=True)
            pairs = zip(values.tolist(), number.tolist(), strict=True)
            counts[variable.name] = {codes.get(v, "no_data"): n for v, n in pairs}
    return counts
