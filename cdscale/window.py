"""Tasks in flight: a bounded number of them, each tried again where its error may pass.

A task whose worker died under it several times may have been killed by it, or by another one on the
same worker: it is tried once more when nothing else is in flight. Towards the end of a stage, when
slots are idle, a task that takes far longer than the others is sent a second time; whichever comes
first counts, since both write the same bytes and a shard appears at once or not at all.

A task that goes on from the month before of its own tile is sent as soon as that one has landed:
tiles do not wait for each other.
"""

from __future__ import annotations

import json
import queue
import random
import statistics
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from distributed import CancelledError, Future, KilledWorker

from cdscale.cluster import ANSWER_SECONDS, GPU, Place, Slots, gone
from cdscale.errors import ReadError, StoreError
from cdscale.progress import Progress
from cdscale.publication import Publication
from cdscale.spec.job import Job
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.stages import perform_from

WINDOW = 4
"""Tasks in flight for each slot of the cluster, at most: enough that no worker waits, few enough
that the scheduler's memory does not grow with the run. When half of them have come back the window
is filled up at once, for a request of many tasks costs little more than one of one."""
LONGEST_PAUSE = 30.0
"""Seconds before a task is tried again, at most."""
TOGETHER_SECONDS = 0.02
"""How long others may follow the first of several tasks that end at once: their receipts then come
in one request."""
GATHER_SECONDS = 60.0
"""How long to wait for receipts that are there: a worker may die with them, and their tasks are
done again only where there is another one."""
SLOW = 60.0
"""Seconds from which a task may count as slow, if it also takes ``SLOW_TIMES`` as long as half of
the others."""
SLOW_TIMES = 5.0


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

    def held(self, reason: str) -> None:
        """Nothing can be done for now."""
        ...

    def failed(self, task: Task, reason: str) -> None:
        """A task failed for good."""
        ...

    def overviews(self, *, made: int, shards: int) -> None:
        """Of so many shards of overviews so many are made; told once before the first."""
        ...


@dataclass
class Outcome:
    """What one call did."""

    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    incomplete: dict[str, dict[str, str]] = field(default_factory=dict)
    """Tasks done without some scenes that could not be read."""
    waiting: int = 0
    """Tasks whose inputs are missing because another task failed, or was not begun."""
    seconds: float = 0.0
    unbegun: int = 0
    """Tasks that were not sent, since the budget was spent."""
    stopped: str = ""
    """Which budget that was."""
    mended: int = 0
    """Shards of overviews that were made again, since they were not what they should be."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.failed or self.incomplete or self.waiting or self.unbegun)

    def add(self, other: Outcome) -> None:
        """Take in what another call did."""
        self.done += other.done
        self.failed |= other.failed
        self.incomplete |= other.incomplete
        self.waiting += other.waiting
        self.seconds += other.seconds
        self.unbegun += other.unbegun
        self.stopped = self.stopped or other.stopped
        self.mended += other.mended


@dataclass
class Allowance:
    """What a run may still spend of its budget."""

    job: Job
    started: float = field(default_factory=time.monotonic)
    written: int = 0
    """Bytes of pixels, before compression."""

    @property
    def spent(self) -> str:
        """Which budget is spent; empty while there is some left."""
        budget = self.job.spec.budget
        if budget.hours is not None and time.monotonic() - self.started > budget.hours * 3600:
            return f"budget.hours of {budget.hours:g}"
        if budget.gigabytes is not None and self.written >= budget.gigabytes * 1e9:
            return f"budget.gigabytes of {budget.gigabytes:g}"
        return ""


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt at a task."""

    task: Task
    fingerprint: str
    attempt: int = 0
    not_before: float = 0.0
    sent: float = 0.0
    alone: bool = False
    """Sent with nothing else in flight, since workers died under it."""

    def next(self) -> Try:
        """The one after it, after a pause that grows and is never the same."""
        pause = min(LONGEST_PAUSE, 0.5 * 2.0**self.attempt) * random.uniform(0.5, 1.0)
        return Try(self.task, self.fingerprint, self.attempt + 1, time.monotonic() + pause)


class Window:
    """The bounded number of tasks in flight.

    Parameters
    ----------
    progress : Progress
        Takes in what is done, and what is lost.
    stage : Stage
        Which stage the tasks are of.
    place : Place
        Where they go.
    watcher : Watcher
        Is told.
    allowance : Allowance
        What may be spent.
    """

    def __init__(
        self,
        progress: Progress,
        stage: Stage,
        place: Place,
        watcher: Watcher,
        allowance: Allowance,
    ) -> None:
        self.progress = progress
        self.job = progress.job
        self.stage = stage
        self.place = place
        self.watcher = watcher
        self.allowance = allowance
        self.publication = Publication.open(progress, stage)
        self.outcome = Outcome()
        # A scheduler that serves several runs must not take one's task for another's.
        self._token = uuid.uuid4().hex[:8]
        self._sent = 0
        self._todo: deque[Try] = deque()
        self._waiting: set[Task] = set()
        self._later: list[Try] = []
        self._suspects: deque[Try] = deque()
        self._flying: dict[Future[Receipt], Try] = {}
        self._arrived: queue.SimpleQueue[Future[Receipt]] = queue.SimpleQueue()
        self._took: deque[float] = deque(maxlen=200)
        self._slots = Slots(place, watcher.held)

    def work_off(self, tries: Iterable[Try], waiting: Iterable[Task] = ()) -> None:
        """Send everything, and wait for it; on an interrupt, drop what flies and leave.

        Parameters
        ----------
        tries : iterable of Try
            What can start.
        waiting : iterable of Task
            What may be able to when something of it has landed; what is still waiting at the end
            is counted in the outcome.

        Raises
        ------
        PlanError
            When the cluster is gone, or has had no worker for too long.
        """
        self._todo, self._waiting = deque(tries), set(waiting)
        try:
            while self._todo or self._later or self._suspects or self._flying:
                self._stop_if_spent()
                self._send_ready()
                self._send_slow_again()
                for future, receipt in self._landed():
                    # Not any more where it was sent twice, and the other one has just landed.
                    if future in self._flying:
                        self._settle(self._flying.pop(future), future, receipt)
            self.outcome.waiting = len(self._waiting)
        except _ClusterLost as err:
            raise gone(str(err)[:200] or type(err.__cause__).__name__) from None
        except BaseException:
            self.place.client.cancel(list(self._flying), force=True)
            raise

    # ------------------------------------------------------------------------------- sending

    def _stop_if_spent(self) -> None:
        """Send nothing more once a budget is spent; what is in flight ends as it does."""
        waiting = len(self._todo) + len(self._later) + len(self._suspects)
        if waiting and (spent := self.allowance.spent):
            self.outcome.stopped = spent
            self.outcome.unbegun += waiting
            self._todo.clear()
            self._later.clear()
            self._suspects.clear()

    def _send_ready(self) -> None:
        now, slots = time.monotonic(), self._slots_now()
        due = [attempt for attempt in self._later if attempt.not_before <= now]
        self._later = [attempt for attempt in self._later if attempt.not_before > now]
        self._todo.extendleft(reversed(due))
        if any(attempt.alone for attempt in self._flying.values()):
            return
        size = WINDOW * slots
        if len(self._flying) <= size // 2:
            room = min(size - len(self._flying), len(self._todo))
            self._send([self._todo.popleft() for _ in range(room)])
        if self._suspects and not (self._flying or self._later):
            self._send([replace(self._suspects.popleft(), alone=True)])

    def _slots_now(self) -> int:
        with _cluster_answers():
            return self._slots.now(lambda: any(map(self._on_gpu, self._flying.values())))

    def _on_gpu(self, attempt: Try) -> bool:
        return self.place.gpu and self.job.runs_network(attempt.task)

    def _send(self, attempts: list[Try]) -> None:
        """Send tasks in one request, or in two where only some of them want a GPU."""
        for attempt in attempts:
            self.publication.begin(attempt.task)
        for resources in (GPU, None):
            some = [a for a in attempts if self._on_gpu(a) is (resources is GPU)]
            if some:
                self._submit(some, resources)

    def _submit(self, attempts: list[Try], resources: dict[str, float] | None) -> None:
        names = [f"{self._token}-{self._sent + i}" for i in range(len(attempts))]
        self._sent += len(attempts)
        with _cluster_answers():
            futures = self.place.client.map(
                perform_from,
                [attempt.task for attempt in attempts],
                [str(self.job.spec.folder.resolve() / "run")] * len(attempts),
                [self.job.digest] * len(attempts),
                [attempt.fingerprint for attempt in attempts],
                key=[(*a.task.key, name) for a, name in zip(attempts, names, strict=True)],
                resources=resources,
                retries=0,
                pure=False,
            )
        now = time.monotonic()
        for future, attempt in zip(futures, attempts, strict=True):
            self._flying[future] = replace(attempt, sent=now)
            future.add_done_callback(self._arrived.put)

    def _send_slow_again(self) -> None:
        """Send a second time what is far slower than the others, where a slot has nothing to do."""
        if self._todo or self._later or not self._took:
            return
        if len(self._flying) >= self._slots_now():
            return
        limit = max(SLOW, SLOW_TIMES * statistics.median(self._took))
        flying = [attempt.task for attempt in self._flying.values()]
        for attempt in list(self._flying.values()):
            slow = time.monotonic() - attempt.sent > limit
            if slow and not attempt.alone and flying.count(attempt.task) == 1:
                self._log("slow", attempt, waited=round(time.monotonic() - attempt.sent, 1))
                self._send([attempt])
                return

    # ------------------------------------------------------------------------------- landing

    def _landed(self) -> list[tuple[Future[Receipt], Receipt | None]]:
        """What has come back since the last look, with its receipt where it ended well."""
        if not self._flying:
            time.sleep(0.05)
            return []
        arrived = list(self._arrivals())
        called_off = any(future.status == "cancelled" for future in arrived)
        if called_off or self.place.client.status not in {"running", "connecting"}:
            raise _ClusterLost(f"client {self.place.client.status}")
        # A worker may die between the end of a task and the fetching of its receipt: the scheduler
        # then has the task done again.
        for future in arrived:
            if future.status not in {"finished", "error"}:
                self._arrived.put(future)
        arrived = [future for future in arrived if future.status in {"finished", "error"}]
        ended = [future for future in arrived if future.status == "finished"]
        receipts = self._receipts(ended)
        # Of those without a receipt the task is done again, or fails: they are looked at once more.
        for future in ended:
            if future not in receipts:
                self._arrived.put(future)
        return [(f, receipts.get(f)) for f in arrived if f in receipts or f not in ended]

    def _receipts(self, ended: list[Future[Receipt]]) -> dict[Future[Receipt], Receipt]:
        """What tasks have said that ended well; nothing where a worker died with some of it."""
        if not ended:
            return {}
        # One request for all of them, not one for each.
        gather = partial(self.place.client.gather, ended, errors="skip")
        with _cluster_answers():
            try:
                got = self.place.ask(gather, GATHER_SECONDS)
            except TimeoutError:
                return {}
        return dict(zip(ended, got, strict=True)) if len(got) == len(ended) else {}

    def _arrivals(self) -> Iterator[Future[Receipt]]:
        """Futures that ended, but those that nobody waits for any more."""
        try:
            future = self._arrived.get(timeout=0.5)
            time.sleep(TOGETHER_SECONDS)
            while True:
                if future in self._flying:
                    yield future
                future = self._arrived.get_nowait()
        except queue.Empty:
            return

    def _settle(self, attempt: Try, future: Future[Receipt], receipt: Receipt | None) -> None:
        """Take in how one attempt ended."""
        if receipt is None:
            with _cluster_answers():
                error = future.exception(timeout=ANSWER_SECONDS)
            self._failed(attempt, error or RuntimeError("it ended without a word"))
            return
        left = self.job.spec.workers.retries - attempt.attempt
        if receipt.may_pass and left > 0:
            self._again(attempt, next(iter(receipt.failed.values())))
            return
        self._forget_others(attempt)
        self._took.append(receipt.seconds)
        self.allowance.written += receipt.bytes_written
        self.outcome.done += 1
        if not receipt.complete:
            self.outcome.incomplete[str(attempt.task)] = receipt.failed
        self.progress.record(receipt)
        self.publication.landed(attempt.task)
        self._log(
            "done" if receipt.complete else "incomplete", attempt,
            seconds=receipt.seconds, bytes=receipt.bytes_written, **receipt.notes,
        )  # fmt: skip
        self.watcher.done(attempt.task, receipt)
        self._go_on(attempt.task)

    def _go_on(self, landed: Task) -> None:
        """Send what waited for the month before; what came out as it was changes nothing after."""
        task = self.job.follower(landed)
        while task is not None and task in self._waiting:
            self.progress.reconsider(task)
            mark = self.progress.fingerprint(task)
            if mark is None:
                return  # something else of it is missing
            self._waiting.discard(task)
            receipt = self.progress.receipt(task) if self.progress.done(task) else None
            if receipt is None:
                self._todo.append(Try(task, mark))
                return
            self.publication.landed(task)
            self.watcher.done(task, receipt)
            task = self.job.follower(task)

    def _failed(self, attempt: Try, error: BaseException) -> None:
        if any(other.task == attempt.task for other in self._flying.values()):
            return  # the other one decides
        reason = _reason(error)
        if isinstance(error, KilledWorker) and not attempt.alone:
            self._suspects.append(attempt)
            self._log("again", attempt, reason=reason)
            self.watcher.again(attempt.task, reason)
            return
        if _may_pass(error) and attempt.attempt < self.job.spec.workers.retries:
            self._again(attempt, reason)
            return
        self.progress.lost(attempt.task, reason)
        self.outcome.failed[str(attempt.task)] = reason
        self._log("failed", attempt, reason=reason)
        self.watcher.failed(attempt.task, reason)

    def _again(self, attempt: Try, reason: str) -> None:
        self._later.append(attempt.next())
        self._log("again", attempt, reason=reason)
        self.watcher.again(attempt.task, reason)

    def _forget_others(self, attempt: Try) -> None:
        """Call off the same task where it was sent twice."""
        others = [f for f, other in self._flying.items() if other.task == attempt.task]
        if others:
            for future in others:
                del self._flying[future]
            self.place.client.cancel(others)

    def _log(self, event: str, attempt: Try, **more: Any) -> None:
        """One line for each end of an attempt, for machines to follow."""
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            "task": str(attempt.task),
            "attempt": attempt.attempt,
            **more,
        }
        with (self.job.spec.folder / "run" / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class _ClusterLost(Exception):
    """The scheduler is gone, and with it everything in flight."""


@contextmanager
def _cluster_answers() -> Iterator[None]:
    """Tell the end of the cluster from the end of a task: what is in flight is called off."""
    try:
        yield
    except (CancelledError, OSError) as err:
        raise _ClusterLost(" ".join(str(err).split())) from err


def _may_pass(error: BaseException) -> bool:
    """Whether another try of a task may end better."""
    if isinstance(error, ReadError):
        return not error.permanent
    return isinstance(error, ConnectionError | TimeoutError)


def _reason(error: BaseException) -> str:
    if isinstance(error, KilledWorker):
        return "its worker died several times on it; it may need more memory than a worker has"
    text = " ".join(str(error).split())
    if isinstance(error, ReadError | StoreError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
