"""``Task`` and ``Receipt``: one piece of work, and the proof that it was done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import Field

from cdscale.errors import SpecError, explain
from cdscale.grid import Tile
from cdscale.months import Month
from cdscale.spec.base import Frozen, fingerprint


class Stage(StrEnum):
    """The verbs of a run, in order."""

    COMPOSE = "compose"
    MAP = "map"
    CHANGE = "change"


STAGE_VERSION = {Stage.COMPOSE: 2, Stage.MAP: 1, Stage.CHANGE: 1}
"""Raised when a stage begins to write other pixels from the same inputs: what was made before is
then redone."""


@dataclass(frozen=True, slots=True)
class Task:
    """One stage, one tile, one month: whole shards, written once.

    Its text, ``compose/2017-08/x0012y0034``, is its name in logs, errors and receipts.
    """

    stage: Stage
    month: Month
    tile: Tile

    def __str__(self) -> str:
        return f"{self.stage}/{self.month}/{self.tile}"

    @property
    def key(self) -> tuple[str, str, str]:
        """Name on the cluster; the dashboard groups by the first part."""
        return (str(self.stage), str(self.month), str(self.tile))

    @classmethod
    def parse(cls, text: str) -> Task:
        """Read ``compose/2017-08/x0012y0034``.

        Raises
        ------
        SpecError
            For anything else.
        """
        parts = text.split("/")
        if len(parts) != 3 or parts[0] not in list(Stage):
            raise SpecError(explain("not a task", expected="STAGE/MONTH/TILE", got=repr(text)))
        return cls(Stage(parts[0]), Month.parse(parts[1]), Tile.parse(parts[2]))


class Receipt(Frozen):
    """Written after a task's shards: what went in, what came out, and what was missing."""

    task: str
    fingerprint: str
    """Of everything that decides the pixels: when it no longer matches, the task is redone."""
    checksums: dict[str, str]
    """Sha256 of the block of each variable, as written."""
    scenes: tuple[str, ...] = ()
    failed: dict[str, str] = Field(default_factory=dict)
    """Scenes that could not be read, and why; a task with any is tried again by the next run."""
    may_pass: bool = False
    """Whether one of them failed for a reason that may pass."""
    unused: dict[str, str] = Field(default_factory=dict)
    """Scenes that were looked at and left no pixel, and why."""
    pixels: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Pixels of each code of each quality variable."""
    seconds: float = 0.0
    bytes_written: int = 0
    notes: dict[str, Any] = Field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing was missing."""
        return not self.failed

    @property
    def digest(self) -> str:
        """Fingerprint of its checksums, and so of the pixels."""
        return fingerprint(self.checksums)
