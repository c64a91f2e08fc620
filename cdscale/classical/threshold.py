"""Where change begins: Otsu, k-means, a fixed value, a local mean; and what cleans up after them.

As the detectors, thresholds are fitted to all blocks of an image first and then hold for each of
them. The score of a pixel is the mean (or the Euclidean norm) of its difference over channels.

Shape suffixes: C channel, Y row, X column, N pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from sklearn.cluster import KMeans as Lloyd

from cdscale.classical.blocks import Booleans, Doubles, Floats
from cdscale.classical.options import require
from cdscale.classical.sample import Sample
from cdscale.errors import SpecError, explain

Norm = Literal["mean", "euclidean"]

_LEVELS = 256


@dataclass(frozen=True, eq=False)
class Layer:
    """Difference image of one block: (C, Y, X), its score (Y, X), and where it begins."""

    di_CYX: Floats
    score_YX: Floats
    row: int = 0
    column: int = 0


class Cut(Protocol):
    """A threshold that has seen its image."""

    def change(self, layer: Layer) -> Booleans:
        """Changed pixels of a block, (Y, X); absent ones are not."""
        ...


class Threshold(Protocol):
    """A way to tell changed from unchanged pixels; frozen, its options as fields."""

    def fit(self, layers: Iterable[Layer]) -> Cut:
        """Gather what it needs over all blocks; ``layers`` can be gone over again."""
        ...


@dataclass(frozen=True)
class Above:
    """Change from a score on."""

    value: float

    def change(self, layer: Layer) -> Booleans:
        """Pixels whose score is at least the value."""
        # NaN compares as False.
        return np.asarray(layer.score_YX >= self.value)


NOWHERE = Above(np.inf)
"""The cut of an image whose pixels are all alike."""


@dataclass(frozen=True)
class Fixed:
    """Change is a score of at least ``value``, in the units of the method."""

    value: float

    def fit(self, layers: Iterable[Layer]) -> Above:
        """There is nothing to fit."""
        del layers
        return Above(self.value)


@dataclass(frozen=True)
class Otsu:
    """The split of the 8-bit histogram between extremes that parts two classes best.

    N. Otsu, IEEE TSMC 9(1), 1979. Scores are mapped linearly from their range to 0..255 and
    rounded. An image of one score holds no change.
    """

    factor: float = 1.0
    """Times the threshold, counted from the least score; 1.25 is DeepCVA's stricter variant."""

    def __post_init__(self) -> None:
        require(self.factor > 0, "otsu: factor", "more than 0", self.factor)

    def fit(self, layers: Iterable[Layer]) -> Above:
        """Two passes: range, histogram."""
        low, high = np.inf, -np.inf
        for layer in layers:
            score = _valid(layer.score_YX)
            if score.size:
                low, high = min(low, float(score.min())), max(high, float(score.max()))
        if not high > low:
            return NOWHERE
        counts = np.zeros(_LEVELS, np.int64)
        for layer in layers:
            level = (_valid(layer.score_YX) - low) / (high - low) * (_LEVELS - 1)
            counts += np.bincount((level + 0.5).astype(np.int64), minlength=_LEVELS)
        # A level belongs to change when it is above the threshold: from its lower end on.
        split = (float(threshold_otsu(hist=counts)) + 0.5) / (_LEVELS - 1)
        return Above(low + self.factor * split * (high - low))


@dataclass(frozen=True)
class KMeans:
    """Two clusters of the channels of the difference image; change is the one of larger mean.

    The first of ``starts`` runs begins at the pixels of least and largest score, the others at
    seeds drawn by k-means++; the tightest clusters win. Of a larger image a sample stands for the
    whole, the same one however it is cut into blocks.
    """

    starts: int = 5
    seed: int = 0
    sample: int = 250_000
    """Largest number of pixels that are clustered; all pixels are then assigned."""

    def __post_init__(self) -> None:
        require(self.starts >= 1, "k-means: starts", "1 or more", self.starts)
        require(self.sample >= 2, "k-means: sample", "2 pixels or more", self.sample)

    def fit(self, layers: Iterable[Layer]) -> Cut:
        """One pass for the sample, then the clusters."""
        sample = Sample(self.sample)
        for layer in layers:
            seen_YX = np.isfinite(layer.score_YX)
            row, column = np.nonzero(seen_YX)
            values_NC = layer.di_CYX[:, seen_YX].T
            sample.add(values_NC, row + layer.row, column + layer.column)
        values = sample.values()
        if not len(values) or (values == values[0]).all():
            return NOWHERE
        size = values.mean(axis=1)
        ends = values[[int(size.argmin()), int(size.argmax())]]
        best = self._cluster(values, ends, 1)
        if self.starts > 1:
            other = self._cluster(values, "k-means++", self.starts - 1)
            best = other if other.inertia_ < best.inertia_ * (1 - 1e-6) else best
        centres_KC = best.cluster_centers_.astype(np.float64)
        least, most = centres_KC[np.argsort(centres_KC.mean(axis=1))]
        return Nearer(least, most)

    def _cluster(self, values_NC: Floats, init: Floats | str, runs: int) -> Lloyd:
        lloyd = Lloyd(2, init=init, n_init=runs, random_state=self.seed, tol=1e-6)
        return lloyd.fit(values_NC)


@dataclass(frozen=True, eq=False)
class Nearer:
    """Change where the difference is nearer to one centre than to the other."""

    no_change_C: Doubles
    change_C: Doubles

    def change(self, layer: Layer) -> Booleans:
        """Pixels on the side of the centre of change."""
        toward_C = self.change_C - self.no_change_C
        middle = toward_C @ (self.change_C + self.no_change_C) / 2
        along_YX = np.tensordot(toward_C, layer.di_CYX, axes=1)
        return np.asarray(along_YX > middle)


OTSU = Otsu()


def score_of(di_CYX: Floats, norm: Norm) -> Floats:
    """Mean or Euclidean norm over channels, (Y, X); NaN where absent."""
    if norm == "euclidean":
        score_YX = np.sqrt(np.square(di_CYX, dtype=np.float64).sum(axis=0))
    else:
        score_YX = di_CYX.mean(axis=0, dtype=np.float64)
    return np.asarray(score_YX, np.float32)


def threshold_named(text: str) -> Threshold:
    """The threshold of a word or a number.

    Parameters
    ----------
    text : str
        ``otsu``, ``kmeans``, or a score such as ``0.35``.

    Raises
    ------
    SpecError
        When it is none of these.
    """
    words: dict[str, Threshold] = {"otsu": OTSU, "kmeans": KMeans(), "k-means": KMeans()}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if np.isnan(value):
        raise SpecError(explain("threshold", expected="otsu, kmeans or a number", got=text))
    return Fixed(value)


def _valid(score_YX: Floats) -> NDArray[np.float64]:
    return score_YX[np.isfinite(score_YX)].astype(np.float64)
