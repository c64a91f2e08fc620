"""``detect``: two image files, a detector that needs no label, and the map block by block."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from cdscale import classical
from cdscale.classical.blocks import Blocks, Booleans, Floats, Image
from cdscale.classical.files import RasterPair
from cdscale.errors import ModelError, SpecError, explain

if TYPE_CHECKING:
    from cdscale.learn.metric_cd import MetricCd, Step, Window
    from cdscale.models.extractors import FilterBank
    from cdscale.models.vgg import Vgg

Norm = Literal["mean", "euclidean"]

HELD = 512 * 2**20
"""Bytes of a pair that are held in memory instead of being read again at every pass."""
WHOLE = frozenset({classical.DeepCva.name, classical.Cnnf.name})
"""Methods that take an image in one piece."""
METRIC_CD = "metric-cd"
"""The method that is no fit but an optimisation: see :mod:`cdscale.learn.metric_cd`."""
METHODS = (*classical.METHODS, METRIC_CD)
"""Names of all methods."""


@dataclass(frozen=True)
class Optimised:
    """What Metric-CD may be told; a number that is None is that of the mode.

    Parameters
    ----------
    mode : str
        ``centred``, ``paper`` or ``notebook``: :data:`cdscale.learn.metric_cd.RECIPES`.
    iterations : int or None
        Of the optimisation.
    blocks : int or None
        Residual blocks of the network.
    side : int or None
        Pixels a side of a tile.
    seed : int
        Of the network's first weights.
    """

    mode: str = "centred"
    iterations: int | None = None
    blocks: int | None = None
    side: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class How:
    """Which detector, with which options.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`; case, blanks and hyphens do not matter.
    threshold : str
        ``otsu``, ``kmeans``, a score, or empty for that of the method.
    norm : {"mean", "euclidean"}
        How channels make a score; Metric-CD has one.
    weights : Path or None
        ImageNet weights of VGG-19 for CNNF and of VGG-16 for DeepCVA and Metric-CD (torchvision's
        state dict, safetensors or .pth); without, all look at fixed filters that need no file.
    optimised : Optimised
        For Metric-CD alone.
    """

    method: str = "irmad"
    threshold: str = ""
    norm: Norm = "mean"
    weights: Path | None = None
    optimised: Optimised = field(default_factory=Optimised)


class Fitted(Protocol):
    """A detector that has seen its image."""

    def apply(self, block: classical.Pair) -> classical.Difference:
        """What it says of one block."""
        ...


@dataclass(frozen=True)
class Detection:
    """A detector fitted to a pair of files.

    Parameters
    ----------
    pair : RasterPair
        The files.
    name : str
        Of the method.
    """

    pair: RasterPair
    name: str
    _fitted: Fitted
    _blocks: Blocks

    def blocks(self) -> Iterator[tuple[classical.Pair, classical.Difference]]:
        """Each block with what the detector says of it."""
        for block in self._blocks:
            yield block, self._fitted.apply(block)


Progress = Callable[["Step"], None]


def _silent(step: Step) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Request:
    """A pair of files and a method, both looked at, nothing computed; see :func:`prepared`."""

    pair: RasterPair
    name: str
    how: How

    def run(self, progress: Progress = _silent) -> Detection:
        """Fit the detector.

        Memory stays bounded, however large the files are, except with the methods of
        :data:`WHOLE`; Metric-CD holds eight bytes a pixel beside its tile.

        Parameters
        ----------
        progress : callable
            Is told every iteration of Metric-CD.

        Raises
        ------
        ReadError
            When the files do not give their pixels.
        ModelError
            When the image does not suffice for the method, or is too large for it, or the weights
            do not fit.
        """
        if self.name == METRIC_CD:
            return Detection(self.pair, self.name, _optimised(self, progress), self.pair)
        pair, threshold = self.pair, _threshold(self.how)
        method = classical.method_named(self.name)
        side = pair.side
        if self.name in WHOLE:
            method = _on_features(self)
            side = max(pair.width, pair.height)
        pair = pair.cut(side, method.halo)
        size = 2 * 8 * pair.bands * pair.width * pair.height
        blocks: Blocks = list(pair) if size <= HELD or self.name in WHOLE else pair
        fitted = classical.fit(blocks, method, threshold, self.how.norm)
        return Detection(pair, self.name, fitted, blocks)


def prepared(before: Path, after: Path, how: How) -> Request:
    """Look at two files and at the options, and refuse what cannot be done.

    Raises
    ------
    ReadError
        When a file cannot be read, or when the two are not of one grid.
    SpecError
        When there is no such method, threshold or mode, or an option is of another method.
    ModelError
        When a number of Metric-CD is out of range.
    """
    name = _name_of(how.method)
    _threshold(how)
    if name == METRIC_CD:
        _recipe(how.optimised)
    elif how.optimised != Optimised():
        raise _foreign("options of the optimisation", METRIC_CD, name)
    if how.weights is not None and name not in WHOLE | {METRIC_CD}:
        raise _foreign("weights", ", ".join(sorted(WHOLE | {METRIC_CD})), name)
    return Request(RasterPair.open(before, after), name, how)


def detect(before: Path, after: Path, how: How) -> Detection:
    """Fit a detector to two co-registered image files: :func:`prepared`, and run.

    Raises
    ------
    ReadError, SpecError, ModelError
        As :func:`prepared` and :meth:`Request.run`.
    """
    return prepared(before, after, how).run()


def _name_of(text: str) -> str:
    plain = {re.sub(r"[\s_-]", "", name): name for name in METHODS}
    name = plain.get(re.sub(r"[\s_-]", "", text.lower()))
    if name is None:
        raise SpecError(
            explain("no such method", expected=f"one of {', '.join(METHODS)}", got=text)
        )
    return name


def _foreign(what: str, of: str, name: str) -> SpecError:
    do = "Leave them out, or choose another method."
    return SpecError(explain(f"{what} with the wrong method", expected=of, got=name, do=do))


def _threshold(how: How) -> classical.Threshold | None:
    return classical.threshold_named(how.threshold) if how.threshold else None


def _on_features(request: Request) -> classical.Method:
    """A method of :data:`WHOLE` with what it looks at."""
    from cdscale.models.extractors import Maps

    extractor = _extractor(request)
    _check_room(request, extractor)
    features = Maps(extractor)
    if request.name == classical.DeepCva.name and request.how.weights is not None:
        # Activations of VGG have no bounds: clipped to [-1, 1] nearly all would be alike.
        return classical.DeepCva(features, limit=math.inf)
    return classical.method_named(request.name, features)


def _extractor(request: Request) -> FilterBank | Vgg:
    """What the methods on deep features look at."""
    from cdscale.models.extractors import FilterBank
    from cdscale.models.vgg import Vgg, level_layers, load_vgg

    weights = request.how.weights
    if weights is None:
        return FilterBank(request.pair.bands, standardise=False)
    depth: Literal[16, 19] = 19 if request.name == classical.Cnnf.name else 16
    return load_vgg(Vgg(level_layers(depth, (1, 2, 3)), depth=depth, scaling="caffe"), weights)


def _check_room(request: Request, extractor: FilterBank | Vgg) -> None:
    """Refuse an image whose features would not fit into memory, before the machine gives up."""
    pair, room = request.pair, memory()
    maps = zip(extractor.channels, extractor.strides, strict=True)
    # Float32 of both dates; making them takes about half as much again.
    each = 1.5 * 2 * 4 * sum(channels / stride**2 for channels, stride in maps)
    need = each * pair.width * pair.height
    if need > room:
        side = math.isqrt(int(room / each))
        raise ModelError(
            explain(
                f"{request.name} holds the features of a whole image in memory",
                expected=f"some {side} x {side} pixels at most in {room / 1e9:.1f} GB",
                got=f"{pair.height} x {pair.width} pixels, for {need / 1e9:.1f} GB",
                do="Cut both images alike into parts, or choose a method for images of any size, "
                "such as irmad or metric-cd.",
            )
        )


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _recipe(told: Optimised) -> MetricCd:
    """The recipe of a mode with the numbers that were given."""
    from cdscale.learn.metric_cd import MetricCd, recipe_named

    given = {
        "iterations": told.iterations,
        "blocks": told.blocks,
        "side": told.side,
        "seed": told.seed,
    }
    fields = recipe_named(told.mode).model_dump()
    if told.side is not None:
        fields["overlap"] = min(fields["overlap"], told.side // 4)
    fields |= {name: value for name, value in given.items() if value is not None}
    return MetricCd.check(fields, where=METRIC_CD).checked()


@dataclass(frozen=True)
class _FileScene:
    """A pair of files as Metric-CD reads it."""

    pair: RasterPair

    @property
    def bands(self) -> int:
        return self.pair.bands

    @property
    def height(self) -> int:
        return self.pair.height

    @property
    def width(self) -> int:
        return self.pair.width

    def read(self, window: Window) -> tuple[Image, Image]:
        part = self.pair.part(*window.slices)
        return part.before_BYX, part.after_BYX


@dataclass(frozen=True, eq=False)
class _Mapped:
    """A detector that has made its whole map already."""

    score_YX: Floats
    change_YX: Booleans

    def apply(self, block: classical.Pair) -> classical.Difference:
        height, width = block.shape
        place = np.s_[block.row : block.row + height, block.column : block.column + width]
        score_YX = self.score_YX[place]
        return classical.Difference(score_YX[None], score_YX, self.change_YX[place])


def _optimised(request: Request, progress: Progress) -> _Mapped:
    """Metric-CD over the files; a threshold that was asked for keeps to the floor of the mode."""
    from cdscale.inference import best_device
    from cdscale.learn import metric_cd

    recipe = _recipe(request.how.optimised)
    extractor = metric_cd.extractor_for(request.pair.bands, recipe, request.how.weights)
    scene = _FileScene(request.pair)
    found = metric_cd.metric_cd(scene, recipe, extractor.to(best_device()), progress)
    threshold, score_YX = _threshold(request.how), found.probability_YX
    if threshold is None:
        return _Mapped(score_YX, found.change_YX)
    layer = classical.Layer(score_YX[None], score_YX)
    change_YX = threshold.fit([layer]).change(layer)
    return _Mapped(score_YX, change_YX & (score_YX > metric_cd.floor_of(score_YX, recipe)))


__all__ = [
    "HELD",
    "METHODS",
    "METRIC_CD",
    "WHOLE",
    "Detection",
    "How",
    "Optimised",
    "Request",
    "detect",
    "prepared",
]
