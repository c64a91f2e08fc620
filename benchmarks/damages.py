"""``python -m benchmarks.damages OUTPUT``: damage shards of a finished run, find them, repair them.

Every damage is done by itself to a copy of the run, looked for, and undone; then all of them at
once, several to a store, which is repaired and compared file by file with the run.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import tempfile
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

from cdscale.integrity import inspect, run_of
from cdscale.run import prepared, repair
from cdscale.spec.task import Stage, Task
from cdscale.store import Ledger, Store, read_spec
from cdscale.testing import DAMAGES, damage

Shard = tuple[Stage, Task, str, Path]


def shards_of(output: Path) -> list[Shard]:
    """Every shard of a run that has a file."""
    job, stages = run_of(output)
    found = []
    for stage in stages:
        store = Store(job.store_path(stage), read_spec(job.store_path(stage)))
        for task in job.tasks(stage):
            files = store.files(task.tile, task.month).items()
            found += [(stage, task, name, file) for file, name in files if file.exists()]
    return found


def pairs_of(output: Path) -> list[tuple[Shard, Shard]]:
    """Shards of one variable with different pixels: to exchange those that are alike harms none."""
    ledger = Ledger(run_of(output)[0].ledger_folder)
    sums = {}
    found = shards_of(output)
    for _, task, name, file in found:
        receipt = ledger.read(task)
        sums[file] = receipt.checksums[name] if receipt else ""
    return [
        (one, other)
        for one, other in combinations(found, 2)
        if (one[0], one[2]) == (other[0], other[2]) and sums[one[3]] != sums[other[3]]
    ]


def one_by_one(copy: Path, count: int, rng: random.Random) -> Counter[str]:
    """How many of each damage were found where they were done, and nowhere else."""
    pairs, found = pairs_of(copy), Counter[str]()
    job, _ = run_of(copy)
    for number in range(count):
        kind = DAMAGES[number % len(DAMAGES)]
        one, other = rng.choice(pairs)
        if rng.random() < 0.5:
            one, other = other, one
        hurt = {one, other} if kind == "swap" else {one}
        kept = {shard[3]: shard[3].read_bytes() for shard in (one, other)}
        damage(kind, one[3], other[3], rng)
        faults = inspect(job, [one[0]]).faults
        places = {(fault.task, fault.variable) for fault in faults}
        found[kind] += places == {(str(task), name) for _, task, name, _ in hurt}
        for file, content in kept.items():
            file.write_bytes(content)
    return found


def repaired(output: Path, copy: Path, count: int, rng: random.Random) -> tuple[int, int, bool]:
    """Damage so many shards at once and repair them: tasks hurt, tasks redone, equal to before?"""
    free = {shard[3]: shard for shard in shards_of(copy)}
    hurt: set[Task] = set()
    for number in range(min(count, len(free))):
        kind = DAMAGES[:4][number % 4]
        file = rng.choice(sorted(free))
        hurt.add(free.pop(file)[1])
        damage(kind, file, file, rng)
    job, stages = run_of(copy)
    outcome, _, _ = repair(job, stages, inspect(job, stages), "local", Silent())
    return len(hurt), outcome.done, contents(output) == contents(copy)


def contents(output: Path) -> dict[str, str]:
    """Sha256 of every file of a run's stores."""
    return {
        str(file.relative_to(output)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(output.glob("*.zarr/**/*"))
        if file.is_file()
    }


class Silent:
    """Watches, and says nothing."""

    def begin(self, stage: Stage, *, todo: int, done: int, dashboard: str) -> None:
        """See :class:`cdscale.run.Watcher`."""

    def done(self, task: Task, receipt: object) -> None:
        """See :class:`cdscale.run.Watcher`."""

    def again(self, task: Task, reason: str) -> None:
        """See :class:`cdscale.run.Watcher`."""

    def held(self, reason: str) -> None:
        """See :class:`cdscale.run.Watcher`."""

    def failed(self, task: Task, reason: str) -> None:
        """See :class:`cdscale.run.Watcher`."""

    def overviews(self, *, made: int, shards: int) -> None:
        """See :class:`cdscale.run.Watcher`."""


def main() -> None:
    """Copy, damage, look, repair, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="output folder of a finished run")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(options.output, Path(scratch) / "run"))
        with prepared(run_of(copy)[0]) as progress:
            if not progress.finished:
                parser.error(f"{options.output} is not finished: run it first")
        before = contents(copy)
        started = time.perf_counter()
        found = one_by_one(copy, options.count, rng)
        seconds = time.perf_counter() - started
        print(f"found {sum(found.values())} of {options.count}: {dict(found)} in {seconds:.0f} s")
        started = time.perf_counter()
        hurt, redone, same = repaired(options.output, copy, options.count, rng)
        seconds = time.perf_counter() - started
        unchanged = before == contents(options.output)
        print(
            f"repaired: {hurt} tasks hurt, {redone} done again in {seconds:.0f} s, "
            f"byte-identical {same and unchanged}"
        )


if __name__ == "__main__":
    main()
