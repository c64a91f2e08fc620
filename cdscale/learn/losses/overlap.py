"""Losses of overlap: power Jaccard of one class, Jaccard and Dice of many.

Shape suffixes: B sample, C class, Y row, X column.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from cdscale.learn.labels import IGNORED
from cdscale.learn.losses.cross_entropy import check_alike

Absent = Literal["counted", "skipped"]
"""Classes that no pixel of a batch has cost 1 each, or are left out of the mean."""

POWER_EPS = 1e-6
CLASS_EPS = 1e-4


def power_jaccard(probability: Tensor, target: Tensor, exponent: float = 2.0) -> Tensor:
    """One minus the power Jaccard index, over all elements pooled.

    ``1 - sum(p y) / (sum(p^e) + sum(y^e) - sum(p y) + 1e-6)`` (Duque-Arias et al. 2021; Hafner and
    Ban 2023, e = 2; e = 1 is the ordinary soft IoU). Empty or all-zero input gives 1: being right
    about nothing earns nothing. To leave pixels out, set both to 0 there.

    Raises
    ------
    UserError
        When the shapes differ.
    """
    check_alike("power Jaccard: probabilities and targets", probability, target)
    return power_jaccard_each(probability.reshape(1, -1), target.reshape(1, -1), exponent)[0]


def power_jaccard_each(probability: Tensor, target: Tensor, exponent: float = 2.0) -> Tensor:
    """:func:`power_jaccard` of each sample by itself, (B,). The paper's batch loss is their sum.

    Parameters
    ----------
    probability, target : Tensor
        Of one shape, (B, ...).
    exponent : float
        2 in the paper.

    Raises
    ------
    UserError
        When the shapes differ.
    """
    check_alike("power Jaccard: probabilities and targets", probability, target)
    p, y = probability.flatten(1), target.to(probability.dtype).flatten(1)
    both = (p * y).sum(dim=1)
    union = p.pow(exponent).sum(dim=1) + y.pow(exponent).sum(dim=1) - both
    return 1 - both / (union + POWER_EPS)


def multiclass_jaccard(
    logits_BCYX: Tensor, label_BYX: Tensor, *, absent: Absent = "counted", eps: float = CLASS_EPS
) -> Tensor:
    """One minus the mean over classes of the soft Jaccard index of a softmax.

    ``I_c / (sum P_c + sum Y_c - I_c + eps)``, sums over batch and pixels (S. Cummings 2021). In
    the paper a class that no pixel of the batch has adds its full share of 1 / C with next to no
    gradient; ``absent="skipped"`` takes the mean over the classes that are there.

    Parameters
    ----------
    logits_BCYX : Tensor
        Before the softmax.
    label_BYX : Tensor
        Class codes; pixels labelled :data:`IGNORED` do not count.
    absent : {"counted", "skipped"}
        The paper's reading, or the mean over classes present; then a batch without any class
        (all ignored) costs 0.
    eps : float
        In the denominator alone.
    """
    both, said, true = _sums(logits_BCYX, label_BYX)
    return 1 - _mean(both / (said + true - both + eps), true, absent)


def multiclass_dice(
    logits_BCYX: Tensor, label_BYX: Tensor, *, absent: Absent = "counted", eps: float = CLASS_EPS
) -> Tensor:
    """One minus the mean over classes of ``2 I_c / (sum P_c + sum Y_c + eps)``.

    S. Cummings 2021; all else as in :func:`multiclass_jaccard`.
    """
    both, said, true = _sums(logits_BCYX, label_BYX)
    return 1 - _mean(2 * both / (said + true + eps), true, absent)


def _sums(logits_BCYX: Tensor, label_BYX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each class: what prediction and truth share, what is predicted, what is true."""
    check_alike("multi-class overlap: logits and labels", logits_BCYX[:, 0], label_BYX)
    counted = label_BYX != IGNORED
    P = logits_BCYX.softmax(dim=1) * counted[:, None]
    codes = label_BYX.long().masked_fill(~counted, 0)
    Y_BYXC = functional.one_hot(codes, logits_BCYX.shape[1]) * counted[..., None]
    Y = Y_BYXC.movedim(-1, 1).to(P.dtype)
    pixels = (0, *range(2, P.dim()))
    return (P * Y).sum(dim=pixels), P.sum(dim=pixels), Y.sum(dim=pixels)


def _mean(score_C: Tensor, true_C: Tensor, absent: Absent) -> Tensor:
    if absent == "counted":
        return score_C.mean()
    present = (true_C > 0).to(score_C.dtype)
    missing_all = (present.sum() == 0).to(score_C.dtype)
    return (score_C * present).sum() / present.sum().clamp_min(1) + missing_all
