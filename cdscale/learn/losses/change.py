"""Sums of losses, each for the whole output of one kind of network.

Shape suffixes: B sample, C class, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from cdscale.errors import UserError, explain
from cdscale.learn.labels import IGNORED
from cdscale.learn.losses.cross_entropy import weighted_bce, weighted_nll
from cdscale.learn.losses.overlap import power_jaccard
from cdscale.models.hrscd import SemanticChange


def change_loss(
    logits_BCYX: Tensor, label_BYX: Tensor, weights: Sequence[float], jaccard: float
) -> Tensor:
    """Weighted NLL plus ``jaccard`` times the power Jaccard loss of the change class."""
    loss = weighted_nll(logits_BCYX, label_BYX, weights)
    if jaccard == 0:
        return loss
    counted = label_BYX != IGNORED
    probability = logits_BCYX.softmax(dim=1)[:, 1]
    return loss + jaccard * power_jaccard(probability * counted, (label_BYX == 1) & counted)


class SemanticLabels(NamedTuple):
    """Labels of a pair, (B, Y, X) each: change 0 or 1, and land cover of both dates."""

    change: Tensor
    before: Tensor
    after: Tensor


@dataclass(frozen=True)
class SemanticRule:
    """Weights of the terms of HRSCD's strategy 4.1.

    Parameters
    ----------
    classes : tuple of float
        Weights of the land-cover classes, :func:`~cdscale.learn.losses.frequency_weights`.
    positive : float
        Weight of changed pixels, :func:`~cdscale.learn.losses.positive_weight`.
    land_cover : float
        The paper's lambda, found by grid search.
    """

    classes: tuple[float, ...]
    positive: float
    land_cover: float = 0.05


def semantic_change_loss(
    logits: SemanticChange, labels: SemanticLabels, rule: SemanticRule
) -> Tensor:
    """``CE_change + lambda (CE_before + CE_after)`` (R. Caye Daudt et al. 2019, strategy 4.1).

    The change term is a binary cross entropy where the network has one change logit, and a
    weighted NLL where it has two.

    Raises
    ------
    UserError
        When the network does not say all three (strategies 1 and 2), or shapes do not go together.
    """
    if logits.change is None or logits.before is None or logits.after is None:
        raise UserError(
            explain(
                "loss of change and land cover",
                expected="a network that puts out change and land cover of both dates",
                got=", ".join(n for n in SemanticLabels._fields if getattr(logits, n) is not None),
                do="Use strategy 3 or 4, or the cross entropy of what the network puts out.",
            )
        )
    if logits.change.shape[1] == 1:
        change = weighted_bce(logits.change, labels.change, rule.positive)
    else:
        change = weighted_nll(logits.change, labels.change, (1.0, rule.positive))
    before = weighted_nll(logits.before, labels.before, rule.classes)
    after = weighted_nll(logits.after, labels.after, rule.classes)
    return change + rule.land_cover * (before + after)
