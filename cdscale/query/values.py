"""What stored values mean: numbers in their unit, codes by their names, days as dates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale.spec.cube import Variable

Plain = float | int | str | list[str] | None
DAYS = "days since 1970-01-01"


def masks_of(variable: Variable) -> dict[int, str]:
    """What each bit means, of a variable of flags that stand side by side; else empty."""
    if "flag_masks" not in variable.attrs:
        return {}
    names = variable.attrs["flag_meanings"].split()
    return dict(zip(variable.attrs["flag_masks"], names, strict=True))


def is_date(variable: Variable) -> bool:
    """Whether values are days."""
    return variable.attrs.get("units") == DAYS


def is_fill(variable: Variable, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a variable says nothing. Zero is a code or a count, and never no data."""
    if isinstance(variable.fill, float) and math.isnan(variable.fill):
        return np.asarray(np.isnan(values))
    if not variable.fill:
        return np.zeros(values.shape, bool)
    return np.asarray(values == variable.fill)


def plain(variable: Variable, value: Any) -> Plain:
    """One stored value as JSON has it; None where there is no data."""
    if variable.meanings:
        return variable.meanings.get(int(value))
    masks = masks_of(variable)
    if masks:
        return [name for bit, name in masks.items() if int(value) & bit]
    if bool(is_fill(variable, np.asarray(value))):
        return None
    if is_date(variable):
        return date(variable, int(value))
    if np.issubdtype(np.asarray(value).dtype, np.integer) and variable.scale is None:
        return int(value)
    number = float(value) * (1.0 if variable.scale is None else variable.scale)
    return round(number, 6) if math.isfinite(number) else None


def date(variable: Variable, days: int) -> str:
    """A day, or the month that it stands for."""
    unit = "M" if "month" in variable.name else "D"
    return str(np.datetime64(days, "D").astype(f"datetime64[{unit}]"))
