"""``python -m benchmarks.crashes WORK [--schedules N]``: runs that are killed, and how they end.

A simulated region is composed and mapped, undisturbed at first. Each schedule then does the same
run in a folder of its own while things happen to it at random moments: workers are killed, the
driver is killed, interrupted or told to stop, or the disk takes no large file for a while. The same
command is given again until it says that all is done. Counted are the schedules whose stores end
byte-identical to those of the undisturbed run, and the tasks that were lost, or done with another
result.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.damages import contents
from cdscale import simulate
from cdscale.grid import Area
from cdscale.integrity import inspect, run_of
from cdscale.months import Months

FAULTS = ("worker", "workers", "driver", "interrupt", "terminate", "disk")
PATIENCE = 300.0
"""Seconds after which one command counts as hung."""


@dataclass
class Schedule:
    """What happened in one of them."""

    seed: int
    faults: list[str] = field(default_factory=list)
    commands: int = 0
    seconds: float = 0.0
    identical: bool = False
    lost: int = 0
    """Tasks without a receipt that holds, or shards that are not what a receipt says."""
    conflicting: int = 0
    """Tasks whose receipts tell of other pixels than those of the undisturbed run."""


def write_region(folder: Path) -> Path:
    """The catalogue and the spec, without an output folder."""
    region = simulate.Region(seed=5, size_px=512, months=Months.parse("2022-04..2022-05"))
    simulate.write(region, folder / "catalogue")
    spec = {
        "name": "crashes",
        "catalogue": str(folder / "catalogue"),
        "collections": {
            "sentinel-2-l2a": "planetary-computer-sentinel-2-l2a",
            "sentinel-1-rtc": "planetary-computer-sentinel-1-rtc",
        },
        "area": Area.from_geojson(region.area(), where="region").geojson,
        "period": str(region.months),
        "grid": {"preset": "europe", "tile": 256, "chunk": 128},
        "models": {"urban": {"card": "urban-s1s2-sim"}},
        "workers": {"count": 2, "memory": "4GiB"},
        "output": "unused",
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path


def start(spec: Path, output: Path, *, file_limit: int = 0) -> subprocess.Popen[bytes]:
    """``cdscale run`` in a process group of its own; files beyond a limit cannot be written."""

    def limit() -> None:
        if file_limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    return subprocess.Popen(
        [sys.executable, "-m", "cdscale", "run", str(spec), "--output", str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=limit,
    )


def workers_of(driver: int) -> list[int]:
    """Dask's worker processes of a driver."""
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


def hit(kind: str, driver: int, rng: random.Random) -> None:
    """Do one fault to a run."""
    if kind in {"worker", "workers"}:
        there = workers_of(driver)
        for pid in there if kind == "workers" else rng.sample(there, min(1, len(there))):
            _kill(pid, signal.SIGKILL)
    elif kind == "driver":
        _kill(driver, signal.SIGKILL)
    elif kind == "interrupt":
        os.killpg(driver, signal.SIGINT)
    elif kind == "terminate":
        _kill(driver, signal.SIGTERM)


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def play(seed: int, spec: Path, output: Path, usual: float) -> Schedule:
    """Disturb a run, and give the command again until it ends well."""
    rng, schedule, started = random.Random(seed), Schedule(seed), time.perf_counter()
    left = [rng.choice(FAULTS) for _ in range(rng.randint(1, 3))]
    code = 1
    while code != 0:
        kind = left.pop() if left else ""
        schedule.commands += 1
        process = start(spec, output, file_limit=20_000 if kind == "disk" else 0)
        if kind:
            schedule.faults.append(kind)
        stop = time.perf_counter() + rng.uniform(0.2, 0.95) * usual
        while kind and process.poll() is None and time.perf_counter() < stop:
            time.sleep(0.02)
        if kind and process.poll() is None:
            hit(kind, process.pid, rng)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise RuntimeError(f"schedule {seed} hangs after {schedule.faults}") from None
        if schedule.commands > 12:
            raise RuntimeError(f"schedule {seed} does not end: {schedule.faults}")
    schedule.seconds = round(time.perf_counter() - started, 1)
    return schedule


def sums_of(folder: Path) -> dict[str, Any]:
    """Checksums of every receipt."""
    return {
        str(path.relative_to(folder)): json.loads(path.read_text(encoding="utf-8"))["checksums"]
        for path in sorted((folder / "run" / "receipts").glob("*/*/*.json"))
    }


def main() -> None:
    """Once undisturbed, then every schedule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--schedules", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="seed of the first schedule")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    spec = options.work / "spec.yaml"
    if not spec.exists():
        write_region(options.work)
    clean = options.work / "clean"
    for output in (clean, options.work / "again"):  # the first one reads from a cold disk
        shutil.rmtree(output, ignore_errors=True)
        started = time.perf_counter()
        if start(spec, output).wait(PATIENCE) != 0:
            parser.error("the undisturbed run fails")
        usual = time.perf_counter() - started
    expected = contents(clean)
    sums = sums_of(clean)
    done: list[Schedule] = []
    with (options.work / "schedules.jsonl").open("a", encoding="utf-8") as file:
        for seed in range(options.first, options.first + options.schedules):
            output = options.work / f"run-{seed}"
            shutil.rmtree(output, ignore_errors=True)
            schedule = play(seed, spec, output, usual)
            found = inspect(*run_of(output))
            schedule.identical = contents(output) == expected
            schedule.lost = len(found.faults) + found.undone
            own = sums_of(output)
            schedule.conflicting = sum(own.get(name) != said for name, said in sums.items())
            file.write(json.dumps(vars(schedule)) + "\n")
            file.flush()
            print(vars(schedule), flush=True)
            done.append(schedule)
    kinds = Counter(kind for schedule in done for kind in schedule.faults)
    print(
        f"{sum(s.identical for s in done)} of {len(done)} byte-identical; "
        f"{sum(s.lost for s in done)} lost, {sum(s.conflicting for s in done)} conflicting; "
        f"faults {dict(kinds)}; undisturbed {usual:.1f} s"
    )


if __name__ == "__main__":
    main()
