"""Series of months: when a pixel turned."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cdscale.kernels.types import Float


def onset(probability_TYX: Float, threshold: float) -> NDArray[np.int32]:
    """Month at which a pixel turns from open land to built-up, and stays.

    The step that splits the series best: before it the probability lies below the threshold in the
    mean, after it above, and the difference of the two means is the largest of all steps. Months
    without a value are left out. This needs no state and no tuning; products with confirmation
    states build on the same series.

    Parameters
    ----------
    probability_TYX : array of float32
        Urban probability, NaN where a month has none.
    threshold : float
        Probability from which a pixel counts as built up.

    Returns
    -------
    array of int32, (Y, X)
        Index of the first month on the built-up side, -1 where there is none.
    """
    months = probability_TYX.shape[0]
    valid_TYX = np.isfinite(probability_TYX)
    values_TYX = np.where(valid_TYX, probability_TYX, 0).astype(np.float64)
    sum_TYX, count_TYX = values_TYX.cumsum(axis=0), valid_TYX.cumsum(axis=0)
    best_YX = np.full(probability_TYX.shape[1:], -np.inf)
    index_YX = np.full(probability_TYX.shape[1:], -1, np.int32)
    for t in range(1, months):
        n_before, n_after = count_TYX[t - 1], count_TYX[-1] - count_TYX[t - 1]
        before = sum_TYX[t - 1] / np.maximum(n_before, 1)
        after = (sum_TYX[-1] - sum_TYX[t - 1]) / np.maximum(n_after, 1)
        step = after - before
        # A split at a month without a value says the same as the next one: wait for the value.
        turns = (n_before > 0) & valid_TYX[t] & (before < threshold) & (after >= threshold)
        better = turns & (step > best_YX)
        best_YX[better] = step[better]
        index_YX[better] = t
    return index_YX
