"""How well a change mosaic tells the truth of a simulated region."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from cdscale.spec.cube import ChangeState

DAYS_PER_MONTH = 30.436875


def score(change: xr.Dataset, reference: xr.Dataset) -> dict[str, Any]:
    """Agreement of the last month of a change store with the truth.

    Parameters
    ----------
    change : Dataset
        A change store, decoded: ``state`` and ``change_month`` from the urban series, ``change``
        from the pair network; what it does not have is not scored.
    reference : Dataset
        From :func:`cdscale.simulate.truth`, on the same pixels.

    Returns
    -------
    dict
        For ``series``, ``states`` and ``pair``: precision, recall and F1 of changed pixels, of
        states those of confirmed change or better; for the first two also the mean absolute error
        of the change month, in months, over the pixels that both call changed, and the share of
        them within one month. For states moreover false alarms, which are pixels confirmed although
        they do not change, even if that was taken back later, per square kilometre and month; and
        the mean delay from the true month to the one of confirmation, in months. Pixels without
        data count as unchanged.
    """
    last = change.isel(month=-1)
    truth_YX = reference.change_month.values >= 0
    scores: dict[str, Any] = {"changed_share": round(float(truth_YX.mean()), 4)}
    if "change_month" in last:
        days_YX = last.change_month.values.astype("datetime64[D]")
        found_YX = ~np.isnat(days_YX)
        scores["series"] = _agreement(found_YX, truth_YX) | _month_error(
            days_YX, reference.change_month.values, found_YX & truth_YX
        )
    if "state" in last:
        months = change.sizes["month"]
        scores["states"] = _states(last, reference.change_month.values, truth_YX, months)
    if "change" in last:
        scores["pair"] = _agreement(last.change.values == 1, truth_YX)
    return scores


def _states(
    last: xr.Dataset, truth_days_YX: np.ndarray, truth_YX: np.ndarray, months: int
) -> dict[str, float | None]:
    state_YX = last.state.values
    settled = (ChangeState.confirmed, ChangeState.high_confidence, ChangeState.finished)
    found_YX = np.isin(state_YX, settled)
    first_YX = last.first_month.values.astype("datetime64[D]")
    confirmed_YX = last.confirmed_month.values.astype("datetime64[D]")
    alarmed_YX = ~np.isnat(confirmed_YX)
    step_km = abs(float(last.x[1] - last.x[0])) / 1000
    km2_months = truth_YX.size * step_km**2 * months
    both_YX = found_YX & truth_YX
    late = confirmed_YX[both_YX].astype(np.int64) - truth_days_YX[both_YX]
    delay = round(float(np.rint(late / DAYS_PER_MONTH).mean()), 2) if late.size else None
    return {
        **_agreement(found_YX, truth_YX),
        **_month_error(first_YX, truth_days_YX, both_YX),
        "false_alarms_per_km2_month": round(int((alarmed_YX & ~truth_YX).sum()) / km2_months, 3),
        "delay": delay,
    }


def _agreement(found_YX: np.ndarray, truth_YX: np.ndarray) -> dict[str, float]:
    hits = int((found_YX & truth_YX).sum())
    precision = hits / max(int(found_YX.sum()), 1)
    recall = hits / max(int(truth_YX.sum()), 1)
    f1 = 2 * hits / max(int(found_YX.sum()) + int(truth_YX.sum()), 1)
    return {"precision": round(precision, 3), "recall": round(recall, 3), "f1": round(f1, 3)}


def _month_error(
    days_YX: np.ndarray, truth_days_YX: np.ndarray, both_YX: np.ndarray
) -> dict[str, float | None]:
    if not both_YX.any():
        return {"month_error": None, "within_one_month": None}
    found = days_YX[both_YX].astype(np.int64)
    months = np.abs(np.rint((found - truth_days_YX[both_YX]) / DAYS_PER_MONTH))
    return {
        "month_error": round(float(months.mean()), 2),
        "within_one_month": round(float((months <= 1).mean()), 3),
    }
