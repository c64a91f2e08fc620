"""A run from its folder to its end: stage by stage through a bounded window, and what is kept.

It knows nothing of pixels. A task that fails does not stop the others: it is tried again where its
error may pass, and reported with its reason where not. What was done when a run is stopped, or
killed, is done: the next one begins with what its receipts leave open.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

from cdscale import mosaic, mosaic_check
from cdscale.cluster import Place, connect
from cdscale.cluster.errands import each
from cdscale.errors import PlanError, StoreError, explain
from cdscale.integrity import Findings, clear_away
from cdscale.months import Month
from cdscale.progress import EVERYTHING, Progress, Selection
from cdscale.publication import Publication
from cdscale.spec.job import Job
from cdscale.spec.task import Stage
from cdscale.store import Ledger, Store, create, exists, keep_job, lay_out_again, mend
from cdscale.window import Allowance, Outcome, Try, Watcher, Window

__all__ = [
    "Allowance",
    "Outcome",
    "Watcher",
    "carry_out",
    "conclude",
    "execute",
    "finished",
    "prepared",
    "renew_overviews",
    "repair",
    "run_stage",
]

HERE_PIXELS = 2**26
"""Of so many pixels overviews are made without starting a cluster for them alone: they take some
16 seconds."""


def execute(job: Job, cluster: str, watcher: Watcher, selection: Selection = EVERYTHING) -> Outcome:
    """Do what is left of a run: :func:`prepared` and :func:`carry_out`.

    Parameters
    ----------
    job : Job
        From :func:`cdscale.plan.freeze`.
    cluster : str
        See :func:`cdscale.cluster.connect`.
    watcher : Watcher
        Follows the progress.
    selection : Selection
        What of the run is wanted.

    Raises
    ------
    PlanError
        When another run holds the output folder, or there is no cluster.
    SpecError
        When the selection names what the run does not have.
    StoreError
        When a store was made with another spec, or cannot be written.
    """
    with prepared(job, selection) as progress:
        return carry_out(progress, cluster, watcher)


def carry_out(progress: Progress, cluster: str, watcher: Watcher) -> Outcome:
    """Do what is left of a run that has been prepared, stage by stage, and its overviews.

    Where no more than some overviews are left, :func:`prepared` makes them without a cluster.

    Raises
    ------
    PlanError
        When there is no cluster, or it goes away.
    StoreError
        When overviews meet a damaged shard.
    """
    outcome, job = Outcome(), progress.job
    todo = not progress.finished
    if todo or mosaic.left(progress) > HERE_PIXELS:
        with connect(cluster, job.spec.workers, job.spec.folder / "run") as place:
            allowance = Allowance(job)
            for stage in job.stages if todo else ():
                outcome.add(run_stage(progress, stage, place, watcher, allowance=allowance))
            conclude(progress, place, watcher)
    return outcome


def conclude(
    progress: Progress, place: Place | None = None, watcher: Watcher | None = None
) -> None:
    """Publish what is done, and bring overviews up to it; done twice, it does nothing more.

    Parameters
    ----------
    progress : Progress
        Of the run, which is :func:`prepared`.
    place : Place, optional
        The cluster on whose workers overviews are made; without it in this process.
    watcher : Watcher, optional
        Follows the workers.

    Raises
    ------
    PlanError
        When the cluster is gone.
    StoreError
        When a shard is damaged.
    """
    job = progress.job
    progress.review(Stage.COMPOSE)
    for stage in job.stages:
        Publication.open(progress, stage).settle()
    mosaic.finish(progress, mosaic.here if place is None else _errands(progress, place, watcher))


def _errands(progress: Progress, place: Place, watcher: Watcher | None) -> mosaic.Each:
    """Has overviews made by workers, and somebody told of each."""
    shards = 0 if watcher is None else mosaic.shards_left(progress)
    if watcher is None or not shards:
        return partial(each, place)
    tell, numbers = watcher.overviews, count()
    tell(made=next(numbers), shards=shards)
    return partial(
        each, place, held=watcher.held, done=lambda: tell(made=next(numbers), shards=shards)
    )


def repair(
    job: Job, stages: tuple[Stage, ...], found: Findings, cluster: str, watcher: Watcher
) -> tuple[Outcome, Progress, tuple[str, ...]]:
    """Make again exactly what an inspection found at fault, and remove what belongs to nobody.

    Parameters
    ----------
    job, stages
        From :func:`cdscale.integrity.run_of`.
    found : Findings
        From :func:`cdscale.integrity.inspect`.
    cluster : str
        See :func:`cdscale.cluster.connect`.
    watcher : Watcher
        Follows the progress.

    Returns
    -------
    tuple
        What was done, how far the run is, and the tasks that only another run can make again.

    Raises
    ------
    PlanError
        When another run holds the folder, or there is no cluster.
    """
    own = frozenset(task for stage in job.stages for task in job.tasks(stage))
    with prepared(job, Selection(tasks=own.intersection(found.tasks), redo=True)) as progress:
        others = clear_away(job, found)
        for stage in stages:
            if any(f.store == job.store_path(stage).name and not f.task for f in found.faults):
                lay_out_again(job.store_path(stage))
        for stage, month in found.torn(stages):
            mosaic.forget(job, stage, month)
        outcome = carry_out(progress, cluster, watcher)
        outcome.mended = sum(mosaic_check.mend(progress, stage) for stage in stages)
        return outcome, progress, others


def renew_overviews(
    job: Job, stages: tuple[Stage, ...], cluster: str = "", *, redo: bool = False
) -> dict[Stage, mosaic.Built]:
    """Bring the overviews of stores up to what they have published; see :mod:`cdscale.mosaic`.

    Parameters
    ----------
    job, stages
        From :func:`cdscale.integrity.run_of`.
    cluster : str
        See :func:`cdscale.cluster.connect`; empty: in this process.
    redo : bool
        Make all of them again.

    Raises
    ------
    PlanError
        When a run holds the folder, or there is no cluster.
    StoreError
        When a shard is damaged.
    """
    with _only_run(job):
        if not cluster:
            return mosaic.renew(job, stages, redo=redo)
        with connect(cluster, job.spec.workers, job.spec.folder / "run") as place:
            return mosaic.renew(job, stages, partial(each, place), redo=redo)


def finished(job: Job) -> bool:
    """Whether every task of a run is done."""
    return Progress.of(job).finished


@contextmanager
def prepared(job: Job, selection: Selection = EVERYTHING) -> Iterator[Progress]:
    """Hold the output folder, lay out its stores or let them grow, and tidy up after killed runs.

    What is then done is published when the block ends as it should, and goes into the overviews;
    where it does not, months that were taken back stay so until the next run.

    Raises
    ------
    PlanError
        When another run holds the folder.
    SpecError
        When the selection names what the run does not have.
    StoreError
        When a store was made with another spec, or the folder cannot be written.
    """
    selection.check(job)
    with _only_run(job):
        for stage in job.stages:
            mend(job.store_path(stage))
        stores = [_lay_out(job, stage) for stage in job.stages]
        keep_job(job)
        _sweep(stores)
        progress = Progress.of(job, selection)
        progress.start_over()
        try:
            yield progress
        finally:
            _sweep(stores)
        conclude(progress)


def _lay_out(job: Job, stage: Stage) -> Store:
    """The store of a stage; where it is new, receipts of an older one no longer count."""
    path = job.store_path(stage)
    if not exists(path):
        Ledger(job.ledger_folder).forget(stage)
    return create(path, job.layouts[stage])


@contextmanager
def _only_run(job: Job) -> Iterator[None]:
    path = job.spec.folder / "run" / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as err:
        raise StoreError(
            explain(
                f"cannot write to {job.spec.folder}: {err.strerror}",
                do="Choose an --output folder that can be written.",
            )
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PlanError(
                explain(
                    f"another run is at work in {job.spec.folder}",
                    do="Wait for it, stop it, or choose another --output.",
                )
            ) from None
        yield


def _sweep(stores: Iterable[Store]) -> None:
    for store in stores:
        store.sweep()


def run_stage(
    progress: Progress,
    stage: Stage,
    place: Place,
    watcher: Watcher,
    month: Month | None = None,
    allowance: Allowance | None = None,
) -> Outcome:
    """Do what is left of one stage, or of one month of it.

    Tasks go out in the plan's order, a bounded number for each slot at a time. A month is taken
    back from readers before the first of its tasks goes out, and theirs when the last one of it is
    done.

    Parameters
    ----------
    progress : Progress
        Of the run.
    stage : Stage
        Which.
    place : Place
        From :func:`cdscale.cluster.connect`.
    watcher : Watcher
        Follows.
    month : Month, optional
        Only this one.
    allowance : Allowance, optional
        What is left of the budget of the whole run; by default this call has one of its own.

    Raises
    ------
    PlanError
        When the cluster is gone.
    """
    started, job = time.perf_counter(), progress.job
    progress.review(stage)
    agenda = progress.agenda(stage, month)
    ready, waiting = len(agenda.ready), len(agenda.waiting)
    # Of a series only the first month can start; the others follow.
    follow = waiting if any(job.follower(task) for task in agenda.ready) else 0
    watcher.begin(stage, todo=ready + follow, done=len(agenda.done), dashboard=place.dashboard)
    window = Window(progress, stage, place, watcher, allowance or Allowance(job))
    tries = (Try(task, mark) for task, mark in agenda.ready.items())
    window.work_off(tries, agenda.waiting)
    outcome = window.outcome
    outcome.seconds = time.perf_counter() - started
    return outcome
