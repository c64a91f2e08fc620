"""Polynomial colour correction: date 1 in the colours of date 2.

G. D. Finlayson's and G. Hong's polynomial regression between two devices (G. Hong, M. R. Luo,
P. A. Rhodes, "A study of digital camera colorimetric characterization based on polynomial
modeling", Color Research and Application 26, 2001), as Metric-CD uses it between two dates: the
bands of date 1 are expanded into a few products, and the linear map from these to the bands of
date 2 is found by least squares. What it takes out is season, haze and illumination as far as they
change all of a scene alike.

Shape suffixes: B band, T term of the expansion, N pixel, Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cdscale.errors import ModelError, explain
from cdscale.learn.metric_cd.scene import Booleans, Scene, pieces, seen
from cdscale.models.blocks import require
from cdscale.spec.base import Frozen

Doubles = NDArray[np.float64]
Kernel = Literal["auto", "linear", "squares", 3, 5, 7, 8, 10, 11]

_SIDE = 1024
"""Pixels a side that are read at a time, about; a multiple of the factor."""

# Exponents of red, green and blue in each term.
_RGB = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
_CROSS = ((1, 1, 0), (1, 0, 1), (0, 1, 1))
_SQUARES = ((2, 0, 0), (0, 2, 0), (0, 0, 2))
_ALL, _ONE = ((1, 1, 1),), ((0, 0, 0),)
_TERMS: dict[int, tuple[tuple[int, ...], ...]] = {
    3: _RGB,
    5: _RGB + _ALL + _ONE,
    7: _RGB + _CROSS + _ONE,
    8: _RGB + _CROSS + _ALL + _ONE,
    10: _RGB + _CROSS + _SQUARES + _ONE,
    11: _RGB + _CROSS + _SQUARES + _ALL + _ONE,
}


class ColourRule(Frozen):
    """Which polynomial, fitted to which pixels.

    The paper states neither its kernel nor the factor; 11 terms are those of the notebook.
    """

    kernel: Kernel = "linear"
    """3, 5, 7, 8, 10 or 11 terms of three bands; of any bands ``linear`` (the bands and 1) or
    ``squares`` (their squares too, no products of two bands). ``auto`` is 11 for three bands and
    ``linear`` for others. Few pixels are bright enough to say what the higher powers do with
    them, so that the linear one is the safest."""
    beta: int = 4
    """Pixels a side that are averaged into one before the fit, so that fine changes average out
    and a small error of registration does not count."""
    ridge: float = 1e-6
    """Added to the diagonal of the normal equations, as a share of its mean."""

    def checked(self) -> ColourRule:
        """The same rule, if it can be fitted.

        Raises
        ------
        ModelError
            When a number is out of range.
        """
        require(self.beta >= 1, "colour correction: beta", "1 or more", self.beta)
        require(0 <= self.ridge < np.inf, "colour correction: ridge", "0 or more", self.ridge)
        return self

    def terms(self, bands: int) -> tuple[tuple[int, ...], ...]:
        """Exponents of the bands in each term.

        Raises
        ------
        ModelError
            When the kernel is one of three bands and there are not three.
        """
        kernel = self.kernel
        if kernel == "auto":
            kernel = 11 if bands == len(_RGB) else "linear"
        if not isinstance(kernel, str):
            if bands != len(_RGB):
                raise ModelError(
                    explain(
                        f"colour correction by the kernel of {kernel} terms",
                        expected=f"{len(_RGB)} bands",
                        got=bands,
                        do="Choose linear, squares or auto.",
                    )
                )
            return _TERMS[kernel]
        single = tuple(tuple(int(b == t) for b in range(bands)) for t in range(bands))
        squares = tuple(tuple(2 * e for e in term) for term in single)
        return single + (squares if kernel == "squares" else ()) + ((0,) * bands,)


@dataclass(frozen=True, eq=False)
class ColourMap:
    """Date 1 in the colours of date 2; it has seen the scene.

    Parameters
    ----------
    terms : tuple
        Exponents of the bands.
    unit_B : array
        By which the bands are divided first, so that squares do not drown the rest.
    matrix_TB : array
        From the terms to the bands of date 2.
    """

    terms: tuple[tuple[int, ...], ...]
    unit_B: Doubles
    matrix_TB: Doubles

    def __call__(self, image_BYX: NDArray[Any]) -> Doubles:
        """The corrected image (B, Y, X); not finite where it was not."""
        bands = len(image_BYX)
        # Absent pixels may be infinite, and the infinite less itself is a warning.
        with np.errstate(invalid="ignore", over="ignore"):
            corrected = _expand(image_BYX.reshape(bands, -1) / self.unit_B[:, None], self.terms)
            return (self.matrix_TB.T @ corrected).reshape(image_BYX.shape)


@dataclass(frozen=True, eq=False)
class Colours:
    """What was learnt of a scene's colours: the correction, and the range of date 2.

    Parameters
    ----------
    maps : tuple of ColourMap
        One after the other.
    mean_B, spread_B : array
        Mean and standard deviation of date 2.
    low_B, high_B : array
        Least and largest value of date 2.
    """

    maps: tuple[ColourMap, ...]
    mean_B: Doubles
    spread_B: Doubles
    low_B: Doubles
    high_B: Doubles

    def corrected(self, before_BYX: NDArray[Any]) -> Doubles:
        """Date 1 in the colours of date 2, (B, Y, X)."""
        for colour_map in self.maps:
            before_BYX = colour_map(before_BYX)
        return np.asarray(before_BYX, np.float64)


def learn_colours(scene: Scene, rules: tuple[ColourRule, ...]) -> Colours:
    """Fit a chain of corrections to a scene that may be larger than memory.

    Goes over the scene once for its units, and once for each rule.

    Parameters
    ----------
    scene : Scene
        Both dates.
    rules : tuple of ColourRule
        The second is fitted to what the first has corrected.

    Raises
    ------
    ModelError
        When no pixel is seen by both dates, or a kernel needs other bands.
    """
    range_of = _Range(scene.bands)
    for window in pieces(scene, _SIDE):
        before_BYX, after_BYX = scene.read(window)
        there_YX = seen(before_BYX, after_BYX)
        range_of.add(before_BYX[:, there_YX], after_BYX[:, there_YX])
    if not range_of.count:
        raise ModelError(
            explain(
                "Metric-CD: colour correction",
                expected="pixels that both dates show in all bands",
                got="none",
                do="Look whether the images overlap and what they call no data.",
            )
        )
    mean_B = range_of.sum_B / range_of.count
    spread_B = np.sqrt(np.maximum(range_of.square_B / range_of.count - mean_B**2, 0))
    maps: tuple[ColourMap, ...] = ()
    for rule in rules:
        # What an earlier map puts out is in the unit of date 2.
        squares_B = range_of.square_B if maps else range_of.before_square_B
        maps = (*maps, _fit(scene, rule, maps, _unit(squares_B / range_of.count)))
    return Colours(maps, mean_B, spread_B, range_of.low_B, range_of.high_B)


class _Range:
    """Sums of both dates."""

    def __init__(self, bands: int) -> None:
        self.count = 0
        self.before_square_B = np.zeros(bands)
        self.sum_B = np.zeros(bands)
        self.square_B = np.zeros(bands)
        self.low_B = np.full(bands, np.inf)
        self.high_B = np.full(bands, -np.inf)

    def add(self, before_BN: NDArray[Any], after_BN: NDArray[Any]) -> None:
        if not before_BN.shape[1]:
            return
        before, after = before_BN.astype(np.float64), after_BN.astype(np.float64)
        self.count += after.shape[1]
        self.before_square_B += np.square(before).sum(axis=1)
        self.sum_B += after.sum(axis=1)
        self.square_B += np.square(after).sum(axis=1)
        self.low_B = np.minimum(self.low_B, after.min(axis=1))
        self.high_B = np.maximum(self.high_B, after.max(axis=1))


def _unit(mean_square_B: Doubles) -> Doubles:
    """Root mean square; 1 for a band that is zero throughout."""
    unit_B = np.sqrt(mean_square_B)
    return np.asarray(np.where(unit_B > 0, unit_B, 1.0))


def _fit(
    scene: Scene, rule: ColourRule, before: tuple[ColourMap, ...], unit_B: Doubles
) -> ColourMap:
    """Least squares over the averaged pixels of a scene, each counted by the pixels in it."""
    terms = rule.terms(scene.bands)
    gram_TT = np.zeros((len(terms), len(terms)))
    cross_TB = np.zeros((len(terms), scene.bands))
    for window in pieces(scene, rule.beta * max(1, _SIDE // rule.beta)):
        one_BYX, two_BYX = scene.read(window)
        there_YX = seen(one_BYX, two_BYX)
        for colour_map in before:
            one_BYX = colour_map(one_BYX)
        count_N = _sums(there_YX[None], there_YX, rule.beta)[0]
        held_N = count_N > 0
        one_BN, two_BN = (
            _sums(image, there_YX, rule.beta)[:, held_N] / count_N[held_N]
            for image in (one_BYX, two_BYX)
        )
        terms_TN = _expand(one_BN / unit_B[:, None], terms)
        gram_TT += terms_TN * count_N[held_N] @ terms_TN.T
        cross_TB += terms_TN * count_N[held_N] @ two_BN.T
    floor = rule.ridge * np.trace(gram_TT) / len(terms) + np.finfo(np.float64).tiny
    # Flat bands make terms alike: least squares takes the shortest solution where there are many.
    eye_TT = np.eye(len(terms))
    matrix_TB = np.linalg.lstsq(gram_TT + floor * eye_TT, cross_TB, rcond=None)[0]
    return ColourMap(terms, unit_B, matrix_TB)


def _expand(values_BN: NDArray[Any], terms: tuple[tuple[int, ...], ...]) -> Doubles:
    """Products of powers of the bands, (T, N)."""
    expanded_TN = np.ones((len(terms), values_BN.shape[1]))
    for term, row_N in zip(terms, expanded_TN, strict=True):
        for band, exponent in enumerate(term):
            if exponent:
                row_N *= values_BN[band] ** exponent
    return expanded_TN


def _sums(image_BYX: NDArray[Any], there_YX: Booleans, beta: int) -> Doubles:
    """Sums over cells of beta x beta pixels, what is absent counted as 0; (B, cells)."""
    bands, height, width = image_BYX.shape
    rows, columns = -(-height // beta), -(-width // beta)
    padded = np.zeros((bands, rows * beta, columns * beta))
    padded[:, :height, :width] = np.where(there_YX, image_BYX, 0)
    cells = padded.reshape(bands, rows, beta, columns, beta).sum(axis=(2, 4))
    return np.asarray(cells.reshape(bands, -1), np.float64)
