"""Problems of the engine: what is done already, more workers, more tasks."""

from __future__ import annotations

import statistics
import tempfile
import time
from itertools import count
from pathlib import Path

from benchmarks import overlap, tasks
from benchmarks.problems.asking import Answer, in_turn, simulated_job
from benchmarks.problems.making import urban_job
from cdscale import run
from cdscale.progress import Progress
from cdscale.spec.task import Stage
from cdscale.stages import perform
from cdscale.store import Ledger


class NothingToDo:
    """What it costs to find that a finished run is finished, in milliseconds a task."""

    def ask(self, size: int, rounds: int) -> Answer:
        """See :class:`Problem`."""
        with tempfile.TemporaryDirectory() as folder:
            job = simulated_job(Path(folder), size)
            with run.prepared(job):
                agenda = Progress(job, Ledger(job.ledger_folder)).agenda(Stage.COMPOSE)
                started = time.perf_counter()
                for task, mark in agenda.ready.items():
                    perform(task, job, mark)
                work = time.perf_counter() - started
                seconds = in_turn({"resume": lambda: run.finished(job)}, rounds)
        count = len(agenda.ready)
        return Answer(
            "NothingToDo",
            "seconds to see that a run is done over those of doing it",
            seconds["resume"] / work,
            {"milliseconds_per_task": 1000 * seconds["resume"] / count, "tasks": float(count)},
            goal="< 0.05",
        )


class TwoWorkers:
    """What a second worker brings."""

    def ask(self, size: int, rounds: int) -> Answer:
        """See :class:`Problem`."""
        marks = map(str, count())  # of its own each time: nothing counts as done
        seconds: dict[int, list[float]] = {1: [], 2: []}
        with tempfile.TemporaryDirectory() as folder:
            job = urban_job(Path(folder), size)
            for _ in range(rounds):
                for workers, told in seconds.items():
                    told.append(overlap.sum_of(workers, 1, job.spec.folder, next(marks)))
        one, two = (statistics.median(told) for told in seconds.values())
        return Answer(
            "TwoWorkers",
            "seconds of map tasks with one worker over twice those with two",
            one / two / 2,
            {"one_worker": one, "two_workers": two},
            goal="near 1",
        )


class EmptyTasks:
    """What a task costs the driver and the scheduler, beside plain Dask, by their number."""

    COUNTS = (100, 1_000, 10_000)

    def ask(self, size: int, rounds: int) -> Answer:
        """See :class:`Problem`."""
        del size, rounds
        figures: dict[str, float] = {}
        with tasks.cluster(2) as (place, scheduler), tempfile.TemporaryDirectory() as folder:
            for way in tasks.WAYS:  # what is loaded once is nobody's cost
                tasks.measure(way, tasks.job_of(Path(folder) / way, 100), place, scheduler)
            for number in self.COUNTS:
                for way in tasks.WAYS:
                    job = tasks.job_of(Path(folder) / f"{way} {number}", number)
                    cost = tasks.measure(way, job, place, scheduler)
                    figures[f"{way} {number} ms"] = cost.driver_ms
                    figures[f"{way} {number} MB"] = cost.grown_mb
        ours, theirs = (figures[f"{way} {self.COUNTS[-1]} ms"] for way in tasks.WAYS)
        return Answer(
            "EmptyTasks",
            f"the driver's CPU a task over that of plain Dask, {self.COUNTS[-1]:,} empty tasks",
            ours / theirs,
            figures,
            goal="ms <= 3",
        )
