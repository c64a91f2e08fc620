"""Accuracy of maps of many classes, from one confusion table.

Shape suffixes: K class; a table has the truth in rows and the prediction in columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdscale.errors import UserError, explain
from cdscale.learn.labels import IGNORED
from cdscale.learn.metrics.binary import Confusion
from cdscale.learn.metrics.counting import counted_pairs, ratio

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassConfusion:
    """Counts of pixels by true class (row) and predicted class (column).

    Parameters
    ----------
    table_KK : array of int
        May come from elsewhere, such as torchmetrics' ``MulticlassConfusionMatrix``; it is copied.

    Raises
    ------
    UserError
        When the table is not square, or holds anything but counts.
    """

    NAMES: ClassVar = ("miou", "f1", "kappa", "overall")
    table_KK: NDArray[np.int64]

    def __post_init__(self) -> None:
        table = np.array(self.table_KK)
        square = table.ndim == 2 and table.shape[0] == table.shape[1] > 0
        whole = bool(np.all(table >= 0) and np.all(table == np.trunc(table)))
        if not (square and whole):
            raise UserError(
                explain(
                    "confusion table",
                    expected="counts, as many columns as rows",
                    got=f"an array {table.shape} of {table.dtype}",
                    do="Give the table itself: not normalised, truth in rows.",
                )
            )
        table = table.astype(np.int64)
        table.flags.writeable = False
        object.__setattr__(self, "table_KK", table)

    @classmethod
    def of(
        cls,
        predicted: NDArray[Any],
        truth: NDArray[Any],
        classes: int,
        ignored: tuple[int, ...] = (IGNORED,),
    ) -> ClassConfusion:
        """Count two arrays of class codes of one shape against each other.

        Parameters
        ----------
        predicted, truth : array of int
            Codes 0 to ``classes - 1``.
        classes : int
            Rows and columns of the table.
        ignored : tuple of int
            Codes of the truth that do not count; add 0 where it means "no information" (HRSCD).

        Raises
        ------
        UserError
            When shapes differ, or a code is outside the table.
        """
        said, true = counted_pairs("confusion of classes", predicted, truth, ignored)
        for what, codes in (("map", said), ("truth", true)):
            if codes.size and (codes.min() < 0 or codes.max() >= classes):
                raise UserError(
                    explain(
                        f"confusion of classes: codes of the {what}",
                        expected=f"0 to {classes - 1}, or ignored in the truth {ignored}",
                        got=f"{codes.min()} to {codes.max()}",
                        do="Name every class, and every code that means unknown.",
                    )
                )
        place = true.astype(np.int64) * classes + said.astype(np.int64)
        return cls(np.bincount(place, minlength=classes**2).reshape(classes, classes))

    def __add__(self, other: ClassConfusion) -> ClassConfusion:
        if self.table_KK.shape != other.table_KK.shape:
            raise UserError(
                explain(
                    "sum of confusion tables",
                    expected=f"one shape, {self.table_KK.shape}",
                    got=other.table_KK.shape,
                    do="Count all images with the same number of classes.",
                )
            )
        return ClassConfusion(self.table_KK + other.table_KK)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClassConfusion):
            return NotImplemented
        return np.array_equal(self.table_KK, other.table_KK)

    def __hash__(self) -> int:
        return hash((self.table_KK.shape, self.table_KK.tobytes()))

    @property
    def total(self) -> int:
        """Pixels counted."""
        return int(self.table_KK.sum())

    @property
    def precision_K(self) -> Floats:
        """Of each class, the share of the predicted that is true."""
        return _ratios(self._hits_K, self._said_K)

    @property
    def recall_K(self) -> Floats:
        """Of each class, the share of the true that is predicted."""
        return _ratios(self._hits_K, self._true_K)

    @property
    def f1_K(self) -> Floats:
        """F1, or Dice, of each class."""
        return _ratios(2 * self._hits_K, self._said_K + self._true_K)

    @property
    def iou_K(self) -> Floats:
        """Intersection over union of each class."""
        return _ratios(self._hits_K, self._union_K)

    @property
    def overall(self) -> float:
        """Overall accuracy."""
        return ratio(float(self._hits_K.sum()), float(self.total))

    @property
    def kappa(self) -> float:
        """Cohen's kappa over all classes."""
        chance = self._chance
        return ratio(self.overall - chance, 1 - chance)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes whose union is not empty."""
        return self._mean_over_present(self.iou_K)

    @property
    def f1(self) -> float:
        """Mean F1 over the classes whose union is not empty (macro F1)."""
        return self._mean_over_present(self.f1_K)

    def historical_miou(self, eps: float) -> float:
        """Mean of ``(I + eps) / (U + eps)`` over all classes: one that is nowhere has an IoU of 1.

        How the code of the DynamicEarthNet 2021 winner measures itself; it flatters.
        """
        return float(np.mean((self._hits_K + eps) / (self._union_K + eps)))

    def historical_f1(self, eps: float) -> float:
        """Harmonic mean of macro precision and macro recall, eps as in :meth:`historical_miou`.

        Swapping rows and columns, as that code does, leaves this figure as it is.
        """
        precision = float(np.mean((self._hits_K + eps) / (self._said_K + eps)))
        recall = float(np.mean((self._hits_K + eps) / (self._true_K + eps)))
        return ratio(2 * precision * recall, precision + recall)

    def against(self, positive: Sequence[int]) -> Confusion:
        """The binary table of some classes, taken as one, against the rest.

        Raises
        ------
        UserError
            When a code is not in the table.
        """
        chosen = np.zeros(len(self.table_KK), bool)
        for code in positive:
            if not 0 <= code < chosen.size:
                raise UserError(
                    explain(
                        "binary table of classes: code",
                        expected=f"0 to {chosen.size - 1}",
                        got=code,
                        do="Name codes that the confusion table has.",
                    )
                )
            chosen[code] = True
        rows, rest = self.table_KK[chosen], self.table_KK[~chosen]
        tp, fn = int(rows[:, chosen].sum()), int(rows[:, ~chosen].sum())
        return Confusion(tp, int(rest[:, chosen].sum()), fn, int(rest[:, ~chosen].sum()))

    def scores(self) -> dict[str, float]:
        """Every figure that these counts can tell, for a mean over images.

        Without a pixel: none. Where truth and map are of one and the same class throughout,
        kappa would be 0 / 0 and is not told.
        """
        if not self.total:
            return {}
        told = {"overall": self.overall, "miou": self.miou, "f1": self.f1}
        if np.count_nonzero(self._union_K) > 1:
            told["kappa"] = self.kappa
        return told

    def figures(self) -> dict[str, float]:
        """Mean IoU, macro F1, kappa and overall accuracy, rounded for a card."""
        return {name: round(float(getattr(self, name)), 4) for name in self.NAMES}

    def _mean_over_present(self, score_K: Floats) -> float:
        present = self._union_K > 0
        return float(score_K[present].mean()) if present.any() else 0.0

    @property
    def _hits_K(self) -> Floats:
        return np.diagonal(self.table_KK).astype(np.float64)

    @property
    def _true_K(self) -> Floats:
        counts_K: Floats = self.table_KK.sum(axis=1, dtype=np.float64)
        return counts_K

    @property
    def _said_K(self) -> Floats:
        counts_K: Floats = self.table_KK.sum(axis=0, dtype=np.float64)
        return counts_K

    @property
    def _union_K(self) -> Floats:
        return self._said_K + self._true_K - self._hits_K

    @property
    def _chance(self) -> float:
        # In floats: the product of two counts of a national data set overflows 64 bits.
        return ratio(float((self._said_K * self._true_K).sum()), float(self.total) ** 2)


def _ratios(part_K: ArrayLike, whole_K: Floats) -> Floats:
    return np.divide(part_K, whole_K, out=np.zeros(len(whole_K)), where=whole_K > 0)
