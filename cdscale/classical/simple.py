"""Detectors of one line each: differences, ratios, change vectors, regression.

Shape suffixes: N pixel, B band.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cdscale.classical.blocks import Blocks, Doubles, Floats, Pair, beyond_rounding, per_pixel
from cdscale.classical.method import Method
from cdscale.classical.moments import gather, of_both

_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class PixelWise:
    """A detector that needs no statistics: from the values of both dates, (N, B), to (N, C)."""

    change: Callable[[Doubles, Doubles], Doubles]

    def apply(self, pair: Pair) -> Floats:
        """Difference image of a block."""
        return per_pixel(pair, pair.bands, self.change)


@dataclass(frozen=True)
class _Formula(Method):
    """A method that looks at one pixel at a time."""

    @staticmethod
    @abstractmethod
    def change(before_NB: Doubles, after_NB: Doubles) -> Doubles:
        """The formula, to (N, C)."""

    def fit(self, blocks: Blocks) -> PixelWise:
        """There is nothing to fit."""
        del blocks
        return PixelWise(self.change)


@dataclass(frozen=True)
class ImageDiff(_Formula):
    """Absolute difference, band by band.

    A. Singh, "Digital change detection techniques using remotely-sensed data", IJRS 10(6), 1989.
    """

    name = "image-diff"

    @staticmethod
    def change(before_NB: Doubles, after_NB: Doubles) -> Doubles:
        """The formula, to (N, B)."""
        return np.abs(after_NB - before_NB)


@dataclass(frozen=True)
class ImageRatio(_Formula):
    """Absolute difference of logarithms, band by band (Singh 1989).

    Values below zero count as zero. A zero at one date alone weighs more than any real change: mask
    no-data (as NaN) first.
    """

    name = "image-ratio"

    @staticmethod
    def change(before_NB: Doubles, after_NB: Doubles) -> Doubles:
        """The formula, to (N, B)."""
        before, after = (np.log(np.maximum(x, 0.0) + _EPSILON) for x in (before_NB, after_NB))
        return np.asarray(np.abs(after - before))


@dataclass(frozen=True)
class Cva(_Formula):
    """Change vector analysis: the Euclidean norm of the difference over bands; one channel.

    W. A. Malila, "Change vector analysis: an approach for detecting forest changes with Landsat",
    LARS Symposia 1980; F. Bovolo, L. Bruzzone, IEEE TGRS 45(1), 2007.
    """

    name = "cva"

    @staticmethod
    def change(before_NB: Doubles, after_NB: Doubles) -> Doubles:
        """The formula, to (N, 1)."""
        length: Doubles = np.linalg.norm(after_NB - before_NB, axis=1, keepdims=True)
        return length


@dataclass(frozen=True)
class ImageRegr(Method):
    """Absolute residual of date 2 about its least-squares line on date 1, band by band.

    Singh 1989; as cited by L. T. Luppino et al., IEEE TGRS 57(12), 2019. A band that is constant at
    date 1 explains nothing: its line is the mean of date 2.
    """

    name = "image-regr"

    def fit(self, blocks: Blocks) -> Lines:
        """The lines, in one pass.

        Raises
        ------
        ModelError
            When no pixel is valid.
        """
        both = gather(blocks, of_both, self.name, 0)
        bands = len(both.mean_B) // 2
        deviation = both.deviation_B[:bands]
        covariance = np.diagonal(both.covariance_BB, offset=bands)
        flat = deviation == 0
        slope = np.where(flat, 0.0, covariance / np.where(flat, 1.0, deviation) ** 2)
        return Lines(both.mean_B[:bands], both.mean_B[bands:], slope, both.deviation_B[bands:])


@dataclass(frozen=True, eq=False)
class Lines:
    """The line of each band: through both means, with a slope; and the scale of date 2."""

    mean_1_B: Doubles
    mean_2_B: Doubles
    slope_B: Doubles
    deviation_2_B: Doubles

    def apply(self, pair: Pair) -> Floats:
        """Difference image of a block."""
        return per_pixel(pair, len(self.mean_1_B), self._residual)

    def _residual(self, before_NB: Doubles, after_NB: Doubles) -> Doubles:
        line_NB = self.mean_2_B + self.slope_B * (before_NB - self.mean_1_B)
        return beyond_rounding(after_NB - line_NB, self.deviation_2_B)
