"""How far a run is, as its receipts tell: what is done, can start, waits, or failed and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cdscale.months import Month
from cdscale.spec.base import Frozen, fingerprint
from cdscale.spec.job import Job
from cdscale.spec.task import STAGE_VERSION, Receipt, Stage, Task
from cdscale.store import Ledger, exists

DECIDING = {
    "family",
    "network",
    "weights_sha256",
    "s2_bands",
    "s1_bands",
    "normalisation",
    "halo",
    "stride",
    "threshold",
}
"""Fields of a card that decide pixels; the others tell people about it."""


@dataclass(frozen=True)
class Agenda:
    """What a stage has done and has still to do."""

    done: tuple[Task, ...]
    ready: dict[Task, str]
    """Tasks that can start now, with their fingerprints."""
    waiting: tuple[Task, ...]
    """Tasks whose inputs are not there yet."""


@dataclass
class Progress:
    """How far a run is, as its receipts tell; reads each receipt once."""

    job: Job
    ledger: Ledger
    _receipts: dict[Task, Receipt | None] = field(default_factory=dict)
    _fingerprints: dict[Task, str | None] = field(default_factory=dict)
    _stores: dict[Stage, bool] = field(default_factory=dict)

    def receipt(self, task: Task) -> Receipt | None:
        """The receipt of a task, if it still holds: same inputs, same spec, same weights."""
        if task not in self._receipts:
            found = self.ledger.read(task) if self._store_there(task.stage) else None
            holds = found is not None and found.fingerprint == self.fingerprint(task)
            self._receipts[task] = found if holds else None
        return self._receipts[task]

    def _store_there(self, stage: Stage) -> bool:
        """Whether what the receipts of a stage tell of still exists."""
        if stage not in self._stores:
            self._stores[stage] = exists(self.job.store_path(stage))
        return self._stores[stage]

    def fingerprint(self, task: Task) -> str | None:
        """Of everything that decides a task's pixels; None until all of its inputs are there."""
        if task not in self._fingerprints:
            self._fingerprints[task] = self._fingerprint(task)
        return self._fingerprints[task]

    def _fingerprint(self, task: Task) -> str | None:
        inputs = [self.receipt(up) for up in self.job.upstream(task)]
        if any(receipt is None for receipt in inputs):
            return None
        sums = [receipt.checksums for receipt in inputs if receipt is not None]
        return fingerprint(
            {
                "task": str(task),
                "version": STAGE_VERSION[task.stage],
                "layout": self.job.layouts[task.stage].digest,
                "inputs": sums,
                **self._own(task),
            }
        )

    def _own(self, task: Task) -> dict[str, Any]:
        """What decides a task's pixels beside its layout and the pixels that it reads."""
        if task.stage is Stage.COMPOSE:
            return {
                "composite": self.job.spec.cube.model_dump(mode="json"),
                "scenes": [scene.model_dump(mode="json") for scene in self.job.scenes_of(task)],
            }
        names = ("urban",) if task.stage is Stage.MAP else ("change", "urban")
        cards = [self.job.cards[name] for name in names if name in self.job.cards]
        return {"cards": [card.model_dump(mode="json", include=DECIDING) for card in cards]}

    def agenda(self, stage: Stage, month: Month | None = None) -> Agenda:
        """Done, ready and waiting tasks of a stage, or of one of its months."""
        done, ready, waiting = [], {}, []
        for task in self.job.tasks(stage):
            if month is not None and task.month != month:
                continue
            receipt, mark = self.receipt(task), self.fingerprint(task)
            if receipt is not None and receipt.complete:
                done.append(task)
            elif mark is None:
                waiting.append(task)
            else:
                ready[task] = mark
        return Agenda(tuple(done), ready, tuple(waiting))


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
    progress = Progress(job, Ledger(job.ledger_folder))
    stages = {str(stage): _stage_status(progress, stage) for stage in job.stages}
    return Status(
        name=job.spec.name,
        output=str(job.spec.folder),
        complete=all(part.done == part.tasks for part in stages.values()),
        set_aside={item.id: item.reason for item in job.scenes.set_aside},
        stages=stages,
    )


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
        pixels=pixels,
    )
