"""Several tasks of one process at once: in different phases, one on the device, the same bytes."""

from __future__ import annotations

import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cdscale import inference
from cdscale.errors import PlanError
from cdscale.plan import WORKER_BYTES, check, price, task_memory
from cdscale.progress import Progress
from cdscale.run import prepared
from cdscale.spec.job import Job
from cdscale.spec.run import GPU_LANES, Workers
from cdscale.spec.task import Stage
from cdscale.stages import lanes, maps, perform
from cdscale.store import Ledger, Store, write_text
from tests.regions import SmallRun, a_card, made_job, products

PATIENCE = 20.0


class Clock:
    """Time that passes only while every thread waits: for a while, or for the device.

    It stands in for the lock of the device, so that it knows who waits for it.
    """

    def __init__(self, threads: int) -> None:
        self.now = 0.0
        self._busy = threads
        self._changed = threading.Condition()
        self._sleeping: list[float] = []
        self._queue: deque[object] = deque()

    def sleep(self, seconds: float) -> None:
        with self._changed:
            until = self.now + seconds
            self._sleeping.append(until)
            self._rest()
            self._wait(lambda: self.now >= until)

    def leave(self) -> None:
        """The calling thread has nothing more to do."""
        with self._changed:
            self._rest()

    def __enter__(self) -> None:
        with self._changed:
            turn = object()
            self._queue.append(turn)
            if self._queue[0] is not turn:
                self._rest()
                self._wait(lambda: self._queue[0] is turn)

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._queue.popleft()
            if self._queue:
                self._busy += 1
                self._changed.notify_all()

    def _rest(self) -> None:
        self._busy -= 1
        if self._busy or not self._sleeping:
            return
        self.now = min(self._sleeping)
        self._busy = self._sleeping.count(self.now)
        self._sleeping = [until for until in self._sleeping if until > self.now]
        self._changed.notify_all()

    def _wait(self, come: Callable[[], bool]) -> None:
        if not self._changed.wait_for(come, PATIENCE):
            raise TimeoutError("the clock stands still")


def in_lanes(tasks: Iterable[Callable[[], Any]], count: int, leave: Callable[[], None]) -> None:
    """Do tasks as a worker of so many threads does."""
    waiting = deque(tasks)

    def lane() -> None:
        try:
            while True:
                try:
                    task = waiting.popleft()
                except IndexError:
                    return
                task()
        finally:
            leave()

    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(lane) for _ in range(count)]:
            future.result()


def nothing() -> None:
    """To do."""


@pytest.mark.parametrize(
    ("phases", "count", "seconds"),
    [
        ((1, 1, 0), 1, 20),
        ((1, 1, 0), 2, 11),
        ((1, 1, 1), 3, 12),
        ((0, 2, 1), 2, 21),  # the device is the bottleneck, and never idle
        ((3, 1, 0), 4, 13),  # reading is, and all lanes read at once
    ],
)
def test_phases_of_different_tasks_overlap(
    phases: tuple[int, int, int], count: int, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten tasks. With equal reading and computing two lanes take 0.55 of the time of one."""
    clock = Clock(count)
    monkeypatch.setattr(lanes, "_device", clock)
    read, compute, write = phases

    def task() -> None:
        clock.sleep(read)
        with lanes.on_device():
            clock.sleep(compute)
        clock.sleep(write)

    in_lanes([task] * 10, count, clock.leave)
    assert clock.now == seconds


@pytest.mark.parametrize(("count", "seconds"), [(1, 24), (3, 10)])
def test_tasks_of_a_run_overlap(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, seconds: int
) -> None:
    """Reading, the network and writing of a real task take a second each, on a clock of ours."""
    job = copy_of(small_run, tmp_path)
    clock = Clock(count)
    monkeypatch.setattr(lanes, "_device", clock)
    for owner, name in ((maps, "_block"), (inference, "predict_urban"), (Store, "write")):
        monkeypatch.setattr(owner, name, slowed(getattr(owner, name), clock))
    tasks = [(task, mark) for mark in "ab" for task in job.tasks(Stage.MAP)]
    assert len(tasks) == 8
    in_lanes([partial(perform, task, job, mark) for task, mark in tasks], count, clock.leave)
    assert clock.now == seconds
    assert products(job.spec.folder) == small_run.products


def slowed(do: Callable[..., Any], clock: Clock) -> Callable[..., Any]:
    def slow(*arguments: Any) -> Any:
        clock.sleep(1)
        return do(*arguments)

    return slow


def copy_of(run: SmallRun, folder: Path) -> Job:
    """The finished run in a folder of its own."""
    shutil.copytree(run.output, folder / "out")
    return run.job(folder)


def test_what_tasks_write_at_once_is_what_they_write_one_by_one(
    small_run: SmallRun, tmp_path: Path
) -> None:
    job = small_run.job(tmp_path)
    with prepared(job):
        for stage in job.stages:
            # More than once: change goes on from the month before.
            while ready := Progress(job, Ledger(job.ledger_folder)).agenda(stage).ready:
                tasks = [partial(perform, task, job, mark) for task, mark in ready.items()]
                if stage is Stage.COMPOSE:
                    with lanes.on_device():  # which it does not ask for
                        in_lanes(tasks, len(tasks), nothing)
                else:
                    in_lanes(tasks, len(tasks), nothing)
    assert products(tmp_path / "out") == small_run.products
    made = Ledger(job.ledger_folder)
    receipts = [made.read(task) for stage in job.stages for task in job.tasks(stage)]
    names = {receipt.notes["worker"].partition("/")[2] for receipt in receipts if receipt}
    assert {"", "2"} <= names  # the lanes that they were done on


def test_a_task_that_fails_leaves_device_and_lane_to_others(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = copy_of(small_run, tmp_path)
    task = job.tasks(Stage.MAP)[0]

    def fail(*_: object) -> None:
        assert lanes._device.locked()
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(inference, "predict_urban", fail)
        with pytest.raises(RuntimeError, match="broken"):
            perform(task, job, "a")
    assert not lanes._device.locked()
    with lanes.in_hand() as first, lanes.in_hand() as second:
        assert (first, second) == (1, 2)
    assert perform(task, job, "b").fingerprint == "b"


def test_two_lanes_may_write_the_same_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is sent a second time may come to the same worker."""
    both, keep = threading.Barrier(2, timeout=PATIENCE), os.fsync

    def together(handle: int) -> None:
        both.wait()
        keep(handle)

    monkeypatch.setattr(os, "fsync", together)
    in_lanes([lambda: write_text(tmp_path / "receipt.json", "{}")] * 2, 2, nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["receipt.json"]
    assert (tmp_path / "receipt.json").read_text() == "{}\n"


# -------------------------------------------------------------------------------------- the spec


def test_lanes_are_chosen_by_what_workers_have() -> None:
    assert Workers().lanes_on(gpu=False) == 1
    assert Workers().lanes_on(gpu=True) == GPU_LANES
    assert Workers(lanes=2).lanes_on(gpu=True) == Workers(lanes=2).lanes_on(gpu=False) == 2


def test_a_worker_has_to_hold_the_tasks_of_all_its_lanes(tmp_path: Path) -> None:
    """But one network: the device is one task's."""
    job = made_job(tmp_path, cards={"urban": a_card("urban")})
    of_map = price(job, workers=1, memory=1).stages["map"]
    assert of_map.memory_per_task == task_memory(job, Stage.MAP)
    in_turn = of_map.memory_in_turn
    assert 0 < in_turn < of_map.memory_per_task
    needs = {
        stage: WORKER_BYTES + 3 * (part.memory_per_task - part.memory_in_turn) + part.memory_in_turn
        for stage, part in price(job, workers=1, memory=1).stages.items()
    }
    enough = max(needs.values())
    check(price(job, workers=1, memory=enough, lanes=3))
    short = price(job, workers=1, memory=enough - 1, lanes=3)
    with pytest.raises(PlanError, match=r"3 \w+ tasks do not fit.*lower workers\.lanes or grid"):
        check(short)
    check(price(job, workers=1, memory=enough - 1, lanes=2))
