"""Sends tasks to a cluster through a bounded window, and keeps the ledger.

It knows nothing of pixels. A task that fails does not stop the others: it is tried again where its
error may pass, and reported with its reason where not. What was done when a run is stopped, or
killed, is done: the next one begins with what its receipts leave open.
"""

from __future__ import annotations

import fcntl
import random
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from distributed import CancelledError, Future, KilledWorker, wait

from cdscale.cluster import GPU, Place, connect
from cdscale.errors import PlanError, ReadError, StoreError, explain
from cdscale.integrity import Findings, clear_away
from cdscale.months import Month
from cdscale.progress import EVERYTHING, Progress, Selection
from cdscale.publication import Publication
from cdscale.spec.base import fingerprint
from cdscale.spec.job import Job
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.stages import perform_from
from cdscale.store import Ledger, Store, create, exists, lay_out_again, mend, write_json

WINDOW = 3
"""Tasks in flight for each slot of the cluster: enough that no worker waits, few enough that the
scheduler's memory does not grow with the run."""
LONGEST_PAUSE = 30.0
"""Seconds before a task is tried again, at most."""


class Watcher(Protocol):
    """Whoever wants to follow a run."""

    def begin(self, stage: Stage, *, todo: int, done: int, dashboard: str) -> None:
        """A stage begins."""
        ...

    def done(self, task: Task, receipt: Receipt) -> None:
        """A task is done."""
        ...

    def again(self, task: Task, reason: str) -> None:
        """A task failed and will be tried again."""
        ...

    def failed(self, task: Task, reason: str) -> None:
        """A task failed for good."""
        ...


@dataclass
class Outcome:
    """What one call did."""

    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    incomplete: dict[str, dict[str, str]] = field(default_factory=dict)
    """Tasks done without some scenes that could not be read."""
    waiting: int = 0
    """Tasks whose inputs are missing because another task failed."""
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.failed or self.incomplete or self.waiting)

    def add(self, other: Outcome) -> None:
        """Take in what another call did."""
        self.done += other.done
        self.failed |= other.failed
        self.incomplete |= other.incomplete
        self.waiting += other.waiting
        self.seconds += other.seconds


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
    """Do what is left of a run that has been prepared, stage by stage.

    Raises
    ------
    PlanError
        When there is no cluster, or it goes away.
    """
    outcome = Outcome()
    if not progress.finished:
        with connect(cluster, progress.job.spec.workers) as place:
            for stage in progress.job.stages:
                outcome.add(run_stage(progress, stage, place, watcher))
    return outcome


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
        return carry_out(progress, cluster, watcher), progress, others


def finished(job: Job) -> bool:
    """Whether every task of a run is done."""
    return Progress.of(job).finished


@contextmanager
def prepared(job: Job, selection: Selection = EVERYTHING) -> Iterator[Progress]:
    """Hold the output folder, lay out its stores or let them grow, and tidy up after killed runs.

    What is then done is published when the block ends as it should; where it does not, months that
    were taken back stay so until the next run.

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
        stores = {stage: _lay_out(job, stage) for stage in job.stages}
        _keep_job(job)
        _sweep(stores.values())
        progress = Progress.of(job, selection)
        progress.start_over()
        try:
            yield progress
        finally:
            _sweep(stores.values())
        progress.review(Stage.COMPOSE)
        for stage, store in stores.items():
            Publication(progress, stage, store).settle()


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


def _keep_job(job: Job) -> None:
    path = job.spec.folder / "run" / "job.json"
    try:
        kept = Job.model_validate_json(path.read_text(encoding="utf-8"))
        same = fingerprint(kept) == fingerprint(job.public)
    except (OSError, ValueError):
        same = False
    if not same:
        write_json(path, job.public)


def _sweep(stores: Iterable[Store]) -> None:
    for store in stores:
        store.sweep()


def run_stage(
    progress: Progress, stage: Stage, place: Place, watcher: Watcher, month: Month | None = None
) -> Outcome:
    """Do what is left of one stage, or of one month of it.

    Tasks go out in the plan's order, at most :data:`WINDOW` for each slot at a time. A month is
    taken back from readers before the first of its tasks goes out, and theirs when the last one of
    it is done.
    """
    started = time.perf_counter()
    progress.review(stage)
    agenda = progress.agenda(stage, month)
    watcher.begin(stage, todo=len(agenda.ready), done=len(agenda.done), dashboard=place.dashboard)
    window = _Window(progress, stage, place, watcher)
    window.work_off(deque(_Try(task, mark) for task, mark in agenda.ready.items()))
    outcome = window.outcome
    outcome.waiting = len(agenda.waiting)
    outcome.seconds = time.perf_counter() - started
    return outcome


@dataclass(frozen=True)
class _Try:
    """One attempt at a task."""

    task: Task
    fingerprint: str
    attempt: int = 0
    not_before: float = 0.0

    def next(self) -> _Try:
        pause = min(LONGEST_PAUSE, 0.5 * 2.0**self.attempt) * random.uniform(0.5, 1.0)
        later = time.monotonic() + pause
        return _Try(self.task, self.fingerprint, self.attempt + 1, later)


class _Window:
    """The bounded number of tasks in flight."""

    def __init__(self, progress: Progress, stage: Stage, place: Place, watcher: Watcher) -> None:
        self.progress = progress
        self.job = progress.job
        self.place = place
        self.watcher = watcher
        self.publication = Publication.open(progress, stage)
        self.outcome = Outcome()
        # A scheduler that serves several runs must not take one's task for another's.
        self._token = uuid.uuid4().hex[:8]
        self._flying: dict[Future[Receipt], _Try] = {}

    def work_off(self, queue: deque[_Try]) -> None:
        """Send everything, and wait for it; on an interrupt, drop what flies and leave.

        Raises
        ------
        PlanError
            When the cluster is gone.
        """
        try:
            while queue or self._flying:
                with _cluster_answers():
                    self._send_ready(queue)
                    landed = self._landed()
                for future in landed:
                    self._settle(self._flying.pop(future), future, queue)
        except _ClusterLost as err:
            raise PlanError(
                explain(
                    "the cluster does not answer any more",
                    got=str(err)[:200] or type(err.__cause__).__name__,
                    do="What is done is kept: start the cluster again, and run again.",
                )
            ) from None
        except BaseException:
            self.place.client.cancel(list(self._flying), force=True)
            raise

    def _send_ready(self, queue: deque[_Try]) -> None:
        room = WINDOW * self.place.slots - len(self._flying)
        now = time.monotonic()
        for _ in range(len(queue)):
            if room <= 0:
                return
            attempt = queue.popleft()
            if attempt.not_before > now:
                queue.append(attempt)
                continue
            self.publication.begin(attempt.task)
            self._flying[self._send(attempt)] = attempt
            room -= 1

    def _send(self, attempt: _Try) -> Future[Receipt]:
        wants_gpu = self.place.gpu and attempt.task.stage is not Stage.COMPOSE
        return self.place.client.submit(
            perform_from,
            attempt.task,
            str(self.job.spec.folder.resolve() / "run"),
            self.job.digest,
            attempt.fingerprint,
            key=(*attempt.task.key, f"{self._token}-{attempt.attempt}"),
            resources=GPU if wants_gpu else None,
            retries=0,
            pure=False,
        )

    def _landed(self) -> list[Future[Receipt]]:
        if not self._flying:
            time.sleep(0.05)
            return []
        try:
            with self.place.client.as_current():
                wait(list(self._flying), timeout=1.0, return_when="FIRST_COMPLETED")
        except TimeoutError:
            return []
        return [future for future in self._flying if future.done()]

    def _settle(self, attempt: _Try, future: Future[Receipt], queue: deque[_Try]) -> None:
        task = attempt.task
        error = future.exception() if future.status != "finished" else None
        if error is None and future.status == "finished":
            receipt = future.result()
            if receipt.may_pass and attempt.attempt < self.job.spec.workers.retries:
                queue.append(attempt.next())
                self.watcher.again(task, next(iter(receipt.failed.values())))
                return
            self.outcome.done += 1
            if not receipt.complete:
                self.outcome.incomplete[str(task)] = receipt.failed
            self.progress.record(receipt)
            self.publication.landed(task)
            self.watcher.done(task, receipt)
            return
        reason = _reason(error)
        if _may_pass(error) and attempt.attempt < self.job.spec.workers.retries:
            queue.append(attempt.next())
            self.watcher.again(task, reason)
            return
        self.progress.lost(task, reason)
        self.outcome.failed[str(task)] = reason
        self.watcher.failed(task, reason)


class _ClusterLost(Exception):
    """The scheduler is gone, and with it everything in flight."""


@contextmanager
def _cluster_answers() -> Iterator[None]:
    """Tell the end of the cluster from the end of a task: what is in flight is called off."""
    try:
        yield
    except (CancelledError, OSError) as err:
        raise _ClusterLost(" ".join(str(err).split())) from err


def _may_pass(error: BaseException | None) -> bool:
    """Whether another try of a task may end better."""
    if isinstance(error, ReadError):
        return not error.permanent
    return isinstance(error, ConnectionError | TimeoutError)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, KilledWorker):
        return "its worker died several times on it; it may need more memory than a worker has"
    text = " ".join(str(error).split())
    if isinstance(error, ReadError | StoreError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
