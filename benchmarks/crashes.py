"""``python -m benchmarks.crashes WORK [--schedules N]``: runs that are killed, and how they end.

A simulated region is composed and mapped by a small network of random weights, undisturbed at
first. Each schedule then does the same run in a folder of its own while one thing after another
happens to it, each at a random moment: a worker or both are killed, the driver is killed,
interrupted or told to stop, scheduler and workers are killed at once, the disk is full for a while,
or the store fails with input/output errors for a while. The same command is given again until it
says that all is done. Counted are the schedules whose stores end byte-identical to those of the
undisturbed run, and the tasks that were lost, or done with another result.

Most schedules have a cluster at an address, which outlives their drivers; the last ``--whole`` ones
have workers of their own, as ``cluster: local`` starts them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from shapely.geometry import box, mapping

from benchmarks.damages import contents
from benchmarks.faults import STACKS, WORK, Cluster, Disk, disk, drive, forks, kill
from cdscale import simulate
from cdscale.grid import LON_LAT, Area, reproject
from cdscale.integrity import inspect, run_of
from cdscale.months import Months
from cdscale.testing.cards import write_card

RESULTS = Path(__file__).parent / "results"
FAULTS = (
    "worker", "workers", "driver", "interrupt", "terminate", "cluster", "disk", "store",
)  # fmt: skip
OWN = ("worker", "workers", "driver", "interrupt", "terminate", "disk")
"""Those of a run with workers of its own, which end with it."""
PATIENCE = 300.0
"""Seconds after which one command counts as hung: ten times those of an undisturbed one on two
cores that are busy. What its processes were at is then kept, and they are killed."""
MOST_COMMANDS = 12


@dataclass
class Schedule:
    """What happened in one of them."""

    seed: int
    cluster: str
    faults: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """Exit status of each command; negative: the signal that ended it."""
    hung: int = 0
    """Commands that did not end by themselves."""
    hits: int = 0
    """Faults that met a run that was still going."""
    seconds: float = 0.0
    identical: bool = False
    lost: int = 0
    """Tasks without a receipt that holds, or shards that are not what a receipt says."""
    conflicting: int = 0
    """Tasks whose receipts tell of other pixels than those of the undisturbed run."""
    tracebacks: int = 0
    """Commands that ended with a traceback instead of a message."""


def write_region(folder: Path) -> Path:
    """The catalogue, the network and the spec: two tiles, three months, no output folder."""
    region = simulate.Region(seed=5, size_px=256, months=Months.parse("2022-04..2022-06"))
    simulate.write(region, folder / "catalogue")
    west, south, east, north = region.raster.bounds
    half = box(west, south, (west + east) / 2, north).buffer(-20, join_style="mitre")
    area = reproject(half, region.raster.crs, LON_LAT, resolution=200)
    spec = {
        "name": "crashes",
        "catalogue": str(folder / "catalogue"),
        "collections": {
            "sentinel-2-l2a": "planetary-computer-sentinel-2-l2a",
            "sentinel-1-rtc": "planetary-computer-sentinel-1-rtc",
        },
        "area": Area.from_geojson(mapping(area), where="region").geojson,
        "period": str(region.months),
        "grid": {"preset": "europe", "tile": 128, "chunk": 64},
        "cube": {"s2_bands": ["B04", "B08"], "s1_bands": ["vv"], "max_cloud_cover": 70},
        "models": {"urban": {"card": str(write_card(folder / "cards", "urban"))}},
        "workers": {"count": 2, "memory": "4GiB"},
        "output": "unused",
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path


@dataclass
class Stage:
    """What the schedules have in common."""

    spec: Path
    disk: Disk
    cluster: Cluster
    usual: float = 0.0
    """Seconds of the undisturbed run."""

    def start(self, output: Path, where: str) -> Any:
        """``cdscale run`` in a process of its own."""
        choice = self.cluster.there() if where == "address" else "local"
        command = ["run", str(self.spec), "--output", str(output), "--cluster", choice]
        process = forks().Process(target=drive, args=(command, self.said(output)))
        process.start()
        return process

    def said(self, output: Path) -> Path:
        """File of what the commands of a schedule print."""
        return self.spec.parent / f"{output.name}.txt"

    def workers(self, driver: int, where: str) -> list[int]:
        """Worker processes."""
        return self.cluster.workers() if where == "address" else workers_of(driver)

    def hit(self, kind: str, driver: int, where: str, rng: random.Random) -> None:
        """Do one fault to a run; what lasts a while is over when this returns."""
        workers = self.workers(driver, where)
        if kind in {"worker", "workers"}:
            for pid in workers if kind == "workers" else rng.sample(workers, min(1, len(workers))):
                kill(pid, signal.SIGKILL)
        elif kind == "cluster":
            self.cluster.kill()
        elif kind in {"driver", "terminate"}:
            kill(driver, signal.SIGKILL if kind == "driver" else signal.SIGTERM)
        elif kind == "interrupt":
            kill(driver, signal.SIGINT)
        else:
            for _ in self.spell(kind, [driver, *workers], rng):
                stop = time.perf_counter() + rng.uniform(0.1, 0.5) * self.usual
                while Path(f"/proc/{driver}").exists() and time.perf_counter() < stop:
                    time.sleep(0.02)

    def end(self, process: Any, where: str) -> None:
        """Have all processes of a command that hangs say what they are at, and kill them."""
        own = self.cluster.processes() if where == "address" else workers_of(process.pid)
        for pid in (process.pid, *own):
            kill(pid, STACKS)
            time.sleep(1)  # they say it in one file
        for pid in (process.pid, *own):
            kill(pid, signal.SIGKILL)
        process.join()

    def spell(self, kind: str, processes: list[int], rng: random.Random) -> Iterator[None]:
        """A while in which the disk is full, or the store fails."""
        flag = self.cluster.home / "store-fails"
        if kind == "disk":
            self.disk.fill(processes, rng.randrange(40_000))
        else:
            flag.touch()
        yield
        self.disk.free(processes)
        flag.unlink(missing_ok=True)


def workers_of(driver: int) -> list[int]:
    """Dask's worker processes of a driver that has workers of its own."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            group = os.getpgid(int(folder.name))
            line = (folder / "cmdline").read_text(encoding="utf-8")
        except OSError:
            continue
        if group == driver and "spawn_main" in line:
            found.append(int(folder.name))
    return sorted(found)


def play(seed: int, where: str, output: Path, stage: Stage) -> Schedule:
    """Disturb a run, and give the command again until it ends well."""
    rng, schedule, started = random.Random(seed), Schedule(seed, where), time.perf_counter()
    kinds = FAULTS if where == "address" else OWN
    left = [kinds[seed % len(kinds)], *(rng.choice(kinds) for _ in range(rng.randint(0, 2)))]
    code = 1
    while code != 0:
        kind = left.pop() if left else ""
        process = stage.start(output, where)
        if kind:
            schedule.faults.append(kind)
            process.join(rng.uniform(0.1, 0.95) * stage.usual)
            if process.is_alive():
                schedule.hits += 1
                stage.hit(kind, process.pid, where, rng)
        process.join(PATIENCE)
        if process.is_alive():
            schedule.hung += 1
            stage.end(process, where)
        code = int(process.exitcode)
        schedule.statuses.append(code)
        if len(schedule.statuses) > MOST_COMMANDS:
            raise RuntimeError(f"schedule {seed} does not end: {schedule.faults}")
    schedule.seconds = round(time.perf_counter() - started, 1)
    said = stage.said(output).read_text(encoding="utf-8", errors="replace")
    schedule.tracebacks = said.count("Traceback (most recent call last)")
    return schedule


def sums_of(folder: Path) -> dict[str, Any]:
    """Checksums of every receipt."""
    return {
        str(path.relative_to(folder)): json.loads(path.read_text(encoding="utf-8"))["checksums"]
        for path in sorted((folder / "run" / "receipts").glob("*/*/*.json"))
    }


def undisturbed(stage: Stage, output: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The run that nothing happens to, twice: the first one starts cold.

    Raises
    ------
    RuntimeError
        When it fails.
    """
    for _ in range(2):
        shutil.rmtree(output, ignore_errors=True)
        stage.said(output).unlink(missing_ok=True)
        started = time.perf_counter()
        process = stage.start(output, "address")
        process.join(PATIENCE)
        if process.exitcode != 0:
            raise RuntimeError(f"the undisturbed run fails: {stage.said(output).read_text()}")
        stage.usual = time.perf_counter() - started
    return contents(output), sums_of(output)


def compared(
    schedule: Schedule, output: Path, clean: tuple[dict[str, str], dict[str, Any]]
) -> Schedule:
    """How its stores and receipts stand beside those of the undisturbed run."""
    found = inspect(*run_of(output))
    schedule.identical = contents(output) == clean[0]
    schedule.lost = len(found.faults) + found.undone
    own = sums_of(output)
    schedule.conflicting = sum(own.get(name) != said for name, said in clean[1].items())
    return schedule


def schedules(options: argparse.Namespace, stage: Stage) -> Iterator[Schedule]:
    """All of them, one after another; what is not identical stays to be looked at."""
    clean = undisturbed(stage, stage.disk.path / "clean")
    print(f"undisturbed {stage.usual:.1f} s; a disk of its own: {stage.disk.own}", flush=True)
    last = options.first + options.schedules
    for seed in range(options.first, last):
        where = "local" if seed >= last - options.whole else "address"
        output = stage.disk.path / f"run-{seed}"
        stage.said(output).unlink(missing_ok=True)
        schedule = compared(play(seed, where, output, stage), output, clean)
        if not schedule.identical or schedule.lost or schedule.conflicting:
            shutil.copytree(output, stage.spec.parent / output.name, dirs_exist_ok=True)
        shutil.rmtree(output)
        yield schedule


def read(home: Path) -> list[Schedule]:
    """Schedules that were played in a folder; of a seed the last time."""
    text = (home / "schedules.jsonl").read_text(encoding="utf-8")
    found = [Schedule(**json.loads(line)) for line in text.splitlines()]
    return list({schedule.seed: schedule for schedule in found}.values())


def summed(done: list[Schedule], options: argparse.Namespace) -> dict[str, Any]:
    """The figures of all schedules together."""
    now = datetime.now(UTC)
    return {
        "date": now.date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "command": f"python -m benchmarks.crashes WORK --schedules {options.schedules} "
        f"--whole {options.whole}",
        "schedules": len(done),
        "with workers of their own": sum(s.cluster == "local" for s in done),
        "identical": sum(s.identical for s in done),
        "lost": sum(s.lost for s in done),
        "conflicting": sum(s.conflicting for s in done),
        "tracebacks": sum(s.tracebacks for s in done),
        "hung": sum(s.hung for s in done),
        "faults": dict(Counter(kind for s in done for kind in s.faults)),
        "faults that met a running command": sum(s.hits for s in done),
        "commands": sum(len(s.statuses) for s in done),
        "seconds": round(sum(s.seconds for s in done), 1),
    }


def main() -> None:
    """Once undisturbed, then every schedule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--schedules", type=int, default=60)
    parser.add_argument("--whole", type=int, default=6, help="of them, with workers of their own")
    parser.add_argument("--first", type=int, default=0, help="seed of the first schedule")
    parser.add_argument(
        "--sum", type=Path, nargs="*", default=[], metavar="WORK", help="count these in as well"
    )
    options = parser.parse_args()
    home = options.work.resolve()
    home.mkdir(parents=True, exist_ok=True)
    os.environ[WORK] = str(home)
    spec = home / "spec.yaml"
    if not spec.exists():
        write_region(home)
    with disk(home / "disk") as own, (home / "schedules.jsonl").open("a") as file:
        stage = Stage(spec, own, Cluster(home))
        try:
            for schedule in schedules(options, stage) if options.schedules else ():
                file.write(json.dumps(vars(schedule)) + "\n")
                file.flush()
                print(vars(schedule), flush=True)
        finally:
            stage.cluster.kill()
    done = [schedule for folder in (home, *options.sum) for schedule in read(folder)]
    record = summed(done, options)
    print(json.dumps(record, indent=1))
    RESULTS.mkdir(exist_ok=True)
    file_name = RESULTS / f"crashes-{record['date']}.json"
    file_name.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
