"""Accuracy of monthly maps of built-up area, where the optical image is there and where not.

S. Hafner, Y. Ban, IGARSS 2023: whole images, F1 and IoU pooled over all months, over those with an
optical image ("complete") and over those without ("missing").
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cdscale.evaluation.report import Figures
from cdscale.evaluation.scenes import Mapper
from cdscale.learn.data import IGNORED, Sample
from cdscale.learn.metrics import Confusion, Curve

CHOSEN_HERE = (
    "'best' is the threshold of the highest pooled F1, chosen on these very labels: what the "
    "figures could be, not what they are."
)


def score_urban(
    mapper: Mapper, samples: Iterable[Sample], threshold: float
) -> tuple[dict[str, Figures], dict[str, Figures], tuple[str, ...]]:
    """Figures of each site, figures of all, and notes.

    Raises
    ------
    ReadError
        When a layer cannot be read.
    """
    curve = Curve()
    sites: dict[str, Confusion] = {}
    sets = {"pooled": Confusion(), "complete": Confusion(), "missing": Confusion()}
    months = dict.fromkeys(sets, 0)
    for sample in samples:
        probability_YX = mapper.urban(sample).probability_YX
        label_YX = sample.read("urban")
        curve.add(probability_YX, label_YX)
        known_YX = np.where(np.isfinite(probability_YX), label_YX, np.uint8(IGNORED))
        counts = Confusion.of(probability_YX >= threshold, known_YX)
        sites[sample.place] = sites.get(sample.place, Confusion()) + counts
        for name in ("pooled", "complete" if sample.has("image") else "missing"):
            sets[name] += counts
            months[name] += 1
    summary = {
        name: {"months": float(months[name]), **_figures(counts)}
        for name, counts in sets.items()
        if months[name]
    }
    best, found = curve.best()
    summary["best"] = {"threshold": best, **_figures(found)}
    return {site: _figures(counts) for site, counts in sites.items()}, summary, (CHOSEN_HERE,)


def _figures(counts: Confusion) -> Figures:
    return {name: float(getattr(counts, name)) for name in Confusion.NAMES}
