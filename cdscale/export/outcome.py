"""What a run found, in the figures that a reader asks for first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from cdscale.export.reading import (
    NOT_PROCESSED,
    SETTLED,
    Counts,
    Tally,
    days_since_1970,
)
from cdscale.months import Month
from cdscale.spec.base import Frozen
from cdscale.spec.job import Job
from cdscale.spec.task import Stage


class Outcome(Frozen):
    """Change inside the area of interest: counts of pixels, in km²."""

    kind: Literal["series", "pair"]
    what: str
    since: str
    until: str
    km2: float
    share: float
    """Of the area of interest."""
    by_month: dict[str, float]
    """Change that now counts, by the first month that shows it; empty: not known by month."""
    standing: dict[str, dict[str, float]]
    """Of a series, at the end of each month: km² ``counted``, ``provisional`` and ``reverted``."""
    high_km2: float | None
    unseen: float
    """Share of the area of which nothing can be said, whatever the reason."""
    gaps: float | None
    """Of a series, share of the area and its months without an observation, in the mean."""


def outcome_of(job: Job, tally: Tally) -> Outcome | None:
    """The answer of a run; None where it maps no change, or nothing of it is done."""
    if Stage.CHANGE not in job.stages:
        return None
    months = [m for m in job.months(Stage.CHANGE) if _done(tally, m)]
    if not months:
        return None
    if (Stage.CHANGE, months[-1], "state") in tally.codes:
        return _of_series(job, tally, months)
    return _of_pairs(job, tally, months)


def _done(tally: Tally, month: Month) -> bool:
    """Whether any tile of a month is done."""
    names = [name for stage, m, name in tally.codes if (stage, m) == (Stage.CHANGE, month)]
    counts = (tally.codes[Stage.CHANGE, month, name] for name in names)
    return any(number for c in counts for key, number in c.items() if key != NOT_PROCESSED)


def _of_series(job: Job, tally: Tally, months: list[Month]) -> Outcome:
    km2 = pixel_km2(job)
    states = {month: tally.codes[Stage.CHANGE, month, "state"] for month in months}
    last = states[months[-1]]
    counted = _sum(last, [state.name for state in SETTLED])
    days = tally.first.get(months[-1], {})
    period = list(job.spec.period)
    return Outcome(
        kind="series",
        what="became built-up land",
        since=str(job.spec.period.first),
        until=str(months[-1]),
        km2=round(counted * km2, 6),
        share=_part(counted, tally.inside),
        by_month={str(m): round(days.get(days_since_1970(m), 0) * km2, 6) for m in period}
        if days
        else {},
        standing={str(month): _standing(counts, km2) for month, counts in states.items()},
        high_km2=round(_sum(last, ["high_confidence", "finished"]) * km2, 6),
        unseen=_part(_sum(last, ["unobserved", "no_data", NOT_PROCESSED]), tally.inside),
        gaps=_gaps(job, tally),
    )


def _gaps(job: Job, tally: Tally) -> float:
    found = (tally.codes.get((Stage.MAP, m, "quality"), {}) for m in job.spec.period)
    missing = sum(_sum(codes, ["no_data", NOT_PROCESSED]) for codes in found)
    return _part(missing, tally.inside * len(job.spec.period))


def _standing(counts: Mapping[str, int], km2: float) -> dict[str, float]:
    return {
        "counted": round(_sum(counts, [state.name for state in SETTLED]) * km2, 6),
        "provisional": round(counts.get("provisional", 0) * km2, 6),
        "reverted": round(counts.get("reverted", 0) * km2, 6),
    }


def _of_pairs(job: Job, tally: Tally, months: list[Month]) -> Outcome:
    card = job.cards["change"]
    names = [n.replace(" ", "_") for code, n in sorted(card.classes.items()) if code]
    pairs = job.pairs
    counts = {month: tally.codes.get((Stage.CHANGE, month, "change"), {}) for month in months}
    latest = months[-1]
    found = {month: _sum(c, names) for month, c in counts.items()}
    said = _sum(counts[latest], [n.replace(" ", "_") for n in card.classes.values()])
    return Outcome(
        kind="pair",
        what=" or ".join(name.replace("_", " ") for name in names),
        since=str(pairs[latest]),
        until=str(latest),
        km2=round(found[latest] * pixel_km2(job), 6),
        share=_part(found[latest], tally.inside),
        by_month={str(m): round(n * pixel_km2(job), 6) for m, n in found.items()}
        if len(months) > 1
        else {},
        standing={},
        high_km2=None,
        unseen=_part(tally.inside - said, tally.inside),
        gaps=None,
    )


def pixel_km2(job: Job) -> float:
    """Area of a pixel."""
    return float((job.spec.lattice.resolution / 1000) ** 2)


def _sum(counts: Counts | Mapping[str, int], names: list[str]) -> int:
    return sum(counts.get(name, 0) for name in names)


def _part(number: int, whole: int) -> float:
    return round(number / max(whole, 1), 6)
