"""The ledger of completeness: of each tile and month, what was expected, used, left out, and why.

It is read from the scene table and the receipts alone; no pixel is touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cdscale.grid import Tile
from cdscale.months import Month
from cdscale.progress import Progress
from cdscale.spec.job import Job
from cdscale.spec.task import Receipt, Stage, Task

SENSORS = {"s2": "optical", "s1": "radar"}
UNEXPLAINED = "the receipt does not say why"
OUTDATED = "its scenes or the spec have changed since it was done"
BROKEN_OFF = "it was broken off while it was done again"


class State(StrEnum):
    """How far a tile and month is."""

    DONE = "done"
    INCOMPLETE = "incomplete"
    """Done without scenes that could not be read."""
    FAILED = "failed"
    NOT_DONE = "not done"


@dataclass(frozen=True, slots=True)
class TileMonth:
    """One tile and month of the cube."""

    tile: Tile
    month: Month
    state: State
    reason: str
    """Why it failed or is not done, as far as that is known."""
    expected: tuple[str, ...]
    """Scenes that cover it, by id."""
    used: tuple[str, ...]
    unused: dict[str, str]
    """Scenes that were looked at and left no pixel, and why."""
    failed: dict[str, str]
    """Scenes that could not be read, and why."""
    set_aside: dict[str, str]
    """Items of the catalogue that would have covered it and cannot be used, and why."""
    pixels: dict[str, dict[str, int]]
    """For each quality variable, pixels of each code."""
    empty: tuple[str, ...]
    """Sensors that the run asks for and of which no pixel is valid."""

    @property
    def lacks(self) -> bool:
        """Whether something is missing that a user would want to know of."""
        return self.state is not State.DONE or bool(self.empty)

    @property
    def why(self) -> str:
        """What is missing, in one line."""
        if self.failed:
            scene, reason = next(iter(self.failed.items()))
            more = f" (and {len(self.failed) - 1} more scenes)" if len(self.failed) > 1 else ""
            return f"without {scene}: {reason}{more}"
        if self.reason or self.state is not State.DONE:
            return self.reason
        return "; ".join(f"no {sensor} pixel: {self._codes(sensor)}" for sensor in self.empty)

    def _codes(self, sensor: str) -> str:
        name = next(key for key, value in SENSORS.items() if value == sensor)
        counts = self.pixels.get(f"{name}_quality", {})
        whole = sum(counts.values()) or 1
        shares = sorted(((n, code) for code, n in counts.items() if n), reverse=True)
        return ", ".join(f"{code} {n / whole:.0%}" for n, code in shares)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "tile": str(self.tile),
            "month": str(self.month),
            "state": str(self.state),
            "reason": self.reason,
            "expected": list(self.expected),
            "used": list(self.used),
            "unused": self.unused,
            "failed": self.failed,
            "set_aside": self.set_aside,
            "pixels": self.pixels,
            "empty": list(self.empty),
        }


@dataclass
class Totals:
    """What the tiles and months of a run add up to."""

    states: Counter[str] = field(default_factory=Counter)
    lacking: int = 0
    scenes: Counter[str] = field(default_factory=Counter)
    """Scenes, each counted in every tile and month that it covers."""
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    """For what is unused, failed or set aside: how often each reason was given."""

    def add(self, row: TileMonth) -> None:
        """Count one tile and month."""
        self.states[str(row.state)] += 1
        self.lacking += row.lacks
        self.scenes["expected"] += len(row.expected)
        self.scenes["used"] += len(row.used)
        for kind in ("unused", "failed", "set_aside"):
            found: dict[str, str] = getattr(row, kind)
            self.scenes[kind] += len(found)
            self.reasons.setdefault(kind, Counter()).update(found.values())

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "tile_months": sum(self.states.values()),
            "lacking": self.lacking,
            "states": dict(sorted(self.states.items())),
            "scenes": dict(self.scenes),
            "reasons": {kind: dict(counts.most_common()) for kind, counts in self.reasons.items()},
        }


def tile_months(progress: Progress) -> Iterator[TileMonth]:
    """Every tile and month of a run, in the plan's order."""
    asked: set[str] = {profile.sensor for profile in progress.job.spec.profiles.values()}
    for task in progress.job.tasks(Stage.COMPOSE):
        yield _tile_month(progress, task, asked)


def _tile_month(progress: Progress, task: Task, asked: set[str]) -> TileMonth:
    receipt = progress.receipt(task)
    state, reason = _state(progress, task, receipt)
    scenes = progress.job.scenes_of(task)
    expected = tuple(scene.id for scene in scenes)
    pixels = receipt.pixels if receipt else {}
    return TileMonth(
        tile=task.tile,
        month=task.month,
        state=state,
        reason=reason,
        expected=expected,
        used=receipt.scenes if receipt else (),
        unused=_unused(expected, receipt) if receipt else {},
        failed=receipt.failed if receipt else {},
        set_aside={item.id: item.reason for item in progress.job.aside_of(task)},
        pixels=pixels,
        empty=tuple(
            name
            for sensor, name in SENSORS.items()
            if sensor in asked and receipt and not pixels.get(f"{sensor}_quality", {}).get("valid")
        ),
    )


def _state(progress: Progress, task: Task, receipt: Receipt | None) -> tuple[State, str]:
    if receipt is not None:
        return (State.DONE if receipt.complete else State.INCOMPLETE), ""
    if reason := progress.ledger.failure(task):
        return State.FAILED, reason
    found = progress.found(task)
    if found is None:
        return State.NOT_DONE, ""
    return State.NOT_DONE, OUTDATED if found.fingerprint else BROKEN_OFF


def _unused(expected: tuple[str, ...], receipt: Receipt) -> dict[str, str]:
    """Scenes without a pixel, and why: every scene that was expected is in one of the lists."""
    known = {*receipt.scenes, *receipt.failed, *receipt.unused}
    return receipt.unused | {id: UNEXPLAINED for id in expected if id not in known}


def unplaced(job: Job) -> dict[str, str]:
    """Items set aside of which it is not known where or when they would have counted, and why."""
    return {
        item.id: item.reason
        for item in job.scenes.set_aside
        if item.start is None or not item.footprint
    }
