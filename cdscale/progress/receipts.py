"""What the receipts of a run say: which tasks are done, can start, wait, or failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale.months import Month
from cdscale.progress.selection import EVERYTHING, Selection
from cdscale.spec.base import fingerprint
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
    "member_normalisations",
    "tta",
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


@dataclass(frozen=True, slots=True)
class _Mark:
    """What has to be remembered of a receipt: of a continent there are millions."""

    fingerprint: str
    complete: bool
    sums: str
    """Fingerprint of its checksums."""

    @classmethod
    def of(cls, receipt: Receipt) -> _Mark:
        return cls(receipt.fingerprint, receipt.complete, receipt.digest)


@dataclass
class Progress:
    """How far a run is, as its receipts tell; remembers of each what decides that, and no more.

    A task is done when its receipt holds: same inputs, same spec, same weights, no scene missing.
    """

    job: Job
    ledger: Ledger
    selection: Selection = EVERYTHING
    _found: dict[Task, _Mark | None] = field(default_factory=dict)
    _held: dict[Task, _Mark | None] = field(default_factory=dict)
    _fingerprints: dict[Task, str | None] = field(default_factory=dict)
    _sound: dict[Task, bool] = field(default_factory=dict)
    _stores: dict[Stage, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job, selection: Selection = EVERYTHING) -> Progress:
        """Where a run stands now."""
        return cls(job, Ledger(job.ledger_folder), selection)

    # ------------------------------------------------------------------------------- receipts

    def found(self, task: Task) -> Receipt | None:
        """The receipt of a task, whether it still holds or not."""
        if task not in self._found:
            receipt = self._read(task)
            self._found[task] = None if receipt is None else _Mark.of(receipt)
            return receipt
        return None if self._found[task] is None else self._read(task)

    def _read(self, task: Task) -> Receipt | None:
        again = self.selection.redo and self.selection.names(task)
        there = not again and self._store_there(task.stage)
        return self.ledger.read(task) if there else None

    def receipt(self, task: Task) -> Receipt | None:
        """The receipt of a task, if it still holds: same inputs, same spec, same weights."""
        return None if self._mark(task) is None else self.found(task)

    def _mark(self, task: Task) -> _Mark | None:
        """What is remembered of a receipt that still holds."""
        if task not in self._held:
            if task not in self._found:
                self.found(task)
            found = self._found[task]
            holds = found is not None and found.fingerprint == self.fingerprint(task)
            self._held[task] = found if holds else None
        return self._held[task]

    def done(self, task: Task) -> bool:
        """Whether nothing of a task is left to do."""
        mark = self._mark(task)
        return mark is not None and mark.complete

    def sums(self, task: Task) -> str:
        """Fingerprint of a task's pixels as its receipt has them; empty where it does not hold."""
        mark = self._mark(task)
        return "" if mark is None else mark.sums

    def sound(self, task: Task) -> bool:
        """Whether a task is done, and everything that it was made from."""
        if task not in self._sound:
            self._walk(task, self._sound, self.sound)
            above = self.job.upstream(task)
            self._sound[task] = self.done(task) and all(self.sound(up) for up in above)
        return self._sound[task]

    def record(self, receipt: Receipt) -> None:
        """Take in the receipt of a task that has just been done."""
        task = Task.parse(receipt.task)
        self._found[task] = _Mark.of(receipt)
        self._held.pop(task, None)
        self._sound.pop(task, None)

    def reconsider(self, task: Task) -> None:
        """Look again at one task: what it is made from has just been done."""
        for known in (self._held, self._fingerprints, self._sound):
            known.pop(task, None)

    def lost(self, task: Task, reason: str) -> None:
        """Keep the reason why a task failed; its receipt may hold no longer."""
        self.ledger.fail(task, reason)
        for known in (self._found, self._held, self._sound):
            known.pop(task, None)

    def review(self, stage: Stage) -> None:
        """Look again at a stage and those after it: what they are made from may have changed."""
        later = set(list(Stage)[list(Stage).index(stage) :])
        for task in [task for task in self._held if task.stage in later]:
            del self._held[task]
        for task in [task for task in self._fingerprints if task.stage in later]:
            del self._fingerprints[task]
        for task in [task for task in self._sound if task.stage in later]:
            del self._sound[task]

    def start_over(self) -> None:
        """Drop the receipts of what is to be done again."""
        if self.selection.redo:
            every = (task for stage in self.job.stages for task in self.job.tasks(stage))
            self.ledger.drop(task for task in every if self.selection.names(task))

    def _store_there(self, stage: Stage) -> bool:
        """Whether what the receipts of a stage tell of still exists."""
        if stage not in self._stores:
            self._stores[stage] = exists(self.job.store_path(stage))
        return self._stores[stage]

    # --------------------------------------------------------------------------- fingerprints

    def fingerprint(self, task: Task) -> str | None:
        """Of everything that decides a task's pixels; None until all of its inputs are there."""
        if task not in self._fingerprints:
            self._walk(task, self._held, self._mark)
            self._fingerprints[task] = self._fingerprint(task)
        return self._fingerprints[task]

    def _walk(self, task: Task, known: Mapping[Task, Any], look: Callable[[Task], Any]) -> None:
        """Look at the months before a task from the first on.

        Asked one by the other they would be as deep as the series is long.
        """
        before = self.job.builds_on(task)
        if before is not None and before not in known:
            for earlier in self.job.earlier(task):
                look(earlier)

    def _fingerprint(self, task: Task) -> str | None:
        inputs = [self._mark(up) for up in self.job.upstream(task)]
        sums = [mark.sums for mark in inputs if mark is not None]
        if len(sums) < len(inputs):
            return None
        return fingerprint(
            {
                "task": str(task),
                "version": STAGE_VERSION[task.stage],
                "layout": self._structures[task.stage],
                "inputs": sums,
                **self._own(task),
            }
        )

    @cached_property
    def _structures(self) -> dict[Stage, str]:
        """Of each store what does not change when it grows."""
        return {stage: layout.structure for stage, layout in self.job.layouts.items()}

    def _own(self, task: Task) -> dict[str, Any]:
        """What decides a task's pixels beside its layout and the pixels that it reads."""
        if task.stage is Stage.COMPOSE:
            return {
                "composite": self._composite,
                "reader": self.job.spec.reader,
                "scenes": [scene.digest for scene in self.job.scenes_of(task)],
            }
        own: dict[str, Any] = {}
        names = ("urban",) if task.stage is Stage.MAP else ("change", "urban")
        if task.stage is Stage.CHANGE:
            # Which months its pixels come from: the map names them.
            before, reference = self.job.builds_on(task), self.job.pairs.get(task.month)
            own["months"] = str(reference or "")
            if "urban" in self.job.cards:
                series = self.job.spec.period.between(reference or task.month, task.month)
                own["months"] = str(series)
                own |= {"before": str(before.month if before else ""), "rules": self._rules}
        cards = [self.job.cards[name] for name in names if name in self.job.cards]
        own["cards"] = [card.model_dump(mode="json", include=DECIDING) for card in cards]
        # Named where it is not what it has always been: maps in float32 stay what they are.
        rough = {n: p for n, p in self._precisions.items() if n in names and p != "float32"}
        return own | ({"precisions": rough} if rough else {})

    @cached_property
    def _composite(self) -> dict[str, Any]:
        # Which scenes are left out, and of how many months they are, shows in those that are there.
        return self.job.spec.cube.model_dump(mode="json", exclude={"exclude", "window_months"})

    @cached_property
    def _rules(self) -> dict[str, Any]:
        # How small a patch may be decides events, and no pixel.
        return self.job.spec.changes.model_dump(mode="json", exclude={"mmu"})

    @cached_property
    def _precisions(self) -> dict[str, str]:
        """In which each network maps."""
        choices = {name: getattr(self.job.spec.models, name) for name in self.job.cards}
        return {name: choice.precision for name, choice in choices.items() if choice is not None}

    # --------------------------------------------------------------------------------- agenda

    @cached_property
    def wanted(self) -> frozenset[Task]:
        """Tasks of the selection.

        What it names and what that is made from; or what failed and all that is made from it.
        """
        named = {
            task
            for stage in self.job.stages
            for task in self.job.tasks(stage)
            if self.selection.names(task)
        }
        if self.selection.retry_failed:
            return frozenset(self._downstream({task for task in named if self._lacking(task)}))
        left = list(named)
        while left:
            above = [up for up in self.job.upstream(left.pop()) if up not in named]
            named.update(above)
            left += above
        return frozenset(named)

    def _lacking(self, task: Task) -> bool:
        """Whether a task was tried, and failed or ended without some scenes."""
        if self.done(task):
            return False
        found = self.found(task)
        return (found is not None and not found.complete) or bool(self.ledger.failure(task))

    def _downstream(self, tasks: set[Task]) -> set[Task]:
        for stage in self.job.stages:
            for task in self.job.tasks(stage):
                if not tasks.isdisjoint(self.job.upstream(task)):
                    tasks.add(task)
        return tasks

    @property
    def added(self) -> int:
        """Tasks to do that the selection does not name, but needs."""
        if self.selection.whole or self.selection.retry_failed:
            return 0
        extra = (task for task in self.wanted if not self.selection.names(task))
        return sum(not self.done(task) for task in extra)

    def agenda(self, stage: Stage, month: Month | None = None) -> Agenda:
        """Done, ready and waiting tasks of a stage, or of one of its months; of the selection."""
        done, ready, waiting = [], {}, []
        for task in self.job.tasks(stage):
            if month is not None and task.month != month:
                continue
            if not self.selection.whole and task not in self.wanted:
                continue
            mark = self.fingerprint(task)
            if self.done(task):
                done.append(task)
            elif mark is None:
                waiting.append(task)
            else:
                ready[task] = mark
        return Agenda(tuple(done), ready, tuple(waiting))

    def undone(self, stage: Stage) -> NDArray[np.bool_]:
        """Which tasks of a stage are wanted and not done: by month and tile, (M, T).

        Of a whole run only the tasks that have receipts are looked at one by one, since a continent
        that was not begun has millions that have none.
        """
        row = {month: i for i, month in enumerate(self.job.months(stage))}
        column = {tile: i for i, tile in enumerate(self.job.tiles)}
        if self.selection.whole:
            known = self.ledger.tasks(stage) if self._store_there(stage) else ()
            ready = np.ones((len(row), len(column)), bool)
            done = (task for task in known if task.month in row and task.tile in column)
            for task in done:
                ready[row[task.month], column[task.tile]] = not self.done(task)
            return ready
        ready = np.zeros((len(row), len(column)), bool)
        agenda = self.agenda(stage)
        for task in (*agenda.ready, *agenda.waiting):
            ready[row[task.month], column[task.tile]] = True
        return ready

    def left(self, stage: Stage) -> dict[Month, set[Task]]:
        """For each month every task that is not sound, in the selection or not."""
        left: dict[Month, set[Task]] = {month: set() for month in self.job.months(stage)}
        for task in self.job.tasks(stage):
            if not self.sound(task):
                left[task.month].add(task)
        return left

    @property
    def finished(self) -> bool:
        """Whether every task of the selection is done."""
        agendas = (self.agenda(stage) for stage in self.job.stages)
        return all(not agenda.ready and not agenda.waiting for agenda in agendas)
