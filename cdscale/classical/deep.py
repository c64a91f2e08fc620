"""Detectors on the activations of a network that was trained for something else.

The network stands behind :class:`Features`; these detectors need no torch. Their statistics are
order statistics of a whole pair: they take one pair at a time, not blocks.

Shape suffixes: B band, F feature, Y row, X column, N valid pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from cdscale.classical.blocks import Blocks, Booleans, Floats, Pair, only
from cdscale.classical.method import Method
from cdscale.classical.options import require
from cdscale.errors import ModelError, explain


class Features(Protocol):
    """Maps of features of an image, such as activations of some layers of a network."""

    def features(self, image_BYX: Floats) -> Sequence[NDArray[Any]]:
        """Maps (F, y, x), layer by layer.

        Parameters
        ----------
        image_BYX : array of float32
            Bands stretched to [0, 1], without absent pixels.

        Returns
        -------
        sequence of array
            Each covers the image; resolution and number of features may differ by layer, but not
            between two images of one size.
        """
        ...


class NoFeatures:
    """Stands where an extractor has to be given."""

    def features(self, image_BYX: Floats) -> Sequence[Floats]:
        """Refuse.

        Raises
        ------
        ModelError
            Always.
        """
        del image_BYX
        raise ModelError(
            explain(
                "a detector on deep features has no feature extractor",
                expected="an object with features(image) -> maps",
                got="none",
                do="Name one, or choose a method that needs none, such as irmad.",
            )
        )


NO_FEATURES = NoFeatures()


@dataclass(frozen=True)
class Cnnf(Method):
    """Euclidean distance of the activations of several layers, each brought to the pixel grid.

    A. M. El Amin, Q. Liu, Y. Wang, "Convolutional neural network features based change detection in
    satellite images", IWPR 2016: VGG-19 on 8-bit RGB, with Otsu's threshold (CNNF-O) or a distance
    of 2300 (CNNF-F, ``Fixed(2300)``), which is good for one scaling of one network's input only.
    One channel.
    """

    features: Features = NO_FEATURES
    bands: tuple[int, ...] | None = None
    """Bands, from 0, that the extractor sees, in its order; None: all of them."""
    saturation: float = 1.0
    """Percent of the pixels, at either end of each band of each date, that the stretch to [0, 1]
    saturates."""

    name = "cnnf"

    def __post_init__(self) -> None:
        _check_share("cnnf: saturation", self.saturation)

    def fit(self, blocks: Blocks) -> Cnnf:
        """Nothing to fit but the promise that the image is whole.

        Raises
        ------
        ModelError
            When the image comes in blocks.
        """
        only(blocks, self.name)
        return self

    def apply(self, pair: Pair) -> Floats:
        """Difference image, (1, Y, X).

        Raises
        ------
        ModelError
            When a band is not there, or the maps of the dates differ in shape.
        """
        pair = pair.core
        layers = both_maps(self.features, pair, self.bands, self.saturation)
        square_YX = np.zeros(pair.shape)
        for one_FYX, two_FYX in layers:
            for one, two in zip(one_FYX, two_FYX, strict=True):
                # Bringing to the grid is linear: once for the difference does.
                square_YX += enlarge(two - one, pair.shape) ** 2
        return _absent(np.sqrt(square_YX), pair.valid_YX)


@dataclass(frozen=True)
class DeepCva(Method):
    """Deep change vector analysis: length of the difference of the features that differ most.

    S. Saha, F. Bovolo, L. Bruzzone, IEEE TGRS 57(6), 2019: three layers of a network trained to
    segment aerial images. Features are clipped and brought to the pixel grid; in each quadrant of
    the image those are kept whose difference varies most; each is standardised per date. One
    channel, in [0, 1].
    """

    features: Features = NO_FEATURES
    bands: tuple[int, ...] | None = None
    """As of :class:`Cnnf`: a network trained on RGB sees three bands."""
    shares: tuple[float, ...] = (0.10, 0.10, 0.05)
    """Share of the features kept, layer by layer; at least one of each layer is."""
    saturation: float = 1.0
    """As of :class:`Cnnf`."""
    limit: float = 1.0
    """Features are clipped to plus and minus this; ``inf`` for activations without bounds."""
    difference_saturation: float = 5.0
    """Percent, at either end, at which differences of standardised features are saturated."""

    name = "deepcva"

    def __post_init__(self) -> None:
        _check_share("deepcva: saturation", self.saturation)
        _check_share("deepcva: saturation of differences", self.difference_saturation)
        fit = bool(self.shares) and all(0 < share <= 1 for share in self.shares)
        require(fit, "deepcva: shares", "one for each layer, above 0 and up to 1", self.shares)
        require(self.limit > 0, "deepcva: limit", "more than 0", self.limit)

    def fit(self, blocks: Blocks) -> DeepCva:
        """Nothing to fit but the promise that the image is whole.

        Raises
        ------
        ModelError
            When the image comes in blocks.
        """
        only(blocks, self.name)
        return self

    def apply(self, pair: Pair) -> Floats:
        """Difference image, (1, Y, X).

        Raises
        ------
        ModelError
            When a band is not there, the maps of the dates differ in shape, or there are not as
            many layers as shares.
        """
        pair = pair.core
        seen_YX = pair.valid_YX
        layers = both_maps(self.features, pair, self.bands, self.saturation)
        if len(layers) != len(self.shares):
            do = "Give one share for each layer of the extractor."
            got = f"{len(self.shares)} shares"
            raise ModelError(explain("deepcva", expected=f"{len(layers)} shares", got=got, do=do))
        square_YX = np.zeros(pair.shape)
        for (one_FYX, two_FYX), share in zip(layers, self.shares, strict=True):
            # Feature by feature: clipped copies of all would double what an image takes.
            differences = map(self._difference, one_FYX, two_FYX)
            for f in most_varying(differences, seen_YX, share):
                one, two = (
                    _standardised(enlarge(self._clipped(x[f]), pair.shape), seen_YX)
                    for x in (one_FYX, two_FYX)
                )
                square_YX += saturated(np.abs(two - one), seen_YX, self.difference_saturation) ** 2
        return _absent(_unit_range(np.sqrt(square_YX), seen_YX), seen_YX)

    def _clipped(self, map_YX: Floats) -> Floats:
        return map_YX.clip(-self.limit, self.limit)

    def _difference(self, one_YX: Floats, two_YX: Floats) -> Floats:
        return self._clipped(two_YX) - self._clipped(one_YX)


def both_maps(
    extractor: Features, pair: Pair, bands: tuple[int, ...] | None, saturation: float
) -> list[tuple[Floats, Floats]]:
    """Maps of both dates, layer by layer.

    Raises
    ------
    ModelError
        When a band is not there, or the maps of the dates differ in shape.
    """
    chosen = tuple(range(pair.bands)) if bands is None else bands
    if not chosen or not all(0 <= band < pair.bands for band in chosen):
        raise ModelError(
            explain(
                "bands for deep features",
                expected=f"some from 0 to {pair.bands - 1}",
                got=chosen,
                do="Count them from 0 in the order of the images.",
            )
        )
    seen_YX = pair.valid_YX
    one, two = (
        [
            np.asarray(x, np.float32)
            for x in extractor.features(stretched(image, seen_YX, saturation))
        ]
        for image in (pair.before_BYX[list(chosen)], pair.after_BYX[list(chosen)])
    )
    shapes = [[layer.shape for layer in layers] for layers in (one, two)]
    if shapes[0] != shapes[1] or any(len(shape) != 3 for shape in shapes[0]):
        raise ModelError(
            explain(
                "maps of deep features",
                expected="(F, y, x), alike at both dates",
                got=shapes,
                do="Mend the extractor.",
            )
        )
    return list(zip(one, two, strict=True))


def stretched(image_BYX: NDArray[Any], seen_YX: Booleans, saturation: float) -> Floats:
    """Each band from its percentiles to [0, 1]; absent pixels hold the band's median.

    A constant band becomes 0.5.
    """
    result_BYX = np.full(image_BYX.shape, 0.5, np.float32)
    if not seen_YX.any():
        return result_BYX
    for band_YX, into_YX in zip(image_BYX, result_BYX, strict=True):
        values_N = band_YX[seen_YX].astype(np.float64)
        low, middle, high = np.percentile(values_N, (saturation, 50, 100 - saturation))
        if high > low:
            filled_YX = np.where(seen_YX, band_YX, middle)
            into_YX[:] = ((filled_YX - low) / (high - low)).clip(0, 1)
    return result_BYX


def enlarge(map_YX: Floats, shape: tuple[int, int]) -> Floats:
    """Bilinear, pixel areas aligned, the edge repeated beyond the outer centres.

    A side that the network has halved so and so often, rounding down or up, is enlarged by the
    whole factor, so that features stay on their pixels, and then continued or cut.
    """
    factors = [_factor(old, new) for old, new in zip(map_YX.shape, shape, strict=True)]
    if factors != [1, 1]:
        map_YX = zoom(map_YX, factors, order=1, mode="nearest", grid_mode=True)
    short = [max(new - old, 0) for old, new in zip(map_YX.shape, shape, strict=True)]
    map_YX = np.pad(map_YX, [(0, pixels) for pixels in short], mode="edge")
    return np.asarray(map_YX[: shape[0], : shape[1]], np.float32)


def _factor(old: int, new: int) -> float:
    """From the side of a map to that of the image: whole where rounding explains the rest."""
    down, up = new // old, -(-new // old)
    if down and new // down == old:
        return down
    return up if -(-new // up) == old else new / old


def most_varying(differences: Iterable[Floats], seen_YX: Booleans, share: float) -> list[int]:
    """Features whose difference has the largest standard deviation in any quadrant, by number.

    Parameters
    ----------
    differences : iterable of array
        Of each feature, (y, x).
    seen_YX : array of bool
        Pixels that count.
    share : float
        Of the features that are kept; at least one is.
    """
    quadrants = [q for q in _quadrants(seen_YX.shape) if seen_YX[q].any()]
    deviation = []
    for map_YX in differences:
        full_YX = enlarge(map_YX, seen_YX.shape)
        deviation.append([full_YX[q][seen_YX[q]].std(dtype=np.float64) for q in quadrants])
    keep = max(1, round(share * len(deviation)))
    # Stable: among equals the first feature.
    order = np.argsort(-np.array(deviation), axis=0, kind="stable")[:keep]
    return sorted({int(f) for f in order.ravel()})


def saturated(x_YX: Floats, seen_YX: Booleans, percent: float) -> Floats:
    """The image clipped to its percentiles over the valid pixels."""
    if not seen_YX.any():
        return x_YX
    low, high = np.percentile(x_YX[seen_YX], (percent, 100 - percent))
    return np.clip(x_YX, low, high)


def _quadrants(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """The four quarters of an image."""
    (top, bottom), (left, right) = (
        (slice(0, length // 2), slice(length // 2, length)) for length in shape
    )
    yield from ((top, left), (top, right), (bottom, left), (bottom, right))


def _standardised(x_YX: Floats, seen_YX: Booleans) -> Floats:
    """Mean 0 and standard deviation 1 over the valid pixels; a constant feature says nothing: 0."""
    values_N = x_YX[seen_YX].astype(np.float64)
    deviation = values_N.std() if values_N.size else 0.0
    if deviation <= 1e-6 * np.abs(values_N).max(initial=0.0):
        return np.zeros_like(x_YX)
    return np.asarray((x_YX - values_N.mean()) / deviation, np.float32)


def _unit_range(x_YX: NDArray[Any], seen_YX: Booleans) -> NDArray[Any]:
    """From the extremes over the valid pixels to [0, 1]; 0 where there is one value."""
    if not seen_YX.any():
        return x_YX
    low, high = float(x_YX[seen_YX].min()), float(x_YX[seen_YX].max())
    return (x_YX - low) / (high - low) if high > low else np.zeros_like(x_YX)


def _absent(map_YX: NDArray[Any], seen_YX: Booleans) -> Floats:
    """As a difference image of one channel, NaN where absent."""
    return np.where(seen_YX, map_YX, np.nan).astype(np.float32)[None]


def _check_share(what: str, percent: float) -> None:
    require(0 <= percent < 50, what, "percent from 0 to below 50", percent)
