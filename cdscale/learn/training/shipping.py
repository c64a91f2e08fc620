"""From the best weights of a run to shipped weights and their finished card; tables of folds."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cdscale.learn.data import data_set
from cdscale.learn.data.report import MARKER
from cdscale.learn.export import Result, ship
from cdscale.learn.metrics import Confusion, Curve
from cdscale.learn.training.mapping import Mapping, map_pair, tiles_of
from cdscale.learn.training.module import VARIANTS
from cdscale.learn.training.recipe import Recipe
from cdscale.learn.training.scenes import Place, read_places
from cdscale.models import build
from cdscale.spec.card import ModelCard, Normalisation, Training

FIGURES = ("f1", "precision", "recall")

Maps = list[tuple[Place, NDArray[np.float32]]]


def draft_card(recipe: Recipe, root: Path, rule: Normalisation) -> ModelCard:
    """Card of a recipe before its weights and figures are known."""
    halo, stride = tiles_of(recipe.network.family)
    split = "; ".join(
        f"{part}: {', '.join(places)}"
        for part, places in recipe.split.model_dump().items()
        if places
    )
    data = data_set(recipe.data)
    return ModelCard(
        name=recipe.name,
        version=recipe.version,
        title=recipe.title,
        task="change",
        family=recipe.network.family,
        network=recipe.network.options,
        weights=f"{recipe.name}.safetensors",
        weights_sha256="",
        s2_bands=recipe.s2_bands,
        s1_bands=recipe.s1_bands,
        normalisation=rule,
        halo=halo,
        stride=stride,
        threshold=recipe.threshold or 0.5,
        classes=recipe.classes,
        training=Training(
            data=f"{data.title} ({data.citation})",
            split=split,
            recipe=f"{recipe.name}, seed {recipe.seed}",
            steps=0,
            licence=recipe.licence,
            simulated=(root / MARKER).is_file(),
        ),
        accuracy={},
        limits=recipe.limits,
    )


def finish(recipe: Recipe, root: Path, run: Path) -> Path:
    """Measure the weights of a run on its held-out places; write them and their card beside it.

    Kernels are rounded to float16 first, as they ship.

    Parameters
    ----------
    recipe : Recipe
        With all its places named.
    root : Path
        Folder of the data set.
    run : Path
        Folder of the run; holds ``best.safetensors``.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    ModelError
        When the run has no weights.
    ReadError
        When a file of a place is absent or damaged.
    """
    result = Result.read(run / "best.safetensors").rounded()
    card = draft_card(recipe, root, result.normalisation)
    network = build(card)
    network.load_state_dict(result.weights)
    network.eval()
    how = Mapping(card.normalisation, card.halo, card.stride, recipe.tta)
    parts = {"val": recipe.split.val, "show": recipe.split.show}
    maps = {
        part: {name: _maps(network, recipe, places, (name, how)) for name in _variants(recipe)}
        for part, names in parts.items()
        if (places := read_places(recipe, root, names) if names else [])
    }
    threshold = recipe.threshold or _best(maps["val"].values())
    accuracy: dict[str, Any] = {
        "command": f"cdscale train {recipe.name} --data ROOT --seed {recipe.seed}",
        "how": "whole places never trained on, every pixel once, pooled; 'val' also chose "
        + " and ".join(_chosen(recipe))
        + ", 'show' chose nothing; 's2': radar withheld"
        + (f"; means over {recipe.tta} orientations" if recipe.tta > 1 else ""),
    }
    for part, by_variant in maps.items():
        accuracy[part] = {name: _figures(found, threshold) for name, found in by_variant.items()}
    training = card.training.model_copy(update={"steps": result.step})
    finished = card.model_copy(
        update={
            "threshold": round(threshold, 4),
            "accuracy": accuracy,
            "training": training,
        }
    )
    return ship(finished, result, run)


def table(cards: Sequence[ModelCard], path: Path) -> list[dict[str, Any]]:
    """Write a table of the folds' figures, with their mean and spread, as CSV.

    Parameters
    ----------
    cards : sequence of ModelCard
        One for each fold.
    path : Path
        Where the table goes.

    Returns
    -------
    list of dict
        Rows: one for each card, then "mean" and "spread" (sample standard deviation).
    """
    rows: list[dict[str, Any]] = []
    for card in cards:
        row: dict[str, Any] = {"run": card.name, "threshold": card.threshold}
        for name, found in card.accuracy.get("val", {}).items():
            row |= {f"{name}_{figure}": found["pooled"][figure] for figure in FIGURES}
        rows.append(row)
    numbers = [name for name in rows[0] if name != "run"]
    values = {name: [row[name] for row in rows] for name in numbers}
    rows.append({"run": "mean"} | {n: round(mean(v), 4) for n, v in values.items()})
    if len(cards) > 1:
        rows.append({"run": "spread"} | {n: round(stdev(v), 4) for n, v in values.items()})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=["run", *numbers])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _variants(recipe: Recipe) -> tuple[str, ...]:
    return VARIANTS if recipe.s1_bands else VARIANTS[1:]


def _chosen(recipe: Recipe) -> list[str]:
    """What validation decided."""
    chosen = ["the epoch"] if recipe.keep == "best" else []
    return chosen + ([] if recipe.threshold else ["the threshold"]) or ["nothing"]


def _maps(
    network: torch.nn.Module, recipe: Recipe, places: list[Place], variant: tuple[str, Mapping]
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
