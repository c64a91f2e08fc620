"""Physical values become network inputs: the one rule that training and prediction share.

Shape suffixes: ... any leading axes, C channel (S2 band or S1 polarisation), Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cdscale.spec.card import Normalisation

POWER_FLOOR = 1e-10
"""Backscatter is held above this (-100 dB) before the logarithm."""


@dataclass(frozen=True)
class Pair:
    """Both dates of both sensors; physical values or network inputs, channels as in the card.

    Each (..., C, Y, X) float32. Physical: reflectance and linear power, NaN where absent.
    """

    s2_before: Tensor
    s2_after: Tensor
    s1_before: Tensor
    s1_after: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """In the order of the two-branch network's arguments."""
        return self.s2_before, self.s2_after, self.s1_before, self.s1_after


def absent(x_CYX: Tensor) -> Tensor:
    """Boolean (..., 1, Y, X): a pixel is absent as soon as one of its channels is."""
    return torch.isnan(x_CYX).any(dim=-3, keepdim=True)


def s2_input(s2_CYX: Tensor, rule: Normalisation) -> Tensor:
    """Standardised reflectance, 0 (the training mean) where absent.

    Parameters
    ----------
    s2_CYX : Tensor
        Surface or top-of-atmosphere reflectance, (..., bands, Y, X), NaN where absent.
    rule : Normalisation
        Clip range, and mean and standard deviation of each band.
    """
    mean = torch.tensor(rule.s2_mean, dtype=s2_CYX.dtype, device=s2_CYX.device)[:, None, None]
    std = torch.tensor(rule.s2_std, dtype=s2_CYX.dtype, device=s2_CYX.device)[:, None, None]
    scaled = (s2_CYX.clamp(*rule.s2_clip) - mean) / std
    return scaled.masked_fill(absent(s2_CYX), 0.0)


def s1_input(s1_CYX: Tensor, rule: Normalisation) -> Tensor:
    """Backscatter in dB scaled to [0, 1] over the card's range, 0 where absent.

    Parameters
    ----------
    s1_CYX : Tensor
        Backscatter in linear power, (..., polarisations, Y, X), NaN where absent.
    rule : Normalisation
        The range in dB.
    """
    low, high = rule.s1_db_clip
    decibel = 10 * torch.log10(s1_CYX.clamp_min(POWER_FLOOR))
    return ((decibel.clamp(low, high) - low) / (high - low)).masked_fill(absent(s1_CYX), 0.0)


def change_inputs(pair: Pair, rule: Normalisation) -> Pair:
    """Network inputs of a pair.

    What one date lacks is taken from the other too: a hole must not look like a change.
    """
    s2_hole = absent(pair.s2_before) | absent(pair.s2_after)
    s1_hole = absent(pair.s1_before) | absent(pair.s1_after)
    return Pair(
        s2_input(pair.s2_before, rule).masked_fill(s2_hole, 0.0),
        s2_input(pair.s2_after, rule).masked_fill(s2_hole, 0.0),
        s1_input(pair.s1_before, rule).masked_fill(s1_hole, 0.0),
        s1_input(pair.s1_after, rule).masked_fill(s1_hole, 0.0),
    )
