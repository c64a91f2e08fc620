"""Where a run stands, for people: what is done, what is missing, and why."""

from __future__ import annotations

from cdscale.months import Month
from cdscale.progress.receipts import Progress
from cdscale.spec.base import Frozen
from cdscale.spec.job import Job
from cdscale.spec.task import Stage
from cdscale.store import Store, exists, read_spec


class StageStatus(Frozen):
    """One stage of a run."""

    tasks: int
    done: int
    missing: tuple[str, ...]
    """Tasks that have not been done."""
    failed: dict[str, str]
    """Of these, the ones that were tried, and why they failed."""
    incomplete: dict[str, dict[str, str]]
    """Tasks that were done without some scenes, and why those could not be read."""
    unpublished: tuple[str, ...]
    """Months of the store that readers do not get yet, those of other runs among them."""
    pixels: dict[str, dict[str, dict[str, int]]]
    """For each month and quality variable, pixels of each code."""


class Status(Frozen):
    """What a run has done, what is missing, and why."""

    name: str
    output: str
    complete: bool
    set_aside: dict[str, str]
    """Items that the catalogue returned and that are not used, and why."""
    stages: dict[str, StageStatus]


def status(job: Job) -> Status:
    """Where a run stands."""
    return status_of(Progress.of(job))


def status_of(progress: Progress) -> Status:
    """Where a run stands, from receipts that have been read already."""
    job = progress.job
    stages = {str(stage): _stage_status(progress, stage) for stage in job.stages}
    return Status(
        name=job.spec.name,
        output=str(job.spec.folder),
        complete=all(part.done == part.tasks for part in stages.values()),
        set_aside={item.id: item.reason for item in job.scenes.set_aside},
        stages=stages,
    )


def unpublished(job: Job, stage: Stage) -> tuple[Month, ...]:
    """Months of a stage's store that readers do not get yet."""
    path = job.store_path(stage)
    if not exists(path):
        return job.months(stage)
    store = Store(path, read_spec(path))
    published = set(store.published())
    return tuple(month for month in store.spec.months if month not in published)


def _stage_status(progress: Progress, stage: Stage) -> StageStatus:
    tasks = progress.job.tasks(stage)
    receipts = {task: progress.receipt(task) for task in tasks}
    missing = [task for task, receipt in receipts.items() if receipt is None]
    reasons = {task: progress.ledger.failure(task) for task in missing}
    pixels: dict[str, dict[str, dict[str, int]]] = {}
    for task, receipt in receipts.items():
        for variable, counts in (receipt.pixels if receipt else {}).items():
            month = pixels.setdefault(str(task.month), {}).setdefault(variable, {})
            for code, number in counts.items():
                month[code] = month.get(code, 0) + number
    return StageStatus(
        tasks=len(tasks),
        done=sum(r is not None and r.complete for r in receipts.values()),
        missing=tuple(str(task) for task in missing),
        failed={str(task): reason for task, reason in reasons.items() if reason},
        incomplete={str(t): r.failed for t, r in receipts.items() if r and not r.complete},
        unpublished=tuple(map(str, unpublished(progress.job, stage))),
        pixels=pixels,
    )
