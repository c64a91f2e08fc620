"""What all counters do before they count."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale.errors import UserError, explain
from cdscale.learn.labels import IGNORED


def ratio(part: float, whole: float) -> float:
    """A quotient that is 0 where the denominator is."""
    return part / whole if whole else 0.0


def counted_pairs(
    what: str, values: NDArray[Any], truth: NDArray[Any], ignored: tuple[int, ...] = (IGNORED,)
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values and truth of the pixels whose truth is known, flat.

    Raises
    ------
    UserError
        When the shapes differ.
    """
    values, truth = np.asarray(values), np.asarray(truth)
    if values.shape != truth.shape:
        raise UserError(
            explain(
                f"{what}: map and truth",
                expected=f"one shape, {truth.shape}",
                got=values.shape,
                do="Bring the map to the grid of the label first.",
            )
        )
    unknown = np.zeros(truth.shape, bool)
    for code in ignored:
        unknown |= truth == code
    if not unknown.any():
        return values.ravel(), truth.ravel()
    return values[~unknown], truth[~unknown]
