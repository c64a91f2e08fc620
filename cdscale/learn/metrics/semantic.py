"""Scores of semantic change: SeK and Fscd of from-to maps, SCS of monthly land cover.

Shape suffixes: T month, Y row, X column, K class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale.errors import UserError, explain
from cdscale.learn.labels import IGNORED
from cdscale.learn.metrics.binary import Confusion
from cdscale.learn.metrics.classes import ClassConfusion
from cdscale.learn.metrics.counting import ratio


def sek(counts: ClassConfusion) -> float:
    """Separated kappa: ``kappa_n0 exp(IoU_changed - 1)`` (Yang et al. 2022, SECOND).

    Parameters
    ----------
    counts : ClassConfusion
        Of semantic change codes, 0 no change. ``kappa_n0`` is the kappa with the pixels that
        both call unchanged taken out; IoU is that of change as such.
    """
    table = counts.table_KK.copy()
    table[0, 0] = 0
    return ClassConfusion(table).kappa * math.exp(_changed(counts).iou - 1)


def change_miou(counts: ClassConfusion) -> float:
    """Mean of the IoU of no change and of change, whatever the classes (SECOND)."""
    changed = _changed(counts)
    same = Confusion(tp=changed.tn, fp=changed.fn, fn=changed.fp, tn=changed.tp)
    return (same.iou + changed.iou) / 2


def fscd(counts: ClassConfusion) -> float:
    """F1 of semantic change: right classes over what is predicted, and what is truly, changed."""
    hits = float(np.diagonal(counts.table_KK)[1:].sum())
    precision = ratio(hits, float(counts.table_KK[:, 1:].sum()))
    recall = ratio(hits, float(counts.table_KK[1:].sum()))
    return ratio(2 * precision * recall, precision + recall)


@dataclass(frozen=True)
class MonthlyChange:
    """Counts behind SCS, the score of semantic change of DynamicEarthNet (Toker et al. 2022).

    Cubes add up: the score of a data set is that of their sum.

    Parameters
    ----------
    changed : Confusion
        Change as such, over all consecutive months.
    classes : ClassConfusion
        Land cover of the later month, over the pixels that truly changed.
    """

    changed: Confusion
    classes: ClassConfusion

    @classmethod
    def of(
        cls, predicted_TYX: NDArray[Any], truth_TYX: NDArray[Any], classes: int
    ) -> MonthlyChange:
        """Count one cube of monthly land cover.

        A pixel that is ``IGNORED`` in the truth of either month of a pair does not count there.

        Raises
        ------
        UserError
            When shapes differ, there are fewer than two months, or a code is out of range.
        """
        predicted, truth = np.asarray(predicted_TYX), np.asarray(truth_TYX)
        if predicted.shape != truth.shape or truth.ndim != 3 or len(truth) < 2:
            raise UserError(
                explain(
                    "monthly change: shapes of prediction and truth",
                    expected="one shape (months, rows, columns), two months or more",
                    got=(predicted.shape, truth.shape),
                    do="Stack the months of one place in order of time.",
                )
            )
        known = (truth[:-1] != IGNORED) & (truth[1:] != IGNORED)
        moved = (truth[:-1] != truth[1:]) & known
        said = predicted[:-1] != predicted[1:]
        return cls(
            Confusion.of(said[known], moved[known]),
            ClassConfusion.of(predicted[1:][moved], truth[1:][moved], classes),
        )

    def __add__(self, other: MonthlyChange) -> MonthlyChange:
        return MonthlyChange(self.changed + other.changed, self.classes + other.classes)

    @property
    def bc(self) -> float:
        """Binary change: IoU of change as such."""
        return self.changed.iou

    @property
    def sc(self) -> float:
        """Semantic change: mean IoU where it truly changed, over the classes of the truth."""
        present = self.classes.table_KK.sum(axis=1) > 0
        return float(self.classes.iou_K[present].mean()) if present.any() else 0.0

    @property
    def scs(self) -> float:
        """Semantic change score: the mean of both."""
        return (self.bc + self.sc) / 2


def _changed(counts: ClassConfusion) -> Confusion:
    return counts.against(range(1, len(counts.table_KK)))
