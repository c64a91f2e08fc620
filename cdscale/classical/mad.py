"""Multivariate alteration detection, plain and iteratively reweighted.

A. A. Nielsen, K. Conradsen, J. J. Simpson, "Multivariate alteration detection (MAD) and MAF
postprocessing in multispectral, bitemporal image data", RSE 64(1), 1998; A. A. Nielsen, "The
regularized iteratively reweighted MAD method for change detection in multi- and hyperspectral
data", IEEE TIP 16(2), 2007.

Shape suffixes: N pixel, B band, R independent direction, K canonical variate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import eigh, svd
from scipy.special import gammaincc

from cdscale.classical.blocks import (
    Blocks,
    Doubles,
    Floats,
    Pair,
    Slab,
    beyond_rounding,
    check_repeatable,
    per_pixel,
)
from cdscale.classical.components import quarters
from cdscale.classical.method import Method
from cdscale.classical.moments import Moments, gather, of_both
from cdscale.classical.options import require
from cdscale.errors import ModelError, explain

_RANK = 1e-10
"""Directions whose share of the bands' correlation is smaller are rounding of float32 images."""
_FLOOR = 1e-9
"""Least 1 - correlation: dates that are affine images of each other differ by nothing, not 0/0."""

Weigh = Callable[["Canonical", Slab], Doubles]
"""Weights of the pixels of a slab under the variates found so far."""
Ending = Literal["converged", "iterations", "background", "degenerate"]


@dataclass(frozen=True, eq=False)
class Canonical:
    """The canonical variates of two dates, by rising correlation: ``a' x1`` and ``b' x2``.

    Both have variance 1, so that their difference has the variance 2 (1 - correlation).
    """

    mean_1_B: Doubles
    mean_2_B: Doubles
    a_BK: Doubles
    b_BK: Doubles
    correlation_K: Doubles
    terms_K: Doubles
    """Size of the terms whose sum a variate is: 1 for a single band, more where bands cancel."""

    @property
    def deviation_K(self) -> Doubles:
        """Standard deviations of the MAD variates."""
        return np.asarray(np.sqrt(2 * np.maximum(1 - self.correlation_K, _FLOOR)))

    def apply(self, pair: Pair) -> Floats:
        """Difference image of a block: MAD variates over their standard deviations, absolute."""
        return per_pixel(pair, len(self.mean_1_B), self._absolute)

    def standardised(self, before_NB: Doubles, after_NB: Doubles) -> Doubles:
        """MAD variates over their standard deviations, (N, K)."""
        one = (before_NB - self.mean_1_B) @ self.a_BK
        two = (after_NB - self.mean_2_B) @ self.b_BK
        return np.asarray((one - two) / self.deviation_K)

    def no_change(self, slab: Slab) -> Doubles:
        """Probability, for each pixel, that chance alone gives a larger chi square than its own."""
        square_NK = self.standardised(slab.before_NB, slab.after_NB) ** 2
        return np.asarray(gammaincc(len(self.correlation_K) / 2, square_NK.sum(axis=1) / 2))

    def _absolute(self, before_NB: Doubles, after_NB: Doubles) -> Doubles:
        standardised_NK = self.standardised(before_NB, after_NB)
        return beyond_rounding(standardised_NK, self.terms_K / self.deviation_K)


@dataclass(frozen=True)
class Mad(Method):
    """Absolute MAD variates in units of their standard deviation, largest change variance first.

    As many channels as bands; constant bands, and bands that are linear combinations of others,
    add none. The sum of squares over channels is the chi square: its root is the Euclidean score.
    Unchanged by any invertible affine map of the bands of either date.
    """

    ridge: float = 0.0
    """Added to the variance of each band, as a share of it, before the correlations are sought."""

    name = "mad"

    def __post_init__(self) -> None:
        require(self.ridge >= 0, "mad: ridge", "0 or more", self.ridge)

    def fit(self, blocks: Blocks) -> Canonical:
        """The variates, in one pass.

        Raises
        ------
        ModelError
            When there are not more than twice as many valid pixels as bands, or when no band
            of a date varies.
        """
        return canonical(gather(blocks, of_both, self.name, 2), self.ridge)


@dataclass(frozen=True)
class Irmad(Method):
    """MAD whose statistics weigh each pixel by its probability of no change, until they settle.

    One pass over the image per iteration. Channels and units as :class:`Mad`.

    Where no large part of the image kept its spectrum, the iterations can run away: the pixels that
    keep a weight become fewer and more alike, until 25 pixels of a river are the standard against
    which a whole city has changed. Hence ``background``.
    """

    tolerance: float = 1e-2
    """Largest shift of a canonical correlation at which it stops; the literature often has 1e-3."""
    iterations: int = 30
    """Largest number of reweighted fits."""
    background: float = 0.05
    """Least mean weight, as a share of 1 (it is 0.5 where nothing changed): below it the last fit
    is kept. 0 iterates whatever is left, as Nielsen has it."""
    ridge: float = 0.0
    """As of :class:`Mad`."""

    name = "irmad"

    def __post_init__(self) -> None:
        require(self.ridge >= 0, "irmad: ridge", "0 or more", self.ridge)
        require(self.tolerance > 0, "irmad: tolerance", "more than 0", self.tolerance)
        require(self.iterations >= 1, "irmad: iterations", "1 or more", self.iterations)
        require(0 <= self.background < 1, "irmad: background", "0 to below 1", self.background)

    def fit(self, blocks: Blocks) -> Reweighted:
        """The variates, in one pass for each iteration.

        Raises
        ------
        ModelError
            As :meth:`Mad.fit`, and when the blocks can be gone over only once.
        """
        return reweighted(blocks, self, Canonical.no_change)


@dataclass(frozen=True, eq=False)
class Reweighted:
    """The variates of the last iteration, and how the iterations ended."""

    variates: Canonical
    ending: Ending
    """"converged"; "iterations": there were no more; "background": too few pixels would have borne
    the next fit; "degenerate": those that would have did not tell the bands apart. In the last two
    the fit before is kept."""
    shifts: tuple[float, ...]
    """Largest shift of a canonical correlation, iteration by iteration."""

    def apply(self, pair: Pair) -> Floats:
        """Difference image of a block."""
        return self.variates.apply(pair)


def reweighted(blocks: Blocks, how: Irmad, weigh: Weigh) -> Reweighted:
    """Fit again and again with weights from the fit before.

    Parameters
    ----------
    blocks : iterable of Pair
        The image.
    how : Irmad
        When to stop.
    weigh : callable
        Weights in [0, 1]; :meth:`Canonical.no_change` is Nielsen's.

    Raises
    ------
    ModelError
        As :meth:`Irmad.fit`.
    """
    check_repeatable(blocks)
    now = canonical(gather(blocks, of_both, how.name, 2), how.ridge)
    shifts: list[float] = []
    for _ in range(how.iterations):
        moments = gather(blocks, _weighted(now, weigh), how.name, 2)
        if moments.weight < how.background * moments.pixels:
            return Reweighted(now, "background", tuple(shifts))
        if not _tells(moments, len(now.correlation_K)):
            return Reweighted(now, "degenerate", tuple(shifts))
        then, now = now, canonical(moments, how.ridge)
        shifts.append(float(np.abs(now.correlation_K - then.correlation_K).max()))
        if shifts[-1] < how.tolerance:
            return Reweighted(now, "converged", tuple(shifts))
    return Reweighted(now, "iterations", tuple(shifts))


def canonical(both: Moments, ridge: float) -> Canonical:
    """The canonical variates of two dates from their joint moments.

    The singular values of the cross-covariance of whitened dates are the canonical correlations;
    this is ``S12 S22^-1 S21 a = rho^2 S11 a`` without squaring the condition and without dividing
    by rho.

    Parameters
    ----------
    both : Moments
        Of the bands of date 1 followed by those of date 2.
    ridge : float
        Added to the correlation matrix of each date.

    Raises
    ------
    ModelError
        When no band of a date varies.
    """
    one, two, cross = quarters(both)
    bands = len(one)
    white_1, white_2 = _whitening(both, ridge)
    if not white_1.shape[1] or not white_2.shape[1]:
        raise ModelError(
            explain(
                "canonical correlation of two images",
                expected="a band that varies at each date",
                got="only constant bands",
                do="Check the images; image-diff and cva need no variance.",
            )
        )
    left, _, right = svd(white_1.T @ cross @ white_2, full_matrices=False)
    a, b = white_1 @ left[:, ::-1], white_2 @ right.T[:, ::-1]
    if ridge:
        a, b = (x / np.sqrt(np.einsum("bk,bc,ck->k", x, s, x)) for x, s in ((a, one), (b, two)))
    correlation = np.clip(np.einsum("bk,bc,ck->k", a, cross, b), 0.0, 1.0)
    deviation = both.deviation_B[:bands]
    terms = deviation @ np.abs(a)
    with_bands = (one @ a) / np.where(deviation > 0, deviation, np.inf)[:, None]
    sign = np.where(with_bands.sum(axis=0) < 0, -1.0, 1.0)
    mean_1, mean_2 = np.split(both.mean_B, 2)
    return Canonical(mean_1, mean_2, a * sign, b * sign, correlation, terms)


def _whitening(both: Moments, ridge: float) -> tuple[Doubles, Doubles]:
    """For each date the (B, R) matrix that makes its bands uncorrelated and of variance 1."""
    covariances, bands = quarters(both)[:2], len(both.mean_B) // 2
    deviations = both.deviation_B[:bands], both.deviation_B[bands:]
    one, two = (_whiten(*date, ridge) for date in zip(covariances, deviations, strict=True))
    return one, two


def _whiten(covariance_BB: Doubles, deviation_B: Doubles, ridge: float) -> Doubles:
    """Of one date; directions without variance are left out, and constant bands get no share."""
    alive = deviation_B > 0
    if not alive.any():
        return np.zeros((len(deviation_B), 0))
    scale = 1 / deviation_B[alive]
    correlation = covariance_BB[np.ix_(alive, alive)] * np.outer(scale, scale)
    values, vectors = eigh(correlation)
    kept = values > _RANK * values[-1]
    white = np.zeros((len(deviation_B), int(kept.sum())))
    white[alive] = vectors[:, kept] / np.sqrt(values[kept] + ridge) * scale[:, None]
    return white


def _weighted(now: Canonical, weigh: Weigh) -> Callable[[Slab], Moments]:
    """Joint moments of a slab, weighted by what the variates say of its pixels."""

    def moments(slab: Slab) -> Moments:
        return Moments.of(np.hstack((slab.before_NB, slab.after_NB)), weigh(now, slab))

    return moments


def _tells(both: Moments, variates: int) -> bool:
    """Whether weighted moments still carry as many variates as the fit before."""
    rank = min(white.shape[1] for white in _whitening(both, 0.0))
    return both.weight > len(both.mean_B) and rank == variates
