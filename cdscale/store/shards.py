"""Pixels of a store: written in whole shards, read with their surroundings, and published."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale.errors import StoreError, TaskError, explain
from cdscale.grid import Tile
from cdscale.months import Month
from cdscale.spec.cube import CubeSpec, Variable
from cdscale.store.faults import damage_told, put
from cdscale.store.layout import bring, grown, mend, open_group, read_spec
from cdscale.store.ledger import flush
from cdscale.store.opening import to_read, to_write
from cdscale.store.overviews import planes


@dataclass(frozen=True)
class Store:
    """One product on disk. Made by :func:`create` or :func:`open_store`."""

    path: Path
    spec: CubeSpec
    """As it stands on disk: it may have more months than the run that asks."""

    def write(self, tile: Tile, month: Month, blocks: Mapping[str, NDArray[Any]]) -> dict[str, str]:
        """Write a tile and a month: every variable, whole shards, and read them back.

        Parameters
        ----------
        tile, month
            Where.
        blocks : mapping of str to array
            For each variable of the spec its block, without the month axis: (y, x) or (band, y, x).

        Returns
        -------
        dict of str to str
            Sha256 of each block.

        Raises
        ------
        StoreError
            When a variable is missing or foreign, or a block is not exactly one shard.
        TaskError
            When what was written does not read back.
        """
        names = [v.name for v in self.spec.variables]
        if sorted(blocks) != sorted(names):
            raise StoreError(
                explain(f"{self.path}: a write must be whole", expected=names, got=sorted(blocks))
            )
        group = open_group(self.path, mode="r+")
        region = self.spec.region(tile, month)
        sums = {}
        for variable in self.spec.variables:
            block = np.ascontiguousarray(blocks[variable.name])[None]
            self._check_shard(variable, block)
            array = to_write(group, variable.name)
            self._check_array(variable, array)
            index = tuple(region.get(dim, slice(None)) for dim in variable.dims)
            put(array, index, block, self._shards(variable, region))
            if not np.array_equal(array[index], block, equal_nan=variable.dtype == "float32"):
                raise TaskError(f"{self.path}: {variable.name} of {tile} does not read back")
            # Before the receipt says that they are there: a receipt outlives a power cut.
            for file in self._shards(variable, region):
                flush(file)  # a shard of nothing but fill values is no file
            sums[variable.name] = _sha256(block)
        return sums

    def _check_shard(self, variable: Variable, block: NDArray[Any]) -> None:
        expected = self.spec.shard_shape(variable)
        if block.shape != expected or block.dtype != np.dtype(variable.dtype):
            raise StoreError(
                explain(
                    f"{self.path}: a write to {variable.name} must be one whole shard",
                    expected=f"{variable.dtype} {expected}",
                    got=f"{block.dtype} {block.shape}",
                )
            )

    def _check_array(self, variable: Variable, array: Any) -> None:
        expected = self.spec.shard_shape(variable)
        if array.shards != expected:
            raise StoreError(
                explain(
                    f"{self.path}: the shards of {variable.name} are not those of its spec",
                    expected=expected,
                    got=array.shards,
                    do="Something else has rewritten the store: remove it, and run again.",
                )
            )

    def read(self, name: str, tile: Tile, month: Month, *, halo: int = 0) -> NDArray[Any]:
        """A tile and a month of one variable as stored, with pixels of the tiles around it.

        Parameters
        ----------
        name : str
            Variable.
        tile, month
            Where.
        halo : int
            Pixels of context on each side; beyond the store they hold the fill value.

        Returns
        -------
        array
            (y, x) or (band, y, x), larger than the tile by twice the halo.

        Raises
        ------
        StoreError
            When a shard is damaged.
        """
        variable = self.spec.variable(name)
        array = to_read(open_group(self.path, mode="r"), name)
        region = self.spec.region(tile, month)
        rows, columns = self.spec.shape
        y, pad_y = _widen(region["y"], halo, rows)
        x, pad_x = _widen(region["x"], halo, columns)
        widened = {"month": region["month"], "y": y, "x": x}
        index = tuple(widened.get(dim, slice(None)) for dim in variable.dims)
        with damage_told(
            f"{self.path}: {name} at {tile} or beside it in {month}",
            do="Remove the receipts of these tiles and month, and run again.",
        ):
            # To zarr a shard of no bytes is one that was never written.
            if any(f.exists() and not f.stat().st_size for f in self._shards(variable, widened)):
                raise ValueError("a shard has no bytes")
            block = array[index][0]
        pads = [(0, 0)] * (block.ndim - 2) + [pad_y, pad_x]
        return np.pad(block, pads, constant_values=variable.fill)

    def cut(self, name: str, month: Month, y: slice, x: slice) -> NDArray[Any]:
        """Part of a month of one variable as stored, by rows and columns of the store.

        Reads the inner chunks that the part touches, and no more.

        Raises
        ------
        StoreError
            When a shard is damaged.
        """
        variable = self.spec.variable(name)
        array = to_read(open_group(self.path, mode="r"), name)
        at = {"month": self.spec.months.index(month), "y": y, "x": x}
        with damage_told(
            f"{self.path}: {name} in {month}", do="Use `cdscale verify` with --repair."
        ):
            return np.asarray(array[tuple(at.get(dim, slice(None)) for dim in variable.dims)])

    def sha256(self, name: str, tile: Tile, month: Month) -> str:
        """Sha256 of what is stored of one variable at a tile and month, as :meth:`write` says it.

        Raises
        ------
        StoreError
            When a shard is damaged.
        """
        return _sha256(self.read(name, tile, month))

    def files(self, tile: Tile, month: Month) -> dict[Path, str]:
        """Files that a tile and a month have, if they are not all fill, and whose variable each is.

        Raises
        ------
        StoreError
            When they lie beside the store.
        """
        region = self.spec.region(tile, month)
        return {file: v.name for v in self.spec.variables for file in self._shards(v, region)}

    def all_files(self) -> Iterator[Path]:
        """Whatever lies where shards do."""
        for variable in self.spec.variables:
            yield from (p for p in self.path.joinpath(variable.name).rglob("c/**/*") if p.is_file())

    def _shards(self, variable: Variable, region: Mapping[str, slice]) -> Iterator[Path]:
        """Files of the shards that a region touches, whether they are there or not."""
        px = self.spec.grid.tile_px
        bands = ("0",) if variable.bands else ()
        for iy in range(region["y"].start // px, -(-region["y"].stop // px)):
            for ix in range(region["x"].start // px, -(-region["x"].stop // px)):
                place = (str(region["month"].start), *bands, str(iy), str(ix))
                yield self.path.joinpath(variable.name, "c", *place)

    def published(self) -> tuple[Month, ...]:
        """Months that are complete, in order."""
        flags = np.asarray(self._marks("r")[:])
        return tuple(m for m, flag in zip(self.spec.months, flags, strict=True) if flag)

    def publish(self, months: Iterable[Month]) -> None:
        """Let readers have months: every shard of them is there."""
        self._mark(months, 1)

    def withdraw(self, months: Iterable[Month]) -> None:
        """Take months back from readers, before anything of them is written again."""
        months = tuple(months)
        self._mark(months, 0)
        for plane in planes(self.path, self.spec):
            plane.mark(months, 0)

    def _mark(self, months: Iterable[Month], flag: int) -> None:
        """One small file a month, so that a mark is there or not, whatever happens."""
        array = self._marks("r+")
        for month in months:
            array[self.spec.months.index(month)] = flag

    def _marks(self, mode: str) -> Any:
        group = open_group(self.path, mode=mode)
        if "published" not in group:
            raise StoreError(
                explain(f"{self.path} does not say which months are complete", do="Run again.")
            )
        return to_write(group, "published")

    def sweep(self) -> int:
        """Remove what a killed writer or driver left half-written; returns how many things.

        Zarr writes a shard under another name and renames it, so what is left is never part of the
        store; but it takes space, and two runs that ended the same must look the same.
        """
        left = [p for p in self.path.rglob("*.partial") if p.is_file()]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left) + mend(self.path)


def create(path: Path, spec: CubeSpec) -> Store:
    """Lay out a store: metadata and coordinates, no pixels.

    An existing one is opened instead, and grows where the spec has later months.

    Raises
    ------
    StoreError
        When there is a store of another spec, its months do not let it grow, or the place cannot be
        written.
    """
    return Store(path, bring(path, spec))


def open_store(path: Path, spec: CubeSpec) -> Store:
    """Open a store and make sure that it is the one of this spec, with all of its months.

    Raises
    ------
    StoreError
        When it is absent, or was made with another spec; the message names the first difference.
    """
    made, wanted = read_spec(path), grown(path, spec)
    if wanted.months != made.months:
        raise StoreError(
            explain(f"{path} has not grown yet", expected=wanted.months, got=made.months)
        )
    return Store(path, wanted)


def _sha256(block: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(block).tobytes()).hexdigest()


def _widen(span: slice, halo: int, size: int) -> tuple[slice, tuple[int, int]]:
    """A span grown by a halo, as far as the array goes, and what is then missing on each side."""
    start, stop = span.start - halo, span.stop + halo
    return slice(max(start, 0), min(stop, size)), (max(-start, 0), max(stop - size, 0))
