"""Whether stores hold what their receipts say: every shard read again, summed, and compared.

crc32c in the shards finds flipped bits; only the receipts' sums find a shard that took another's
place, or one that was never written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

from cdscale.errors import StoreError, explain
from cdscale.grid import Tile
from cdscale.months import Month
from cdscale.mosaic import records
from cdscale.mosaic_check import look
from cdscale.spec.base import Frozen
from cdscale.spec.cube import Variable
from cdscale.spec.job import STORES, Job
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.store import Ledger, Store, coordinates_differ, exists, read_job, read_spec


class Kind(StrEnum):
    """What is wrong with a place of a store."""

    MISSING = "missing"
    """A receipt tells of pixels, and there are none."""
    DAMAGED = "damaged"
    """A shard, or a coordinate, that does not read."""
    SWAPPED = "swapped"
    """A shard that holds the pixels of another tile, month or variable."""
    CHANGED = "changed"
    """A shard that reads, and holds other pixels than its receipt tells of."""
    UNKNOWN = "unknown"
    """A shard of the run of which no receipt tells, or a receipt that does not read."""
    STALE = "stale"
    """A shard of an overview that reads, and is not what the tiles below it make."""
    FOREIGN = "foreign"
    """A file among the shards that belongs to no tile and month of the run."""


class Fault(Frozen):
    """One thing that is wrong."""

    kind: Kind
    store: str
    """Its name, like ``cube.zarr``."""
    variable: str
    """In an overview, with the overview's name before it: ``1/probability``."""
    task: str = ""
    """Whose shard it is; empty for what is nobody's."""
    said: str = ""

    def __str__(self) -> str:
        where = " ".join(part for part in (self.store, self.variable, self.task) if part)
        return f"{where}: {self.kind}" + (f" ({self.said})" if self.said else "")


class Findings(Frozen):
    """What a look at stores found."""

    shards: int
    """Read and compared."""
    bytes: int
    """Of these, as pixels."""
    overviews: int = 0
    """Shards of overviews, made once more from the tiles and compared."""
    undone: int
    """Tasks of the run that are still to do: no faults."""
    faults: tuple[Fault, ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks that would put right what they can."""
        return tuple(Task.parse(t) for t in sorted({f.task for f in self.faults if f.task}))

    def torn(self, stages: Iterable[Stage]) -> set[tuple[Stage, Month]]:
        """Months of which a tile is at fault, in stores of which an overview is.

        A tile that comes out with other pixels goes into the overviews above it, which are made
        from those beside them, sound or not.
        """
        hurt = {f.store for f in self.faults if not f.task and "/" in f.variable}
        mixed = {stage for stage in stages if STORES[stage] in hurt}
        return {(task.stage, task.month) for task in self.tasks if task.stage in mixed}


def run_of(path: Path) -> tuple[Job, tuple[Stage, ...]]:
    """The run that made a store, and which of its stages are meant.

    Parameters
    ----------
    path : Path
        A store, or the output folder of a run: all of its stores.

    Raises
    ------
    StoreError
        When it is neither, or the run that made it is not kept beside it.
    """
    stage = next((s for s, name in STORES.items() if name == path.name), None)
    folder = path.resolve() if stage is None else path.resolve().parent
    if not path.is_dir():
        raise StoreError(explain(f"there is no store and no run's folder at {path}"))
    kept = folder / "run" / "job.json"
    try:
        job = read_job(kept.parent)
    except (OSError, ValueError, StoreError) as err:
        reason = getattr(err, "strerror", None) or "it does not read"
        raise StoreError(
            explain(
                f"{path} has no run beside it: {kept}: {reason}",
                expected=f"a run's output folder, or one of {', '.join(STORES.values())} in it",
                do="Without its receipts nobody knows what a store should hold.",
            )
        ) from None
    spec = job.spec.model_copy(update={"output": str(folder)})
    here = Job(spec=spec, scenes=job.scenes, cards=job.cards)
    stages = here.stages if stage is None else (stage,)
    return here, tuple(s for s in stages if exists(here.store_path(s)))


def inspect(job: Job, stages: Iterable[Stage]) -> Findings:
    """Read every shard of stores again, and compare it with its receipt.

    Parameters
    ----------
    job : Job
        The run.
    stages : iterable of Stage
        Which of its stores.

    Raises
    ------
    StoreError
        When a store itself does not open.
    """
    parts = [_Inspection(job, stage).run() for stage in stages]
    return Findings(
        shards=sum(part.shards for part in parts),
        bytes=sum(part.bytes for part in parts),
        overviews=sum(part.overviews for part in parts),
        undone=sum(part.undone for part in parts),
        faults=tuple(fault for part in parts for fault in part.faults),
    )


def clear_away(job: Job, findings: Findings) -> tuple[str, ...]:
    """Make room for a repair: remove foreign files, take back what other runs made.

    Returns
    -------
    tuple of str
        Tasks that this run does not have: their receipts are dropped, so that the run of their
        period makes them again.
    """
    own = {str(task) for stage in job.stages for task in job.tasks(stage)}
    others = [task for task in findings.tasks if str(task) not in own]
    for task in others:
        store = _store(job, task.stage)
        if task.month in store.published():
            store.withdraw([task.month])
    Ledger(job.ledger_folder).drop(others)
    for fault in findings.faults:
        if fault.kind is Kind.FOREIGN:
            (job.spec.folder / fault.store / fault.said).unlink(missing_ok=True)
    return tuple(map(str, others))


def _store(job: Job, stage: Stage) -> Store:
    path = job.store_path(stage)
    return Store(path, read_spec(path))


class _Inspection:
    """One store."""

    def __init__(self, job: Job, stage: Stage) -> None:
        self.stage = stage
        self.store = _store(job, stage)
        self.ledger = Ledger(job.ledger_folder)
        self.job = job
        self.planned = frozenset(job.tasks(stage)) if stage in job.stages else frozenset()

    def run(self) -> Findings:
        """Coordinates, then shards, then what lies between them."""
        kept = {task: self.ledger.read(task) for task in self.ledger.tasks(self.stage)}
        # One without a fingerprint tells of shards that were about to be written again.
        whole = {task: r for task, r in kept.items() if r is not None and r.fingerprint}
        self._owners = {
            sum_: f"{task} {name}"
            for task, receipt in whole.items()
            for name, sum_ in receipt.checksums.items()
        }
        checks = [(t, name, sum_) for t, r in whole.items() for name, sum_ in r.checksums.items()]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="verify") as pool:
            found = list(pool.map(self._look, checks))
        faults = [fault for fault in found if fault is not None]
        faults += self._strays(whole, kept)
        names = coordinates_differ(self.store.path, self.store.spec)
        coordinates = [self._fault(Kind.DAMAGED, name) for name in names]
        sizes = {v.name: v.itemsize * self.store.spec.grid.tile_px**2 for v in self._variables}
        above, overviews = self._overviews(whole, faults)
        return Findings(
            shards=len(checks),
            overviews=above,
            bytes=sum(sizes.get(name, 0) for _, name, _ in checks),
            undone=len(self.planned - set(whole)),
            faults=tuple(coordinates + faults + overviews),
        )

    def _overviews(
        self, whole: dict[Task, Receipt], faults: list[Fault]
    ) -> tuple[int, list[Fault]]:
        """How many shards overviews have, and what is wrong with them above sound tiles."""

        def sums(tile: Tile, month: Month) -> str:
            receipt = whole.get(Task(self.stage, month, tile))
            return "" if receipt is None else receipt.digest

        hurt = (Task.parse(fault.task) for fault in faults if fault.task)
        doubt = frozenset((task.tile, task.month) for task in hurt)
        folder = records(self.job.spec.folder, self.stage)
        seen = look(self.store, folder, self.job.tiles, sums, doubt)
        found = [
            self._fault(Kind(how), "/".join(filter(None, (level, variable))), said=where)
            for how, level, variable, where in seen.flaws
        ]
        return seen.shards, found

    @property
    def _variables(self) -> tuple[Variable, ...]:
        return self.store.spec.variables

    def _fault(self, kind: Kind, variable: str, task: Task | str = "", said: str = "") -> Fault:
        name = self.store.path.name
        return Fault(kind=kind, store=name, variable=variable, task=str(task), said=said)

    def _look(self, check: tuple[Task, str, str]) -> Fault | None:
        """Compare one shard with what its receipt says."""
        task, name, expected = check
        if task.month not in self.store.spec.months:
            return self._fault(Kind.MISSING, name, task, "the store has no such month")
        try:
            found = self.store.sha256(name, task.tile, task.month)
        except StoreError as err:
            return self._fault(Kind.DAMAGED, name, task, _reason(err))
        if found == expected:
            return None
        mine = [p for p, owner in self.store.files(task.tile, task.month).items() if owner == name]
        if not any(path.exists() for path in mine):
            return self._fault(Kind.MISSING, name, task)
        if found in self._owners:
            return self._fault(Kind.SWAPPED, name, task, f"it is {self._owners[found]}")
        return self._fault(Kind.CHANGED, name, task)

    def _strays(
        self, whole: dict[Task, Receipt], kept: dict[Task, Receipt | None]
    ) -> Iterator[Fault]:
        """Files of which no receipt tells, and published months that lack some."""
        told = {file for task in whole for file in self._files(task)}
        open_ = sorted((self.planned | set(kept)) - set(whole), key=str)
        mine = {file: (name, task) for task in open_ for file, name in self._files(task).items()}
        unknown = {}
        for file in sorted(set(self.store.all_files()) - told):
            if file in mine:
                name, task = mine[file]
                unknown[task] = name
            else:
                place = file.relative_to(self.store.path)
                yield self._fault(Kind.FOREIGN, place.parts[0], said=str(place))
        published = set(self.store.published())
        for task in open_:
            if task in unknown:
                yield self._fault(Kind.UNKNOWN, unknown[task], task, "no receipt tells of it")
            elif task.month in published:
                yield self._fault(Kind.MISSING, "", task, "its month is published")
            elif kept.get(task, ...) is None:
                yield self._fault(Kind.UNKNOWN, "", task, "its receipt does not read")

    def _files(self, task: Task) -> dict[Path, str]:
        return self.store.files(task.tile, task.month) if self._inside(task) else {}

    def _inside(self, task: Task) -> bool:
        months: Iterable[Month] = self.store.spec.months
        return task.month in months


def _reason(err: StoreError) -> str:
    return str(err).partition("got ")[2].partition(";")[0][:120]
