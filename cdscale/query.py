"""Ask the stores: a point or an area, from the stores alone, without a run or a catalogue."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from cdscale.errors import SpecError, StoreError, explain
from cdscale.grid import Area, covered, project, to_lon_lat
from cdscale.months import Month
from cdscale.spec.cube import CubeSpec, Variable
from cdscale.store import Store, open_dataset, read_spec

Data = TypeVar("Data", xr.Dataset, xr.DataArray)


def point(path: Path, lon: float, lat: float, *, unpublished: bool = False) -> dict[str, Any]:
    """Every value of a store at one place, month by month.

    Parameters
    ----------
    path : Path
        A store.
    lon, lat : float
        Degrees (EPSG:4326).
    unpublished : bool
        Show months as well that are not complete, or are just being made.

    Returns
    -------
    dict
        Plain data: where the pixel is, which months are not published, and for each other month
        each variable: a number in its unit, the meaning of a code, or None where there is no data;
        by band where it has bands.

    Raises
    ------
    SpecError
        When the place lies outside the store, or is no place.
    StoreError
        When there is no store, or it is damaged.
    """
    spec = read_spec(path)
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise SpecError(
            explain("not a place", expected="degrees", got=f"longitude {lon}, latitude {lat}")
        )
    x, y = project(lon, lat, spec.grid.crs)
    geobox = spec.window.geobox(spec.grid)
    box = geobox.boundingbox
    if not (box.left <= x < box.right and box.bottom < y <= box.top):
        raise SpecError(
            explain(
                f"the point {lon:g}, {lat:g} lies outside {path}",
                expected=f"a place on its tiles, which lie inside {_extent(spec)}",
                do="Give longitude and latitude in degrees, longitude first.",
            )
        )
    column = int((x - box.left) / spec.grid.resolution)
    row = int((box.top - y) / spec.grid.resolution)
    shown, hidden = _months(path, spec, unpublished=unpublished)
    with open_dataset(path) as dataset:
        at = [spec.months.index(month) for month in shown]
        pixel = _load(dataset.isel(month=at, x=column, y=row), path)
    return {
        **_head(path, spec, hidden),
        "lon": lon,
        "lat": lat,
        "crs": spec.grid.crs,
        "x": float(pixel.x),
        "y": float(pixel.y),
        "months": [_values_of(pixel, spec, month) for month in shown],
    }


def _months(
    path: Path, spec: CubeSpec, *, unpublished: bool
) -> tuple[tuple[Month, ...], tuple[Month, ...]]:
    """Months that are shown, and those that are not published."""
    published = set(Store(path, spec).published())
    hidden = tuple(month for month in spec.months if month not in published)
    return tuple(m for m in spec.months if unpublished or m in published), hidden


def _head(path: Path, spec: CubeSpec, hidden: tuple[Month, ...]) -> dict[str, Any]:
    """What every answer says of its store."""
    return {
        "store": str(path),
        "title": spec.title,
        **({"comment": spec.attrs["comment"]} if "comment" in spec.attrs else {}),
        "unpublished": [str(month) for month in hidden],
    }


def _load(lazy: Data, path: Path) -> Data:
    try:
        return lazy.load()
    except (OSError, RuntimeError, ValueError) as err:  # a checksum, a shard cut short
        raise StoreError(
            explain(
                f"{path} is damaged: it does not read",
                got=" ".join(str(err).split())[:200],
                do="Remove the store and the receipts of its stage beside it, and run again.",
            )
        ) from None


def _values_of(pixel: xr.Dataset, spec: CubeSpec, month: Month) -> dict[str, Any]:
    at = pixel.sel(month=month.to_numpy())
    values: dict[str, Any] = {"month": str(month), **_reference(spec, month)}
    for variable in spec.variables:
        value = at[variable.name].values
        if variable.bands:
            values[variable.name] = {
                band: _plain(v, variable) for band, v in zip(variable.bands, value, strict=True)
            }
        else:
            values[variable.name] = _plain(value[()], variable)
    return values


def _reference(spec: CubeSpec, month: Month) -> dict[str, str]:
    earlier = spec.reference.get(str(month))
    return {"reference_month": earlier} if earlier else {}


def _plain(value: Any, variable: Variable) -> float | int | str | None:
    """A value as JSON has it; codes by their meaning, months and days as text."""
    meanings = variable.meanings
    if meanings:
        return meanings.get(int(value))
    if np.issubdtype(np.asarray(value).dtype, np.datetime64):
        return None if np.isnat(value) else _date(value, variable)
    if np.issubdtype(np.asarray(value).dtype, np.integer):
        return int(value)
    return None if math.isnan(value) else round(float(value), 6)


def _date(value: np.datetime64, variable: Variable) -> str:
    """A day, or the month that it stands for."""
    return str(value.astype("datetime64[M]" if "month" in variable.name else "datetime64[D]"))


def _extent(spec: CubeSpec) -> str:
    box = spec.window.geobox(spec.grid).boundingbox
    corners = [
        to_lon_lat(x, y, spec.grid.crs)
        for x in (box.left, box.right)
        for y in (box.bottom, box.top)
    ]
    lon, lat = zip(*corners, strict=True)
    return f"{min(lon):.4f}, {min(lat):.4f}, {max(lon):.4f}, {max(lat):.4f} (degrees)"


def area(path: Path, polygon: Area, *, unpublished: bool = False) -> dict[str, Any]:
    """What a store says of an area, month by month.

    A pixel counts where its centre lies in the area. Pixels on an equal-area grid are all of one
    size, so that square kilometres are counts.

    Parameters
    ----------
    path : Path
        A store.
    polygon : Area
        Where.
    unpublished : bool
        Show months as well that are not complete, or are just being made.

    Returns
    -------
    dict
        Plain data: square kilometres of the area in the store, which months are not published, and
        for each other month and variable the mean and the square kilometres that have a value, or
        for codes and dates the square kilometres of each.

    Raises
    ------
    SpecError
        When the area has no pixel in the store.
    StoreError
        When there is no store, or it is damaged.
    """
    spec = read_spec(path)
    geobox = spec.window.geobox(spec.grid)
    rows, columns = _span(polygon, spec, path)
    inside_YX = covered(polygon, geobox[rows, columns])
    km2 = (spec.grid.resolution / 1000) ** 2
    if not inside_YX.any():
        raise SpecError(
            explain(
                f"the area holds the centre of no pixel in {path}: it is smaller than a pixel",
                do="Ask for a point, or for a larger area.",
            )
        )
    shown, hidden = _months(path, spec, unpublished=unpublished)
    with open_dataset(path) as dataset:
        cut = dataset.isel(y=rows, x=columns)
        months = []
        for month in shown:
            at = cut.sel(month=month.to_numpy())
            answer: dict[str, Any] = {"month": str(month), **_reference(spec, month)}
            for variable in spec.variables:
                values = _load(at[variable.name], path)
                answer[variable.name] = _summary(values, variable, inside_YX, km2)
            months.append(answer)
    return {
        **_head(path, spec, hidden),
        "area_km2": round(float(inside_YX.sum()) * km2, 6),
        "months": months,
    }


def _span(polygon: Area, spec: CubeSpec, path: Path) -> tuple[slice, slice]:
    """Rows and columns of the store that the area's bounding box meets."""
    west, south, east, north = polygon.to_crs(spec.grid.crs).bounds
    box = spec.window.geobox(spec.grid).boundingbox
    step = spec.grid.resolution
    height, width = spec.shape
    top, bottom = math.floor((box.top - north) / step), math.ceil((box.top - south) / step)
    left, right = math.floor((west - box.left) / step), math.ceil((east - box.left) / step)
    rows = slice(max(top, 0), min(bottom, height))
    columns = slice(max(left, 0), min(right, width))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise SpecError(_no_overlap(path, spec))
    return rows, columns


def _no_overlap(path: Path, spec: CubeSpec) -> str:
    return explain(
        f"the area has no pixel in {path}", expected=f"an area that meets {_extent(spec)}"
    )


def _summary(
    values: xr.DataArray, variable: Variable, inside_YX: np.ndarray, km2: float
) -> dict[str, Any]:
    """What one variable says in one month; by band where it has bands."""
    if not variable.bands:
        return _one(values, variable, inside_YX, km2)
    return {
        band: _one(values.isel({variable.band_dim: i}), variable, inside_YX, km2)
        for i, band in enumerate(variable.bands)
    }


def _one(
    values_YX: xr.DataArray, variable: Variable, inside_YX: np.ndarray, km2: float
) -> dict[str, Any]:
    values = values_YX.values[inside_YX]
    meanings = variable.meanings
    if meanings:
        codes, counts = np.unique(values, return_counts=True)
        found = dict(zip(codes.tolist(), counts.tolist(), strict=True))
        named = {name: round(found.pop(code, 0) * km2, 6) for code, name in meanings.items()}
        rest = sum(found.values())
        return {"km2": named | ({"no_data": round(rest * km2, 6)} if rest else {})}
    if np.issubdtype(values.dtype, np.datetime64):
        dates, counts = np.unique(values[~np.isnat(values)], return_counts=True)
        pairs = zip(dates, counts.tolist(), strict=True)
        return {"km2": {_date(date, variable): round(n * km2, 6) for date, n in pairs}}
    finite = np.isfinite(values)
    mean = float(values[finite].mean()) if finite.any() else None
    return {
        "mean": None if mean is None else round(mean, 6),
        "valid_km2": round(int(finite.sum()) * km2, 6),
    }
