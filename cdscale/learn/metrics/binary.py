"""Accuracy of binary maps from counts of pixels, which are summed before any ratio is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cdscale.errors import UserError, explain
from cdscale.learn.metrics.counting import counted_pairs, ratio


@dataclass(frozen=True)
class Confusion:
    """Counts of pixels: hits, false alarms, misses, correct rejections."""

    NAMES: ClassVar = ("precision", "recall", "f1", "iou", "kappa", "overall")
    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    @classmethod
    def of(cls, predicted: NDArray[Any], truth: NDArray[Any]) -> Confusion:
        """Count two arrays of one shape against each other, 0 no change and all else change.

        Pixels whose truth is ``IGNORED`` do not count.

        Raises
        ------
        UserError
            When the shapes differ.
        """
        said, true = counted_pairs("confusion", predicted, truth)
        said, true = said.astype(bool), true.astype(bool)
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
        """Share of the predicted that is true (user's accuracy)."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the true that is predicted (producer's accuracy)."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; the Dice coefficient."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """Intersection over union of the positive class."""
        return ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def overall(self) -> float:
        """Overall accuracy."""
        return ratio(self.tp + self.tn, self.total)

    @property
    def prevalence(self) -> float:
        """Share of the pixels that truly changed."""
        return ratio(self.tp + self.fn, self.total)

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond what the marginals alone would give."""
        said, true = self.tp + self.fp, self.tp + self.fn
        chance = ratio(said * true + (self.total - said) * (self.total - true), self.total**2)
        return ratio(self.overall - chance, 1 - chance)

    def scores(self) -> dict[str, float]:
        """Every figure that these counts can tell, for a mean over images.

        Without a pixel: none. With no change in either map and truth, or change everywhere in
        both, what would be 0 / 0 is not told.
        """
        if not self.total:
            return {}
        told = {"overall": self.overall}
        if self.tp + self.fp + self.fn:
            told |= {
                name: float(getattr(self, name)) for name in ("precision", "recall", "f1", "iou")
            }
        if self.total not in (self.tp, self.tn):
            told["kappa"] = self.kappa
        return told

    def figures(self) -> dict[str, float]:
        """Precision, recall, F1, IoU and kappa, rounded for a card."""
        return {name: round(float(getattr(self, name)), 4) for name in self.NAMES[:-1]}


def implied_prevalence(precision: float, recall: float, overall: float) -> float:
    """Share of changed pixels behind a published row: ``(1-OA) / ((1-R) + R (1-P) / P)``.

    Raises
    ------
    UserError
        When nothing was found (precision 0), or nothing was wrong: many shares give that row.
    """
    wrong = (1 - recall) + recall * (1 - precision) / precision if precision > 0 else 0.0
    if not wrong > 0:
        raise UserError(
            explain(
                "prevalence implied by precision, recall and overall accuracy",
                expected="some hits and some errors",
                got=(precision, recall, overall),
                do="Take a row with a precision above 0, and precision or recall below 1.",
            )
        )
    return (1 - overall) / wrong


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
        """Add a map and its truth; pixels without a probability (NaN) or truth do not count.

        Raises
        ------
        UserError
            When the shapes differ, or a probability lies outside 0 to 1.
        """
        said, true = counted_pairs("curve", probability, truth)
        seen = np.isfinite(said)
        said, true = said[seen], true[seen].astype(bool)
        if said.size and not (said.min() > -1e-3 and said.max() < 1 + 1e-3):
            raise UserError(
                explain(
                    "curve: probabilities",
                    expected="0 to 1",
                    got=f"{said.min():g} to {said.max():g}",
                    do="Other scores go into a Ranking.",
                )
            )
        place = np.clip((said * self.bins).astype(np.int64), 0, self.bins - 1)
        self._counts[1] += np.bincount(place[true], minlength=self.bins)
        self._counts[0] += np.bincount(place[~true], minlength=self.bins)

    def __add__(self, other: Curve) -> Curve:
        """Counts of both, which have the same thresholds.

        Raises
        ------
        UserError
            When they have not.
        """
        if self.bins != other.bins:
            raise UserError(explain("curve: bins", expected=self.bins, got=other.bins))
        total = Curve(self.bins)
        total._counts = self._counts + other._counts
        return total

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
