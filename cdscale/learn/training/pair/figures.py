"""Figures of finished weights on the held-out pairs of a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cdscale.learn.metrics import Confusion, Curve
from cdscale.learn.training.kinds import Measured
from cdscale.learn.training.mapping import Mapping
from cdscale.learn.training.pair.mapping import map_pair
from cdscale.learn.training.pair.module import VARIANTS
from cdscale.learn.training.pair.recipe import PairRecipe
from cdscale.learn.training.pair.scenes import Place, read_places
from cdscale.learn.training.shipping import chosen_by_validation
from cdscale.spec.card import ModelCard

Maps = list[tuple[Place, NDArray[np.float32]]]


def measure_pairs(
    recipe: PairRecipe, root: Path, network: torch.nn.Module, card: ModelCard
) -> Measured:
    """Figures of each part and variant, at the recipe's threshold or the best in validation.

    Parameters
    ----------
    recipe : PairRecipe
        With all its places named.
    root : Path
        Folder of the data set.
    network : nn.Module
        In evaluation mode.
    card : ModelCard
        How places are mapped.

    Raises
    ------
    ReadError
        When a file of a place is absent or damaged.
    """
    how = Mapping.of(card, recipe.tta)
    parts = {"val": recipe.split.val, "show": recipe.split.show}
    variants = VARIANTS if recipe.s1_bands else VARIANTS[1:]
    maps = {
        part: {name: _maps(network, recipe, places, (name, how)) for name in variants}
        for part, names in parts.items()
        if (places := read_places(recipe, root, names) if names else [])
    }
    threshold = recipe.threshold or _best(maps["val"].values())
    accuracy: dict[str, Any] = {
        "how": "whole places never trained on, every pixel once, pooled; 'val' also chose "
        + chosen_by_validation(recipe)
        + ", 'show' chose nothing; 's2': radar withheld"
        + (f"; means over {recipe.tta} orientations" if recipe.tta > 1 else ""),
    }
    for part, by_variant in maps.items():
        accuracy[part] = {name: _figures(found, threshold) for name, found in by_variant.items()}
    return Measured(threshold, accuracy)


def _maps(
    network: torch.nn.Module, recipe: PairRecipe, places: list[Place], variant: tuple[str, Mapping]
) -> Maps:
    name, how = variant
    found: Maps = []
    for place in places:
        s2, s1 = (torch.from_numpy(x) for x in (place.s2, place.radar(len(recipe.s1_bands))))
        if name == "s2":
            s1 = torch.full_like(s1, torch.nan)
        found.append((place, map_pair(network, s2, s1, how)))
    return found


def _best(variants: Iterable[Maps]) -> float:
    """Threshold of the highest pooled F1, maps with and without radar taken together."""
    curve = Curve()
    for maps in variants:
        for place, probability in maps:
            curve.add(probability, place.label)
    return curve.best()[0]


def _figures(maps: Maps, threshold: float) -> dict[str, Any]:
    """Accuracy of each place and of all pixels pooled; pixels that no map covers do not count."""
    total, places = Confusion(), {}
    for place, probability in maps:
        seen = np.isfinite(probability)
        counts = Confusion.of(probability[seen] >= threshold, place.label[seen])
        places[place.name] = counts.figures()
        total += counts
    return {"pooled": total.figures(), "places": places}
