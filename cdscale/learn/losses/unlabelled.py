"""System E, Metric-CD: the objective of an optimisation over one image pair, without any label.

W. G. C. Bandara, V. M. Patel, "Deep metric learning for unsupervised change detection". A network
puts out for each pixel the probability P of change; distances between the dates, of the images and
of their features, are to be large where P is and small where it is not. Nothing here takes a label.

As printed, the objective is degenerate: with distances d >= 0 its image term is
``mean((1 - 2P) d)``, which every pixel lowers by raising P, and its sparsity term pushes mean P up
as well while it is below one half. ``centred`` measures distances from a reference, so that only
pixels further apart than that gain by being called change; see :class:`MetricRule`.

A pixel whose distance is NaN counts nowhere.

Shape suffixes: C channel, Y row, X column, N pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cdscale.learn.losses.cross_entropy import check_alike
from cdscale.spec.base import Frozen

POLE = 1e-3
"""Mean P is clamped this far from 0 and from 1, where the sparsity term has poles."""
OTSU_BINS = 256


class MetricRule(Frozen):
    """Which objective, and the weights of its terms.

    ``centred`` (default)
        ``mean((1 - 2P)(d / mean(d) - tau))`` for image and features, and 0.05 times the sparsity
        term. No context term: the feature extractor is left as it is.
    ``paper``
        As printed: ``mean((1 - P) d) - alpha mean(P d)`` for image and features, the context term
        and the sparsity term.
    ``notebook``
        What the published notebook does: a pixel counts as change or as no change, whichever is
        likelier, and ``mean(P_c^2) - mean(P_nc^2)`` in the place of the sparsity term. Its context
        term could not reach anything that it optimised, and is left out.

    The distances are the caller's: of the paper and ``centred`` :func:`mahalanobis`, of the
    notebook :func:`mean_absolute` of :func:`standardised` features.
    """

    mode: Literal["centred", "paper", "notebook"] = "centred"
    alpha: float = 1.0
    """Weight of the change part of the image term."""
    feature_alpha: float = 1.0
    """The same of every feature term."""
    sparsity: float = 0.05
    context: float = 0.0
    reference: Literal["otsu", "spread"] = "otsu"
    """The reference distance tau: Otsu's threshold, or mean + ``spread`` standard deviations."""
    spread: float = 2.0


RULES = {
    "centred": MetricRule(),
    "paper": MetricRule(mode="paper", sparsity=1.0, context=1.0),
    "notebook": MetricRule(mode="notebook", sparsity=1.0),
}
"""The three objectives, each with its own weights."""


@dataclass(frozen=True)
class Evidence:
    """What one iteration knows of a pair.

    Parameters
    ----------
    probability : Tensor
        P of change, (Y, X).
    image : Tensor
        Distance of the two images, (Y, X), NaN where a pixel does not count.
    features : tuple of Tensor
        Distance of the features, (Y, X) of each level.
    context : Tensor
        A scalar, :func:`context_term`; zero where the feature extractor is fixed.
    """

    probability: Tensor
    image: Tensor
    features: tuple[Tensor, ...]
    context: Tensor


def metric_cd_loss(found: Evidence, rule: MetricRule) -> Tensor:
    """The whole objective, a scalar.

    Raises
    ------
    UserError
        When probability and image distance differ in shape.
    """
    P, d = found.probability, found.image
    check_alike("Metric-CD: probability and distance", P, d)
    loss = contrast(P, d, rule, rule.alpha)
    for level in found.features:
        loss = loss + contrast(shrunk(P, level), level, rule, rule.feature_alpha)
    inside = P[torch.isfinite(d)]
    few = gated_squares(inside) if rule.mode == "notebook" else sparsity(inside)
    return loss + rule.sparsity * few + rule.context * found.context


def contrast(P_YX: Tensor, distance_YX: Tensor, rule: MetricRule, alpha: float) -> Tensor:
    """One term of the objective: P should be high where the distance is, and low where it is not.

    ``|| P D ||_M`` of the paper is read as the mean over pixels of P times the distance.
    """
    counted = torch.isfinite(distance_YX)
    P, d = P_YX[counted], distance_YX[counted]
    change, same = P, 1 - P
    if rule.mode == "notebook":
        likelier = P.detach() > 0.5
        change, same = change * likelier, same * ~likelier
    if rule.mode == "centred":
        scale = d.detach().mean().clamp_min(torch.finfo(d.dtype).tiny)
        d = d / scale - reference(d / scale, rule)
    return _mean((same - alpha * change) * d)


def reference(distance: Tensor, rule: MetricRule) -> Tensor:
    """The distance from which on a pixel is better called change; a constant, without gradient.

    Otsu's threshold or mean + k std, and never less than the median: no term by itself can gain by
    calling more than half of the pixels change.
    """
    values = distance.detach()
    if values.numel() == 0:
        return values.new_zeros(())
    if rule.reference == "otsu":
        tau = otsu(values)
    else:
        tau = values.mean() + rule.spread * values.std(correction=0)
    return torch.maximum(tau, values.median())


def otsu(values: Tensor) -> Tensor:
    """Otsu's threshold of a histogram of 256 bins: what parts values into the two tightest groups.

    Stays on the device of the values. Values that are all alike have themselves as threshold.
    """
    low, high = values.min(), values.max()
    if bool(high <= low):
        return low
    centres = low + (high - low) * (torch.arange(OTSU_BINS, device=values.device) + 0.5) / OTSU_BINS
    count = torch.histc(values.float(), OTSU_BINS, float(low), float(high)).double()
    below, moment = count.cumsum(0), (count * centres).cumsum(0)
    above, total = below[-1] - below, moment[-1]
    # Between-class variance times n^2, in a form that is 0 and not 0 / 0 where a group is empty.
    apart = (total * below - moment * below[-1]).square()
    variance = apart / (below * above).clamp_min(0.5)
    return centres[variance[:-1].argmax()].to(values.dtype)


def sparsity(P: Tensor) -> Tensor:
    """``1 / sin(pi mean(P))``, the mean clamped off the poles at 0 and 1."""
    return 1 / torch.sin(math.pi * _mean(P).clamp(POLE, 1 - POLE))


def gated_squares(P: Tensor) -> Tensor:
    """``mean((P_c [P_c > P_nc])^2) - mean((P_nc [P_nc >= P_c])^2)``.

    What the notebook's contrastive term comes down to. It acts as a margin: together with the
    gated :func:`contrast`, calling a pixel change pays from a distance of about 1 on.
    """
    likelier = P.detach() > 0.5
    return _mean((P * likelier).square() - ((1 - P) * ~likelier).square())


def context_term(plain: Sequence[Tensor], jittered: Sequence[Tensor]) -> Tensor:
    """Sum over levels and dates of the mean absolute change of features under jitter of colours.

    Parameters
    ----------
    plain, jittered : sequence of Tensor
        Features of both dates at every level, and those of the jittered images in the same order.

    Raises
    ------
    UserError
        When two of a pair differ in shape.
    """
    total = torch.zeros(())
    for one, other in zip(plain, jittered, strict=True):
        check_alike("Metric-CD: features of plain and jittered images", one, other)
        total = total.to(one) + (one - other).abs().mean()
    return total


def mahalanobis(difference_CYX: Tensor, *, ridge: float = 1e-4, eps: float = 1e-12) -> Tensor:
    """``sqrt(D^T S^-1 D + eps)`` for each pixel, S the covariance of D over the image; (Y, X).

    Parameters
    ----------
    difference_CYX : Tensor
        Date 1 minus date 2, of colour-corrected images or of features; NaN where absent.
    ridge : float
        Added to the diagonal of S, as a share of the mean square difference: channels that go
        together, or say nothing, leave S without an inverse.
    eps : float
        Added under the root, which has no gradient at 0.
    """
    counted = torch.isfinite(difference_CYX).all(dim=0)
    D_CN = difference_CYX[:, counted]
    channels, pixels = D_CN.shape
    apart_CN = D_CN - (D_CN.sum(dim=1, keepdim=True) / max(pixels, 1))
    S = (apart_CN @ apart_CN.T).double() / max(pixels, 1)
    floor = ridge * D_CN.square().double().mean().nan_to_num() + torch.finfo(torch.float32).tiny
    S = S + floor * torch.eye(channels, dtype=S.dtype, device=S.device)
    whitened = torch.linalg.inv(torch.linalg.cholesky(S)).to(D_CN.dtype) @ D_CN
    return _placed((whitened.square().sum(dim=0) + eps).sqrt(), counted)


def mean_absolute(difference_CYX: Tensor) -> Tensor:
    """Mean over channels of the absolute difference, (Y, X): the notebook's distance."""
    counted = torch.isfinite(difference_CYX).all(dim=0)
    return _placed(difference_CYX[:, counted].abs().mean(dim=0), counted)


def standardised(features_CYX: Tensor, eps: float = 1e-6) -> Tensor:
    """Features with mean 0 and standard deviation 1 over space, channel by channel."""
    mean = features_CYX.mean(dim=(1, 2), keepdim=True)
    spread = features_CYX.std(dim=(1, 2), keepdim=True, correction=0)
    return (features_CYX - mean) / (spread + eps)


def shrunk(P_YX: Tensor, like_YX: Tensor) -> Tensor:
    """P on the pixels of a feature level, by nearest neighbour."""
    return functional.interpolate(P_YX[None, None], size=like_YX.shape, mode="nearest")[0, 0]


def _placed(values_N: Tensor, counted_YX: Tensor) -> Tensor:
    plane = values_N.new_full(counted_YX.shape, torch.nan)
    return plane.masked_scatter(counted_YX, values_N)


def _mean(x: Tensor) -> Tensor:
    """The mean, 0 of nothing."""
    return x.sum() / max(x.numel(), 1)
