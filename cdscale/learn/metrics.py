"""Accuracy of binary maps, pooled over pixels ("micro"): counts are summed before any ratio.

Zero divisions give 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Confusion:
    """Counts of pixels: hits, false alarms, misses, correct rejections."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    @classmethod
    def of(cls, predicted: NDArray[Any], truth: NDArray[Any]) -> Confusion:
        """Count two boolean arrays of one shape against each other."""
        said, true = np.asarray(predicted, bool), np.asarray(truth, bool)
        tp = int(np.count_nonzero(said & true))
        fp = int(np.count_nonzero(said)) - tp
        fn = int(np.count_nonzero(true)) - tp
        return cls(tp, fp, fn, said.size - tp - fp - fn)

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(
            self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn
        )

    @property
    def total(self) -> int:
        """Pixels counted."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def precision(self) -> float:
        """Share of the predicted that is true."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the true that is predicted."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; the Dice coefficient."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """Intersection over union of the positive class."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def overall(self) -> float:
        """Overall accuracy."""
        return _ratio(self.tp + self.tn, self.total)

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond what the marginals alone would give."""
        said, true = self.tp + self.fp, self.tp + self.fn
        chance = _ratio(said * true + (self.total - said) * (self.total - true), self.total**2)
        return _ratio(self.overall - chance, 1 - chance)

    def figures(self) -> dict[str, float]:
        """Precision, recall, F1, IoU and kappa, rounded for a card."""
        names = ("precision", "recall", "f1", "iou", "kappa")
        return {name: round(float(getattr(self, name)), 4) for name in names}


class Curve:
    """Counts of every threshold at once, from a histogram of probabilities.

    Parameters
    ----------
    bins : int
        Thresholds are multiples of ``1 / bins``; a pixel counts as change when its probability
        is at least the threshold.
    """

    def __init__(self, bins: int = 200) -> None:
        self.bins = bins
        self._counts = np.zeros((2, bins), np.int64)

    def add(self, probability: NDArray[np.floating[Any]], truth: NDArray[Any]) -> None:
        """Add a map and its truth; pixels without a probability (NaN) do not count."""
        seen = np.isfinite(probability)
        place = np.minimum((probability[seen] * self.bins).astype(np.int64), self.bins - 1)
        true = np.asarray(truth, bool)[seen]
        self._counts[1] += np.bincount(place[true], minlength=self.bins)
        self._counts[0] += np.bincount(place[~true], minlength=self.bins)

    def at(self, threshold: float) -> Confusion:
        """Counts at a threshold, which is rounded to a multiple of ``1 / bins``."""
        first = round(threshold * self.bins)
        fp, tp = (int(n) for n in self._counts[:, first:].sum(axis=1))
        tn, fn = (int(n) for n in self._counts[:, :first].sum(axis=1))
        return Confusion(tp, fp, fn, tn)

    def best(self) -> tuple[float, Confusion]:
        """The threshold of highest F1, and the counts there."""
        thresholds = [k / self.bins for k in range(1, self.bins)]
        best = max(thresholds, key=lambda threshold: self.at(threshold).f1)
        return best, self.at(best)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
