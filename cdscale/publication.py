"""Which months of a store readers may have, while a stage is at work on it.

A month is published when every task of its stage and month is done and no scene is missing, neither
in these tasks nor in what they were made from. It is taken back before any of its tasks goes out
again. Only the driver marks months, so that a mark and
the receipts never disagree for longer than a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cdscale.months import Month
from cdscale.progress import Progress
from cdscale.spec.cube import CubeSpec
from cdscale.spec.job import Job
from cdscale.spec.task import Stage, Task
from cdscale.store import Store, exists, open_store, read_spec


@dataclass
class Publication:
    """The marks of one store.

    Parameters
    ----------
    progress : Progress
        What is done.
    stage : Stage
        Which stage writes the store.
    store : Store
        The store.
    """

    progress: Progress
    stage: Stage
    store: Store

    def __post_init__(self) -> None:
        self._published = set(self.store.published())
        self._left = self.progress.left(self.stage)

    @classmethod
    def open(cls, progress: Progress, stage: Stage) -> Publication:
        """The marks of the store of a stage."""
        job = progress.job
        return cls(progress, stage, open_store(job.store_path(stage), job.layouts[stage]))

    def begin(self, task: Task) -> None:
        """A task goes out: from now on its month is not whole."""
        if task.month not in self._published:
            return
        # What was made from it by other runs, and will not be made again by this one, goes first.
        for store, months in _built_on(self.progress.job, self.stage, task.month):
            store.withdraw(months)
        self.store.withdraw([task.month])
        self._published.discard(task.month)

    def landed(self, task: Task) -> None:
        """A task is done; with the last one of a month, the month is."""
        left = self._left[task.month]
        if self.progress.sound(task):
            left.discard(task)
        if not left:
            self._publish(task.month)

    def settle(self) -> None:
        """Make every mark say what the receipts say."""
        for month, left in self._left.items():
            if not left:
                self._publish(month)
            elif month in self._published:
                self.store.withdraw([month])
                self._published.discard(month)

    def _publish(self, month: Month) -> None:
        if month not in self._published:
            self.store.publish([month])
            self._published.add(month)


def _built_on(job: Job, stage: Stage, month: Month) -> Iterator[tuple[Store, list[Month]]]:
    """Published months that rest on a month of a stage, and that are not part of a run.

    Of later stages, and of a series those after it.
    """
    for later in list(Stage)[list(Stage).index(stage) :]:
        path = job.store_path(later)
        if not exists(path):
            continue
        store = Store(path, read_spec(path))
        own = job.months(later) if later in job.stages else ()
        yield (
            store,
            [
                other
                for other in store.published()
                if other not in own
                and _rests_on(store.spec, other, month)
                and (later is not stage or other != month)
            ],
        )


def _rests_on(spec: CubeSpec, other: Month, month: Month) -> bool:
    """Whether a month of a store was made from another one of the store before it."""
    earlier = spec.reference.get(str(other), str(other))
    earlier = spec.attrs.get("series_begins", earlier)
    return Month.parse(earlier) <= month <= other
