"""What lanes gain: tasks of one process in different phases at once.

    python -m benchmarks.overlap WORK [--rounds 3] [--size 1024]

Three questions, each by ratios within one run, the ways taking turns:

- ``phases``: reading and computing that take equally long, both of them sleep (goal: 0.6).
- ``warm``: the urban maps of a cube on this disk, one thread of maths, beside the forward passes of
  the same network over the same windows and nothing else (goal: 0.85 of their speed), with lanes,
  and with workers of one lane each as a local cluster has them.
- ``remote``: a month composed of files behind a server that lets every request wait.

WORK receives simulated regions and stores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.ingestion import COLLECTIONS, RESULTS, simulated
from cdscale import models, plan, run
from cdscale.progress import Progress
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec, read_area
from cdscale.spec.task import Stage
from cdscale.stages import lanes, perform
from cdscale.store import Ledger

LANES = (1, 2, 3)
LATENCIES = (0.0, 0.05, 0.2)
MONTHS = "2021-07..2021-10"


def in_lanes(tasks: list[Callable[[], Any]], count: int) -> float:
    """Seconds of tasks in so many lanes of this process."""
    started = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(task) for task in tasks]:
            future.result()
    return time.perf_counter() - started


def in_turn(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median of the seconds that each way says; one turn before the first that counts."""
    said: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            before = time.process_time()
            seconds = way()
            if turn:
                said[name].append(seconds)
                cpu[name].append(time.process_time() - before)
    # On a busy machine the seconds of this process's processors say more than those of the wall.
    medians = {name: round(statistics.median(values), 4) for name, values in said.items()}
    return medians | {
        f"{name}, CPU": round(statistics.median(values), 4)
        for name, values in cpu.items()
        if "workers" not in name
    }


# -------------------------------------------------------------------------------------- the phases


def phases(rounds: int, count: int = 20, seconds: float = 0.05) -> dict[str, float]:
    """Tasks that read as long as they compute."""

    def task() -> None:
        time.sleep(seconds)
        with lanes.on_device():
            time.sleep(seconds)

    tasks = [task] * count
    return in_turn({f"lanes {n}": partial(in_lanes, tasks, n) for n in LANES}, rounds)


# ----------------------------------------------------------------------------------- the warm cube


def job_of(
    catalogue: Path, output: Path, *, period: str, tile: int, model: str = "", **more: Any
) -> Job:
    """A run over a simulated region, frozen."""
    home = more.pop("home", catalogue)
    fields: dict[str, Any] = {
        "name": "overlap",
        "catalogue": str(catalogue),
        "collections": COLLECTIONS,
        "area": read_area("area.geojson", Path(home)),
        "period": period,
        "grid": {"preset": "europe", "tile": tile, "chunk": min(256, tile)},
        "output": str(output),
    } | more
    if model:
        fields["models"] = {"urban": {"card": model}}
    return plan.freeze(RunSpec.check(fields, where="benchmark"))


def warm(work: Path, size: int, rounds: int) -> dict[str, Any]:
    """The maps of a cube, beside their forward passes alone."""
    import torch

    torch.set_num_threads(1)
    job = job_of(
        simulated(work, size, MONTHS),
        work / "warm",
        period="2021-07..2021-08",
        tile=size // 2,
        model="urban-s1s2-sim",
    )
    with run.prepared(job):
        made = Progress(job, Ledger(job.ledger_folder)).agenda(Stage.COMPOSE).ready
        in_lanes([partial(perform, task, job, mark) for task, mark in made.items()], 2)
    tasks = job.tasks(Stage.MAP)
    card = job.cards["urban"]
    network = models.load(card)
    seen: list[tuple[Any, ...]] = []
    keep = network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    turns = iter(range(1_000_000))  # a mark of its own each time: nothing counts as done

    def maps(count: int) -> float:
        mark = str(next(turns))
        return in_lanes([partial(perform, task, job, mark) for task in tasks], count)

    maps(1)
    keep.remove()

    def bare() -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            for inputs in seen:
                network(*inputs)
        return time.perf_counter() - started

    def workers(count: int, each: int) -> float:
        return sum_of(count, each, job.spec.folder, str(next(turns)))

    ways: dict[str, Callable[[], float]] = {"bare": bare}
    ways |= {f"lanes {n}": partial(maps, n) for n in LANES}
    ways |= {f"2 workers, lanes {n}": partial(workers, 2, n) for n in (1, 2)}
    seconds = in_turn(ways, rounds)
    pixels = len(tasks) * job.spec.grid.tile**2 / 1e6
    return {"megapixels": pixels, "tasks": len(tasks), "passes": len(seen), "seconds": seconds}


def sum_of(count: int, each: int, folder: Path, mark: str) -> float:
    """Seconds of the slowest of several workers that share the maps, each with so many lanes."""
    how = [json.dumps([n, count, each, str(folder), mark]) for n in range(count)]
    command = [sys.executable, "-m", "benchmarks.overlap", "--child"]
    children = [
        subprocess.Popen([*command, h], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for h in how
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return max(float(child.communicate()[0]) for child in children)


def child(number: int, count: int, each: int, folder: str, mark: str) -> None:
    """One of several workers: its share of the maps."""
    import torch

    from cdscale.store import read_job_by_month

    torch.set_num_threads(1)
    job = read_job_by_month(Path(folder) / "run")
    tasks = job.tasks(Stage.MAP)[number::count]
    perform(tasks[0], job, "first")
    print("ready", flush=True)
    sys.stdin.readline()
    print(in_lanes([partial(perform, task, job, mark) for task in tasks], each), flush=True)


# ------------------------------------------------------------------------------------ the network


def remote(work: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Four tiles of a month whose files come over HTTP, by the wait of every request."""
    from cdscale.testing import Behaviour, FaultServer, write_served

    home = simulated(work, 512, MONTHS)
    found = {}
    with FaultServer(home) as server:
        items = write_served(home, server.url, work / "served", COLLECTIONS)
        profiles = {name: str(items.parent / f"{name}.yaml") for name in COLLECTIONS}
        shutil.rmtree(work / "remote", ignore_errors=True)
        job = job_of(
            items, work / "remote", period="2021-07", tile=256, collections=profiles, home=home
        )
        turns = iter(range(1_000_000))

        def month(count: int) -> float:
            mark = str(next(turns))
            tasks = job.tasks(Stage.COMPOSE)
            return in_lanes([partial(perform, task, job, mark) for task in tasks], count)

        with run.prepared(job):
            for seconds in LATENCIES:
                server.behave(Behaviour(latency=seconds))
                ways = {f"lanes {n}": partial(month, n) for n in LANES}
                found[f"{seconds * 1e3:.0f} ms"] = in_turn(ways, rounds)
    return found


# -------------------------------------------------------------------------------------------- main


def show(name: str, seconds: dict[str, float], base: str) -> None:
    """One line for each way."""
    for way, value in seconds.items():
        beside = seconds[f"{base}, CPU" if way.endswith("CPU") else base]
        print(f"{name:16}{way:22}{value:8.3f} s  x {value / beside:.3f}", flush=True)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="pixels along a side of the region")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(*json.loads(asked.child))
        return
    if asked.work is None:
        parser.error("WORK is missing: a folder for the simulated scenes and the stores")
    slept = phases(asked.rounds)
    show("phases", slept, "lanes 1")
    warmed = warm(asked.work, asked.size, asked.rounds)
    show("warm", warmed["seconds"], "bare")
    waited = remote(asked.work, asked.rounds)
    for latency, seconds in waited.items():
        show(f"remote {latency}", seconds, "lanes 1")
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    record = {
        "date": now.date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "command": f"python -m benchmarks.overlap WORK --rounds {asked.rounds} --size {asked.size}",
        "phases": slept,
        "warm": warmed,
        "remote": waited,
    }
    (RESULTS / f"overlap-{now:%Y-%m-%d}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
