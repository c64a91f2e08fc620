"""Detection: a method and a threshold over a pair of images, or over the blocks of a mosaic.

    detect(before, after, METHODS["irmad"])

is the same code, on one block, as

    fitted = fit(blocks, METHODS["irmad"])
    for block in blocks: fitted.apply(block)

Shape suffixes: C channel of a difference image, B band, Y row, X column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cdscale.classical.blocks import (
    Blocks,
    Booleans,
    Floats,
    Image,
    Pair,
    alike,
    check_repeatable,
    cut,
)
from cdscale.classical.components import Dpca, Pcda
from cdscale.classical.deep import NO_FEATURES, Cnnf, DeepCva, Features
from cdscale.classical.mad import Irmad, Mad
from cdscale.classical.method import Detector, Method
from cdscale.classical.pca_kmeans import PcaKmeans
from cdscale.classical.simple import Cva, ImageDiff, ImageRatio, ImageRegr
from cdscale.classical.threshold import Cut, Layer, Norm, Threshold, score_of
from cdscale.errors import SpecError, explain

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        ImageDiff(), ImageRatio(), ImageRegr(), Cva(), Dpca(), Pcda(), PcaKmeans(), Mad(), Irmad(),
        DeepCva(), Cnnf(),
    )
}  # fmt: skip
"""The detectors with their default options, by name. The last two need a feature extractor:
:func:`method_named` gives them one."""


@dataclass(frozen=True, eq=False)
class Difference:
    """What a detector says of a pair.

    Parameters
    ----------
    di_CYX : array of float32
        Difference image: how much each channel of the method differs, NaN where either date is
        absent.
    score_YX : array of float32
        Its mean (or Euclidean norm) over channels, the larger the more change; NaN where absent.
    change_YX : array of bool
        Where the threshold sees change; False where absent.
    """

    di_CYX: Floats
    score_YX: Floats
    change_YX: Booleans


@dataclass(frozen=True)
class Fitted:
    """A method and a threshold that have seen all blocks of an image; it pickles."""

    detector: Detector
    cut: Cut
    norm: Norm

    def apply(self, block: Pair) -> Difference:
        """Detect change in one block, with the halo of the method.

        Raises
        ------
        ModelError
            When the block has less halo or other bands than those that were fitted.
        """
        layer = _layer(self.detector, block, self.norm)
        return Difference(layer.di_CYX, layer.score_YX, self.cut.change(layer))


def fit(
    blocks: Blocks,
    method: Method,
    threshold: Threshold | None = None,
    norm: Norm = "mean",
) -> Fitted:
    """Fit a method and a threshold to an image that may be larger than memory.

    Goes over the blocks several times (see the classes), holding one at a time; the result does not
    depend on how the image is cut.

    Parameters
    ----------
    blocks : iterable of Pair
        That can be gone over again, each with ``method.halo`` pixels of context, and each knowing
        its row and column in the image.
    method : Method
        One of :data:`METHODS`, or made with other options.
    threshold : Threshold, optional
        None: the one that belongs to the method.
    norm : {"mean", "euclidean"}
        How channels make a score.

    Raises
    ------
    ModelError
        When the image does not suffice for the method: too few valid pixels, no halo, blocks
        that can be gone over only once.
    SpecError
        When the norm is neither.
    """
    _check_norm(norm)
    check_repeatable(blocks)
    detector = method.fit(blocks)
    rule = (threshold or method.threshold).fit(_Layers(detector, blocks, norm))
    return Fitted(detector, rule, norm)


def detect(
    before_BYX: Image,
    after_BYX: Image,
    method: Method,
    threshold: Threshold | None = None,
    norm: Norm = "mean",
) -> Difference:
    """Detect change between two co-registered images.

    Parameters
    ----------
    before_BYX, after_BYX : array of real numbers
        The dates: one shape, any units. A pixel of which any band of either date is NaN or infinite
        enters no statistic and is NaN in the result.
    method, threshold, norm
        As for :func:`fit`.

    Raises
    ------
    ModelError
        When the images differ in shape, or do not suffice for the method.
    SpecError
        When the norm is neither "mean" nor "euclidean".
    """
    # As `fit` and `Fitted.apply`, with the one difference image held instead of made again.
    layer = compare(before_BYX, after_BYX, method, norm)
    change_YX = (threshold or method.threshold).fit([layer]).change(layer)
    return Difference(layer.di_CYX, layer.score_YX, change_YX)


def compare(before_BYX: Image, after_BYX: Image, method: Method, norm: Norm = "mean") -> Layer:
    """Difference image of two co-registered images, for one or several thresholds.

    ``threshold.fit([layer]).change(layer)`` is then the map of a threshold.

    Parameters
    ----------
    before_BYX, after_BYX, method, norm
        As for :func:`detect`.

    Raises
    ------
    ModelError, SpecError
        As :func:`detect`.
    """
    _check_norm(norm)
    whole = Pair(before_BYX, after_BYX)
    block = cut(whole, max(whole.shape), method.halo)[0]
    return _layer(method.fit([block]), block, norm)


def method_named(text: str, features: Features = NO_FEATURES) -> Method:
    """The method of a name, with its default options.

    Parameters
    ----------
    text : str
        As in :data:`METHODS`; case, blanks and hyphens do not matter.
    features : Features, optional
        For DeepCVA and CNNF.

    Raises
    ------
    SpecError
        When there is none of that name; the message lists them.
    """
    known = {_plain(name): method for name, method in METHODS.items()}
    if _plain(text) not in known:
        raise SpecError(
            explain("no such method", expected=f"one of {', '.join(METHODS)}", got=text)
        )
    method = known[_plain(text)]
    deep: dict[str, Method] = {DeepCva.name: DeepCva(features), Cnnf.name: Cnnf(features)}
    return deep.get(method.name, method)


@dataclass(frozen=True, eq=False)
class _Layers:
    """Difference images of the blocks, made when they are asked for."""

    detector: Detector
    blocks: Blocks
    norm: Norm

    def __iter__(self) -> Iterator[Layer]:
        return (_layer(self.detector, block, self.norm) for block in alike(self.blocks))


def _layer(detector: Detector, block: Pair, norm: Norm) -> Layer:
    di_CYX = detector.apply(block)
    return Layer(di_CYX, score_of(di_CYX, norm), block.row, block.column)


def _check_norm(norm: str) -> None:
    if norm not in ("mean", "euclidean"):
        raise SpecError(explain("norm over channels", expected="mean or euclidean", got=norm))


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]", "", text.lower())
