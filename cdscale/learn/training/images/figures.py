"""Figures of networks on images: whole held-out scenes, every pixel once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from torch import nn

from cdscale.learn.data import Sample, data_set
from cdscale.learn.images import Counter, Labels, SceneMapper, SemanticCounts
from cdscale.learn.metrics import Curve
from cdscale.learn.training.images.census import samples_in
from cdscale.learn.training.images.recipe import ImagesRecipe
from cdscale.learn.training.kinds import Measured
from cdscale.learn.training.shipping import chosen_by_validation
from cdscale.spec.card import ModelCard

VARIANT = "optical"


def measure_images(
    recipe: ImagesRecipe, root: Path, network: nn.Module, card: ModelCard
) -> Measured:
    """Figures of each part, at the recipe's threshold or the best in validation.

    Raises
    ------
    ReadError
        When a file of a place is absent or damaged.
    """
    parts = {
        part: samples_in(recipe, root, places)
        for part, places in (("val", recipe.split.val), ("show", recipe.split.show))
        if places
    }
    scene = SceneMapper.of(card, network, recipe.threshold or 0.5, recipe.tta)
    threshold = scene.reading.threshold
    if scene.reading.has_threshold and not recipe.threshold:
        threshold = _best(scene, parts["val"])
        scene = SceneMapper.of(card, network, threshold, recipe.tta)
    # Where the likeliest class decides, there was no threshold to choose.
    fixed = recipe.model_copy(update={"threshold": threshold})
    chosen = recipe if scene.reading.has_threshold else fixed
    accuracy: dict[str, Any] = {
        "how": "whole scenes never trained on, every pixel once, pooled; 'val' also chose "
        + chosen_by_validation(chosen)
        + ", 'show' chose nothing"
        + (f"; means over {recipe.tta} orientations" if recipe.tta > 1 else ""),
    }
    counter = Counter(scene.reading, data_set(recipe.data))
    for part, samples in parts.items():
        accuracy[part] = {VARIANT: _figures(scene, counter, samples)}
    return Measured(threshold, accuracy)


def _best(scene: SceneMapper, samples: Sequence[Sample]) -> float:
    """Threshold of the highest pooled F1."""
    curve = Curve()
    for sample in samples:
        for window, found in scene.maps(sample):
            curve.add(found.probability_YX, sample.read("change", window=window))
    return curve.best()[0]


def _figures(scene: SceneMapper, counter: Counter, samples: Sequence[Sample]) -> dict[str, Any]:
    places: dict[str, SemanticCounts] = {}
    for sample in samples:
        for window, found in scene.maps(sample):
            own = counter.count(found, Labels.read(sample, window))
            places[sample.place] = places.get(sample.place, SemanticCounts()) + own
    return {
        "pooled": _rounded(reduce(add, places.values())),
        "places": {place: _rounded(counts) for place, counts in places.items()},
    }


def _rounded(counts: SemanticCounts) -> dict[str, float]:
    return {name: round(value, 4) for name, value in counts.flat().items()}
