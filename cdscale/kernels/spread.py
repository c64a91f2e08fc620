"""How values are spread, in a few figures, and how far two spreads lie apart.

Suffixes: Q quantile level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Middles of five equal shares: what a spread is kept as. Clouds and glints lie beyond them."""
NORMAL = 2.5631
"""Standard deviations between the first and the last level, of a normal distribution."""
LEAST = 1e-6
"""Spread of a band that holds one value only, so that nothing is divided by zero."""


def spread_of(values: NDArray[np.floating]) -> tuple[float, ...]:
    """Quantiles of values at :data:`LEVELS`; none where no value is finite.

    Parameters
    ----------
    values : float array
        Of any shape; NaN is left out.
    """
    there = values[np.isfinite(values)]
    if not there.size:
        return ()
    return tuple(float(q) for q in np.quantile(there.astype(np.float64), LEVELS))


def distance(found_Q: tuple[float, ...], known_Q: tuple[float, ...]) -> float:
    """How far a spread lies from another one, in standard deviations of the latter.

    The mean shift of a value that it would take to make one of the other (the Wasserstein distance
    of first order, from five quantiles), over the robust standard deviation of the known spread.

    Parameters
    ----------
    found_Q, known_Q : tuple of float
        From :func:`spread_of`.

    Returns
    -------
    float
        0 for the same spread; 1: values lie one standard deviation away, in the mean.
    """
    shift = float(np.mean(np.abs(np.subtract(found_Q, known_Q))))
    return shift / max((known_Q[-1] - known_Q[0]) / NORMAL, LEAST)
