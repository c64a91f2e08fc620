"""Which tasks of a run are wanted."""

from __future__ import annotations

from dataclasses import dataclass

from cdscale.errors import SpecError, explain
from cdscale.grid import Tile
from cdscale.months import Month, Months
from cdscale.spec.job import Job
from cdscale.spec.task import Task


@dataclass(frozen=True)
class Selection:
    """Which tasks of a run are wanted; without anything said, all that are not done."""

    months: frozenset[Month] = frozenset()
    """None: every month."""
    tiles: frozenset[Tile] = frozenset()
    """None: every tile."""
    redo: bool = False
    """Do them again although they are done."""
    tasks: frozenset[Task] | None = None
    """Every task of these months and tiles, or these alone."""
    retry_failed: bool = False
    """Of these only what was tried and failed, or was done without some scenes; and what is made
    from it, wherever that lies."""

    def names(self, task: Task) -> bool:
        """Whether a task is among the months and tiles, and the tasks."""
        return (
            (not self.months or task.month in self.months)
            and (not self.tiles or task.tile in self.tiles)
            and (self.tasks is None or task in self.tasks)
        )

    @property
    def whole(self) -> bool:
        """Whether it leaves nothing out."""
        return self.tasks is None and not (self.months or self.tiles or self.retry_failed)

    def check(self, job: Job) -> None:
        """Refuse what is not part of a run.

        Raises
        ------
        SpecError
            Naming the months or tiles that the run does not have.
        """
        period = frozenset(job.spec.period)
        if foreign := self.months - period:
            raise SpecError(
                explain(
                    "the selection names months that the run does not have",
                    expected=f"months of {job.spec.period}",
                    got=str(Months.of(foreign)),
                )
            )
        if unknown := self.tiles.difference(job.tiles):
            raise SpecError(
                explain(
                    "the selection names tiles that the run does not have",
                    expected=f"tiles that the area touches, {len(job.tiles)} from {job.tiles[0]} "
                    f"to {job.tiles[-1]}",
                    got=", ".join(map(str, sorted(unknown))),
                )
            )


EVERYTHING = Selection()
