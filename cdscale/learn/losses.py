"""Losses of the two network families.

Shape suffixes: B sample, C class, Y row, X column.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = 255
"""Label of pixels that no loss sees."""


def class_weights(changed: int, total: int, lambda_fp: float) -> tuple[float, float]:
    """Weights of no change and of change.

    ``2 lambda n_pos / n`` and ``2 (n - n_pos) / n`` (R. Caye Daudt et al.; Ebel et al. 2021). A
    larger lambda means fewer false alarms.
    """
    return 2 * lambda_fp * changed / total, 2 * (total - changed) / total


def weighted_nll(logits_BCYX: Tensor, label_BYX: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Negative log-likelihood, the mean weighted by class: sum(w_y nll) / sum(w_y).

    Pixels labelled :data:`IGNORED` do not count.
    """
    weight = torch.tensor(weights, dtype=logits_BCYX.dtype, device=logits_BCYX.device)
    return functional.cross_entropy(logits_BCYX, label_BYX, weight=weight, ignore_index=IGNORED)


def power_jaccard(probability: Tensor, target: Tensor) -> Tensor:
    """One minus the power Jaccard index, exponent 2, over all elements pooled.

    ``1 - sum(p y) / (sum(p^2) + sum(y^2) - sum(p y) + 1e-6)`` (Duque-Arias et al. 2021; Hafner and
    Ban 2023). Empty or all-zero input gives 1: being right about nothing earns nothing.
    """
    target = target.to(probability.dtype)
    both = (probability * target).sum()
    union = probability.square().sum() + target.square().sum() - both
    return 1 - both / (union + 1e-6)


def similarity(features: Tensor, reconstructed: Tensor) -> Tensor:
    """Mean square difference over all elements (Hafner and Ban 2023)."""
    return (features - reconstructed).square().mean()


def change_loss(
    logits_BCYX: Tensor, label_BYX: Tensor, weights: tuple[float, ...], jaccard: float
) -> Tensor:
    """Weighted NLL plus ``jaccard`` times the power Jaccard loss of the change class."""
    loss = weighted_nll(logits_BCYX, label_BYX, weights)
    if jaccard == 0:
        return loss
    counted = label_BYX != IGNORED
    probability = logits_BCYX.softmax(dim=1)[:, 1]
    return loss + jaccard * power_jaccard(probability * counted, (label_BYX == 1) & counted)
