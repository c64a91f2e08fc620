"""What the scenes of a run mean for its tasks, counted for all of them at once.

Shape suffixes: M month, T tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdscale.spec.job import Job
from cdscale.spec.scene import Scene, passes
from cdscale.spec.task import Stage

BLOCK = 20_000
"""Tiles that are surveyed at once."""


@dataclass(frozen=True)
class Survey:
    """What the scenes of a run mean for its tasks."""

    assets_MT: NDArray[np.int64]
    """Assets that each compose task reads at most, by month and tile."""
    busiest: dict[str, int]
    """Most passes of each sensor that one task has."""

    @classmethod
    def of(cls, job: Job) -> Survey:
        """Month by month, and so many tiles at a time: there may be millions of tasks."""
        months, tiles = job.months(Stage.COMPOSE), job.tiles
        assets_MT = np.zeros((len(months), len(tiles)), np.int64)
        most = {"s1": 0, "s2": 0}
        known = [_OfMonth.of(job.scenes.of_month(month)) for month in months]
        for start in range(0, len(tiles), BLOCK):
            near = job.reaches(tiles[start : start + BLOCK])
            for row, month in enumerate(months):
                tile, scene = job.scenes.meetings(near, month)
                sums = np.bincount(tile, known[row].assets[scene], minlength=len(near))
                assets_MT[row, start : start + len(near)] = sums.astype(np.int64)
                for sensor, number in known[row].passes.items():
                    own = number[scene] >= 0
                    most[sensor] = max(most[sensor], _most(tile[own], number[scene[own]]))
        return cls(assets_MT, most)


@dataclass(frozen=True)
class _OfMonth:
    """Of each scene of a month: its assets, and for each sensor the number of its pass, or -1."""

    assets: NDArray[np.int64]
    passes: dict[str, NDArray[np.int64]]

    @classmethod
    def of(cls, scenes: tuple[Scene, ...]) -> _OfMonth:
        place = {id(scene): i for i, scene in enumerate(scenes)}
        numbers = {sensor: np.full(len(scenes), -1, np.int64) for sensor in ("s1", "s2")}
        for sensor, number in numbers.items():
            groups = passes(scene for scene in scenes if scene.sensor == sensor)
            for i, group in enumerate(groups):
                number[[place[id(scene)] for scene in group]] = i
        count = [len(scene.assets) + (scene.mask is not None) for scene in scenes]
        return cls(np.array(count, np.int64), numbers)


def _most(tile: NDArray[np.intp], number: NDArray[np.int64]) -> int:
    """Most different numbers that one tile has."""
    if not len(tile):
        return 0
    base = int(number.max()) + 1
    return int(np.bincount(np.unique(tile * base + number) // base).max())
