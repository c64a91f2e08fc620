"""The loss of System C: urban mapping with an optical image that is partly missing.

S. Hafner, Y. Ban, IGARSS 2023, equation of section 2.3, and the code published with it, which does
something else; and, beyond both, optical that is missing in part of a sample.

Shape suffixes: B sample, F feature, Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cdscale.errors import UserError, explain
from cdscale.learn.labels import IGNORED
from cdscale.learn.losses.cross_entropy import check_alike
from cdscale.learn.losses.overlap import power_jaccard, power_jaccard_each
from cdscale.spec.base import Frozen


class MissingOpticalRule(Frozen):
    """Which terms, and their weights.

    ``paper``: complete samples cost PJ(fused) + ``simulated`` PJ(blind) + ``phi`` similarity,
    samples without optical PJ(blind). ``code``: PJ(fused) of all pixels of the complete samples
    pooled + ``phi`` similarity + PJ(blind) of all pixels of the missing ones pooled; an empty
    subset costs the constant 1, and complete samples are never taken as missing.
    """

    form: Literal["paper", "code"] = "paper"
    phi: float = 1e-2
    """The paper's; the code's configurations have 1e-3 and 1e-1."""
    simulated: float = 1.0
    """Weight of the term that treats complete samples as missing (``paper`` alone)."""
    detach_target: bool = False
    """Keep the similarity from pulling the optical features towards what radar can tell."""
    reduction: Literal["sum", "mean"] = "sum"
    """Over samples (``paper`` alone): the paper's sum, or a mean that does not grow with them."""


@dataclass(frozen=True)
class Branches:
    """What the network made of a batch, all three branches computed for every sample.

    Parameters
    ----------
    fused : Tensor
        Logits (B, Y, X) or (B, 1, Y, X) from radar features and, where optical was seen, optical
        ones, elsewhere reconstructed ones. Of samples without optical it is not read.
    blind : Tensor
        Logits from radar and reconstructed features, of the same shape.
    s2, s2_from_s1 : Tensor
        Optical features and their reconstruction, (B, F, Y, X).
    """

    fused: Tensor
    blind: Tensor
    s2: Tensor
    s2_from_s1: Tensor


def similarity(features: Tensor, reconstructed: Tensor) -> Tensor:
    """Mean square difference over all elements (Hafner and Ban 2023)."""
    return (features - reconstructed).square().mean()


def missing_optical_loss(
    found: Branches, label_BYX: Tensor, seen: Tensor, rule: MissingOpticalRule
) -> Tensor:
    """The whole loss of a batch, as the paper or as its code has it.

    Sums run in float32 or wider, whatever precision the features come in.

    Parameters
    ----------
    found : Branches
        Logits and features.
    label_BYX : Tensor
        1 urban, 0 not; pixels labelled :data:`IGNORED` do not count in the Jaccard terms.
    seen : Tensor
        Whether there is an optical image: of each sample, (B,), as in the paper; or of each pixel,
        (B, Y, X), our extension: the similarity is then that of seen pixels, and a sample is
        complete when any pixel of it was seen.
    rule : MissingOpticalRule
        Which terms, and their weights.

    Raises
    ------
    UserError
        When shapes do not go together.
    """
    seen_BYX = _each_pixel(seen, label_BYX)
    complete_B = seen_BYX.flatten(1).any(dim=1)
    blind_logits, fused_logits = (_plane(x, label_BYX) for x in (found.blind, found.fused))
    fused_logits = torch.where(complete_B[:, None, None], fused_logits, blind_logits)
    counted = label_BYX != IGNORED
    fused, blind = (x.sigmoid() * counted for x in (fused_logits, blind_logits))
    truth = (label_BYX == 1).to(fused.dtype)
    close_B = _closeness(found, seen_BYX, rule)
    if rule.form == "code":
        pooled = power_jaccard(fused[complete_B], truth[complete_B])
        pooled = pooled + power_jaccard(blind[~complete_B], truth[~complete_B])
        # The code's mean is over all elements of the subset: samples count by their seen pixels.
        share_B = seen_BYX.flatten(1).sum(dim=1).to(close_B.dtype)
        return pooled + rule.phi * (close_B * share_B).sum() / share_B.sum().clamp_min(1)
    # The fused prediction of a missing sample is the blind one: its first term is all it costs.
    simulated_B = rule.simulated * power_jaccard_each(blind, truth) * complete_B
    loss_B = power_jaccard_each(fused, truth) + simulated_B + rule.phi * close_B
    return loss_B.sum() if rule.reduction == "sum" else loss_B.mean()


def _closeness(found: Branches, seen_BYX: Tensor, rule: MissingOpticalRule) -> Tensor:
    """Similarity of each sample over its seen pixels, (B,); 0 where none was."""
    s2, reconstructed = _wide(found.s2), _wide(found.s2_from_s1)
    check_alike("missing-optical loss: optical and reconstructed features", s2, reconstructed)
    target = s2.detach() if rule.detach_target else s2
    # Selected before squaring: what stands at unseen pixels may be anything, NaN included.
    where = seen_BYX[:, None]
    apart = torch.where(where, target, 0) - torch.where(where, reconstructed, 0)
    count_B = seen_BYX.flatten(1).sum(dim=1) * s2.shape[1]
    return apart.square().flatten(1).sum(dim=1) / count_B.clamp_min(1)


def _plane(logits: Tensor, label_BYX: Tensor) -> Tensor:
    """Logits without their channel, (B, Y, X)."""
    logits_BYX = logits.squeeze(1) if logits.dim() == label_BYX.dim() + 1 else logits
    check_alike("missing-optical loss: logits and labels", logits_BYX, label_BYX)
    return _wide(logits_BYX)


def _each_pixel(seen: Tensor, label_BYX: Tensor) -> Tensor:
    if seen.shape == label_BYX.shape[:1]:
        return seen.bool()[:, None, None].expand(label_BYX.shape)
    if seen.shape == label_BYX.shape:
        return seen.bool()
    raise UserError(
        explain(
            "missing-optical loss: where optical was seen",
            expected=f"{tuple(label_BYX.shape[:1])} or {tuple(label_BYX.shape)}",
            got=tuple(seen.shape),
            do="Give one flag for each sample, or one for each pixel.",
        )
    )


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
