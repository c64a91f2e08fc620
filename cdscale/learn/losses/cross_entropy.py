"""Cross entropies weighted by class, and the weights that the papers give the classes.

Shape suffixes: B sample, C class, Y row, X column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cdscale.errors import UserError, explain
from cdscale.learn.labels import IGNORED

CLIP = 100.0
"""A class rarer than this ratio weighs no more: a handful of pixels must not steer a batch."""


def class_weights(changed: int, total: int, lambda_fp: float) -> tuple[float, float]:
    """Weights of no change and of change.

    ``2 lambda n_pos / n`` and ``2 (n - n_pos) / n`` (R. Caye Daudt et al.; Ebel et al. 2021). A
    larger lambda means fewer false alarms: it multiplies the weight of *no change*.

    Parameters
    ----------
    changed, total : int
        Pixels of the training split that changed, and all of them.
    lambda_fp : float
        10 in the papers.

    Raises
    ------
    UserError
        When nothing or everything changed: one of the two weights would be 0.
    """
    _check_share(changed, total)
    return 2 * lambda_fp * changed / total, 2 * (total - changed) / total


def positive_weight(changed: int, total: int, clip: float = math.inf) -> float:
    """Weight of a changed pixel against an unchanged one: n_neg / n_pos, at most ``clip``.

    For a one-logit change head (R. Caye Daudt et al. 2019). Over all of HRSCD it is 129.

    Raises
    ------
    UserError
        When nothing or everything changed.
    """
    _check_share(changed, total)
    return min((total - changed) / changed, clip)


def frequency_weights(
    counts: Sequence[int], *, excluded: Sequence[int] = (0,), clip: float = CLIP
) -> tuple[float, ...]:
    """Weights inversely proportional to frequency: ``n / (K n_c)``, at most ``clip``.

    Unclipped, the average weight of a pixel is 1: n pixels and K classes are those that count.

    Parameters
    ----------
    counts : sequence of int
        Pixels of each class in the training split, by code.
    excluded : sequence of int
        Codes that weigh nothing; by default 0, which in HRSCD is "no information". Classes that
        never occur weigh nothing either.
    clip : float
        Largest weight.

    Raises
    ------
    UserError
        When no class is left, or a count is negative.
    """
    kept = [0 if code in excluded else count for code, count in enumerate(counts)]
    if min(kept, default=0) < 0 or not any(kept):
        raise UserError(
            explain(
                "class weights: pixels of the training split by class",
                expected=f"none negative, and some outside the codes {tuple(excluded)}",
                got=tuple(counts),
                do="Count the labels of the split again; is it the right folder?",
            )
        )
    total, classes = sum(kept), sum(count > 0 for count in kept)
    return tuple(min(total / (classes * count), clip) if count else 0.0 for count in kept)


def weighted_nll(logits_BCYX: Tensor, label_BYX: Tensor, weights: Sequence[float]) -> Tensor:
    """Negative log-likelihood, the mean weighted by class: sum(w_y nll) / sum(w_y).

    As in Ebel et al. 2021 and R. Caye Daudt et al. 2018, for any number of classes. Pixels
    labelled :data:`IGNORED` do not count; where none counts, the loss is 0 and pulls nowhere.

    Raises
    ------
    UserError
        When there is not one weight for each class.
    """
    if len(weights) != logits_BCYX.shape[1]:
        raise UserError(
            explain(
                "weighted NLL: weights of the classes",
                expected=f"one for each of {logits_BCYX.shape[1]} logits",
                got=len(weights),
                do="Give one weight for each class that the network puts out.",
            )
        )
    weight_C = torch.tensor(weights, dtype=logits_BCYX.dtype, device=logits_BCYX.device)
    label = label_BYX.long()
    cost = functional.cross_entropy(
        logits_BCYX, label, weight=weight_C, ignore_index=IGNORED, reduction="sum"
    )
    counted = label != IGNORED
    return _over(cost, (weight_C[label.masked_fill(~counted, 0)] * counted).sum())


def weighted_bce(logit_BYX: Tensor, label_BYX: Tensor, positive: float) -> Tensor:
    """Binary cross entropy of one logit a pixel, the changed ones weighing ``positive``.

    The mean over all pixels that count, as PyTorch has it: it is *not* divided by the weights.
    0 where no pixel counts.

    Parameters
    ----------
    logit_BYX : Tensor
        Logits; a channel of one, (B, 1, Y, X), is taken off.
    label_BYX : Tensor
        1 change, 0 none, :data:`IGNORED`.
    positive : float
        See :func:`positive_weight`.

    Raises
    ------
    UserError
        When the shapes differ.
    """
    if logit_BYX.dim() == label_BYX.dim() + 1 and logit_BYX.shape[1] == 1:
        logit_BYX = logit_BYX.squeeze(1)
    check_alike("binary cross entropy: logits and labels", logit_BYX, label_BYX)
    counted = label_BYX != IGNORED
    truth = (label_BYX == 1).to(logit_BYX.dtype)
    weight = torch.tensor(positive, dtype=logit_BYX.dtype, device=logit_BYX.device)
    cost = functional.binary_cross_entropy_with_logits(
        logit_BYX, truth, weight=counted.to(logit_BYX.dtype), pos_weight=weight, reduction="sum"
    )
    return _over(cost, counted.sum())


def check_alike(what: str, one: Tensor, other: Tensor) -> None:
    """Refuse two tensors of different shapes: torch would broadcast (B, 1, Y, X) over (B, Y, X).

    Raises
    ------
    UserError
        Naming both shapes.
    """
    if one.shape != other.shape:
        raise UserError(
            explain(
                what,
                expected=f"one shape, {tuple(one.shape)}",
                got=tuple(other.shape),
                do="Take the channel off, or put it on, before the loss.",
            )
        )


def _over(cost: Tensor, mass: Tensor) -> Tensor:
    """A quotient that is 0, with a gradient of 0, where nothing counts."""
    return cost / mass.to(cost.dtype).clamp_min(torch.finfo(cost.dtype).tiny)


def _check_share(changed: int, total: int) -> None:
    if not 0 < changed < total:
        raise UserError(
            explain(
                "class weights: changed pixels of the training split",
                expected=f"more than 0 and fewer than all {total}",
                got=changed,
                do="Train on scenes that hold both change and no change; check the labels' codes.",
            )
        )
