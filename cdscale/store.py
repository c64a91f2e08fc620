"""Zarr: a store is created once from a ``CubeSpec``, written in whole shards, and read lazily.

Every write is one tile and one month of one variable, that is one shard: smaller writes from two
processes lose data without an error, so the store refuses them. Inner chunks carry a crc32c, which
the default codecs do not. The ledger of receipts lies beside the stores: a task is done when its
receipt, written last, says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from cdscale.errors import StoreError, TaskError, explain
from cdscale.grid import Tile, crs_attributes
from cdscale.months import Month
from cdscale.spec.base import Frozen
from cdscale.spec.cube import CubeSpec, Variable
from cdscale.spec.task import Receipt, Stage, Task


@dataclass(frozen=True)
class Store:
    """One product on disk. Made by :func:`create` or :func:`open_store`."""

    path: Path
    spec: CubeSpec

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
        group = _open_group(self.path, mode="r+")
        region = self.spec.region(tile, month)
        sums = {}
        for variable in self.spec.variables:
            block = np.ascontiguousarray(blocks[variable.name])[None]
            self._check_shard(variable, block)
            array = group[variable.name]
            index = tuple(region.get(dim, slice(None)) for dim in variable.dims)
            try:
                array[index] = block
            except (ValueError, RuntimeError):
                # Zarr reads an old shard before it writes a new one; a damaged one is in the way.
                for file in self._shards(variable, region):
                    file.unlink(missing_ok=True)
                array[index] = block
            if not np.array_equal(array[index], block, equal_nan=variable.dtype == "float32"):
                raise TaskError(f"{self.path}: {variable.name} of {tile} does not read back")
            sums[variable.name] = hashlib.sha256(block.tobytes()).hexdigest()
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
        array = _open_group(self.path, mode="r")[name]
        region = self.spec.region(tile, month)
        rows, columns = self.spec.shape
        y, pad_y = _widen(region["y"], halo, rows)
        x, pad_x = _widen(region["x"], halo, columns)
        widened = {"month": region["month"], "y": y, "x": x}
        index = tuple(widened.get(dim, slice(None)) for dim in variable.dims)
        try:
            # To zarr a shard of no bytes is one that was never written.
            if any(f.exists() and not f.stat().st_size for f in self._shards(variable, widened)):
                raise ValueError("a shard has no bytes")
            block = array[index][0]
        except (ValueError, RuntimeError) as err:  # crc32c, Blosc
            raise StoreError(
                explain(
                    f"{self.path}: {name} at {tile} or beside it in {month} is damaged",
                    got=str(err)[:200],
                    do="Remove the receipts of these tiles and month, and run again.",
                )
            ) from err
        pads = [(0, 0)] * (block.ndim - 2) + [pad_y, pad_x]
        return np.pad(block, pads, constant_values=variable.fill)

    def _shards(self, variable: Variable, region: Mapping[str, slice]) -> Iterator[Path]:
        """Files of the shards that a region touches, whether they are there or not."""
        px = self.spec.grid.tile_px
        bands = ("0",) if variable.bands else ()
        for iy in range(region["y"].start // px, -(-region["y"].stop // px)):
            for ix in range(region["x"].start // px, -(-region["x"].stop // px)):
                place = (str(region["month"].start), *bands, str(iy), str(ix))
                yield self.path.joinpath(variable.name, "c", *place)

    def sweep(self) -> int:
        """Remove what a killed writer left half-written; returns how many files.

        Zarr writes a shard under another name and renames it, so what is left is never part of the
        store; but it takes space, and two runs that ended the same must look the same.
        """
        left = [p for p in self.path.rglob("*.partial") if p.is_file()]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)


def _widen(span: slice, halo: int, size: int) -> tuple[slice, tuple[int, int]]:
    """A span grown by a halo, as far as the array goes, and what is then missing on each side."""
    start, stop = span.start - halo, span.stop + halo
    return slice(max(start, 0), min(stop, size)), (max(-start, 0), max(stop - size, 0))


def exists(path: Path) -> bool:
    """Whether there is a store, of whatever spec."""
    return (path / "zarr.json").exists()


def create(path: Path, spec: CubeSpec) -> Store:
    """Lay out a store: metadata and coordinates, no pixels.

    An existing one of the same spec is opened instead.

    Raises
    ------
    StoreError
        When there is a store of another spec, or the place cannot be written.
    """
    if exists(path):
        return open_store(path, spec)
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        _lay_out(temporary, spec)
        # All of the metadata appears at once: a driver killed here leaves no half-made store.
        os.replace(temporary, path)
    except OSError as err:
        raise StoreError(
            explain(
                f"cannot make {path}: {err.strerror}", do="Choose an output folder to write to."
            )
        ) from None
    return Store(path, spec)


def open_store(path: Path, spec: CubeSpec) -> Store:
    """Open a store and make sure that it is the one of this spec.

    Raises
    ------
    StoreError
        When it is absent, or was made with another spec; the message names the first difference.
    """
    made = read_spec(path)
    if made.digest != spec.digest:
        field, theirs, ours = _difference(made, spec)
        raise StoreError(
            explain(
                f"{path} was made with another spec: its {field} differs",
                expected=ours,
                got=theirs,
                do="Choose another --output, or remove the store.",
            )
        )
    return Store(path, spec)


def read_spec(path: Path) -> CubeSpec:
    """The spec that a store was made with.

    Raises
    ------
    StoreError
        When there is no store, or it is not one of cdscale's.
    """
    group = _open_group(path, mode="r")
    attrs = dict(group.attrs).get("cdscale")
    if not isinstance(attrs, dict) or "spec" not in attrs:
        raise StoreError(
            explain(f"{path} is not a store of cdscale", expected="cube, urban or change.zarr")
        )
    return CubeSpec.check(attrs["spec"], where=str(path))


def open_dataset(path: Path) -> xr.Dataset:
    """The store as a lazy xarray dataset, values decoded, chunks as stored.

    Raises
    ------
    StoreError
        When there is no store.
    """
    _open_group(path, mode="r")
    dataset: xr.Dataset = xr.open_zarr(path, consolidated=False, chunks={})
    return dataset


def _open_group(path: Path, *, mode: Any) -> Any:
    try:
        return zarr.open_group(path, mode=mode, zarr_format=3)
    except (FileNotFoundError, ValueError, NotADirectoryError):
        raise StoreError(
            explain(f"there is no Zarr store at {path}", do="Check the path, or run first.")
        ) from None
    except PermissionError as err:
        raise StoreError(explain(f"{path} may not be opened: {err.strerror}")) from None


def _difference(made: CubeSpec, spec: CubeSpec) -> tuple[str, object, object]:
    theirs, ours = made.model_dump(mode="json"), spec.model_dump(mode="json")
    field = next(name for name in ours if theirs[name] != ours[name])
    return field, _short(theirs[field]), _short(ours[field])


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else text[:157] + "..."


def _lay_out(path: Path, spec: CubeSpec) -> None:
    group = zarr.open_group(path, mode="w-", zarr_format=3)
    group.attrs.update(_group_attributes(spec))
    for variable in spec.variables:
        _lay_out_variable(group, spec, variable)
    geobox = spec.window.geobox(spec.grid)
    for axis, units in (("y", "metre"), ("x", "metre")):
        values = np.asarray(geobox.coordinates[axis].values)
        standard = f"projection_{axis}_coordinate"
        _coordinate(group, axis, values, {"standard_name": standard, "units": units})
    days = {
        "standard_name": "time",
        "units": "days since 1970-01-01",
        "calendar": "proleptic_gregorian",
    }
    _coordinate(
        group, "month", _days(list(spec.months)), {**days, "long_name": "first day of month"}
    )
    if spec.reference:
        earlier = [Month.parse(spec.reference[str(m)]) for m in spec.months]
        _coordinate(group, "reference_month", _days(earlier), days, dims=("month",))
    scalar = group.create_array("spatial_ref", shape=(), dtype="int64")
    scalar[...] = 0
    scalar.attrs.update(crs_attributes(geobox))
    with warnings.catch_warnings():
        # Not part of Zarr v3 yet, as zarr warns; but xarray looks for it first, and warns where it
        # is not. Nothing of what it repeats changes later.
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(path, zarr_format=3)


def _lay_out_variable(group: Any, spec: CubeSpec, variable: Variable) -> None:
    bands = (len(variable.bands),) if variable.bands else ()
    array = group.create_array(
        variable.name,
        shape=(len(spec.months), *bands, *spec.shape),
        shards=spec.shard_shape(variable),
        chunks=(1, *(1 for _ in bands), spec.chunk_px, spec.chunk_px),
        dtype=variable.dtype,
        fill_value=variable.fill,
        compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()],
        dimension_names=variable.dims,
    )
    attrs: dict[str, Any] = {**variable.attrs, "grid_mapping": "spatial_ref"}
    # Zero is a code or a count, never no data; classes stay integers when xarray decodes.
    if variable.fill and not np.isnan(variable.fill) and "flag_values" not in attrs:
        attrs["_FillValue"] = variable.fill
    if variable.scale is not None:
        attrs["scale_factor"] = variable.scale
    array.attrs.update(attrs)
    if variable.bands:
        names = group.create_array(
            variable.band_dim, shape=bands, dtype=str, dimension_names=(variable.band_dim,)
        )
        names[:] = np.array(variable.bands, dtype=object)


def _coordinate(
    group: Any,
    name: str,
    values: NDArray[Any],
    attrs: dict[str, Any],
    dims: tuple[str, ...] | None = None,
) -> None:
    array = group.create_array(
        name, shape=values.shape, dtype=values.dtype, dimension_names=dims or (name,)
    )
    array[:] = values
    array.attrs.update(attrs)


def _days(months: list[Month]) -> NDArray[np.int64]:
    return np.array([m.to_numpy() for m in months]).astype("datetime64[D]").astype(np.int64)


def _group_attributes(spec: CubeSpec) -> dict[str, Any]:
    coordinates = ["spatial_ref", *(["reference_month"] if spec.reference else [])]
    return {
        "Conventions": "CF-1.11",
        "title": spec.title,
        "coordinates": " ".join(coordinates),
        **spec.attrs,
        "cdscale": {"spec": spec.model_dump(mode="json")},
    }


class Ledger:
    """The receipts of a run: one small file a task, under ``STAGE/MONTH/TILE.json``.

    A task that failed leaves its reason in the same place, as ``TILE.failed``, until it is done.

    Parameters
    ----------
    folder : Path
        Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, receipt: Receipt) -> None:
        """Keep a receipt, replacing an older one of the same task and the reason of a failure."""
        write_json(self.folder / f"{receipt.task}.json", receipt)
        (self.folder / f"{receipt.task}.failed").unlink(missing_ok=True)

    def forget(self, stage: Stage) -> None:
        """Drop the receipts of a stage: what they tell of is gone."""
        shutil.rmtree(self.folder / str(stage), ignore_errors=True)

    def fail(self, task: Task, reason: str) -> None:
        """Keep the reason why a task failed."""
        write_text(self.folder / f"{task}.failed", reason)

    def failure(self, task: Task) -> str:
        """Why a task failed when it was last tried; empty where it did not."""
        try:
            return (self.folder / f"{task}.failed").read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def read(self, task: Task) -> Receipt | None:
        """The receipt of a task; None where there is none, or a damaged one."""
        try:
            text = (self.folder / f"{task}.json").read_text(encoding="utf-8")
            return Receipt.model_validate_json(text)
        except (OSError, ValueError):
            return None


def write_json(path: Path, value: Frozen | dict[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, also after a power cut."""
    text = (
        value.model_dump_json(indent=1)
        if isinstance(value, Frozen)
        else json.dumps(value, indent=1, sort_keys=True)
    )
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
