"""Whether overviews are what the tiles below them say, and making again those that are not.

No sum of an overview is kept: each shard is made once more from the plane below it, and compared
with what is stored. So an overview is found as well whose tiles were changed without it.

Memory: for each thread one tile with all of its variables, and one shard of an overview.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cdscale.errors import StoreError
from cdscale.grid import Tile
from cdscale.months import Month
from cdscale.mosaic import Sums, record_of, records, shard
from cdscale.progress import Progress
from cdscale.spec.overview import levels_of
from cdscale.spec.task import Stage
from cdscale.store import (
    Plane,
    Store,
    exists,
    lay_out_overviews,
    overview_coordinates_differ,
    planes,
    read_spec,
    write_json,
)
from cdscale.store.overviews import Blocks

Spot = tuple[int, int]
"""Row and column of a shard among those of its plane."""
Doubt = frozenset[tuple[Tile, Month]]
"""Tiles and months that are at fault themselves."""


class Flaw(NamedTuple):
    """What is wrong with an overview."""

    how: str
    """``missing``, ``damaged``, ``stale`` or ``foreign``."""
    level: str
    variable: str = ""
    where: str = ""
    """Which month and shard, or which file."""


class Seen(NamedTuple):
    """What a look at the overviews of a store found."""

    shards: int
    flaws: tuple[Flaw, ...]


def look(store: Store, folder: Path, tiles: Iterable[Tile], sums: Sums, doubt: Doubt) -> Seen:
    """Compare the overviews of a store with its tiles, in the months that readers get.

    Parameters
    ----------
    store : Store
        Of a product that has overviews, or not.
    folder : Path
        Where the records of its overviews lie; see :func:`cdscale.mosaic.records`.
    tiles : iterable of Tile
        Of the run that keeps the records.
    sums : callable
        What the pixels of a tile and month are, as its receipt tells.
    doubt : frozenset of tuple
        Tiles and months that are at fault themselves: of what lies above them only whether it reads
        is looked at.
    """
    spec, there = store.spec, tuple(planes(store.path, store.spec))
    kept = {m: r for m in store.published() if (r := record_of(folder, m)) is not None}
    absent = {level.name for level in levels_of(spec)} - {_name(plane) for plane in there}
    if absent:
        said = "records tell of it"
        return Seen(0, tuple(Flaw("missing", n, "", said) for n in sorted(absent) if kept))
    flaws = [
        Flaw("damaged", _name(p), name) for p in there for name in overview_coordinates_differ(p)
    ]
    for month, record in kept.items():
        if record.made_from({str(tile): sums(tile, month) for tile in tiles}, spec):
            hidden = (plane for plane in there if month not in plane.published())
            flaws += [Flaw("missing", _name(p), "published", str(month)) for p in hidden]
    count, shown = 0, frozenset(store.published()) if there else frozenset()
    for month in sorted(shown.intersection(*(plane.published() for plane in there))):
        at_fault = frozenset(tile for tile, other in doubt if other == month)
        for plane, _, spot, wrong in _compared(store, there, month, at_fault):
            count += len(spec.variables)
            where = f"{month}, row {spot[0]}, column {spot[1]}"
            flaws += [Flaw(how, _name(plane), name, where) for name, how in wrong.items()]
    return Seen(count, (*flaws, *_strays(store, there)))


def mend(progress: Progress, stage: Stage) -> int:
    """Make again what is wrong with the overviews of a run's store; returns how many shards.

    Months whose tiles are not all there are left as they are, and so are those that were never
    made, which :func:`cdscale.mosaic.finish` makes. As there, whoever is killed in between finds no
    record, and makes the month again.

    Raises
    ------
    StoreError
        When a tile is damaged.
    """
    path = progress.job.store_path(stage)
    if not exists(path):
        return 0
    store = Store(path, read_spec(path))
    there = tuple(planes(path, store.spec))
    if not there or len(there) < len(levels_of(store.spec)):
        return 0
    if any(overview_coordinates_differ(plane) for plane in there):
        lay_out_overviews(path, store.spec, again=True)
    own = progress.left(stage)
    whole = [m for m in store.spec.months if (not own[m] if m in own else m in store.published())]
    folder = records(progress.job.spec.folder, stage)
    return sum(_mend_month(store, there, month, folder) for month in whole)


def _mend_month(store: Store, there: tuple[Plane, ...], month: Month, folder: Path) -> int:
    record, count = record_of(folder, month), 0
    if record is None:
        return 0
    shown = [plane for plane in there if month in plane.published()]
    for plane, below, spot, wrong in _compared(store, there, month):
        if not wrong:
            continue
        if not count:
            (folder / f"{month}.json").unlink()
            for one in shown:
                one.mark([month], 0)
        blocks = shard(below, plane, month, spot)
        plane.write(month, *spot, {name: blocks[name] for name in wrong})
        count += len(wrong)
    if count:
        for one in shown:
            one.mark([month], 1)
        write_json(folder / f"{month}.json", record)
    return count


@dataclass(frozen=True)
class _Sound(Plane):
    """An overview as it should be: what is wrong of it is made when it is read."""

    under: Plane | None = None
    flawed: frozenset[Spot] = frozenset()

    def holds(self, name: str, month: Month, row: int, column: int) -> bool:
        """Whether there is anything to read."""
        return (row, column) in self.flawed or super().holds(name, month, row, column)

    def read(self, month: Month, rows: slice, columns: slice) -> Blocks:
        """A part of one shard."""
        y, x = rows.start // self.shard_px, columns.start // self.shard_px
        if self.under is None or (y, x) not in self.flawed:
            return super().read(month, rows, columns)
        top, left = y * self.shard_px, x * self.shard_px
        inside = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        blocks = shard(self.under, self, month, (y, x))
        return {name: block_YX[inside] for name, block_YX in blocks.items()}


def _compared(
    store: Store, there: tuple[Plane, ...], month: Month, doubt: frozenset[Tile] = frozenset()
) -> Iterator[tuple[Plane, Plane, Spot, dict[str, str]]]:
    """Every shard from the lowest level up, and what is wrong with which of its variables.

    With the plane that it is part of, the one below it as it should be, and its place.
    """
    below = Plane(store.path, store.spec)
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        for plane in there:
            spots, flawed = _spots(plane), set()
            compare = partial(_wrong, below, plane, month, _above(plane, doubt))
            for spot, wrong in zip(spots, pool.map(compare, spots), strict=True):
                if wrong:
                    flawed.add(spot)
                yield plane, below, spot, wrong
            below = _Sound(
                store.path, store.spec, plane.level, under=below, flawed=frozenset(flawed)
            )


def _wrong(
    below: Plane, plane: Plane, month: Month, unknown: set[Spot], spot: Spot
) -> dict[str, str]:
    """What is wrong with which variables of a shard; of an unknown one only whether it reads."""
    made: Blocks = {}
    if spot not in unknown:
        with suppress(StoreError):  # a shard of nobody's, that does not read
            made = shard(below, plane, month, spot)
    side, (height, width) = plane.shard_px, plane.shape
    rows, columns = (
        slice(n * side, min((n + 1) * side, size))
        for n, size in zip(spot, (height, width), strict=True)
    )
    wrong = {}
    for variable in plane.spec.variables:
        name = variable.name
        file = plane.shard_file(name, month, *spot)
        there = file.exists()
        try:
            # To zarr a shard of no bytes is one that was never written.
            block_YX = (
                None if there and not file.stat().st_size else plane.one(name, month, rows, columns)
            )
        except StoreError:
            block_YX = None
        if block_YX is None:
            wrong[name] = "damaged"
        elif name in made and not np.array_equal(
            block_YX, made[name], equal_nan=block_YX.dtype.kind == "f"
        ):
            wrong[name] = "stale" if there else "missing"
    return wrong


def _spots(plane: Plane) -> list[Spot]:
    rows, columns = (range(-(-size // plane.shard_px)) for size in plane.shape)
    return list(product(rows, columns))


def _above(plane: Plane, tiles: Iterable[Tile]) -> set[Spot]:
    """Shards of an overview that some tiles go into."""
    side = plane.shard_px * (plane.level.factor if plane.level else 1)
    corners = (plane.spec.window.slices(plane.spec.grid, tile) for tile in tiles)
    return {(y.start // side, x.start // side) for y, x in corners}


def _strays(store: Store, there: tuple[Plane, ...]) -> Iterator[Flaw]:
    """Files among the shards that are none."""
    for plane in there:
        spots = _spots(plane)
        for variable in plane.spec.variables:
            name = variable.name
            own = {plane.shard_file(name, m, *at) for m in plane.spec.months for at in spots}
            found = (f for f in (plane.group / name).rglob("c/**/*") if f.is_file())
            for file in sorted(set(found) - own):
                yield Flaw("foreign", _name(plane), name, str(file.relative_to(store.path)))


def _name(plane: Plane) -> str:
    return plane.level.name if plane.level else ""
