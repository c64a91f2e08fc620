"""Stores are laid out, grow towards later months, and are known again by their spec.

A store grows by files that a new one of its size would have: they are laid out beside it and moved
into it one by one, the group's own metadata last. That one holds the spec and, consolidated, the
shapes of all arrays, so that every reader sees the old months or the new ones. What a driver that
was killed on the way leaves is put right by :func:`mend`.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from cdscale.errors import StoreError, explain
from cdscale.grid import crs_attributes
from cdscale.months import Month, Months
from cdscale.spec.cube import CubeSpec, Variable
from cdscale.spec.overview import geozarr_attributes
from cdscale.store.ledger import flush
from cdscale.store.opening import making
from cdscale.store.places import no_store

MONTHS_IN_CHUNK = 1024
"""Of a coordinate along the months: always one chunk, so that growing changes no chunk's place."""
NO_REFERENCE = -1
"""Day that stands for no reference month."""
GROWING = {"months", "reference"}
"""Fields of a spec in which a store may be larger than the run that writes to it."""


def exists(path: Path) -> bool:
    """Whether there is a store, of whatever spec."""
    return (path / "zarr.json").exists()


def outside_stores(path: Path, what: str) -> Path:
    """The path; what is not the store's own is in its readers' way, and is swept away in repairs.

    Raises
    ------
    StoreError
        When it lies in a store.
    """
    whole = path.resolve()
    # The outermost: each array of a store has a `zarr.json` of its own.
    store = next((one for one in reversed((whole, *whole.parents)) if exists(one)), None)
    if store is not None:
        raise StoreError(
            explain(
                f"{what} {path} lies in a store",
                expected="a place outside it",
                got=store,
                do="Name another folder.",
            )
        )
    return path


def read_spec(path: Path) -> CubeSpec:
    """The spec of a store as it stands, months added later included.

    Raises
    ------
    StoreError
        When there is no store, or it is not one of cdscale's.
    """
    group = open_group(path, mode="r")
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
    open_group(path, mode="r")
    # Consolidated: while a store grows, its arrays by themselves are of different lengths.
    dataset: xr.Dataset = xr.open_zarr(path, consolidated=True, chunks={})
    return dataset


def open_group(path: Path, *, mode: Any) -> Any:
    """The Zarr group of a store.

    Raises
    ------
    StoreError
        When there is none, or it may not be opened.
    """
    try:
        return zarr.open_group(path, mode=mode, zarr_format=3)
    except (FileNotFoundError, ValueError, NotADirectoryError):
        raise no_store(path) from None
    except PermissionError as err:
        raise StoreError(explain(f"{path} may not be opened: {err.strerror}")) from None


# ------------------------------------------------------------------------------------- growing


def grown(path: Path, spec: CubeSpec) -> CubeSpec:
    """What a store will hold when a run of this spec has laid it out or let it grow.

    Raises
    ------
    StoreError
        When there is a store that cannot become one: of another spec, of which the message names
        the first difference, or with months that do not come after its own.
    """
    if not exists(path):
        return spec
    made = read_spec(path)
    if made.structure != spec.structure:
        field, theirs, ours = _difference(made, spec)
        raise StoreError(
            explain(
                f"{path} was made with another spec: its {field} differs",
                expected=ours,
                got=theirs,
                do="Choose another --output, or remove the store.",
            )
        )
    between = [month for month in spec.months if month not in made.months]
    between = [month for month in between if month < made.months.last]
    if between:
        raise StoreError(
            explain(
                f"{path} grows only towards later months",
                expected=f"months of {made.months}, or after {made.months.last}",
                got=str(Months.of(between)),
                do="Choose another --output for a run with these months.",
            )
        )
    _references_agree(path, made, spec)
    return spec.model_copy(
        update={
            "months": Months.of((*made.months, *spec.months)),
            "reference": made.reference | spec.reference,
        }
    )


def _references_agree(path: Path, made: CubeSpec, spec: CubeSpec) -> None:
    for month, earlier in spec.reference.items():
        stored = made.reference.get(month, earlier)
        if stored != earlier:
            raise StoreError(
                explain(
                    f"{path} compares {month} with another month",
                    expected=earlier,
                    got=stored,
                    do="Choose another --output, or remove the store.",
                )
            )


def bring(path: Path, spec: CubeSpec) -> CubeSpec:
    """Make a store, or let it grow until it has every month of a spec; the spec that it then has.

    Raises
    ------
    StoreError
        When there is a store of another spec, or the place cannot be written.
    """
    wanted = grown(path, spec)
    whole = exists(path / "published")  # stores of older releases have none
    if whole and exists(path) and wanted.digest == read_spec(path).digest:
        return wanted
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = _scratch(path)
        shutil.rmtree(scratch, ignore_errors=True)
        _lay_out(scratch, wanted)
        if exists(path):
            move_into(path, scratch)
            shutil.rmtree(scratch)
        else:
            # All of the metadata appears at once: a driver killed here leaves no half-made store.
            os.replace(scratch, path)
    except OSError as err:
        raise StoreError(
            explain(
                f"cannot make {path}: {err.strerror}", do="Choose an output folder to write to."
            )
        ) from None
    return wanted


def mend(path: Path) -> bool:
    """Undo what a driver left that was killed while it let a store grow; whether there was any.

    What it had not finished is not part of the store: the spec of the store is the old one until
    the last file is moved.
    """
    scratch = _scratch(path)
    if not scratch.exists():
        return False
    if exists(path):
        shutil.rmtree(scratch)
        _lay_out(scratch, read_spec(path))
        move_into(path, scratch)
    shutil.rmtree(scratch)
    return True


def lay_out_again(path: Path) -> None:
    """Write the coordinates and the arrays' metadata of a store anew; pixels and marks stay."""
    scratch = _scratch(path)
    shutil.rmtree(scratch, ignore_errors=True)
    _lay_out(scratch, read_spec(path))
    move_into(path, scratch)
    shutil.rmtree(scratch)


def coordinates_differ(path: Path, spec: CubeSpec) -> tuple[str, ...]:
    """Coordinates of a store that are not those of its spec, or do not read."""
    return axes_differ(open_group(path, mode="r"), axes_of(spec))


def axes_differ(group: Any, axes: dict[str, NDArray[Any]]) -> tuple[str, ...]:
    """Those of some coordinates that a group does not have as given."""
    return tuple(name for name, values in axes.items() if not _says(group, name, values))


def _says(group: Any, name: str, values: NDArray[Any]) -> bool:
    try:
        return bool(np.array_equal(group[name][:], values))
    except (KeyError, ValueError, RuntimeError, OSError):
        return False


def axes_of(spec: CubeSpec) -> dict[str, NDArray[Any]]:
    """Values of each coordinate that has an axis, or lies along the months."""
    found = spec.window.geobox(spec.grid).coordinates
    axes = {axis: np.asarray(found[axis].values) for axis in ("y", "x")}
    axes["month"] = _days(list(spec.months))
    if spec.reference:
        axes["reference_month"] = _references(spec)
    return axes


def _references(spec: CubeSpec) -> NDArray[np.int64]:
    """Days of the earlier month of each month, :data:`NO_REFERENCE` of those that have none."""
    earlier = [spec.reference.get(str(month)) for month in spec.months]
    days = [_days([Month.parse(text)])[0] if text else NO_REFERENCE for text in earlier]
    return np.array(days, np.int64)


def _scratch(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def move_into(path: Path, scratch: Path) -> None:
    """Move the files of a store without pixels into another one: coordinates, arrays, group."""
    files = [file.relative_to(scratch) for file in scratch.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda f: (f.name == "zarr.json", len(f.parts) == 1, f)):
        source, target = scratch / file, path / file
        if target.exists() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        flush(source)
        os.replace(source, target)


def _difference(made: CubeSpec, spec: CubeSpec) -> tuple[str, object, object]:
    theirs, ours = made.model_dump(mode="json"), spec.model_dump(mode="json")
    field = next(name for name in ours if name not in GROWING and theirs[name] != ours[name])
    if field == "attrs":
        theirs, ours = theirs[field], ours[field]
        inner = next(n for n in sorted({*ours, *theirs}) if theirs.get(n) != ours.get(n))
        return f"attrs.{inner}", _short(theirs.get(inner)), _short(ours.get(inner))
    return field, _short(theirs[field]), _short(ours[field])


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else text[:157] + "..."


# --------------------------------------------------------------------------------- laying out


def _lay_out(path: Path, spec: CubeSpec) -> None:
    with making():
        _make_arrays(path, spec)


def _make_arrays(path: Path, spec: CubeSpec) -> None:
    # Attributes are given with each array: zarr writes its metadata anew for every one set later.
    attrs = _group_attributes(spec) | geozarr_attributes(spec)
    group = zarr.open_group(path, mode="w-", zarr_format=3, attributes=attrs)
    for variable in spec.variables:
        _lay_out_variable(group, spec, variable)
    geobox = spec.window.geobox(spec.grid)
    axes = axes_of(spec)
    for axis, units in (("y", "metre"), ("x", "metre")):
        standard = f"projection_{axis}_coordinate"
        _coordinate(group, axis, axes[axis], {"standard_name": standard, "units": units})
    _lay_out_months(group, axes)
    scalar = group.create_array(
        "spatial_ref", shape=(), dtype="int64", attributes=crs_attributes(geobox)
    )
    scalar[...] = 0
    with warnings.catch_warnings():
        # Not part of Zarr v3 yet, as zarr warns; but xarray looks for it first, and warns where it
        # is not. It is renewed whenever the store grows, together with the spec.
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(path, zarr_format=3)


def _lay_out_months(group: Any, axes: dict[str, NDArray[Any]]) -> None:
    days = {
        "standard_name": "time",
        "units": "days since 1970-01-01",
        "calendar": "proleptic_gregorian",
    }
    first = {**days, "long_name": "first day of month"}
    _coordinate(group, "month", axes["month"], first, along="month")
    if "reference_month" in axes:
        missing = {"_FillValue": NO_REFERENCE} if NO_REFERENCE in axes["reference_month"] else {}
        attrs = {**days, **missing}
        _coordinate(group, "reference_month", axes["reference_month"], attrs, along="month")
    group.create_array(
        "published",
        shape=axes["month"].shape,
        chunks=(1,),
        dtype="uint8",
        fill_value=0,
        compressors=None,
        dimension_names=("month",),
        attributes={
            "long_name": "whether the month is complete: every tile done, no scene missing",
            "comment": "0 while a month is being made or made anew; use months with 1 only",
            "flag_values": [0, 1],
            "flag_meanings": "unpublished published",
        },
    )


def _lay_out_variable(group: Any, spec: CubeSpec, variable: Variable) -> None:
    bands = (len(variable.bands),) if variable.bands else ()
    group.create_array(
        variable.name,
        shape=(len(spec.months), *bands, *spec.shape),
        shards=spec.shard_shape(variable),
        chunks=(1, *(1 for _ in bands), spec.chunk_px, spec.chunk_px),
        dtype=variable.dtype,
        fill_value=variable.fill,
        compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()],
        dimension_names=variable.dims,
        attributes=_attributes(variable),
    )
    if variable.bands:
        names = group.create_array(
            variable.band_dim, shape=bands, dtype=str, dimension_names=(variable.band_dim,)
        )
        names[:] = np.array(variable.bands, dtype=object)


def _attributes(variable: Variable) -> dict[str, Any]:
    attrs: dict[str, Any] = {**variable.attrs, "grid_mapping": "spatial_ref"}
    # Zero is a code or a count, never no data; classes stay integers when xarray decodes.
    if variable.fill and not np.isnan(variable.fill) and "flag_values" not in attrs:
        attrs["_FillValue"] = variable.fill
    if variable.scale is not None:
        attrs["scale_factor"] = variable.scale
    return attrs


def _coordinate(
    group: Any,
    name: str,
    values: NDArray[Any],
    attrs: dict[str, Any],
    *,
    along: str = "",
) -> None:
    """A coordinate with an axis of its own, or along the months."""
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=(MONTHS_IN_CHUNK,) if along else values.shape,
        dtype=values.dtype,
        dimension_names=(along or name,),
        attributes=attrs,
    )
    array[:] = values


def _days(months: list[Month]) -> NDArray[np.int64]:
    return np.array([m.to_numpy() for m in months]).astype("datetime64[D]").astype(np.int64)


def _group_attributes(spec: CubeSpec) -> dict[str, Any]:
    coordinates = ["spatial_ref", "published", *(["reference_month"] if spec.reference else [])]
    return {
        "Conventions": "CF-1.11",
        "title": spec.title,
        "coordinates": " ".join(coordinates),
        **spec.attrs,
        "cdscale": {"spec": spec.model_dump(mode="json")},
    }
