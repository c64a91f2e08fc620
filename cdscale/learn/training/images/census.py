"""What is measured of the training scenes before training, window by window.

Shape suffixes: Y row, X column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale.learn.data import Sample, windows
from cdscale.learn.data.files import header
from cdscale.learn.images import Labels, image_moments
from cdscale.learn.labels import IGNORED
from cdscale.learn.losses import frequency_weights, positive_weight
from cdscale.learn.training.images.recipe import ImagesRecipe
from cdscale.learn.training.places import require_label, samples_of
from cdscale.models.hrscd import CLASSES
from cdscale.spec.card import Normalisation

SIDE = 2048
"""Of the windows in which labels are gone through."""
KEPT = 64
"""Changed pixels of a window that crops are drawn around, evenly spaced."""

CODES = 256
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Weights:
    """Weights of the classes in the loss; empty where nothing asks for them."""

    land: tuple[float, ...] = ()
    transitions: tuple[float, ...] = ()
    classes: tuple[float, ...] = ()
    positive: float = 1.0


@dataclass(frozen=True)
class Census:
    """Pixels of the labels by code, and where there is change.

    Parameters
    ----------
    land, change : int array
        By code, of land cover at both dates and of change; 255 where unknown.
    pairs_KK : int array
        Of changed pixels, by land cover before and after.
    changed : tuple of int arrays
        Of each sample: rows and columns of some changed pixels, (N, 2).
    """

    land: Counts
    change: Counts
    pairs_KK: Counts
    changed: tuple[Counts, ...]


def samples_in(recipe: ImagesRecipe, root: Path, places: Sequence[str]) -> list[Sample]:
    """Samples of some places.

    Raises
    ------
    ReadError
        When one has no label of change.
    """
    found = [sample for sample in samples_of(recipe, root) if sample.place in places]
    for sample in found:
        require_label(sample, "change")
    return found


def moments_of(recipe: ImagesRecipe, samples: Sequence[Sample]) -> Normalisation:
    """The recipe's rule, with moments of the training images where it asks for them.

    Every image counts alike, whatever its size. Of large ones nine windows are read.
    """
    rule = recipe.stated
    if not recipe.asks_moments:
        return rule
    each = rule.model_copy(update={"s2_standardise": "image"})
    found = [
        image_moments(sample, date, recipe.s2_bands, each, most=9)
        for sample in samples
        for date in ("before", "after")
    ]
    mean, std = (np.stack([x.numpy()[:, 0, 0] for x in part]) for part in zip(
        *((one.mean, one.std) for one in found), strict=True
    ))  # fmt: skip
    std[np.isinf(std)] = 0
    total = mean.mean(axis=0)
    spread = np.sqrt(np.maximum((std**2 + mean**2).mean(axis=0) - total**2, 1e-8))
    return rule.model_copy(
        update={
            "s2_mean": tuple(round(float(v), 5) for v in total),
            "s2_std": tuple(round(float(v), 5) for v in spread),
        }
    )


def census(samples: Sequence[Sample]) -> Census:
    """Go through the labels of some samples once.

    Raises
    ------
    ReadError
        When a label cannot be read.
    """
    land, change = np.zeros(CODES, np.int64), np.zeros(CODES, np.int64)
    pairs = np.zeros(CODES * CODES, np.int64)
    changed = []
    for sample in samples:
        points = []
        for window in windows(header(sample.grid_file).shape, SIDE):
            labels = Labels.read(sample, window)
            change += _counts(labels.change_YX)
            where = (labels.change_YX > 0) & (labels.change_YX != IGNORED)
            if labels.land_YX:
                before, after = (code.astype(np.int64) for code in labels.land_YX)
                land += _counts(before) + _counts(after)
                pairs += np.bincount((CODES * before + after)[where], minlength=pairs.size)
            at = np.argwhere(where)
            corner = np.array((window.top, window.left))
            points.append(at[:: max(1, len(at) // KEPT)] + corner)
        changed.append(np.concatenate(points).astype(np.int64))
    return Census(land, change, pairs.reshape(CODES, CODES), tuple(changed))


def weights_of(recipe: ImagesRecipe, found: Census) -> Weights:
    """Weights of the classes that the recipe's loss asks for.

    Raises
    ------
    UserError
        When nothing or everything changed, or no class of land cover occurs.
    """
    reading, clip, change = recipe.reading, recipe.loss.clip, found.change[:IGNORED]
    if reading.says == "classes of change":
        if recipe.loss.kind != "cross_entropy":
            return Weights()
        counts = [int(n) for n in change[: max(recipe.classes) + 1]]
        return Weights(classes=frequency_weights(counts, excluded=(), clip=clip))
    if reading.says == "transitions":
        pairs = reading.transitions.pairs
        counts = [int(change[0]), *(int(found.pairs_KK[pair]) for pair in pairs)]
        return Weights(transitions=frequency_weights(counts, excluded=(), clip=clip))
    # Outputs of the network: those of its options, or of the paper.
    outputs = int(recipe.network.options.get("classes", CLASSES))
    unnamed = [code for code in range(outputs) if code not in recipe.classes]
    counts = [int(n) for n in found.land[:outputs]]
    land = frequency_weights(counts, excluded=unnamed, clip=clip)
    if not reading.has_threshold:
        return Weights(land=land)
    total = int(change.sum())
    return Weights(land=land, positive=positive_weight(total - int(change[0]), total, clip))


def _counts(code_YX: NDArray[Any]) -> Counts:
    found: Counts = np.bincount(code_YX.ravel(), minlength=CODES)
    return found
