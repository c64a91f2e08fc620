"""Months of a recipe as arrays, and what is measured of them before training.

Shape suffixes: B band, P polarisation, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cdscale.learn.data import Image, Sample
from cdscale.learn.training.month.recipe import MonthRecipe
from cdscale.learn.training.places import require_label, samples_of
from cdscale.spec.card import Normalisation

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Month:
    """One month of one place: linear power (P, Y, X), reflectance (B, Y, X), NaN where absent.

    ``seen`` (Y, X) tells where there is a valid optical pixel, also to a network that reads none.
    Label (Y, X): 1 built-up, 0 not, 255 unknown.
    """

    place: str
    s1: Floats
    s2: Floats
    seen: NDArray[np.bool_]
    label: NDArray[np.uint8]


def samples_in(recipe: MonthRecipe, root: Path, places: Iterable[str]) -> list[Sample]:
    """All samples of some places.

    Raises
    ------
    ReadError
        When the data set is not there.
    """
    wanted = set(places)
    return [sample for sample in samples_of(recipe, root) if sample.place in wanted]


def read_month(recipe: MonthRecipe, sample: Sample) -> Month:
    """Read a sample whole, with the recipe's bands.

    Raises
    ------
    ReadError
        When a file is absent or damaged, or there is no label.
    SpecError
        When a layer lacks a band of the recipe.
    """
    require_label(sample, "urban")
    s1, label = sample.read("s1", recipe.s1_bands), sample.read("urban")
    if recipe.s2_bands:
        s2 = sample.read("image", recipe.s2_bands)
        return Month(sample.place, s1, s2, np.isfinite(s2).all(axis=0), label)
    # Figures tell apart what optical saw, even where the network does not look at it.
    layer = sample.layer("image")
    probe = sample.read("image", layer.bands[:1] if isinstance(layer, Image) else None)
    nothing = np.empty((0, *label.shape), np.float32)
    return Month(sample.place, s1, nothing, np.isfinite(probe[0]), label)


def measure(recipe: MonthRecipe, months: list[Month]) -> Normalisation:
    """The recipe's rule, with moments of the training months where it asks for them.

    Every seen pixel counts alike.
    """
    rule = recipe.stated
    if not recipe.asks_moments:
        return rule
    bands = len(recipe.s2_bands)
    total, square, count = np.zeros(bands), np.zeros(bands), 0
    for month in months:
        pixels = np.clip(month.s2[:, month.seen], *rule.s2_clip).astype(np.float64)
        total += pixels.sum(axis=1)
        square += (pixels**2).sum(axis=1)
        count += pixels.shape[1]
    mean = total / max(count, 1)
    std = np.sqrt(np.maximum(square / max(count, 1) - mean**2, 1e-8))
    return rule.model_copy(
        update={
            "s2_mean": tuple(round(float(v), 5) for v in mean),
            "s2_std": tuple(round(float(v), 5) for v in std),
        }
    )
