"""Overviews of what is published, and the gate for seams: the last step of a run.

Of each month that readers get, every tile whose pixels are not those of the last time goes into the
overviews above it, shard by shard; nothing else is read or written. A record beside the receipts
says what the overviews of a month were made from. The month is taken back from the readers of the
overviews before the first shard is written, and given to them after the last. Whoever is killed in
between finds no record, and makes the month again.

A shard of one level is a :class:`Piece` of work that needs nothing but the level below, and writes
the same bytes however often and wherever it is made: here one after the other, or on workers.

Memory: one tile with all of its variables, and one shard of an overview.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cdscale.grid import Tile
from cdscale.kernels import overview as kernel
from cdscale.months import Month
from cdscale.progress import Progress
from cdscale.seams import Gate, Seams, gate, measure
from cdscale.spec.base import Frozen
from cdscale.spec.cube import CubeSpec
from cdscale.spec.job import STORES, Job
from cdscale.spec.overview import CONFIDENCE, PRODUCTS, RANK, STATE, Rule, levels_of, rule_of
from cdscale.spec.task import Stage, Task
from cdscale.store import Ledger, Plane, Store, exists, lay_out_overviews, read_spec, write_json
from cdscale.store import planes as planes_of
from cdscale.store.overviews import Blocks

VERSION = 1
"""Raised when overviews are made in another way: those made before are then made again."""
Sums = Callable[[Tile, Month], str]
"""Of a tile and month what its pixels were when they were written; empty where nothing is known."""


class Piece(NamedTuple):
    """One shard of an overview, every variable; made when the level below is."""

    store: Path
    month: Month
    level: int
    row: int
    column: int
    """Among the shards of its level."""


Each = Callable[[Callable[[Piece], None], Sequence[Piece]], None]
"""Calls a function with each of several pieces, in any order, and returns when all are made."""


def here(make: Callable[[Piece], None], pieces: Sequence[Piece]) -> None:
    """Make pieces in this process, one after the other."""
    for piece in pieces:
        make(piece)


class Record(Frozen):
    """What the overviews of a month were made from, and what its seams are."""

    version: int = VERSION
    structure: str
    """Of the store."""
    tiles: dict[str, str]
    """Of each tile what its pixels were."""
    seams: Seams

    def made_from(self, tiles: dict[str, str], spec: CubeSpec) -> bool:
        """Whether overviews of a store are those of such pixels of all tiles."""
        same = self.version == VERSION and self.structure == spec.structure
        return same and self.tiles == tiles and all(tiles.values())


@dataclass(frozen=True)
class Built:
    """What a step did."""

    months: tuple[Month, ...] = ()
    """Months of which something was made."""
    shards: int = 0


# ---------------------------------------------------------------------------------- whole runs


def finish(progress: Progress, each: Each = here) -> dict[Stage, Built]:
    """Bring the overviews of a run up to what it has published.

    Parameters
    ----------
    progress : Progress
        Of the run.
    each : callable
        Has pieces made: :func:`here`, or on the workers of a cluster.

    Raises
    ------
    StoreError
        When a shard is damaged.
    """
    return {stage: step.run(months, each) for stage, step, months in _steps(progress)}


def left(progress: Progress) -> int:
    """How many pixels of a run's published months have still to go into overviews."""
    return sum(step.left(months) for _, step, months in _steps(progress))


def shards_left(progress: Progress) -> int:
    """How many shards of overviews :func:`finish` has to make."""
    return sum(step.shards_left(months) for _, step, months in _steps(progress))


def _steps(progress: Progress) -> Iterator[tuple[Stage, Step, list[Month]]]:
    job = progress.job
    for stage in [s for s in _with_overviews(job) if s in job.stages]:
        store = _store(job, stage)
        own = frozenset(job.months(stage))
        sums = _of_progress(progress, stage)
        step = Step(store, job.tiles, sums, records(job.spec.folder, stage))
        yield stage, step, [m for m in store.published() if m in own]


def renew(
    job: Job, stages: Iterable[Stage], each: Each = here, *, redo: bool = False
) -> dict[Stage, Built]:
    """The same for every month that stores hold, those of other runs among them.

    Parameters
    ----------
    job : Job
        From :func:`cdscale.integrity.run_of`.
    stages : iterable of Stage
        Which of its stores; those that have no overviews are left out.
    each : callable
        As of :func:`finish`.
    redo : bool
        Make all of them again.

    Raises
    ------
    StoreError
        When a shard is damaged.
    """
    ledger = Ledger(job.ledger_folder)
    done = {}
    for stage in [s for s in stages if s in _with_overviews(job)]:
        store = _store(job, stage)

        def sums(tile: Tile, month: Month, stage: Stage = stage) -> str:
            receipt = ledger.read(Task(stage, month, tile))
            return "" if receipt is None else receipt.digest

        folder = records(job.spec.folder, stage)
        step = Step(store, job.tiles, sums, folder, redo=redo)
        done[stage] = step.run(store.published(), each)
    return done


def _with_overviews(job: Job) -> tuple[Stage, ...]:
    every = (s for s in Stage if STORES[s].partition(".")[0] in PRODUCTS)
    return tuple(s for s in every if exists(job.store_path(s)))


def _store(job: Job, stage: Stage) -> Store:
    path = job.store_path(stage)
    return Store(path, read_spec(path))


def _of_progress(progress: Progress, stage: Stage) -> Sums:
    def sums(tile: Tile, month: Month) -> str:
        return progress.sums(Task(stage, month, tile))

    return sums


def records(folder: Path, stage: Stage) -> Path:
    """Where the records of a stage lie, in the output folder of a run."""
    return folder / "run" / "overviews" / str(stage)


def forget(job: Job, stage: Stage, month: Month) -> None:
    """Have all overviews of a month made again, by the next :func:`finish`."""
    (records(job.spec.folder, stage) / f"{month}.json").unlink(missing_ok=True)


def record_of(folder: Path, month: Month) -> Record | None:
    """The record of a month, in the folder of a stage's records; None where none reads."""
    return _kept(folder / f"{month}.json")


def gates(folder: Path) -> dict[str, Gate]:
    """The gate for seams of each product of a run that has been mapped; from its records alone."""
    found = {}
    for stage, name in STORES.items():
        kept = [_kept(path) for path in sorted(records(folder, stage).glob("*.json"))]
        product = name.partition(".")[0]
        if kept:
            found[product] = gate(product, [r.seams for r in kept if r is not None])
    return found


def _kept(path: Path) -> Record | None:
    try:
        return Record.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


# ------------------------------------------------------------------------------------ one store


@dataclass(frozen=True)
class Step:
    """The overviews of one store.

    Parameters
    ----------
    store : Store
        Whose.
    tiles : tuple of Tile
        Those that have been mapped.
    sums : callable
        Of a tile and month what its pixels were.
    records : Path
        Folder of the records.
    redo : bool
        Make all of them again.
    """

    store: Store
    tiles: tuple[Tile, ...]
    sums: Sums
    records: Path
    redo: bool = False

    def run(self, months: Iterable[Month], each: Each = here) -> Built:
        """Make what months lack; see :func:`finish`."""
        spec, path = self.store.spec, self.store.path
        every = tuple(months)
        if not every:
            return Built()
        if self._lost:
            # What records tell of is gone, with the store or by itself.
            shutil.rmtree(self.records, ignore_errors=True)
        planes = lay_out_overviews(path, spec)
        shown = frozenset(every).intersection(*(plane.published() for plane in planes))
        made, shards = [], 0
        for month in every:
            marks = self._marks(month)
            changed = self._changed(marks, self._record(month))
            if not changed and month in shown:
                continue
            for plane in planes:
                plane.mark([month], 0)
            for pieces in self._pieces(month, changed):
                each(make, pieces)
                shards += len(pieces)
            seams = measure(path, spec, month, self.tiles)
            for plane in planes:
                plane.mark([month], 1)
            write_json(
                self._file(month), Record(structure=spec.structure, tiles=marks, seams=seams)
            )
            made.append(month)
        return Built(tuple(made), shards)

    def left(self, months: Iterable[Month]) -> int:
        """Pixels of months that :meth:`run` would read from the store."""
        lost = self._lost
        kept = {month: None if lost else self._record(month) for month in months}
        tiles = sum(len(self._changed(self._marks(month), kept[month])) for month in kept)
        return tiles * self.store.spec.grid.tile_px**2

    def shards_left(self, months: Iterable[Month]) -> int:
        """Shards that :meth:`run` would make."""
        lost, count = self._lost, 0
        for month in months:
            kept = None if lost else self._record(month)
            changed = self._changed(self._marks(month), kept)
            count += sum(map(len, self._pieces(month, changed)))
        return count

    @property
    def _lost(self) -> bool:
        spec = self.store.spec
        return len(list(planes_of(self.store.path, spec))) < len(levels_of(spec))

    def _file(self, month: Month) -> Path:
        return self.records / f"{month}.json"

    def _record(self, month: Month) -> Record | None:
        return None if self.redo else _kept(self._file(month))

    def _marks(self, month: Month) -> dict[str, str]:
        return {str(tile): self.sums(tile, month) for tile in self.tiles}

    def _changed(self, marks: dict[str, str], kept: Record | None) -> list[Tile]:
        """Tiles whose pixels are not those that the overviews were made from."""
        same = {}
        if kept is not None and kept.version == VERSION:
            same = kept.tiles if kept.structure == self.store.spec.structure else {}
        return [t for t in self.tiles if not marks[str(t)] or same.get(str(t)) != marks[str(t)]]

    def _pieces(self, month: Month, changed: list[Tile]) -> Iterator[list[Piece]]:
        """Of each level, from the finest on, the shards that lie above changed tiles."""
        spec, path = self.store.spec, self.store.path.resolve()
        corners = [spec.window.slices(spec.grid, tile) for tile in changed]
        for level in levels_of(spec):
            side = level.shard_px * level.factor
            places = sorted({(y.start // side, x.start // side) for y, x in corners})
            yield [Piece(path, month, level.number, *place) for place in places]


def make(piece: Piece) -> None:
    """Make one shard of an overview, and write it.

    Raises
    ------
    StoreError
        When a shard below it is damaged.
    """
    spec = read_spec(piece.store)
    every = (Plane(piece.store, spec), *planes_of(piece.store, spec))
    below, plane = every[piece.level - 1 : piece.level + 1]
    place = (piece.row, piece.column)
    plane.write(piece.month, *place, shard(below, plane, piece.month, place))


def shard(below: Plane, plane: Plane, month: Month, place: tuple[int, int]) -> Blocks:
    """One shard of an overview, every variable, made from the plane below it.

    Parameters
    ----------
    below, plane
        The plane that is read, of twice the resolution, and the one that the shard belongs to.
    month : Month
        Which.
    place : tuple of int
        Row and column of the shard among those of its plane.
    """
    side, edge = plane.shard_px, below.shard_px
    rows, columns = (
        range(n * side, min((n + 1) * side, size))
        for n, size in zip(place, plane.shape, strict=True)
    )
    blocks = {
        v.name: np.full((len(rows), len(columns)), v.fill, v.dtype) for v in plane.spec.variables
    }
    for y in range(2 * rows.start, 2 * rows.stop, edge):
        for x in range(2 * columns.start, 2 * columns.stop, edge):
            if not any(below.holds(name, month, y // edge, x // edge) for name in blocks):
                continue
            spans = ((y, 2 * rows.stop), (x, 2 * columns.stop))
            source = [slice(start, min(start + edge, stop)) for start, stop in spans]
            small = halved(below.read(month, *source), plane.spec)
            target = tuple(
                slice(s.start // 2 - span.start, s.stop // 2 - span.start)
                for s, span in zip(source, (rows, columns), strict=True)
            )
            for name, block_YX in small.items():
                blocks[name][target] = block_YX
    return blocks


def halved(blocks: Blocks, spec: CubeSpec) -> Blocks:
    """Variables of a product at half the resolution, each by its rule; see ``spec.overview``.

    Parameters
    ----------
    blocks : mapping of str to array
        (y, x) as stored, an even number of each; of a product with states all of its variables.
    spec : CubeSpec
        Whose variables they are.
    """
    kernels: dict[Rule, Callable[[NDArray[Any], int], NDArray[Any]]] = {
        Rule.MEAN: kernel.mean,
        Rule.MODE: kernel.mode,
        Rule.MAX: kernel.largest,
        Rule.MIN: kernel.least,
    }
    leads = _leader(blocks)
    made = {}
    for name, block_YX in blocks.items():
        rule = rule_of(spec.variable(name))
        if rule is Rule.LEADER and leads is not None:
            made[name] = kernel.led(block_YX, leads)
        else:
            one = kernels.get(rule, kernel.largest)
            made[name] = one(block_YX, int(spec.variable(name).fill))
    return made


def _leader(blocks: Blocks) -> NDArray[np.uint8] | None:
    if STATE not in blocks:
        return None
    rank_YX = np.take(np.array(RANK, np.uint8), blocks[STATE], mode="clip")
    sure_YX = blocks.get(CONFIDENCE, np.zeros_like(blocks[STATE]))
    return kernel.leader(rank_YX, np.where(sure_YX == 255, np.uint8(0), sure_YX))
