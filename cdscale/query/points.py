"""Ask for one pixel: every value, month by month."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale.months import Month
from cdscale.query.spots import Pixel, Spot, pixel_of
from cdscale.query.values import plain
from cdscale.query.wanted import ALL, Wanted, head, month_head, subject
from cdscale.spec.cube import Variable
from cdscale.store import Source

Series = dict[str, NDArray[Any]]
"""Of each variable its stored values: (month,), or (month, band)."""


def point(source: Source, spot: Spot, wanted: Wanted = ALL) -> dict[str, Any]:
    """Values of a store at one place, month by month.

    Parameters
    ----------
    source : Source
        A store.
    spot : Spot
        Where.
    wanted : Wanted
        Which months and variables.

    Returns
    -------
    dict
        Plain data: where the pixel is, which months are not published, and for each other month
        each variable: a number in its unit, the meaning of a code, or None where there is no data;
        by band where it has bands.

    Raises
    ------
    SpecError
        When the place lies outside the store, or it has not what is wanted.
    StoreError
        When it is damaged.
    """
    pixel = pixel_of(source, spot)
    about = subject(source, wanted)
    series = pixel_series(source, pixel, about.months, about.variables)
    lon, lat = pixel.lon_lat(source.spec)
    return {
        **head(source, about),
        "lon": round(lon, 7),
        "lat": round(lat, 7),
        "crs": source.spec.grid.crs,
        "x": pixel.x,
        "y": pixel.y,
        "tile": str(pixel.tile),
        "months": [
            month_head(source.spec, month) | at_month(series, about.variables, i)
            for i, month in enumerate(about.months)
        ],
    }


def pixel_series(
    source: Source, pixel: Pixel, months: Sequence[Month], variables: Sequence[Variable]
) -> Series:
    """Stored values of a pixel."""
    at = np.array([source.spec.months.index(month) for month in months], np.intp)
    row, column = np.array([pixel.row]), np.array([pixel.column])
    found: Series = {}
    for v in variables:
        bands = [np.arange(len(v.bands))] if v.bands else []
        found[v.name] = source.read(v.name, [at, *bands, row, column])[..., 0, 0]
    return found


def at_month(series: Series, variables: Sequence[Variable], number: int) -> dict[str, Any]:
    """Plain values of one month of a series; by band where a variable has bands."""
    told: dict[str, Any] = {}
    for v in variables:
        value = series[v.name][number]
        if v.bands:
            told[v.name] = {b: plain(v, one) for b, one in zip(v.bands, value, strict=True)}
        else:
            told[v.name] = plain(v, value)
    return told
