"""The run: a bounded window, retries by class, resuming; the same stores however it went."""

from __future__ import annotations

import _thread
import asyncio
import itertools
import json
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, Future, KilledWorker

from cdscale import window
from cdscale.cluster import GPU, Place, connect, slots
from cdscale.errors import PlanError, ReadError, StoreError, TaskError
from cdscale.months import Month
from cdscale.progress import Agenda, Progress, status
from cdscale.run import Outcome, execute, finished, prepared, run_stage
from cdscale.spec.job import Job
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.store import Ledger
from cdscale.window import Try, Window
from tests.regions import (
    SmallRun,
    a_card,
    do_serially,
    made_job,
    products,
    receipt_of,
    state_of,
    thread_cluster,
)

# ------------------------------------------------------------------- tasks that act as told


@dataclass
class Script:
    """What tasks do in place of their work. Workers are threads of this process and share it."""

    errors: dict[str, list[Exception]] = field(default_factory=dict)
    """For each task the errors of its first tries."""
    failed_scenes: dict[str, str] = field(default_factory=dict)
    waits: dict[str, float] = field(default_factory=dict)
    """Seconds that the first try of a task takes, or until it is woken."""
    woken: threading.Event = field(default_factory=threading.Event)
    bytes_written: int = 0
    tries: list[tuple[str, float]] = field(default_factory=list)


SCRIPT = Script()


def act(task: Task, folder: str, digest: str, fingerprint: str) -> Receipt:
    SCRIPT.tries.append((str(task), time.monotonic()))
    time.sleep(0.005)
    SCRIPT.woken.wait(SCRIPT.waits.pop(str(task), 0.0))
    if SCRIPT.errors.get(str(task)):
        raise SCRIPT.errors[str(task)].pop(0)
    own = {"failed": dict(SCRIPT.failed_scenes), "bytes_written": SCRIPT.bytes_written}
    receipt = receipt_of(task, fingerprint, **own)
    Ledger(Path(folder) / "receipts").write(receipt)
    return receipt


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    SCRIPT.__init__()  # type: ignore[misc]
    monkeypatch.setattr(window, "perform_from", act)
    return SCRIPT


@dataclass
class Log:
    """A watcher that remembers."""

    begun: list[tuple[Stage, int, int]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    repeated: list[tuple[str, str]] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)
    held_up: list[str] = field(default_factory=list)
    seen_from_afar: list[tuple[int, int]] = field(default_factory=list)

    def begin(self, stage: Stage, *, todo: int, done: int, dashboard: str) -> None:
        self.begun.append((stage, todo, done))

    def done(self, task: Task, receipt: Receipt) -> None:
        assert receipt.task == str(task)
        self.finished.append(str(task))

    def again(self, task: Task, reason: str) -> None:
        self.repeated.append((str(task), reason))

    def held(self, reason: str) -> None:
        self.held_up.append(reason)

    def failed(self, task: Task, reason: str) -> None:
        self.lost.append((str(task), reason))

    def overviews(self, *, made: int, shards: int) -> None:
        self.seen_from_afar.append((made, shards))


class Counting:
    """A client that counts what is in flight, and remembers what was asked for."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.dashboard_link = ""
        self.nthreads, self.cancel, self.gather = client.nthreads, client.cancel, client.gather
        self.status, self.sync = client.status, client.sync
        self.flying = self.most = 0
        self.asked: list[dict[str, Any]] = []

    def map(self, function: Any, *args: Any, **options: Any) -> list[Future]:
        self.flying += len(args[0])
        self.most = max(self.most, self.flying)
        self.asked.append(options)
        return self.client.map(function, *args, **options)


class Landing(Log):
    """A watcher that tells a :class:`Counting` client what has landed."""

    def __init__(self, client: Counting) -> None:
        super().__init__()
        self.client = client

    def done(self, task: Task, receipt: Receipt) -> None:
        super().done(task, receipt)
        self.client.flying -= 1


@pytest.fixture
def place(threads: str) -> Iterator[Place]:
    with Client(threads) as client:
        yield Place(client, gpu=False)


CARDS = {"urban": a_card("urban", halo=16), "change": a_card("change", halo=16)}
APRIL, MAY = Month(2022, 4), Month(2022, 5)


def tasks(job: Job, stage: Stage) -> list[str]:
    return [str(task) for task in job.tasks(stage)]


# -------------------------------------------------------------------------------------- window


@pytest.mark.parametrize("width", [1, 3])
def test_never_more_in_flight_than_the_window(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(window, "WINDOW", width)
    job = made_job(tmp_path, nx=5, ny=2, period="2022-04..2022-05")
    with thread_cluster(workers=2) as cluster, Client(cluster) as own, prepared(job) as progress:
        client = Counting(own)
        watcher = Landing(client)
        outcome = run_stage(progress, Stage.COMPOSE, Place(client, gpu=False), watcher)  # type: ignore[arg-type]
    assert (outcome.done, outcome.complete) == (20, True)
    assert client.most == width * 2
    assert sorted(watcher.finished) == sorted(tasks(job, Stage.COMPOSE))
    assert [name for name, _ in script.tries][:2] == tasks(job, Stage.COMPOSE)[:2]


def test_names_on_the_cluster_are_those_of_the_tasks_and_never_used_twice(
    tmp_path: Path, script: Script, place: Place
) -> None:
    job = made_job(tmp_path)
    first = tasks(job, Stage.COMPOSE)[0]
    script.errors = {first: [ReadError("later", permanent=False)]}
    client = Counting(place.client)
    with prepared(job) as progress:
        run_stage(progress, Stage.COMPOSE, Place(client, gpu=False), Log())  # type: ignore[arg-type]
    keys = [key for asked in client.asked for key in asked["key"]]
    assert ["/".join(key[:3]) for key in keys].count(first) == 2
    assert len(set(keys)) == len(keys) == 5
    assert all(asked["pure"] is False and asked["retries"] == 0 for asked in client.asked)


def test_only_tasks_with_a_network_ask_for_a_gpu(
    tmp_path: Path, script: Script, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = made_job(tmp_path, cards=CARDS)
    asked: dict[str, Any] = {}
    send = place.client.map

    def map_(*args: Any, resources: Any, **options: Any) -> list[Future]:
        for stage, month, *_ in options["key"]:
            asked[f"{stage} {month}"] = resources  # the cluster has none: do not insist
        return send(*args, **options)

    monkeypatch.setattr(place.client, "map", map_)
    with prepared(job) as progress:
        for stage in job.stages:
            assert run_stage(progress, stage, Place(place.client, gpu=True), Log()).complete
    assert asked == {
        "compose 2022-04": None,
        "compose 2022-05": None,
        "map 2022-04": GPU,
        "map 2022-05": GPU,
        "change 2022-04": None,  # no pair ends in it: it goes on from states alone
        "change 2022-05": GPU,
    }


def test_one_month_of_a_stage(tmp_path: Path, script: Script, place: Place) -> None:
    job = made_job(tmp_path)
    watcher = Log()
    with prepared(job) as progress:
        outcome = run_stage(progress, Stage.COMPOSE, place, watcher, MAY)
    assert sorted(watcher.finished) == tasks(job, Stage.COMPOSE)[2:]
    assert watcher.begun == [(Stage.COMPOSE, 2, 0)]
    assert outcome.done == 2


# ------------------------------------------------------------------------------------- retries


def test_what_may_pass_is_tried_again_after_a_growing_pause(
    tmp_path: Path, script: Script, threads: str
) -> None:
    job = made_job(tmp_path)
    first, *others = tasks(job, Stage.COMPOSE)
    script.errors = {first: [ReadError("scene A: HTTP 503", permanent=False), TimeoutError("slow")]}
    watcher = Log()
    outcome = execute(job, threads, watcher)
    assert (outcome.done, outcome.complete) == (4, True)
    assert watcher.repeated == [(first, "scene A: HTTP 503"), (first, "TimeoutError: slow")]
    times = [when for name, when in script.tries if name == first]
    pauses = [b - a for a, b in itertools.pairwise(times)]
    # Half a second, then one, less up to half of it by chance; the rest is the scheduler's.
    assert pauses[0] >= 0.25
    assert pauses[1] >= 0.5
    # The others did not wait for it.
    assert [name for name, _ in script.tries][-2:] == [first, first]
    assert sorted(others) == sorted(watcher.finished[:3])
    assert status(job).complete


@pytest.mark.parametrize("attempt", range(12))
def test_pauses_are_bounded(tmp_path: Path, attempt: int) -> None:
    task = made_job(tmp_path).tasks(Stage.COMPOSE)[0]
    later = window.Try(task, "", attempt).next()
    pause = later.not_before - time.monotonic()
    assert later.attempt == attempt + 1
    assert 0 < pause <= min(window.LONGEST_PAUSE, 0.5 * 2**attempt)


def test_what_does_not_pass_is_given_up_in_the_end(
    tmp_path: Path, script: Script, threads: str
) -> None:
    job = made_job(tmp_path, workers={"count": 1, "memory": "2GiB", "retries": 1})
    first = tasks(job, Stage.COMPOSE)[0]
    script.errors = {first: [ReadError(f"try {i}", permanent=False) for i in range(9)]}
    watcher = Log()
    outcome = execute(job, threads, watcher)
    assert outcome.failed == {first: "try 1"}
    assert [name for name, _ in script.tries].count(first) == 2
    assert not outcome.complete


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ReadError("scene A: no such file", permanent=True), "scene A: no such file"),
        (StoreError("the store is gone"), "the store is gone"),
        (TaskError("x does not read back"), "TaskError: x does not read back"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (MemoryError(), "MemoryError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_cannot_pass_is_not_tried_again_and_stops_nobody(
    tmp_path: Path, script: Script, threads: str, error: Exception, reason: str
) -> None:
    job = made_job(tmp_path, nx=4, period="2022-04", cards={"urban": CARDS["urban"]})
    first, *others = tasks(job, Stage.COMPOSE)
    script.errors = {first: [error, error]}
    watcher = Log()
    outcome = execute(job, threads, watcher)
    assert [name for name, _ in script.tries].count(first) == 1
    assert watcher.lost == [(first, reason)]
    assert outcome.failed == {first: reason}
    # The tile and its neighbour wait for it; the two beyond do not.
    beyond = [*tasks(job, Stage.MAP)[2:], *tasks(job, Stage.CHANGE)[2:]]
    assert sorted(watcher.finished) == sorted([*others, *beyond])
    assert (outcome.done, outcome.waiting, outcome.complete) == (7, 4, False)
    found = status(job)
    assert found.stages["compose"].failed == {first: reason}
    assert found.stages["map"].missing == tuple(tasks(job, Stage.MAP)[:2])
    # The next run tries it again, and does what waited.
    script.errors = {}
    after = execute(job, threads, Log())
    assert (after.done, after.complete) == (5, True)
    assert status(job).stages["compose"].failed == {}


KILLED = KilledWorker("key", SimpleNamespace(address="tcp://a"), 3)  # type: ignore[arg-type]


def test_a_task_that_kills_its_worker_is_tried_alone_and_then_given_up(
    tmp_path: Path, script: Script, threads: str
) -> None:
    job = made_job(tmp_path, nx=4, period="2022-04")
    first, second, *others = tasks(job, Stage.COMPOSE)
    # The second was on the same worker and is innocent.
    script.errors = {first: [KILLED, KILLED], second: [KILLED]}
    watcher = Log()
    outcome = execute(job, threads, watcher)
    reason = "its worker died several times on it; it may need more memory than a worker has"
    assert outcome.failed == {first: reason}
    assert watcher.lost == [(first, reason)]
    assert sorted(watcher.finished) == sorted([second, *others])
    # Both again, when the others were done.
    assert {name for name, _ in script.tries[-2:]} == {first, second}
    assert [name for name, _ in script.tries].count(first) == 2


def test_what_takes_far_too_long_is_sent_a_second_time(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "SLOW", 0.3)
    job = made_job(tmp_path, nx=4, period="2022-04")
    first, *others = tasks(job, Stage.COMPOSE)
    script.waits = {first: 20.0}
    watcher = Log()
    started = time.monotonic()
    with thread_cluster(workers=2) as cluster:
        outcome = execute(job, cluster.scheduler_address, watcher)
        took = time.monotonic() - started
        script.woken.set()
    assert (outcome.done, outcome.complete) == (4, True)
    assert sorted(watcher.finished) == sorted([first, *others])
    assert [name for name, _ in script.tries].count(first) == 2
    assert took < 15
    events = [line["event"] for line in lines_of(job)]
    assert events == ["done", "done", "done", "slow", "done"]


def lines_of(job: Job) -> list[dict[str, Any]]:
    text = (job.spec.folder / "run" / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_every_end_of_an_attempt_is_one_line_of_the_log(
    tmp_path: Path, script: Script, threads: str
) -> None:
    job = made_job(tmp_path, period="2022-04")
    first, second = tasks(job, Stage.COMPOSE)
    script.errors = {
        first: [ReadError("later", permanent=False)],
        second: [ReadError("gone", permanent=True)],
    }
    execute(job, threads, Log())
    said = {(line["task"], line["event"], line["attempt"]): line for line in lines_of(job)}
    assert set(said) == {(first, "again", 0), (first, "done", 1), (second, "failed", 0)}
    assert said[first, "again", 0]["reason"] == "later"
    assert said[first, "done", 1]["seconds"] == 2.0
    assert said[second, "failed", 0]["reason"] == "gone"
    assert all(line["time"].endswith("+00:00") for line in said.values())


@pytest.mark.parametrize("budget", [{"hours": 0.3 / 3600}, {"gigabytes": 2e-9}])
def test_a_run_ends_where_its_budget_does_and_goes_on_with_another(
    tmp_path: Path, script: Script, threads: str, budget: dict[str, float]
) -> None:
    job = made_job(tmp_path, nx=6, ny=2, budget=budget)
    script.bytes_written = 1
    script.waits = dict.fromkeys(tasks(job, Stage.COMPOSE), 0.1)
    outcome = execute(job, threads, Log())
    (name,) = budget
    assert outcome.stopped.startswith(f"budget.{name} of ")
    assert 0 < outcome.done < 24
    assert (outcome.done + outcome.unbegun, outcome.complete) == (24, False)
    script.waits = {}
    rest = execute(made_job(tmp_path, nx=6, ny=2), threads, Log())
    assert (rest.done, rest.complete) == (outcome.unbegun, True)


def test_outcomes_add_up() -> None:
    whole = Outcome()
    whole.add(Outcome(done=2, failed={"a": "x"}, seconds=1.5))
    assert not whole.complete
    whole.add(Outcome(done=1, incomplete={"b": {"scene": "y"}}, waiting=1, seconds=0.5))
    assert whole == Outcome(3, {"a": "x"}, {"b": {"scene": "y"}}, 1, 2.0)
    assert Outcome(done=3).complete


def test_an_incomplete_task_is_tried_by_the_next_run_and_not_by_this_one(
    tmp_path: Path, script: Script, threads: str
) -> None:
    job = made_job(tmp_path, period="2022-04")
    script.failed_scenes = {"s2-2022-04": "told to fail"}
    outcome = execute(job, threads, Log())
    assert outcome.incomplete == dict.fromkeys(tasks(job, Stage.COMPOSE), script.failed_scenes)
    assert (outcome.done, outcome.complete, len(script.tries)) == (2, False, 2)
    assert not finished(job)
    script.failed_scenes = {}
    assert execute(job, threads, Log()).complete
    assert (finished(job), len(script.tries)) == (True, 4)


def test_a_scheduler_that_dies_ends_the_run_with_a_reason(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdscale.cluster.CONNECT_SECONDS", 1)
    job = made_job(tmp_path, nx=8, ny=2)
    cluster = thread_cluster()

    class Killer(Log):
        def done(self, task: Task, receipt: Receipt) -> None:
            super().done(task, receipt)
            if len(self.finished) == 3:
                cluster.close()

    with pytest.raises(PlanError, match=r"cluster does not answer any more.*run again"):
        execute(job, cluster.scheduler_address, Killer())
    assert 3 <= len(status(job).stages["compose"].missing) < 32


def test_a_cluster_without_workers_is_waited_for_only_so_long(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "LOOK_SECONDS", 0.02)
    job = made_job(tmp_path, workers={"wait_minutes": 0.005})
    watcher = Log()
    with thread_cluster(workers=0) as cluster:
        with pytest.raises(PlanError, match=r"no worker for 0\.3 seconds.*workers\.wait_minutes"):
            execute(job, cluster.scheduler_address, watcher)
        assert watcher.held_up == ["the cluster has no worker: waiting 0.3 seconds for one"]

        class Helpful(Log):
            def held(self, reason: str) -> None:
                cluster.scale(1)

        patient = made_job(tmp_path)
        assert execute(patient, cluster.scheduler_address, Helpful()).complete


def test_ctrl_c_ends_a_run_that_waits_for_workers(tmp_path: Path, script: Script) -> None:
    class Impatient(Log):
        def held(self, reason: str) -> None:
            threading.Timer(0.2, _thread.interrupt_main).start()

    # A shell has whatever it starts in the background pass it over.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with thread_cluster(workers=0) as cluster:
            with pytest.raises(KeyboardInterrupt):
                execute(made_job(tmp_path), cluster.scheduler_address, Impatient())
            assert not cluster.scheduler.tasks
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_that_loses_its_last_worker_to_a_task_sent_alone_does_not_wait_for_ever(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "LOOK_SECONDS", 0.02)
    job = made_job(tmp_path, nx=1, period="2022-04", workers={"wait_minutes": 0.005})
    (task,) = tasks(job, Stage.COMPOSE)
    script.errors = {task: [KILLED]}
    there = Place.threads

    def threads(self: Place) -> dict[str, int]:
        return {} if len(script.tries) > 1 else there(self)

    script.waits = {}
    monkeypatch.setattr(Place, "threads", threads)
    monkeypatch.setattr(Window, "_arrivals", lambda self: _none_of_the_second(self, script))
    with thread_cluster() as cluster, pytest.raises(PlanError, match="no worker for"):
        execute(job, cluster.scheduler_address, Log())


def _none_of_the_second(self: Window, script: Script) -> Iterator[Future]:
    """Futures that end, but those of a worker that is gone with them."""
    time.sleep(0.02)
    while not self._arrived.empty():
        future = self._arrived.get_nowait()
        if not self._flying[future].alone:
            yield future


def test_a_task_that_was_sent_twice_may_land_twice_at_once(
    tmp_path: Path, script: Script, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, landed = Window._send, Window._landed

    def twice(self: Window, attempts: list[Try]) -> None:
        send(self, attempts * 2)

    def both(self: Window) -> list[Any]:
        got: list[Any] = []
        while len(got) < len(self._flying):
            got += landed(self)
        return got

    monkeypatch.setattr(Window, "_send", twice)
    monkeypatch.setattr(Window, "_landed", both)
    with prepared(made_job(tmp_path, nx=1, period="2022-04")) as progress:
        outcome = run_stage(progress, Stage.COMPOSE, place, Log())
    assert (outcome.done, outcome.complete, len(script.tries)) == (1, True, 2)


def test_receipts_that_do_not_come_are_asked_for_again(
    tmp_path: Path, script: Script, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as nobody does the tasks again of a worker that died, there is nothing to gather."""
    ask, late = Place.ask, list[float]()

    def slow(self: Place, question: Any, seconds: float = 1.0) -> Any:
        if seconds == window.GATHER_SECONDS and len(late) < 2:
            late.append(seconds)
            raise TimeoutError
        return ask(self, question, seconds)

    monkeypatch.setattr(Place, "ask", slow)
    with prepared(made_job(tmp_path)) as progress:
        outcome = run_stage(progress, Stage.COMPOSE, place, Log())
    assert (len(late), outcome.done, outcome.complete) == (2, len(script.tries), True)


def test_a_scheduler_that_hangs_ends_the_run_with_a_reason(
    tmp_path: Path, script: Script, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> dict[str, int]:
        await asyncio.sleep(60)
        return {}

    monkeypatch.setattr(place.client, "nthreads", never)
    monkeypatch.setattr(Place.ask, "__defaults__", (0.1,))
    with prepared(made_job(tmp_path)) as progress, pytest.raises(PlanError, match="not answer"):
        run_stage(progress, Stage.COMPOSE, place, Log())


def test_a_receipt_that_dies_with_its_worker_is_waited_for(
    tmp_path: Path, script: Script, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask calls it lost, has the task done again, and says so; the cluster is not gone."""
    arrivals = window.Window._arrivals
    lost: list[Future] = []

    def losing(self: window.Window) -> Iterator[Future]:
        for future in arrivals(self):
            if not lost:
                lost.append(future)
                monkeypatch.setattr(future._state, "status", "lost")
                threading.Timer(0.2, setattr, (future._state, "status", "finished")).start()
            yield future

    monkeypatch.setattr(window.Window, "_arrivals", losing)
    with prepared(made_job(tmp_path, nx=5, ny=2)) as progress:
        outcome = run_stage(progress, Stage.COMPOSE, place, Log())
    assert lost
    assert (outcome.done, outcome.complete) == (len(script.tries), True)


# ------------------------------------------------------------------------- lock, sweep, quiet


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    job = made_job(tmp_path)
    with (
        prepared(job),
        pytest.raises(PlanError, match=f"another run is at work in {tmp_path}.*--output"),
        prepared(job),
    ):
        pass
    with prepared(job):
        pass


def test_a_second_run_elsewhere_is_not(tmp_path: Path) -> None:
    with prepared(made_job(tmp_path / "a")), prepared(made_job(tmp_path / "b")):
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(StoreError, match=r"cannot write to .*file/out.*--output"),
        prepared(made_job(tmp_path / "file" / "out")),
    ):
        pass


def test_half_written_shards_are_swept_before_and_after(tmp_path: Path) -> None:
    job = made_job(tmp_path)
    with prepared(job):
        pass
    clean = products(tmp_path)
    shard = tmp_path / "cube.zarr" / "s2" / "c" / "0"
    shard.mkdir(parents=True)
    (shard / "before.partial").write_bytes(b"x")
    with prepared(job):
        assert products(tmp_path) == clean
        (shard / "after.partial").write_bytes(b"x")
    assert products(tmp_path) == clean


def test_a_store_half_made_by_a_killed_driver_is_made_again(tmp_path: Path) -> None:
    whole = made_job(tmp_path / "whole")
    with prepared(whole):
        pass
    job = made_job(tmp_path / "broken")
    left = tmp_path / "broken" / ".cube.zarr.new"
    left.mkdir(parents=True)
    (left / "zarr.json").write_text("{")
    with prepared(job):
        pass
    assert products(tmp_path / "broken") == products(tmp_path / "whole")


def test_when_all_is_done_nothing_is_written_and_no_cluster_started(small_run: SmallRun) -> None:
    before = state_of(small_run.output)
    job = small_run.job(small_run.output.parent)
    watcher = Log()
    assert execute(job, "tcp://127.0.0.1:1", watcher) == Outcome()
    assert watcher == Log()
    assert state_of(small_run.output) == before


# ------------------------------------------------------------------ the same stores, however


def test_a_run_on_a_cluster_makes_the_same_stores(
    small_run: SmallRun, threads: str, tmp_path: Path
) -> None:
    outcome = execute(small_run.job(tmp_path), threads, Log())
    assert (outcome.done, outcome.complete) == (12, True)
    assert products(tmp_path / "out") == small_run.products


def test_another_window_and_another_order_make_the_same_stores(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agenda = Progress.agenda

    def shuffled(self: Progress, stage: Stage, month: Month | None = None) -> Agenda:
        found = agenda(self, stage, month)
        ready = list(found.ready.items())
        random.Random(4).shuffle(ready)
        return Agenda(found.done, dict(ready), found.waiting)

    monkeypatch.setattr(Progress, "agenda", shuffled)
    monkeypatch.setattr(window, "WINDOW", 1)
    job = small_run.job(tmp_path)
    with (
        thread_cluster() as cluster,
        prepared(job) as progress,
        connect(cluster.scheduler_address, job.spec.workers) as place,
    ):
        assert all(run_stage(progress, stage, place, Log()).complete for stage in job.stages)
    assert products(tmp_path / "out") == small_run.products


def test_a_run_done_in_parts_makes_the_same_stores(small_run: SmallRun, tmp_path: Path) -> None:
    job = small_run.job(tmp_path)
    do_serially(job)
    ledger = Ledger(job.ledger_folder)
    # Some work is lost: receipts with and without their shards.
    for stage in (Stage.COMPOSE, Stage.MAP):
        (job.ledger_folder / f"{job.tasks(stage)[0]}.json").unlink()
    shutil.rmtree(job.store_path(Stage.MAP) / "probability" / "c")
    for task in job.tasks(Stage.MAP):
        (job.ledger_folder / f"{task}.json").unlink(missing_ok=True)
    progress = Progress(job, ledger)
    assert len(progress.agenda(Stage.COMPOSE).ready) == 1
    do_serially(job, seed=1)
    assert finished(job)
    assert products(tmp_path / "out") == small_run.products


def test_a_scene_that_cannot_be_read_is_read_by_a_later_run(
    small_run: SmallRun, threads: str, tmp_path: Path
) -> None:
    catalogue = tmp_path / "catalogue"
    shutil.copytree(small_run.catalogue.parent, catalogue)
    job = small_run.job(tmp_path, catalogue=str(catalogue))
    scene = next(s for s in job.scenes.scenes if s.sensor == "s1" and s.serves(MAY))
    path = Path(scene.assets["vv"].href)
    content = path.read_bytes()
    path.unlink()
    outcome = execute(job, threads, Log())
    assert not outcome.complete
    assert outcome.failed == {}
    missing = {name: set(scenes) for name, scenes in outcome.incomplete.items()}
    assert missing == {name: {scene.id} for name in tasks(job, Stage.COMPOSE)[2:]}
    # What stands there is whole, but May is kept from readers: it lacks a scene.
    absent = small_run.products.keys() - products(tmp_path / "out").keys()
    absent = {name for name in absent if not name.partition("/")[2][0].isdigit()}  # overviews
    assert absent == {
        "cube.zarr/published/c/1",
        "urban.zarr/published/c/1",
        "change.zarr/published/c/1",
    }
    path.write_bytes(content)
    watcher = Log()
    assert execute(job, threads, watcher).complete
    # The month's composites, its maps, and the changes up to it; April is as it was.
    assert {name for name in watcher.finished if "/2022-04/" in name} == set()
    assert len(watcher.finished) == 6
    assert products(tmp_path / "out") == small_run.products


def test_a_store_that_was_removed_is_made_again(small_run: SmallRun, tmp_path: Path) -> None:
    job = small_run.job(tmp_path)
    do_serially(job)
    shutil.rmtree(job.store_path(Stage.COMPOSE))
    assert not finished(job)
    do_serially(job)
    assert products(tmp_path / "out") == small_run.products
