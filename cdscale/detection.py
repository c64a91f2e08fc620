"""``detect``: two image files, a detector that needs no training, and the map block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cdscale import classical
from cdscale.classical.blocks import Blocks
from cdscale.classical.deep import Features
from cdscale.classical.files import RasterPair

Norm = Literal["mean", "euclidean"]

HELD = 512 * 2**20
"""Bytes of a pair that are held in memory instead of being read again at every pass."""
WHOLE = frozenset({classical.DeepCva.name, classical.Cnnf.name})
"""Methods that take an image in one piece."""


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
    _fitted: classical.Fitted
    _blocks: Blocks

    def blocks(self) -> Iterator[tuple[classical.Pair, classical.Difference]]:
        """Each block with what the detector says of it."""
        for block in self._blocks:
            yield block, self._fitted.apply(block)


@dataclass(frozen=True)
class How:
    """Which detector, with which options.

    Parameters
    ----------
    method : str
        A name of :data:`cdscale.classical.METHODS`.
    threshold : str
        ``otsu``, ``kmeans``, a score, or empty for that of the method.
    norm : {"mean", "euclidean"}
        How channels make a score.
    weights : Path or None
        ImageNet weights of VGG-19 for CNNF and of VGG-16 for DeepCVA (torchvision's state dict,
        safetensors or .pth); without, both look at fixed filters that need no file.
    """

    method: str = "irmad"
    threshold: str = ""
    norm: Norm = "mean"
    weights: Path | None = None


def detect(before: Path, after: Path, how: How) -> Detection:
    """Fit a detector to two co-registered image files.

    Memory stays bounded, however large the files are, except with the methods of :data:`WHOLE`.

    Raises
    ------
    ReadError
        When a file cannot be read, or when the two are not of one grid.
    SpecError
        When there is no such method or threshold.
    ModelError
        When the image does not suffice for the method, or the weights do not fit.
    """
    threshold = classical.threshold_named(how.threshold) if how.threshold else None
    method = classical.method_named(how.method)
    pair = RasterPair.open(before, after)
    if method.name in WHOLE:
        features = _features(method.name, pair.bands, how.weights)
        method = classical.method_named(how.method, features)
        side = max(pair.width, pair.height)
    else:
        side = pair.side
    pair = pair.cut(side, method.halo)
    size = 2 * 8 * pair.bands * pair.width * pair.height
    blocks: Blocks = list(pair) if size <= HELD or method.name in WHOLE else pair
    return Detection(pair, method.name, classical.fit(blocks, method, threshold, how.norm), blocks)


def _features(method: str, bands: int, weights: Path | None) -> Features:
    """What the methods on deep features look at."""
    from cdscale.models.extractors import FilterBank, Maps
    from cdscale.models.vgg import Vgg, level_layers, load_vgg

    if weights is None:
        return Maps(FilterBank(bands, standardise=False))
    depth: Literal[16, 19] = 19 if method == classical.Cnnf.name else 16
    network = Vgg(level_layers(depth, (1, 2, 3)), depth=depth, scaling="caffe")
    return Maps(load_vgg(network, weights))


__all__ = ["HELD", "WHOLE", "Detection", "How", "detect"]
