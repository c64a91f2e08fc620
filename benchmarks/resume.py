"""``python -m benchmarks.resume [OUTPUT]``: what it costs to find that nothing is left to do.

With the output folder of a finished run: runs it again, says which files that changed (there should
be none), and how long it took beside the work itself, as the receipts tell it. In any case: for
1,000 to 100,000 made-up receipts, milliseconds and memory for each.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tasks import Silent, job_of, memory_mb, nothing
from cdscale import plan, run
from cdscale.cluster import worker_count
from cdscale.progress import Progress
from cdscale.spec.job import Job
from cdscale.spec.task import Stage
from cdscale.store import read_job


def again(output: Path) -> dict[str, Any]:
    """Run a finished run again: seconds, their share of the work, and the files that changed."""
    job = read_job(output / "run")
    spec = job.spec.model_copy(update={"output": str(output)})
    work = work_seconds(Job(spec=spec, scenes=job.scenes, cards=job.cards))
    before = state_of(output)
    started = time.perf_counter()
    outcome = run.execute(plan.freeze(spec), "local", Silent())
    seconds = time.perf_counter() - started
    after = state_of(output)
    return {
        "done": outcome.done,
        "seconds": round(seconds, 2),
        "work_seconds": round(work, 1),
        "share": round(seconds / work, 4),
        "changed": sorted(
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        ),
    }


def work_seconds(job: Job) -> float:
    """Seconds of all tasks, as their receipts tell, over the workers of a local cluster."""
    progress = Progress.of(job)
    receipts = [progress.receipt(task) for stage in job.stages for task in job.tasks(stage)]
    if None in receipts:
        raise SystemExit(f"{receipts.count(None)} tasks of this run are not done: finish it first")
    return sum(r.seconds for r in receipts if r is not None) / worker_count(job.spec.workers)


def state_of(folder: Path) -> dict[str, tuple[int, str]]:
    """Time of writing and sha256 of every file."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def receipts(count: int) -> dict[str, float]:
    """Milliseconds of the processor and kilobytes for each receipt that is looked at."""
    with tempfile.TemporaryDirectory() as folder:
        job = job_of(Path(folder), count)
        with run.prepared(job) as progress:
            for task, mark in progress.agenda(Stage.COMPOSE).ready.items():
                path = job.ledger_folder / f"{task}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(nothing(task, "", "", mark).model_dump_json(indent=1))
        tasks = len(job.tasks(Stage.COMPOSE))
        del progress
        gc.collect()
        memory, started = memory_mb(), time.process_time()
        fresh = Progress.of(job)
        if not fresh.finished:
            raise RuntimeError("the made-up receipts do not hold")
        seconds = time.process_time() - started
        return {
            "tasks": tasks,
            "ms_per_task": round(1000 * seconds / tasks, 3),
            "kb_per_task": round(1000 * (memory_mb() - memory) / tasks, 2),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, nargs="?", help="folder of a finished run")
    parser.add_argument("--counts", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    options = parser.parse_args()
    if options.output is not None:
        print(json.dumps(again(options.output), indent=1), flush=True)
    for count in options.counts:
        print(json.dumps(receipts(count)), flush=True)


if __name__ == "__main__":
    main()
