"""Accuracy of maps of semantic change: change as such, land cover, from-to classes.

Scenes go through the network window by window. Figures of the published tables are those of the
pixels of all scenes pooled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from operator import add

from cdscale.evaluation.report import Figures
from cdscale.evaluation.scenes import Mapper
from cdscale.learn.data import DataSet, Sample
from cdscale.learn.images import Counter, Labels, SemanticCounts
from cdscale.learn.metrics import Curve, averaged

COLUMNS = (
    "kappa", "f1", "overall", "precision", "recall", "land_kappa", "land_overall", "sek", "fscd",
    "classes_miou", "scs",
)  # fmt: skip
"""Figures of a place in the table of places, as far as network and labels allow them."""

CHOSEN_HERE = (
    "'best' is the threshold of the highest pooled F1, chosen on these very labels: what the "
    "figures could be, not what they are."
)
BOTH_DATES = "Land cover is counted at both dates; the label of change is one of its own."


def score_semantic(
    mapper: Mapper, samples: Iterable[Sample], threshold: float, data: DataSet
) -> tuple[dict[str, Figures], dict[str, Figures], tuple[str, ...]]:
    """Figures of each place, figures of all, and notes.

    Raises
    ------
    ReadError
        When a layer cannot be read: figures of part of a split are not those of the split.
    """
    scene = mapper.scene(threshold)
    counter, curve = Counter(scene.reading, data), Curve()
    places: dict[str, SemanticCounts] = {}
    for sample in samples:
        for window, found in scene.maps(sample):
            labels = Labels.read(sample, window)
            own = counter.count(found, labels)
            places[sample.place] = places.get(sample.place, SemanticCounts()) + own
            if scene.reading.has_threshold:
                curve.add(found.probability_YX, labels.change_YX)
    pooled = reduce(add, places.values())
    groups = pooled.figures()
    summary = {"pooled": groups.pop("change"), **groups}
    summary["mean over places"] = averaged([one.change for one in places.values()], "image")
    notes = [
        f"A map without any change would have an overall accuracy of "
        f"{1 - pooled.change.prevalence:.4f}, and a kappa of 0."
    ]
    if scene.reading.has_threshold:
        level, best = curve.best()
        counts = SemanticCounts(best)
        summary["best"] = {"threshold": level, **counts.figures()["change"]}
        notes.append(CHOSEN_HERE)
    if "land cover" in summary:
        notes.append(BOTH_DATES)
    return {place: _row(counts) for place, counts in places.items()}, summary, tuple(notes)


def _row(counts: SemanticCounts) -> Figures:
    row = {name: value for name, value in counts.flat().items() if name in COLUMNS}
    if not counts.change.total:
        row = dict.fromkeys(row, math.nan)
    return {**row, "unseen": float(counts.unseen)}
