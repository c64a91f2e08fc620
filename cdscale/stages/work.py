"""``Work``: one task under way, as the verbs see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from cdscale.errors import ReadError
from cdscale.kernels import Bool, Float
from cdscale.pixels import Reader
from cdscale.spec.job import Job
from cdscale.spec.scene import Scene
from cdscale.spec.task import Stage, Task
from cdscale.store import Store

Blocks = dict[str, NDArray[Any]]


@dataclass
class Work:
    """One task under way: the blocks that it makes and what it has to say about them."""

    task: Task
    job: Job
    reader: Reader
    blocks: Blocks = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def store(self, stage: Stage) -> Store:
        """The store of a stage."""
        return Store(self.job.store_path(stage), self.job.layouts[stage])

    def attempt(self, scene: Scene, read: Callable[[], Float | Bool]) -> Any:
        """Read from a scene; None where it cannot be read, which the receipt then says."""
        try:
            return read()
        except ReadError as err:
            if not err.permanent:
                raise
            self.failed[scene.id] = str(err)
            return None
