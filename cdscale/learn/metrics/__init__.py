"""Accuracy of maps: counts that add up over tiles, scenes and cities, and figures from counts.

``binary``     change or none: :class:`Confusion`, and :class:`Curve` over all thresholds
``classes``    many classes: :class:`ClassConfusion`
``ranks``      the area under the ROC curve, exact and streaming
``semantic``   SeK, Fscd, and SCS of monthly land cover
``averages``   pooled over pixels or the mean over images, and confidence intervals
``legacy``     the tiling behind some published OSCD figures

Counting is one ``bincount``; the figures come from summed counts, which torchmetrics gives no
public way to (its metrics take predictions, and its AUC squashes scores outside [0, 1] through a
float32 sigmoid, which makes large distances equal). It stands in the tests as the independent
second opinion; a table that its ``MulticlassConfusionMatrix`` has counted on a GPU becomes a
:class:`ClassConfusion` as it is.

Pixels labelled ``IGNORED`` never count. A ratio whose denominator is 0 is 0, where not said
otherwise.
"""

from cdscale.learn.metrics.averages import (
    Average,
    Interval,
    averaged,
    averaged_area,
    bootstrap,
    image_mean,
)
from cdscale.learn.metrics.binary import Confusion, Curve, implied_prevalence
from cdscale.learn.metrics.classes import ClassConfusion
from cdscale.learn.metrics.legacy import legacy_confusion, legacy_tiles
from cdscale.learn.metrics.ranks import Ranking, auc
from cdscale.learn.metrics.semantic import MonthlyChange, change_miou, fscd, sek

__all__ = [
    "Average",
    "ClassConfusion",
    "Confusion",
    "Curve",
    "Interval",
    "MonthlyChange",
    "Ranking",
    "auc",
    "averaged",
    "averaged_area",
    "bootstrap",
    "change_miou",
    "fscd",
    "image_mean",
    "implied_prevalence",
    "legacy_confusion",
    "legacy_tiles",
    "sek",
]
