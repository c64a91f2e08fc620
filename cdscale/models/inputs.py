"""Physical values become network inputs: the one rule that training and prediction share.

Shape suffixes: ... any leading axes, C channel (S2 band or S1 polarisation), Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cdscale.spec.card import Normalisation

POWER_FLOOR = 1e-10
"""Backscatter is held above this (-100 dB) before the logarithm."""
FLAT = 1e-6
"""Standard deviation of a band that holds nothing."""


Sums = tuple[Tensor, Tensor, Tensor]
"""Number of pixels that are there, their mean, and the sum of squares around it."""


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


def planes_of(x_CYX: Tensor) -> list[Tensor]:
    """Channels, each (..., 1, Y, X), as views."""
    return [x_CYX[..., c : c + 1, :, :] for c in range(x_CYX.shape[-3])]


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each channel of an image, (..., C, 1, 1).

    Of clipped reflectance, or of backscatter scaled to [0, 1].
    """

    mean: Tensor
    std: Tensor

    def take_off(self, x_CYX: Tensor) -> Tensor:
        """Standardise channels."""
        mean, std = (part.to(x_CYX.device, x_CYX.dtype) for part in (self.mean, self.std))
        return (x_CYX - mean) / std


def s2_moments(s2_CYX: Tensor, rule: Normalisation) -> Moments:
    """Those by which reflectance is standardised: of the training set, or of this image.

    Parameters
    ----------
    s2_CYX : Tensor
        A whole image, (..., bands, Y, X), NaN where absent; not read where the rule has them.
    rule : Normalisation
        Whose they are.
    """
    return s2_moments_of(planes_of(s2_CYX), rule)


def s2_moments_of(planes: Iterable[Tensor], rule: Normalisation) -> Moments:
    """:func:`s2_moments` of an image whose bands, (..., 1, Y, X), come one by one, twice."""
    if rule.s2_standardise == "training":
        mean, std = (torch.tensor(v)[:, None, None] for v in (rule.s2_mean, rule.s2_std))
        return Moments(mean, std)
    joint = rule.s2_standardise == "image_scalar"
    return _moments(planes, lambda x: x.clamp(*rule.s2_clip), joint=joint)


def s1_moments(s1_CYX: Tensor, rule: Normalisation) -> Moments:
    """Those by which scaled backscatter is standardised: of this image, or 0 and 1."""
    return s1_moments_of(planes_of(s1_CYX), rule)


def s1_moments_of(planes: Iterable[Tensor], rule: Normalisation) -> Moments:
    """:func:`s1_moments` of an image whose polarisations come one by one, twice."""
    if rule.s1_standardise == "none":
        return Moments(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    return _moments(planes, lambda x: _scaled(x, rule))


def _moments(
    planes: Iterable[Tensor], scale: Callable[[Tensor], Tensor], *, joint: bool = False
) -> Moments:
    """Of the pixels that are there, once scaled; of each channel, or joint of all.

    Channel by channel, since an image may be as large as memory allows, and in float64: sums over
    millions of pixels lose float32.
    """
    sums = _joint_sums(planes, scale) if joint else [_own_sums(scale(p)) for p in planes]
    if not sums:
        return Moments(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    count, mean, square = (torch.cat(part, dim=-3) for part in zip(*sums, strict=True))
    std = (square / count.clamp_min(1)).sqrt()
    # A band without contrast, or without a pixel, says nothing: it enters as zero.
    return Moments(mean, torch.where(std < FLAT, torch.inf, std))


def _joint_sums(planes: Iterable[Tensor], scale: Callable[[Tensor], Tensor]) -> list[Sums]:
    """Those of all channels together; none where there is no channel."""
    sums = [_sums(scale(plane)) for plane in planes]
    if not sums:
        return []
    count, total = (torch.cat(part, dim=-3).sum(-3, True) for part in zip(*sums, strict=True))
    mean = total / count.clamp_min(1)
    squares = [_sums(scale(plane), mean)[1] for plane in planes]
    return [(count, mean, torch.cat(squares, dim=-3).sum(-3, keepdim=True))]


def _own_sums(plane: Tensor) -> Sums:
    """Those of one channel, which is made once."""
    count, total = _sums(plane)
    mean = total / count.clamp_min(1)
    return count, mean, _sums(plane, mean)[1]


def _sums(plane: Tensor, around: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Number of pixels that are there, and their sum; or the sum of squares around something.

    In one array of float64, which for a large image is most of what this takes.
    """
    gone = ~torch.isfinite(plane)
    there = plane.to(torch.float64, copy=True)
    if around is not None:
        there = there.sub_(around)
    there = there.masked_fill_(gone, 0.0)
    if around is not None:
        there = there.square_()
    count = (~gone).sum(dim=(-2, -1), keepdim=True)
    return count, there.sum(dim=(-2, -1), keepdim=True)


def s2_input(s2_CYX: Tensor, rule: Normalisation, moments: Moments | None = None) -> Tensor:
    """Standardised reflectance, 0 (the mean) where absent.

    Parameters
    ----------
    s2_CYX : Tensor
        Surface or top-of-atmosphere reflectance, (..., bands, Y, X), NaN where absent.
    rule : Normalisation
        Clip range, and how bands are standardised.
    moments : Moments, optional
        Of the image that this is a part of; None: this is the image.
    """
    own = moments or s2_moments(s2_CYX, rule)
    return own.take_off(s2_CYX.clamp(*rule.s2_clip)).masked_fill(absent(s2_CYX), 0.0)


def s1_input(s1_CYX: Tensor, rule: Normalisation, moments: Moments | None = None) -> Tensor:
    """Backscatter in dB scaled to [0, 1] over the card's range, 0 where absent.

    Parameters
    ----------
    s1_CYX : Tensor
        Backscatter in linear power, (..., polarisations, Y, X), NaN where absent.
    rule : Normalisation
        The range in dB, and whether what comes of it is standardised.
    moments : Moments, optional
        As for :func:`s2_input`.
    """
    scaled = _scaled(s1_CYX, rule)
    if rule.s1_standardise == "image":
        scaled = (moments or s1_moments(s1_CYX, rule)).take_off(scaled)
    return scaled.masked_fill(absent(s1_CYX), 0.0)


def _scaled(s1_CYX: Tensor, rule: Normalisation) -> Tensor:
    low, high = rule.s1_db_clip
    decibel = 10 * torch.log10(s1_CYX.clamp_min(POWER_FLOOR))
    return (decibel.clamp(low, high) - low) / (high - low)


@dataclass(frozen=True)
class PairMoments:
    """Moments of both dates of both sensors."""

    s2_before: Moments
    s2_after: Moments
    s1_before: Moments
    s1_after: Moments

    @classmethod
    def of(cls, pair: Pair, rule: Normalisation) -> PairMoments:
        """Of a pair of whole images."""
        return cls(
            s2_moments(pair.s2_before, rule),
            s2_moments(pair.s2_after, rule),
            s1_moments(pair.s1_before, rule),
            s1_moments(pair.s1_after, rule),
        )


def change_inputs(pair: Pair, rule: Normalisation, moments: PairMoments | None = None) -> Pair:
    """Network inputs of a pair.

    What one date lacks is taken from the other too: a hole must not look like a change.

    Parameters
    ----------
    pair : Pair
        Physical values.
    rule : Normalisation
        Of the card.
    moments : PairMoments, optional
        Of the images that these are parts of; None: these are the images.
    """
    own = moments or PairMoments.of(pair, rule)
    s2_hole = absent(pair.s2_before) | absent(pair.s2_after)
    s1_hole = absent(pair.s1_before) | absent(pair.s1_after)
    return Pair(
        s2_input(pair.s2_before, rule, own.s2_before).masked_fill(s2_hole, 0.0),
        s2_input(pair.s2_after, rule, own.s2_after).masked_fill(s2_hole, 0.0),
        s1_input(pair.s1_before, rule, own.s1_before).masked_fill(s1_hole, 0.0),
        s1_input(pair.s1_after, rule, own.s1_after).masked_fill(s1_hole, 0.0),
    )


def views_of_change(
    pair: Pair, rules: Sequence[Normalisation], moments: Sequence[PairMoments] = ()
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Network inputs of a pair, read in several ways, one after another in the channel axis.

    Parameters
    ----------
    pair : Pair
        Physical values.
    rules : sequence of Normalisation
        The ways.
    moments : sequence of PairMoments, optional
        For each way, those of the images that these are parts of; none: these are the images.
    """
    own = moments or [PairMoments.of(pair, rule) for rule in rules]
    seen = [change_inputs(pair, rule, of).tensors() for rule, of in zip(rules, own, strict=True)]
    if len(seen) == 1:
        return seen[0]
    s2_before, s2_after, s1_before, s1_after = (torch.cat(x, -3) for x in zip(*seen, strict=True))
    return s2_before, s2_after, s1_before, s1_after
