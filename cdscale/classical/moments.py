"""Weighted means and covariances in one pass, merged without loss of precision.

T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance", The American
Statistician 37(3), 1983: parts are summed about their own means and then merged, so that neither
the size of a mosaic nor the offset of its values costs digits.

Shape suffixes: N pixel, B variable (a band, or the bands of both dates, or places of a patch).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cdscale.classical.blocks import ROUNDING, Blocks, Doubles, Slab, alike
from cdscale.errors import ModelError, explain


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and scatter (weighted sum of products about the mean) of so many pixels, in float64."""

    pixels: int
    weight: float
    mean_B: Doubles
    scatter_BB: Doubles

    @classmethod
    def of(cls, x_NB: Doubles, weight_N: Doubles | None = None) -> Moments:
        """Moments of some pixels; without weights each counts 1."""
        weights = np.ones(len(x_NB)) if weight_N is None else weight_N
        total = float(weights.sum())
        if not total:
            size = x_NB.shape[1]
            return cls(len(x_NB), 0.0, np.zeros(size), np.zeros((size, size)))
        # About the first pixel: the mean of equal values is then exactly that value.
        mean = x_NB[0] + weights @ (x_NB - x_NB[0]) / total
        centred = (x_NB - mean) * np.sqrt(weights)[:, None]
        return cls(len(x_NB), total, mean, centred.T @ centred)

    def __add__(self, other: Moments) -> Moments:
        pixels, weight = self.pixels + other.pixels, self.weight + other.weight
        if not self.weight or not other.weight:
            full = self if self.weight else other
            return Moments(pixels, weight, full.mean_B, full.scatter_BB)
        step_B = other.mean_B - self.mean_B
        share = other.weight / weight
        between = np.outer(step_B, step_B) * (self.weight * share)
        scatter = self.scatter_BB + other.scatter_BB + between
        return Moments(pixels, weight, self.mean_B + step_B * share, scatter)

    @property
    def covariance_BB(self) -> Doubles:
        """Covariance; with weights of 1 the unbiased one.

        A. A. Nielsen, IEEE TIP 16(2), 2007: the sum of weights times (n - 1)/n as the divisor.
        """
        if self.pixels < 2 or not self.weight:
            return np.zeros_like(self.scatter_BB)
        return self.scatter_BB / (self.weight * (self.pixels - 1) / self.pixels)

    @property
    def deviation_B(self) -> Doubles:
        """Standard deviations; exactly 0 where a variable is constant up to rounding."""
        deviation = np.sqrt(np.diag(self.covariance_BB))
        return np.where(deviation > ROUNDING * np.abs(self.mean_B), deviation, 0.0)


def gather(blocks: Blocks, moments: Callable[[Slab], Moments], who: str, least: int) -> Moments:
    """Moments of all valid pixels of an image, in one pass.

    Parameters
    ----------
    blocks : iterable of Pair
        The image.
    moments : callable
        Moments of one slab.
    who : str
        Method, for the error.
    least : int
        Pixels per band below which the statistics say nothing.

    Raises
    ------
    ModelError
        When there are not more than ``least`` valid pixels per band, or blocks differ in bands.
    """
    total: Moments | None = None
    bands = 0
    for block in alike(blocks):
        bands = block.bands
        for slab in block.slabs():
            part = moments(slab)
            total = part if total is None else total + part
    total = total or Moments.of(np.empty((0, 0)))
    check_pixels(who, total.pixels, least * bands)
    return total


def check_pixels(who: str, found: int, least: int) -> None:
    """Refuse statistics of next to nothing.

    Raises
    ------
    ModelError
        When ``found`` is not above ``least`` or is 0.
    """
    if found <= least:
        raise ModelError(
            explain(
                f"{who}: too few pixels that both dates show in all bands",
                expected=f"more than {least}",
                got=found,
                do="Give a larger area, fewer bands, or images that overlap.",
            )
        )


def of_both(slab: Slab) -> Moments:
    """Moments of the bands of date 1 followed by those of date 2."""
    return Moments.of(np.hstack((slab.before_NB, slab.after_NB)))


def of_difference(slab: Slab) -> Moments:
    """Moments of the absolute difference, band by band."""
    return Moments.of(np.abs(slab.after_NB - slab.before_NB))
