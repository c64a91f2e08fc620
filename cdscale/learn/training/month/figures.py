"""Figures of networks on months: on all pixels, and where optical was seen or not.

Shape suffixes: B band, P polarisation, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Mapping as Table
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cdscale.learn.labels import IGNORED
from cdscale.learn.metrics import Confusion, Curve
from cdscale.learn.training.kinds import Measured
from cdscale.learn.training.mapping import Mapping
from cdscale.learn.training.month.data import tensors_of
from cdscale.learn.training.month.mapping import map_month
from cdscale.learn.training.month.months import read_month, samples_in
from cdscale.learn.training.month.recipe import MonthRecipe
from cdscale.learn.training.shipping import chosen_by_validation
from cdscale.spec.card import ModelCard

SETS = ("all", "seen", "reconstructed", "s1_only")
"""All pixels; those that optical saw; the others; and all pixels with optical withheld."""

Curves = Table[str, Curve]


def sets_of(recipe: MonthRecipe) -> tuple[str, ...]:
    """Those that differ: a network that reads no optical image has none to be withheld."""
    return SETS if recipe.s2_bands else SETS[:-1]


def count_month(
    curves: Curves, network: nn.Module, month: tuple[Tensor, ...], how: Mapping
) -> None:
    """Map a month and count its pixels.

    Parameters
    ----------
    curves : mapping of str to Curve
        By the name of the set; they are added to.
    network : nn.Module
        In evaluation mode.
    month : tuple of Tensor
        Power (P, Y, X), reflectance (B, Y, X), where optical was seen and label (Y, X).
    how : Mapping
        Tiles and copies.
    """
    s1, s2, seen, label = month
    found_YX = map_month(network, s1, s2, seen, how)
    label_YX, seen_YX = label.cpu().numpy(), seen.cpu().numpy()
    curves["all"].add(found_YX, label_YX)
    for name, where_YX in (("seen", seen_YX), ("reconstructed", ~seen_YX)):
        curves[name].add(found_YX, np.where(where_YX, label_YX, np.uint8(IGNORED)))
    if "s1_only" not in curves:
        return
    if seen_YX.any():
        nothing, nowhere = torch.full_like(s2, torch.nan), torch.zeros_like(seen)
        found_YX = map_month(network, s1, nothing, nowhere, how)
    curves["s1_only"].add(found_YX, label_YX)


def measure_months(
    recipe: MonthRecipe, root: Path, network: nn.Module, card: ModelCard
) -> Measured:
    """Figures of each part and set, at the recipe's threshold or the best in validation.

    Parameters
    ----------
    recipe : MonthRecipe
        With all its places named.
    root : Path
        Folder of the data set.
    network : nn.Module
        In evaluation mode.
    card : ModelCard
        How months are mapped.

    Raises
    ------
    ReadError
        When a file is absent or damaged.
    """
    how, parts = Mapping.of(card, recipe.tta), {"val": recipe.split.val, "show": recipe.split.show}
    counted = {
        part: _count_places(recipe, root, (network, how), places)
        for part, places in parts.items()
        if places
    }
    threshold = recipe.threshold or _pooled(counted["val"], "all").best()[0]
    accuracy: dict[str, Any] = {
        "how": "whole places never trained on, every pixel of all months once, pooled; 'val' also "
        f"chose {chosen_by_validation(recipe)}, 'show' chose nothing; 'seen': where there is an "
        "optical pixel, 'reconstructed': where there is none, 's1_only': optical withheld"
        + (f"; means over {recipe.tta} orientations" if recipe.tta > 1 else ""),
    }
    for part, places in counted.items():
        accuracy[part] = {
            name: found for name in sets_of(recipe) if (found := _figures(places, name, threshold))
        }
    return Measured(threshold, accuracy)


def _count_places(
    recipe: MonthRecipe, root: Path, how: tuple[nn.Module, Mapping], names: tuple[str, ...]
) -> dict[str, Curves]:
    places: dict[str, Curves] = {}
    for sample in samples_in(recipe, root, names):
        curves = places.setdefault(sample.place, {name: Curve() for name in sets_of(recipe)})
        count_month(curves, how[0], tensors_of(read_month(recipe, sample)), how[1])
    return places


def _pooled(places: Table[str, Curves], name: str) -> Curve:
    return sum((curves[name] for curves in places.values()), Curve())


def _figures(places: Table[str, Curves], name: str, threshold: float) -> dict[str, Any]:
    """Of a set: pooled, and of each place; nothing where it has no pixel."""
    counts = {place: curves[name].at(threshold) for place, curves in places.items()}
    total = sum(counts.values(), Confusion())
    if not total.total:
        return {}
    own = {place: count.figures() for place, count in counts.items() if count.total}
    return {"pooled": total.figures(), "places": own}
