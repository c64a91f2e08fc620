"""``Work``: one task under way, as the verbs see it; and reading several things at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from numpy.typing import NDArray

from cdscale.errors import ReadError
from cdscale.pixels import Reader
from cdscale.spec.job import Job
from cdscale.spec.scene import Scene
from cdscale.spec.task import Stage, Task
from cdscale.store import Store, open_store

Blocks = dict[str, NDArray[Any]]
T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Work:
    """One task under way: the blocks that it makes and what it has to say about them."""

    task: Task
    job: Job
    reader: Reader
    blocks: Blocks = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    may_pass: bool = False
    """Whether something failed for a reason that may pass."""
    taken: set[str] = field(default_factory=set)
    """Optical scenes of which pixels were read and taken."""
    dark: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Of optical scenes the dark pixels seen so far, (band, n), too few to judge them by."""
    refused: set[str] = field(default_factory=set)
    """Optical scenes whose pixels contradict what is known of them."""

    def store(self, stage: Stage) -> Store:
        """The store of a stage, with whatever months it has beside those of the run."""
        return open_store(self.job.store_path(stage), self.job.layouts[stage])

    def attempt(self, scene: Scene, read: Callable[[], R]) -> R | None:
        """Read from a scene; None where it cannot be read, which the receipt then says.

        The reader has tried again by then whatever another try may mend: one scene that stays
        away does not take the others of its month with it.
        """
        try:
            return read()
        except ReadError as err:
            self.fail(scene, str(err), may_pass=not err.permanent)
            return None

    def fail(self, scene: Scene, reason: str, *, may_pass: bool) -> None:
        """Note that a scene could not be used, and why."""
        self.failed[scene.id] = reason
        if may_pass:  # not |=, in which threads could lose it
            self.may_pass = True

    def side_by_side(self, do: Callable[[T], R], items: Iterable[T], lanes: int) -> Iterator[R]:
        """Results of a function in the order of the items, so many under way at once.

        Reading over a network waits, and waiting goes well together. No more results are held
        than there are lanes.
        """
        if lanes <= 1:
            yield from map(do, items)
            return
        rest = iter(items)
        with ThreadPoolExecutor(lanes, thread_name_prefix="read") as pool:
            under_way: deque[Future[R]] = deque(pool.submit(do, i) for i in islice(rest, lanes))
            try:
                while under_way:
                    result = under_way.popleft().result()
                    under_way.extend(pool.submit(do, i) for i in islice(rest, 1))
                    yield result
            finally:
                for future in under_way:
                    future.cancel()
