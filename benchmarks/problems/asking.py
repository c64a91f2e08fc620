"""What a problem is, and what all of them stand on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.simulated_regions import spec_of
from cdscale import plan, simulate
from cdscale.months import Months
from cdscale.spec.job import Job


@dataclass(frozen=True)
class Answer:
    """What a problem found: its ratio, and the figures behind it."""

    problem: str
    question: str
    ratio: float
    figures: dict[str, float] = field(default_factory=dict)
    goal: str = ""
    """What the ratio should be."""


class Problem(Protocol):
    """A question that can be asked at any size."""

    def ask(self, size: int, rounds: int) -> Answer:
        """Answer it with tiles of ``size`` pixels, each way timed ``rounds`` times in turn."""
        ...


def in_turn(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each way; the ways take turns, after one turn that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def simulated_job(folder: Path, size: int) -> Job:
    """A compose-only job over a simulated region of so many pixels a side, two months."""
    region = simulate.Region(seed=3, size_px=size, months=Months.parse("2022-05..2022-06"))
    simulate.write(region, folder / "catalogue")
    return plan.freeze(spec_of(folder, region))
