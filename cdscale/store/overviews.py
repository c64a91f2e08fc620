"""Overviews inside a store: ``change.zarr/1`` at half its resolution, and so on.

Each is a group of its own that reads as the store does, with marks of its own for months that are
complete. The metadata of the store do not hold theirs: whoever opens the store pays nothing for
them, and xarray, which wants one size of an axis in a tree, opens them by their names.

Their metadata are derived from those of the store. A store that has grown has its overviews laid
out anew; their pixels stay.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cdscale.grid import crs_attributes
from cdscale.months import Month
from cdscale.spec.cube import CubeSpec
from cdscale.spec.overview import Level, array_attributes, level_attributes, levels_of
from cdscale.store.faults import damage_told, put
from cdscale.store.layout import (
    axes_differ,
    axes_of,
    coordinates_differ,
    move_into,
    open_group,
)
from cdscale.store.ledger import flush
from cdscale.store.opening import making, to_read, to_write

Blocks = dict[str, NDArray[Any]]
COPIED = ("month", "reference_month", "spatial_ref")
"""Coordinates whose values are those of the store."""
SHARED = ("Conventions", "coordinates", "comment", "models", "urban_threshold", "change_threshold")
"""Attributes of the store that hold for its overviews."""


@dataclass(frozen=True)
class Plane:
    """A store at one of its resolutions; level None is the store itself."""

    path: Path
    spec: CubeSpec
    level: Level | None = None
    _arrays: dict[str, Any] = field(default_factory=dict)
    """As they were opened, by name; under "" their group."""

    @property
    def group(self) -> Path:
        """Where its arrays lie."""
        return self.path if self.level is None else self.path / self.level.name

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.spec.shape if self.level is None else (self.level.rows, self.level.columns)

    @property
    def shard_px(self) -> int:
        """Along a side of a shard."""
        return self.spec.grid.tile_px if self.level is None else self.level.shard_px

    def read(self, month: Month, rows: slice, columns: slice) -> Blocks:
        """Every variable of a rectangle, as stored: (y, x).

        Raises
        ------
        StoreError
            When a shard is damaged.
        """
        return {v.name: self.one(v.name, month, rows, columns) for v in self.spec.variables}

    def one(self, name: str, month: Month, rows: slice, columns: slice) -> NDArray[Any]:
        """One variable of a rectangle, as stored: (y, x).

        Raises
        ------
        StoreError
            When a shard is damaged.
        """
        if name not in self._arrays:
            if "" not in self._arrays:
                self._arrays[""] = open_group(self.group, mode="r")
            self._arrays[name] = to_read(self._arrays[""], name)
        with damage_told(
            f"{self.group}: {name} of {month}, rows {rows.start} to {rows.stop}, "
            f"columns {columns.start} to {columns.stop},",
            do=f"Run `cdscale verify {self.path} --repair`, then "
            f"`cdscale mosaic {self.path} --redo`.",
        ):
            return np.asarray(self._arrays[name][self.spec.months.index(month), rows, columns])

    def shard_file(self, name: str, month: Month, row: int, column: int) -> Path:
        """Where a shard of a variable lies, if it is not all fill."""
        place = (str(self.spec.months.index(month)), str(row), str(column))
        return self.group.joinpath(name, "c", *place)

    def holds(self, name: str, month: Month, row: int, column: int) -> bool:
        """Whether a shard is on disk; one of nothing but fill values is not."""
        return self.shard_file(name, month, row, column).exists()

    def write(self, month: Month, row: int, column: int, blocks: Blocks) -> None:
        """Write one shard of every variable, given by its row and column among the shards."""
        group = open_group(self.group, mode="r+")
        y, x = row * self.shard_px, column * self.shard_px
        t = self.spec.months.index(month)
        for name, block_YX in blocks.items():
            array = to_write(group, name)
            index = (t, slice(y, y + block_YX.shape[0]), slice(x, x + block_YX.shape[1]))
            file = self.shard_file(name, month, row, column)
            put(array, index, block_YX, [file])
            flush(file)

    def published(self) -> frozenset[Month]:
        """Months that are complete."""
        flags = np.asarray(to_write(open_group(self.group, mode="r"), "published")[:])
        return frozenset(m for m, flag in zip(self.spec.months, flags, strict=False) if flag)

    def mark(self, months: Iterable[Month], flag: int) -> None:
        """Give months to readers, or take them back."""
        array = to_write(open_group(self.group, mode="r+"), "published")
        for month in months:
            if (index := self.spec.months.index(month)) < array.shape[0]:
                array[index] = flag


def planes(path: Path, spec: CubeSpec) -> Iterator[Plane]:
    """Overviews that a store has on disk."""
    for level in levels_of(spec):
        if (path / level.name / "zarr.json").exists():
            yield Plane(path, spec, level)


def overview_coordinates_differ(plane: Plane) -> tuple[str, ...]:
    """Coordinates of an overview that are not those of its store's spec, or do not read."""
    if plane.level is None:
        return coordinates_differ(plane.path, plane.spec)
    axes = axes_of(plane.spec) | _axes(plane.spec, plane.level)
    return axes_differ(open_group(plane.group, mode="r"), axes)


def _axes(spec: CubeSpec, level: Level) -> Blocks:
    found = spec.window.geobox(spec.grid).zoom_out(level.factor).coordinates
    return {axis: np.asarray(found[axis].values) for axis in ("y", "x")}


def lay_out_overviews(path: Path, spec: CubeSpec, *, again: bool = False) -> tuple[Plane, ...]:
    """Overviews of a store, made or grown to its months where they are not; pixels stay.

    Coordinates are only looked at where ``again`` says so.

    Raises
    ------
    StoreError
        When there is no store.
    """
    open_group(path, mode="r")
    whole = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    for level in levels_of(spec):
        documents = _documents(whole, spec, level)
        if again or _text(documents[""]) != _read(path / level.name / "zarr.json"):
            _bring(path, spec, level, documents)
    return tuple(Plane(path, spec, level) for level in levels_of(spec))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1)


def _documents(whole: dict[str, Any], spec: CubeSpec, level: Level) -> dict[str, Any]:
    """``zarr.json`` of an overview, by array; that of the group, with all of them, under ""."""
    geobox = spec.window.geobox(spec.grid).zoom_out(level.factor)
    inside = deepcopy(whole["consolidated_metadata"])
    for variable in spec.variables:
        array = inside["metadata"][variable.name]
        array["shape"][-2:] = [level.rows, level.columns]
        array["chunk_grid"]["configuration"]["chunk_shape"][-2:] = [level.shard_px] * 2
        array["attributes"] |= array_attributes(variable)
    for axis, size in (("y", level.rows), ("x", level.columns)):
        array = inside["metadata"][axis]
        array["shape"] = array["chunk_grid"]["configuration"]["chunk_shape"] = [size]
    inside["metadata"]["spatial_ref"]["attributes"] = crs_attributes(geobox)
    shared = {key: value for key, value in whole["attributes"].items() if key in SHARED}
    group = {
        "attributes": shared | level_attributes(spec, level),
        "zarr_format": 3,
        "consolidated_metadata": inside,
        "node_type": "group",
    }
    return {"": group, **inside["metadata"]}


def _bring(path: Path, spec: CubeSpec, level: Level, documents: dict[str, Any]) -> None:
    scratch = path.with_name(f".{path.name}.{level.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    for name, document in documents.items():
        folder = scratch / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "zarr.json").write_text(_text(document), encoding="utf-8")
    for name in COPIED:
        if (path / name / "c").exists():
            _copy(path / name / "c", scratch / name / "c")
    with making():
        for axis, values in _axes(spec, level).items():
            zarr.open_array(scratch / axis, mode="r+")[:] = values
    if (path / level.name).exists():
        move_into(path / level.name, scratch)
        shutil.rmtree(scratch)
    else:
        os.replace(scratch, path / level.name)  # all of it appears at once


def _copy(source: Path, target: Path) -> None:
    """A chunk is a file, of a scalar, or stands in a folder."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
