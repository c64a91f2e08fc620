"""``Job``: a run's spec, its frozen scenes and its cards; from these follows every task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import Field
from shapely.geometry.base import BaseGeometry

from cdscale.grid import Grid, Tile
from cdscale.months import Month
from cdscale.spec.base import Frozen, fingerprint
from cdscale.spec.card import ModelCard
from cdscale.spec.cube import CubeSpec
from cdscale.spec.product import change_layout, cube_layout, urban_layout
from cdscale.spec.run import RunSpec, public
from cdscale.spec.scene import FOOTPRINT_MARGIN, Scene, SceneTable, SetAside
from cdscale.spec.task import Stage, Task

STORES = {Stage.COMPOSE: "cube.zarr", Stage.MAP: "urban.zarr", Stage.CHANGE: "change.zarr"}


STACK_BYTES = 512 * 2**20
"""Of the observations that a median or medoid holds at once, and of the blocks that are read side
by side, at most."""
LANES = 8
"""Scenes of a tile that are read side by side over a network, at most."""
LARGEST_CORE = 512
"""Pixels along a side of what one pass of a network yields, at most; its halo comes on top."""


class Job(Frozen):
    """Everything that a worker needs to know; kept in the run's folder and read from there."""

    spec: RunSpec
    scenes: SceneTable
    cards: dict[str, ModelCard] = Field(default_factory=dict)
    """Card of ``urban`` and of ``change``, where the spec names one."""

    @cached_property
    def digest(self) -> str:
        """Fingerprint of the whole."""
        return fingerprint(self)

    @property
    def public(self) -> Job:
        """The same without what may be a secret in the catalogue's address: fit to be kept."""
        spec = self.spec.model_copy(update={"catalogue": public(self.spec.catalogue)})
        return self.model_copy(update={"spec": spec})

    @property
    def ledger_folder(self) -> Path:
        """Where the receipts lie."""
        return self.spec.folder / "run" / "receipts"

    @property
    def core(self) -> int:
        """What one pass of a network yields: no larger than a tile, or it works for nothing."""
        return min(self.spec.grid.tile, LARGEST_CORE)

    def strip_rows(self, passes: int) -> int:
        """Rows of a tile whose observations are held at once, for a composite of them all."""
        row = self.spec.grid.tile * len(self.spec.cube.s2_bands) * 4
        return max(1, min(self.spec.grid.tile, STACK_BYTES // max(1, row * passes)))

    def lanes(self, scenes: Iterable[Scene]) -> int:
        """How many scenes are read side by side: one from a disk, where the work is decoding."""
        if not any(scene.remote for scene in scenes):
            return 1
        # A block as it is read, and as it is handed over.
        block = self.spec.grid.tile**2 * len(self.spec.cube.s2_bands) * 4 * 2
        return max(1, min(LANES, STACK_BYTES // block))

    def store_path(self, stage: Stage) -> Path:
        """Where a stage writes."""
        return self.spec.folder / STORES[stage]

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """Tiles that the area touches."""
        return self.spec.tiles()

    @cached_property
    def _known(self) -> frozenset[Tile]:
        return frozenset(self.tiles)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Stages that the spec asks for, in order."""
        stages = [Stage.COMPOSE]
        if "urban" in self.cards:
            stages.append(Stage.MAP)
        if "urban" in self.cards or self.pairs:
            stages.append(Stage.CHANGE)
        return tuple(stages)

    @cached_property
    def layouts(self) -> dict[Stage, CubeSpec]:
        """Layout of each stage's store."""
        simulated = self.scenes.simulated
        urban, change = self.cards.get("urban"), self.cards.get("change")
        layouts = {Stage.COMPOSE: cube_layout(self.spec, simulated=simulated)}
        if urban is not None:
            layouts[Stage.MAP] = urban_layout(self.spec, urban, simulated=simulated)
        if Stage.CHANGE in self.stages:
            layouts[Stage.CHANGE] = change_layout(self.spec, change, urban, simulated=simulated)
        return layouts

    def months(self, stage: Stage) -> tuple[Month, ...]:
        """Months of a stage; of the change stage without a series the later ones of its pairs."""
        return tuple(self.layouts[stage].months)

    @cached_property
    def pairs(self) -> dict[Month, Month]:
        """Reference month of each later month that the pair network compares."""
        return self.spec.pairs() if "change" in self.cards else {}

    def builds_on(self, task: Task) -> Task | None:
        """The task of the month before whose states a change task goes on from."""
        return self._beside(task, -1)

    def follower(self, task: Task) -> Task | None:
        """The task of the month after that goes on from the states of a change task."""
        return self._beside(task, 1)

    def runs_network(self, task: Task) -> bool:
        """Whether a task runs a network, and so wants a GPU where the cluster has some.

        A change task of a month that no pair ends in only goes on from the states before it.
        """
        paired = task.stage is Stage.CHANGE and task.month in self.pairs
        return paired or task.stage is Stage.MAP

    def _beside(self, task: Task, step: int) -> Task | None:
        if task.stage is not Stage.CHANGE or "urban" not in self.cards:
            return None
        place = self._places[task.month] + step
        months = self.spec.period.members
        return Task(task.stage, months[place], task.tile) if 0 <= place < len(months) else None

    def earlier(self, task: Task) -> tuple[Task, ...]:
        """Every task that a change task goes on from, the first month first."""
        if self.builds_on(task) is None:
            return ()
        months = self.spec.period.members[: self._places[task.month]]
        return tuple(Task(task.stage, month, task.tile) for month in months)

    @cached_property
    def _places(self) -> dict[Month, int]:
        return {month: i for i, month in enumerate(self.spec.period)}

    def tasks(self, stage: Stage) -> tuple[Task, ...]:
        """Every task of a stage."""
        return tuple(Task(stage, m, tile) for m in self.months(stage) for tile in self.tiles)

    def scenes_of(self, task: Task) -> tuple[Scene, ...]:
        """Scenes that a compose task may read from: those that touch its tile, or nearly do.

        What lies just beside a tile has a say in it: cloud grows, and swaths have noisy borders.
        """
        near = self.footprint(task.tile).buffer(FOOTPRINT_MARGIN)
        return self.scenes.of(near, task.month)

    def reaches(self, tiles: Sequence[Tile]) -> NDArray[np.object_]:
        """What a scene has to meet for tasks of each tile to read from it, in degrees, nearly.

        Good for counting, and far cheaper than :meth:`scenes_of` tile by tile.
        """
        outlines = self._lattice.footprints(tiles)
        return np.asarray(shapely.buffer(outlines, FOOTPRINT_MARGIN, quad_segs=2))

    def aside_of(self, task: Task) -> tuple[SetAside, ...]:
        """Items that a compose task would have read from, had they not been set aside."""
        return self.scenes.aside_of(self.footprint(task.tile), task.month)

    def footprint(self, tile: Tile) -> BaseGeometry:
        """Outline of a tile in degrees."""
        return _footprint(self._lattice, tile)

    @cached_property
    def _lattice(self) -> Grid:
        return self.spec.lattice

    def upstream(self, task: Task) -> tuple[Task, ...]:
        """Tasks whose pixels a task reads.

        Its own tile's, and for a network's halo its neighbours'; of a series the month's map and
        the states of the month before.
        """
        if task.stage is Stage.COMPOSE:
            return ()
        around = [tile for tile in task.tile.neighbours() if tile in self._known]
        if task.stage is Stage.MAP:
            return tuple(Task(Stage.COMPOSE, task.month, tile) for tile in around)
        reference, tasks = self.pairs.get(task.month), list[Task]()
        if reference is not None:
            tasks += [Task(Stage.COMPOSE, m, t) for m in (reference, task.month) for t in around]
        if "urban" in self.cards:
            series = self.spec.period.between(reference or task.month, task.month)
            tasks += [Task(Stage.MAP, month, task.tile) for month in series]
        before = self.builds_on(task)
        return (*tasks, before) if before is not None else tuple(tasks)


@lru_cache(maxsize=12_288)  # two kilobytes each, made anew in a fifth of a millisecond
def _footprint(grid: Grid, tile: Tile) -> BaseGeometry:
    return grid.footprint(tile)
