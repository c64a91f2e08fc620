"""Scenes of a data set through a network.

Networks on pairs and on months go by the code that the pipeline maps with: a scene is a block with
nothing around it, ``card.halo`` pixels of NaN on every side, cut into windows by
:mod:`cdscale.inference`. Its layers are read whole; what a network takes is bounded by the window.

Networks on images have scenes of any size, which are read window by window
(:mod:`cdscale.learn.images`).

Shape suffixes: B band, P polarisation, C channel, Y row, X column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from cdscale import models
from cdscale.errors import ModelError, SpecError, explain
from cdscale.inference import (
    Block,
    Booleans,
    Floats,
    Tiling,
    UrbanMap,
    best_device,
    predict_change,
    predict_urban,
)
from cdscale.learn.data import DataSet, Image, Sample
from cdscale.learn.images import Reading, SceneMapper
from cdscale.models import ModelCard, Precision, family_of

if TYPE_CHECKING:
    from torch import nn

LARGEST = 1024
"""Side of the largest core of a window, in pixels; its halo comes on top."""

NEEDED = {
    "pair": ("before", "after"),
    "month": ("s1", "image"),
    "images": ("before", "after"),
}
"""Layers that a data set must have for a network of each kind."""

_ORBIT = re.compile(r"s1_before(_\d+)")


@dataclass(frozen=True)
class Way:
    """How a network is asked.

    Parameters
    ----------
    radar : bool
        False: Sentinel-1 is withheld, and enters as absent.
    tta : {"card", "none", "d4"}
        Test-time augmentation; see :class:`cdscale.inference.Tiling`.
    precision : {"float32", "bfloat16"}
        Of the arithmetic inside the network; the latter as far as its card speaks for it.
    """

    radar: bool = True
    tta: Literal["card", "none", "d4"] = "card"
    precision: Precision = "float32"

    def orientations(self, card: ModelCard) -> str:
        """``none`` or ``d4``."""
        return card.tta if self.tta == "card" else self.tta


@dataclass(frozen=True)
class Mapper:
    """A network with its card, and how it is asked."""

    card: ModelCard
    network: nn.Module
    way: Way

    @classmethod
    def open(cls, model: str, data: DataSet, way: Way) -> Mapper:
        """Load a network that fits a data set.

        Parameters
        ----------
        model : str
            Name of a shipped model, or the path of a ``.card.yaml`` file.
        data : DataSet
            What it is to map.
        way : Way
            How it is asked.

        Raises
        ------
        ModelError
            When there is no such model, when it is untrained, when the data set lacks bands or
            layers that it reads, or when its card does not speak for the precision.
        """
        card = models.load_card(model)
        check_fits(card, data, way)
        card.refuse_precision(way.precision, force=False)
        network = models.load(card, best_device(), way.precision, models.folder_of(model))
        return cls(card, network, way)

    def scene(self, threshold: float | None = None) -> SceneMapper:
        """Windows of scenes, of a network on images.

        Parameters
        ----------
        threshold : float, optional
            Of the probability of change; by default that of the card.

        Raises
        ------
        ModelError
            When the family is none of semantic change.
        """
        level = self.card.threshold if threshold is None else threshold
        turns = {"none": 1, "d4": 8}[self.way.orientations(self.card)]
        return SceneMapper.of(self.card, self.network, level, turns)

    def change(self, sample: Sample) -> Floats:
        """Probability of change (Y, X), NaN where neither sensor saw both dates.

        Where there is radar of several orbits, each is mapped by itself, and the probabilities
        are averaged over the orbits that saw the pixel at both dates.

        Raises
        ------
        ReadError
            When a layer cannot be read.
        """
        before, after = (self._optical(sample, name) for name in ("before", "after"))
        shape = before.shape[1:]
        total, count = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        plain, orbits = np.zeros(shape, np.float32), 0
        for first, second in self._radar_pairs(sample, shape):
            found_YX = predict_change(
                self.network,
                self.card,
                Block(self._surrounded(before), self._surrounded(first)),
                Block(self._surrounded(after), self._surrounded(second)),
                self._tiling(shape),
            )
            seen_YX = _seen(first) & _seen(second)
            total += np.where(seen_YX, found_YX, np.float32(0))
            count += seen_YX
            plain += found_YX
            orbits += 1
        # Where no orbit saw the pixel, all say what they make of the optical image.
        return np.where(count > 0, total / np.maximum(count, 1), plain / orbits)

    def urban(self, sample: Sample) -> UrbanMap:
        """Urban probability of one month, (Y, X).

        Raises
        ------
        ReadError
            When a layer cannot be read.
        """
        s2_BYX = self._optical(sample, "image")
        s1_PYX = self._radar(sample, "s1", s2_BYX.shape[1:])
        block = Block(self._surrounded(s2_BYX), self._surrounded(s1_PYX))
        return predict_urban(self.network, self.card, block, self._tiling(s2_BYX.shape[1:]))

    def _optical(self, sample: Sample, layer: str) -> Floats:
        bands = self.card.s2_bands
        if not bands:
            return np.empty((0, *sample.grid().shape), np.float32)
        image_BYX: Floats = sample.read(layer, bands)
        return image_BYX

    def _radar_pairs(
        self, sample: Sample, shape: tuple[int, ...]
    ) -> Iterator[tuple[Floats, Floats]]:
        """Both dates of each orbit; once nothing where there is none."""
        orbits = orbits_of(sample, self.card.s1_bands) if self.way.radar else ()
        for orbit in orbits or ("",):
            yield (
                self._radar(sample, f"s1_before{orbit}", shape),
                self._radar(sample, f"s1_after{orbit}", shape),
            )

    def _radar(self, sample: Sample, layer: str, shape: tuple[int, ...]) -> Floats:
        bands = self.card.s1_bands
        nothing = np.full((len(bands), *shape), np.nan, np.float32)
        if not bands or not self.way.radar or not _holds(sample, layer, bands):
            return nothing
        power_PYX: Floats = sample.read(layer, bands)
        return power_PYX

    def _surrounded(self, x_CYX: Floats) -> Floats:
        """The scene with nothing around it."""
        halo = self.card.halo
        around = ((0, 0), (halo, halo), (halo, halo))
        return np.pad(x_CYX, around, constant_values=np.nan)

    def _tiling(self, shape: tuple[int, ...]) -> Tiling:
        """Windows of one size of which few pixels lie beyond the scene."""
        side, stride = max(shape), self.card.stride
        even = -(-side // -(-side // LARGEST))
        return Tiling(core=-(-even // stride) * stride, tta=self.way.tta)


def orbits_of(sample: Sample, bands: tuple[str, ...]) -> tuple[str, ...]:
    """What follows ``s1_before`` in the layers that have these polarisations; none without any."""
    if not bands:
        return ()
    matches = [_ORBIT.fullmatch(name) for name in sample.names]
    named = [m[1] for m in matches if m and _holds(sample, m[0], bands)]
    if named:
        return tuple(named)
    return ("",) if _holds(sample, "s1_before", bands) else ()


def threshold_of(card: ModelCard, asked: float | None) -> float | None:
    """The threshold asked for, or the card's; None where the likeliest class decides.

    Raises
    ------
    SpecError
        When one is asked of a network that has none.
    """
    if card.task == "semantic-change":
        reading = Reading.of(card.family, card.classes)
        if not reading.has_threshold:
            if asked is None:
                return None
            raise SpecError(
                explain(
                    f"threshold of {card.name}",
                    expected="none: the likeliest class decides",
                    got=asked,
                    do="Leave it out, or choose a network with a change output of its own.",
                )
            )
    return card.threshold if asked is None else asked


def check_fits(card: ModelCard, data: DataSet, way: Way) -> None:
    """Refuse a network that cannot read a data set, or not in this way.

    Raises
    ------
    ModelError
        Naming what is missing.
    """
    kind = family_of(card).kind
    if lacking := [layer for layer in NEEDED[kind] if layer not in data.layers]:
        raise ModelError(
            explain(
                f"model {card.name} cannot read {data.name}",
                expected=f"layers {', '.join(NEEDED[kind])}",
                got=f"a data set without {', '.join(lacking)}",
                do="Choose a data set of its task; 'cdscale data list' shows them.",
            )
        )
    if missing := [band for band in card.s2_bands if band not in data.bands]:
        raise ModelError(
            explain(
                f"model {card.name} cannot read {data.name}",
                expected=f"bands {', '.join(card.s2_bands)}",
                got=f"a data set without {', '.join(missing)}",
                do="Choose a model of these bands, or another data set.",
            )
        )
    radar = way.radar and any(layer.startswith("s1") for layer in data.layers)
    if not card.s2_bands and not radar:
        raise ModelError(
            explain(
                f"model {card.name} sees radar alone",
                expected=f"{', '.join(card.s1_bands)} of {data.name}",
                got="none, or radar withheld",
            )
        )


def _holds(sample: Sample, layer: str, bands: tuple[str, ...]) -> bool:
    """Whether a layer is there with these bands."""
    if not sample.has(layer):
        return False
    image = sample.layer(layer)
    return isinstance(image, Image) and set(bands) <= set(image.bands)


def _seen(x_PYX: Floats) -> Booleans:
    """Pixels (Y, X) with all channels; none where there are no channels."""
    if not len(x_PYX):
        return np.zeros(x_PYX.shape[1:], bool)
    seen: Booleans = np.logical_and.reduce(np.isfinite(x_PYX), axis=0)
    return seen
