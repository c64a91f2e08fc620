"""Detectors on principal components: of the difference (DPCA) and of each date (PCDA).

Shape suffixes: N pixel, B band, K component.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from cdscale.classical.blocks import Blocks, Doubles, Floats, Pair, beyond_rounding, per_pixel
from cdscale.classical.method import Method
from cdscale.classical.moments import Moments, gather, of_both, of_difference


@dataclass(frozen=True)
class Dpca(Method):
    """All principal components of the absolute difference, as absolute scores.

    J. S. Deng, K. Wang, Y. H. Deng, G. J. Qi, "PCA-based land-use change detection and analysis
    using multitemporal and multisensor satellite data", IJRS 29(16), 2008. As the scores are
    centred, a pixel without any change stands as far from zero as the mean change does.
    """

    name = "dpca"

    def fit(self, blocks: Blocks) -> DifferenceAxes:
        """The axes, in one pass.

        Raises
        ------
        ModelError
            When there are not more valid pixels than bands.
        """
        moments = gather(blocks, of_difference, self.name, 1)
        return DifferenceAxes(moments.mean_B, principal_axes(moments.covariance_BB))


@dataclass(frozen=True, eq=False)
class DifferenceAxes:
    """Mean and axes of the absolute difference."""

    mean_B: Doubles
    axes_BK: Doubles

    def apply(self, pair: Pair) -> Floats:
        """Difference image of a block."""
        return per_pixel(pair, len(self.mean_B), self._scores)

    def _scores(self, before_NB: Doubles, after_NB: Doubles) -> Doubles:
        return np.abs((np.abs(after_NB - before_NB) - self.mean_B) @ self.axes_BK)


@dataclass(frozen=True)
class Pcda(Method):
    """Absolute difference of the principal components of the dates, each centred and on its own.

    Components go by falling variance; those of date 2 are turned so that each correlates positively
    with its like at date 1. Deng et al. 2008, as the ChangeDetectionToolbox has it.
    """

    name = "pcda"

    def fit(self, blocks: Blocks) -> DateAxes:
        """The axes of both dates, in one pass.

        Raises
        ------
        ModelError
            When there are not more valid pixels than bands.
        """
        moments = gather(blocks, of_both, self.name, 1)
        one, two, cross = quarters(moments)
        axes_1, axes_2 = principal_axes(one), principal_axes(two)
        agree = np.einsum("bk,bc,ck->k", axes_1, cross, axes_2)
        axes_2 *= np.where(agree < 0, -1.0, 1.0)
        mean_1, mean_2 = np.split(moments.mean_B, 2)
        return DateAxes(mean_1, mean_2, axes_1, axes_2, float(np.sqrt(np.trace(two))))


@dataclass(frozen=True, eq=False)
class DateAxes:
    """Means and matching axes of both dates."""

    mean_1_B: Doubles
    mean_2_B: Doubles
    axes_1_BK: Doubles
    axes_2_BK: Doubles
    scale: float
    """Standard deviation of all bands of date 2 together."""

    def apply(self, pair: Pair) -> Floats:
        """Difference image of a block."""
        return per_pixel(pair, len(self.mean_1_B), self._difference)

    def _difference(self, before_NB: Doubles, after_NB: Doubles) -> Doubles:
        one = (before_NB - self.mean_1_B) @ self.axes_1_BK
        two = (after_NB - self.mean_2_B) @ self.axes_2_BK
        return beyond_rounding(one - two, self.scale)


def principal_axes(covariance_BB: Doubles) -> Doubles:
    """Unit axes as columns, by falling variance."""
    _, axes_BK = eigh(covariance_BB)
    return np.ascontiguousarray(axes_BK[:, ::-1])


def quarters(both: Moments) -> tuple[Doubles, Doubles, Doubles]:
    """Covariances of date 1, of date 2, and of date 1 with date 2."""
    covariance = both.covariance_BB
    bands = len(covariance) // 2
    return covariance[:bands, :bands], covariance[bands:, bands:], covariance[:bands, bands:]
