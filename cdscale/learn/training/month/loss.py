"""The loss of a batch of months, seen and missing decided per pixel.

The paper knows complete and missing samples only. Here the fused prediction of a sample takes real
features where a pixel was seen and reconstructed ones elsewhere, which is the paper's first term
for complete samples and its term for missing ones; the simulated-missing term is added for samples
with any seen pixel, and the similarity is that of seen pixels.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cdscale.learn.losses import Branches, MissingOpticalRule, missing_optical_loss
from cdscale.models.missing_optical import MissingOptical


def month_loss(
    network: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor], rule: MissingOpticalRule
) -> Tensor:
    """The loss of a batch, a scalar.

    Parameters
    ----------
    network : nn.Module
        Of the kind ``month``.
    batch : tuple of Tensor
        Network inputs of radar and optical (B, C, Y, X), where optical was seen (B, Y, X), label
        (B, Y, X).
    rule : MissingOpticalRule
        Terms and weights; those of reconstructed features need a network that has them.
    """
    s1, s2, seen, label = batch
    return missing_optical_loss(branches_of(network, s1, s2, seen), label, seen, rule)


def branches_of(network: nn.Module, s1: Tensor, s2: Tensor, seen: Tensor) -> Branches:
    """What the network makes of a batch; of a network without branches, twice its one answer."""
    if not isinstance(network, MissingOptical):
        logits = network(s1, s2, seen)
        return Branches(logits, logits, logits, logits)
    found = network.features(s1, s2, seen)
    chosen = torch.where(seen[:, None], found.s2, found.s2_from_s1)
    return Branches(
        fused=network.fuse(found.s1, chosen),
        blind=network.fuse(found.s1, found.s2_from_s1),
        s2=found.s2,
        s2_from_s1=found.s2_from_s1,
    )
