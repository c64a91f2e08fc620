"""Accuracy of change maps, scene by scene and pooled.

Pixels of which nothing can be said (NaN) and pixels without a label do not count; every other pixel
counts once.

Shape suffixes: Y row, X column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale.evaluation.report import Figures
from cdscale.evaluation.scenes import Mapper
from cdscale.inference import Floats
from cdscale.learn.data import Sample
from cdscale.learn.metrics import (
    Confusion,
    Curve,
    Ranking,
    auc,
    averaged,
    bootstrap,
    image_mean,
    legacy_confusion,
)

CHOSEN_HERE = (
    "'best' is the threshold of the highest pooled F1, chosen on these very labels: what the "
    "figures could be, not what they are."
)
LEGACY = (
    "'legacy tiles' counts the left half of every scene twice, as some published figures do: for "
    "comparison with them alone."
)
ORBITS = "Scenes with radar of several orbits: mean of the probabilities over orbits."


@dataclass(frozen=True)
class Scored:
    """Counts of one scene."""

    key: str
    place: str
    counts: Confusion
    legacy: Confusion
    area: float
    unseen: int
    """Labelled pixels of which the map says nothing."""

    def figures(self) -> Figures:
        """For a row of the table."""
        return {**_figures(self.counts), "auc": self.area, "unseen": float(self.unseen)}


def score_change(
    mapper: Mapper, samples: Iterable[Sample], threshold: float, *, legacy: bool
) -> tuple[dict[str, Figures], dict[str, Figures], tuple[str, ...]]:
    """Figures of each sample, figures of all, and notes.

    Raises
    ------
    ReadError
        When a layer cannot be read: figures of part of a split are not those of the split.
    """
    curve, ranking, scored = Curve(), Ranking(), []
    for sample in samples:
        probability_YX, label_YX = mapper.change(sample), sample.read("change")
        curve.add(probability_YX, _binary(label_YX))
        ranking.add(probability_YX, _binary(label_YX))
        scored.append(_score(sample, probability_YX, label_YX, threshold))
    rows = {one.key: one.figures() for one in scored}
    summary = _summary(scored, ranking, curve)
    notes = [CHOSEN_HERE, *((ORBITS,) if mapper.card.s1_bands and mapper.way.radar else ())]
    if legacy:
        total = reduce(add, (one.legacy for one in scored))
        summary["legacy tiles"] = _figures(total)
        notes.append(LEGACY)
    return rows, summary, tuple(notes)


def _score(
    sample: Sample, probability_YX: Floats, label_YX: NDArray[np.uint8], threshold: float
) -> Scored:
    label_YX = _binary(label_YX)
    seen_YX = np.isfinite(probability_YX)
    known_YX = np.where(seen_YX, label_YX, np.uint8(255))
    change_YX = probability_YX >= threshold
    return Scored(
        key=sample.key,
        place=sample.place,
        counts=Confusion.of(change_YX, known_YX),
        legacy=legacy_confusion(change_YX, known_YX),
        area=auc(probability_YX, label_YX),
        unseen=int(np.count_nonzero(~seen_YX & (label_YX != 255))),
    )


def _summary(scored: Sequence[Scored], ranking: Ranking, curve: Curve) -> dict[str, Figures]:
    counts = [one.counts for one in scored]
    pooled = reduce(add, counts)
    summary: dict[str, Figures] = {
        "pooled": {**_figures(pooled), "auc": ranking.area},
        "mean over images": {
            **averaged(counts, "image"),
            "auc": image_mean(one.area for one in scored),
        },
    }
    places: dict[str, Confusion] = {}
    for one in scored:
        places[one.place] = places.get(one.place, Confusion()) + one.counts
    if len(places) > 1:
        interval = bootstrap(list(places.values()), pooled_f1)
        summary["pooled f1, 95 % over places"] = {"low": interval.low, "high": interval.high}
    threshold, best = curve.best()
    summary["best"] = {"threshold": threshold, **_figures(best)}
    return summary


def pooled_f1(counts: Sequence[Confusion]) -> float:
    """F1 of summed counts."""
    return reduce(add, counts).f1


def _figures(counts: Confusion) -> Figures:
    """All of a table; what nothing can be divided by cannot be told."""
    if not counts.total:
        return dict.fromkeys(Confusion.NAMES, math.nan)
    return {name: float(getattr(counts, name)) for name in Confusion.NAMES}


def _binary(label_YX: NDArray[np.uint8]) -> NDArray[Any]:
    """1 for any change, 0 for none, 255 where nothing is known."""
    return np.where(label_YX == 255, label_YX, label_YX > 0).astype(np.uint8)
