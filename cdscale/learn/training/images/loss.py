"""The loss of what each strategy says.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from cdscale.errors import ModelError, explain
from cdscale.learn.images import Reading
from cdscale.learn.labels import IGNORED
from cdscale.learn.losses import (
    SemanticLabels,
    SemanticRule,
    multiclass_dice,
    multiclass_jaccard,
    semantic_change_loss,
    weighted_nll,
)
from cdscale.learn.training.images.census import Weights
from cdscale.learn.training.images.recipe import Loss
from cdscale.models.hrscd import SemanticChange

OVERLAP: dict[str, Callable[..., Tensor]] = {"jaccard": multiclass_jaccard, "dice": multiclass_dice}


def loss_of(
    said: SemanticChange, labels: SemanticLabels, weights: Weights, rule: Loss, reading: Reading
) -> Tensor:
    """Loss of a batch, a scalar.

    Parameters
    ----------
    said : SemanticChange
        Logits; without ``change`` land cover alone is learned, whatever the strategy.
    labels : SemanticLabels
        As the data set has them: ``change`` may be a class, and land cover 255 all over.
    weights : Weights
        Of the classes.
    rule : Loss
        Of the recipe.
    reading : Reading
        What the network says.
    """
    if said.change is None:
        before, after = _land(said)
        return weighted_nll(before, labels.before, weights.land) + weighted_nll(
            after, labels.after, weights.land
        )
    if reading.says == "classes of change":
        if rule.kind == "cross_entropy":
            return weighted_nll(said.change, labels.change, weights.classes)
        return OVERLAP[rule.kind](said.change, labels.change, absent=rule.absent)
    changed = (labels.change > 0) & (labels.change != IGNORED)
    if reading.says == "transitions":
        number = reading.transitions.encode(
            labels.before.long(), labels.after.long(), changed, IGNORED
        )
        number = number.masked_fill(labels.change == IGNORED, IGNORED)
        return weighted_nll(said.change, number, weights.transitions)
    binary = changed.to(labels.change.dtype).masked_fill(labels.change == IGNORED, IGNORED)
    terms = SemanticRule(weights.land, weights.positive, rule.land_cover)
    return semantic_change_loss(said, labels._replace(change=binary), terms)


def _land(said: SemanticChange) -> tuple[Tensor, Tensor]:
    if said.before is None or said.after is None:
        raise ModelError(explain("loss of land cover", expected="land cover of both dates"))
    return said.before, said.after
