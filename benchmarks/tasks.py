"""``python -m benchmarks.tasks``: what a task costs the driver, from hundreds to 100,000 of them.

Tasks that do nothing go through the window of a real run (receipts, marks, log and all) and, in the
same process and in turn, through plain Dask with as many in flight: ``submit``, ``as_completed``.
The scheduler and its workers run in processes of their own, so that the processor time of the
driver (its main thread, and Dask's beside it) and that of the scheduler are known apart. Prints for
each way and count milliseconds of processor time a task, memory that the driver gained, and the
most tasks that were in flight.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

from distributed import as_completed

from benchmarks.continent import BOX, scenes_of, spec_of
from cdscale import run, window
from cdscale.cluster import Place, connect
from cdscale.grid import Bounds
from cdscale.spec.job import Job
from cdscale.spec.run import Workers
from cdscale.spec.scene import SceneTable
from cdscale.spec.task import Receipt, Stage, Task

TILE = 64
ACROSS = 100
"""Tiles side by side."""


@dataclass(frozen=True)
class Cost:
    """What so many tasks cost, one way."""

    way: str
    workers: int
    tasks: int
    seconds: float
    driver_ms: float
    """Processor time of the driver a task, all of its threads."""
    main_ms: float
    """Of that its main thread, which runs the window."""
    scheduler_ms: float
    """Processor time of the scheduler a task."""
    grown_mb: float
    """Memory that the driver has gained at the end."""
    in_flight: int
    """Tasks in flight at once, at most."""
    window: int
    """How many there may be."""


def nothing(task: Task, folder: str, digest: str, fingerprint: str) -> Receipt:
    """A task that reads and writes no pixel, and whose receipt is of a usual size."""
    del folder, digest
    scenes = tuple(f"S2A_MSIL2A_202204{i:02}T104021_R008_T31UES_20220401T180000" for i in range(10))
    sums = dict.fromkeys(("s2", "s1", "quality", "dates", "count"), "0" * 64)
    return Receipt(task=str(task), fingerprint=fingerprint, checksums=sums, scenes=scenes)


class Silent:
    """A watcher that says nothing."""

    def begin(self, stage: Stage, *, todo: int, done: int, dashboard: str) -> None:
        """Say nothing."""

    def done(self, task: Task, receipt: Receipt) -> None:
        """Say nothing."""

    def again(self, task: Task, reason: str) -> None:
        """Say nothing."""

    def held(self, reason: str) -> None:
        """Say nothing."""

    def failed(self, task: Task, reason: str) -> None:
        """Say nothing."""

    def overviews(self, *, made: int, shards: int) -> None:
        """Say nothing."""


def job_of(folder: Path, tasks: int) -> Job:
    """A run of one month and about so many tiles, whose scenes lead nowhere."""
    side = TILE * 10
    across = min(tasks, ACROSS)
    left, low = BOX[:2]
    edge = 50
    box = Bounds(
        left + edge, low + edge, left + across * side - edge, low + tasks // across * side - edge
    )
    spec = spec_of(folder, TILE, "2022-04", box)
    return Job(spec=spec, scenes=SceneTable(search="made up", scenes=scenes_of(spec.period, box)))


class _Counted(window.Window):
    """A window that remembers how full it was."""

    most = 0

    def _send(self, attempts: list[window.Try]) -> None:
        super()._send(attempts)
        type(self).most = max(self.most, len(self._flying))


def ours(job: Job, place: Place) -> int:
    """The tasks of a run through its window; the most that were in flight."""
    with (
        run.prepared(job) as progress,
        mock.patch.object(window, "perform_from", nothing),
        mock.patch.object(run, "Window", _Counted),
    ):
        _Counted.most = 0
        outcome = run.run_stage(progress, Stage.COMPOSE, place, Silent())
    if outcome.done != len(job.tasks(Stage.COMPOSE)):
        raise RuntimeError(f"only {outcome.done} tasks were done")
    return _Counted.most


def plain(job: Job, place: Place) -> int:
    """The same through ``submit`` and ``as_completed``; the most that were in flight."""
    tasks = iter(job.tasks(Stage.COMPOSE))
    mark = "0" * 64

    def send(task: Task) -> Any:
        key = (*task.key, uuid.uuid4().hex)
        return place.client.submit(nothing, task, "", mark, mark, key=key, pure=False)

    first = map(send, islice(tasks, window.WINDOW * place.slots))
    flying = as_completed(first, loop=place.client.loop, with_results=True)
    for _ in flying:
        for task in islice(tasks, 1):
            flying.add(send(task))
    return window.WINDOW * place.slots


WAYS: dict[str, Callable[[Job, Place], int]] = {"cdscale": ours, "plain Dask": plain}


def measure(way: str, job: Job, place: Place, scheduler: int) -> Cost:
    """One way, once, on a cluster whose scheduler is another process."""
    gc.collect()
    tasks = len(job.tasks(Stage.COMPOSE))
    memory, elsewhere = memory_mb(), cpu_seconds(scheduler)
    started, all_threads, main = time.perf_counter(), time.process_time(), time.thread_time()
    most = WAYS[way](job, place)
    seconds, per = time.perf_counter() - started, 1000 / tasks
    all_threads, main = time.process_time() - all_threads, time.thread_time() - main
    gc.collect()
    return Cost(
        way=way,
        workers=place.slots,
        tasks=tasks,
        seconds=round(seconds, 1),
        driver_ms=round(all_threads * per, 2),
        main_ms=round(main * per, 2),
        scheduler_ms=round((cpu_seconds(scheduler) - elsewhere) * per, 2),
        grown_mb=round(memory_mb() - memory, 1),
        in_flight=most,
        window=window.WINDOW * place.slots,
    )


def memory_mb() -> float:
    """Memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(process: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def cluster(workers: int) -> Iterator[tuple[Place, int]]:
    """A scheduler and workers in processes of their own, and the scheduler's number."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"
        pages = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        where = [*pages, "--scheduler-file", str(file)]
        local = ["--host", "127.0.0.1"]
        commands = [["scheduler", *local, "--port", "0", *where]]
        one = ["--nworkers", "1", "--nthreads", "1", "--no-nanny", "--local-directory", folder]
        commands += [["worker", *local, *one, *where]] * workers
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for command in commands:
                line = [sys.executable, "-m", "dask", *command]
                processes.append(subprocess.Popen(line, stderr=subprocess.DEVNULL))
            while not file.exists():
                time.sleep(0.1)
            address = json.loads(file.read_text())["address"]
            with connect(address, Workers()) as place:
                place.client.wait_for_workers(workers, timeout=60)
                yield place, processes[0].pid
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()


def table(costs: list[Cost]) -> str:
    """As Markdown."""
    head = (
        "| way | workers | tasks | driver ms | of it main thread | scheduler ms | driver + MB "
        "| in flight | window |\n|---|---|---|---|---|---|---|---|---|"
    )
    rows = (
        f"| {c.way} | {c.workers} | {c.tasks:,} | {c.driver_ms:.2f} | {c.main_ms:.2f} "
        f"| {c.scheduler_ms:.2f} | {c.grown_mb:.1f} | {c.in_flight} | {c.window} |"
        for c in costs
    )
    return "\n".join([head, *rows])


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1_000, 10_000, 20_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    costs: list[Cost] = []
    for workers in options.workers:
        with cluster(workers) as (place, scheduler), tempfile.TemporaryDirectory() as folder:
            for way in options.ways:
                # What is loaded once is nobody's cost.
                measure(way, job_of(Path(folder) / f"first {way}", 100), place, scheduler)
            for count in options.counts:
                for way in options.ways:
                    job = job_of(Path(folder) / f"{way} {count}", count)
                    costs.append(measure(way, job, place, scheduler))
                    print(json.dumps(asdict(costs[-1])), flush=True)
    print(table(costs))
    if options.output:
        options.output.write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")


if __name__ == "__main__":
    main()
