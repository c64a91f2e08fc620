"""From the counts of images to the figures of a table.

OSCD's supervised rows, HRSCD and SpaceNet7 are pooled ("micro"): counts are summed over all test
images before a ratio is taken. Metric-CD's rows are means over images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import add
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from scipy import stats

from cdscale.errors import SpecError, UserError, explain
from cdscale.learn.metrics.binary import Confusion
from cdscale.learn.metrics.classes import ClassConfusion
from cdscale.learn.metrics.ranks import Ranking

Average = Literal["pooled", "image"]
T = TypeVar("T")
Counts = TypeVar("Counts", Confusion, ClassConfusion, Ranking)
Table = TypeVar("Table", Confusion, ClassConfusion)


def averaged(images: Sequence[Table], average: Average) -> dict[str, float]:
    """Figures of a set of images.

    Binary: precision, recall, f1, iou, kappa, overall; classes: miou, f1, kappa, overall.

    ``pooled`` takes them from the summed counts. ``image`` takes the mean over images: a zero
    division counts 0 (change that nobody predicted has a precision of 0), except that an image
    that is empty, and mapped as empty, is left out of every figure but the overall accuracy. What
    no image can tell is 0.

    Raises
    ------
    UserError
        When there are no images.
    SpecError
        When the average is neither of the two.
    """
    total = _sum(images, average)
    if average == "pooled":
        return {name: float(getattr(total, name)) for name in total.NAMES}
    scores = [image.scores() for image in images]
    return {name: image_mean(s[name] for s in scores if name in s) for name in total.NAMES}


def averaged_area(images: Sequence[Ranking], average: Average) -> float:
    """Area under the ROC curve of all pixels pooled, or its mean over images.

    Images of one class only have none and are left out of the mean; NaN where nothing is left to
    rank in the pool.

    Raises
    ------
    UserError
        When there are no images.
    SpecError
        When the average is neither of the two.
    """
    total = _sum(images, average)
    return total.area if average == "pooled" else image_mean(one.area for one in images)


def image_mean(values: Iterable[float]) -> float:
    """Mean of the figures of images, without the NaN ones; 0 of none."""
    told = [value for value in values if not math.isnan(value)]
    return math.fsum(told) / len(told) if told else 0.0


class Interval(NamedTuple):
    """A figure with its confidence interval."""

    low: float
    estimate: float
    high: float


def bootstrap(
    images: Sequence[T],
    statistic: Callable[[Sequence[T]], float],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval over whole images or cities (Efron 1979).

    Pixels of a city are no independent draws, so cities are drawn, with replacement. For two
    models on the same cities give pairs of counts and the difference as statistic. With ten
    cities expect the interval to be somewhat narrow.

    Parameters
    ----------
    images : sequence
        Counts of each image, or anything that ``statistic`` takes a sequence of.
    statistic : callable
        A figure of a sequence of images, such as pooled F1.
    confidence : float
        Share of the resamples inside the interval.
    resamples, seed : int
        How many, and of which random numbers: the same seed gives the same interval.

    Raises
    ------
    UserError
        When there are fewer than two images.
    """
    if len(images) < 2:
        raise UserError(
            explain(
                "bootstrap interval: images",
                expected="two or more",
                got=len(images),
                do="One image says nothing about the spread between images.",
            )
        )

    def of_drawn(drawn: Any) -> float:
        return statistic([images[int(index)] for index in drawn])

    found = stats.bootstrap(
        (np.arange(len(images)),),
        of_drawn,
        vectorized=False,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), statistic(images), float(found.high))


def _sum(images: Sequence[Counts], average: Average) -> Counts:
    if average not in ("pooled", "image"):
        raise SpecError(
            explain("average over images", expected="pooled or image", got=repr(average))
        )
    if not images:
        raise UserError(
            explain(
                "average over images",
                expected="one image or more",
                got=0,
                do="Is the split empty, or are none of its scenes there?",
            )
        )
    return reduce(add, images)
