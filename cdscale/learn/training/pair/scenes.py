"""Pairs of a recipe in memory, and what is measured of them before training.

Shape suffixes: B band, P polarisation, Y row, X column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cdscale.learn.augment import Scene, filled, window_size
from cdscale.learn.data import Image, Sample
from cdscale.learn.labels import IGNORED
from cdscale.learn.losses import class_weights
from cdscale.learn.training.pair.recipe import PairRecipe
from cdscale.learn.training.places import require_label, samples_of
from cdscale.spec.card import Normalisation

Floats = NDArray[np.float32]

_ORBIT = re.compile(r"s1_before_\d+")


@dataclass(frozen=True)
class Place:
    """One pair of dates: reflectance (2, B, Y, X), linear power of each orbit (2, P, Y, X).

    NaN where absent; no orbit where there is no radar. Label (Y, X), 255 where unknown.
    """

    name: str
    s2: Floats
    s1: tuple[Floats, ...]
    label: NDArray[np.uint8]

    def radar(self, polarisations: int) -> Floats:
        """Backscatter of the first orbit; NaN everywhere when there is none."""
        if self.s1:
            return self.s1[0]
        return np.full((2, polarisations, *self.label.shape), np.nan, np.float32)


def read_places(recipe: PairRecipe, root: Path, names: Iterable[str]) -> list[Place]:
    """Read every pair of some places whole, with the recipe's bands.

    Raises
    ------
    ReadError
        When a file is absent or damaged, or a place has no label.
    """
    wanted = set(names)
    return [_read(recipe, s) for s in samples_of(recipe, root) if s.place in wanted]


def measure(recipe: PairRecipe, places: list[Place]) -> Normalisation:
    """The recipe's rule, with moments of the training places where it asks for them.

    Every pair counts alike, whatever its size, and both dates.
    """
    rule = recipe.stated
    if not recipe.asks_moments:
        return rule
    dates = [np.clip(date, *rule.s2_clip) for place in places for date in place.s2]
    means = np.mean([np.nanmean(x, axis=(1, 2), dtype=np.float64) for x in dates], axis=0)
    squares = [np.nanmean(x.astype(np.float64) ** 2, axis=(1, 2)) for x in dates]
    stds = np.sqrt(np.maximum(np.mean(squares, axis=0) - means**2, 1e-8))
    return rule.model_copy(
        update={
            "s2_mean": tuple(round(float(v), 5) for v in means),
            "s2_std": tuple(round(float(v), 5) for v in stds),
        }
    )


def weights_of(recipe: PairRecipe, places: list[Place]) -> tuple[float, float]:
    """Weights of no change and change, from all labelled pixels of the training places.

    Raises
    ------
    UserError
        When nothing or everything changed.
    """
    changed = sum(int((place.label == 1).sum()) for place in places)
    total = sum(int((place.label != IGNORED).sum()) for place in places)
    return class_weights(changed, total, recipe.loss.lambda_fp)


def drawable(recipe: PairRecipe, place: Place, rule: Normalisation) -> Scene:
    """A place as tensors that crops of the recipe's size can be drawn from."""
    side = window_size(recipe.sampling.crop, recipe.augment)
    orbits = place.s1 or (place.radar(len(recipe.s1_bands)),)
    return Scene.of(
        filled(torch.from_numpy(place.s2), side, torch.nan),
        tuple(filled(torch.from_numpy(orbit), side, torch.nan) for orbit in orbits),
        filled(torch.from_numpy(place.label), side, IGNORED),
        rule,
    )


def _read(recipe: PairRecipe, sample: Sample) -> Place:
    require_label(sample, "change")
    optical = [sample.read(when, recipe.s2_bands) for when in ("before", "after")]
    return Place(sample.key, np.stack(optical), _radar(recipe, sample), sample.read("change"))


def _radar(recipe: PairRecipe, sample: Sample) -> tuple[Floats, ...]:
    """Every orbit that has the recipe's polarisations."""
    if not recipe.s1_bands:
        return ()
    orbits = [name for name in sample.names if _ORBIT.fullmatch(name)] or ["s1_before"]
    found = []
    for name in orbits:
        layer = sample.layer(name)
        if layer.sources and isinstance(layer, Image) and set(recipe.s1_bands) <= set(layer.bands):
            dates = (name, name.replace("before", "after"))
            found.append(np.stack([sample.read(date, recipe.s1_bands) for date in dates]))
    return tuple(found)
