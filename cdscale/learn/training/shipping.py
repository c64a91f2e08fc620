"""From the best weights of a run to shipped weights and their finished card; tables of folds."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from torch import Tensor

from cdscale.errors import ModelError, explain
from cdscale.learn.data import data_set
from cdscale.learn.data.report import MARKER
from cdscale.learn.training.callbacks import BEST
from cdscale.learn.training.kinds import course_of
from cdscale.learn.training.mapping import tiles_of
from cdscale.learn.training.recipe import Recipe
from cdscale.models import build, sha256_of
from cdscale.models.tensors import read_tensors, write_tensors
from cdscale.spec.card import ModelCard, Normalisation, Training, card_path


@dataclass(frozen=True)
class Result:
    """Best averaged weights of a run, and what belongs to them."""

    weights: dict[str, Tensor]
    normalisation: Normalisation
    threshold: float
    step: int

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read ``best.safetensors`` of a run.

        Raises
        ------
        ModelError
            When the file is absent, damaged, or not the best of a run.
        """
        weights, notes = read_tensors(path)
        try:
            rule = Normalisation.model_validate_json(notes["normalisation"])
            return cls(weights, rule, float(notes["threshold"]), int(notes["step"]))
        except (KeyError, ValueError) as err:
            raise ModelError(
                explain(f"{path} is not the best of a training run", got=str(err))
            ) from None

    def rounded(self) -> Result:
        """Keep convolution kernels in float16, which halves the file; figures are taken after it.

        Networks load them into float32 again.
        """
        weights = {k: v.half() if v.ndim == 4 else v for k, v in self.weights.items()}
        return replace(self, weights=weights)


def ship(card: ModelCard, result: Result, folder: Path) -> Path:
    """Write weights and card beside each other, and return the path of the card."""
    weights = folder / card.weights
    write_tensors(weights, result.weights, {"name": card.name, "version": card.version})
    finished = card.model_copy(update={"weights_sha256": sha256_of(weights)})
    path = card_path(folder, card.name)
    finished.write(path)
    return path


def draft_card(recipe: Recipe, root: Path, rule: Normalisation) -> ModelCard:
    """Card of a recipe before its weights and figures are known."""
    halo, stride = tiles_of(recipe.network)
    split = "; ".join(
        f"{part}: {', '.join(places)}"
        for part, places in recipe.split.model_dump().items()
        if places
    )
    data, simulated = data_set(recipe.data), (root / MARKER).is_file()
    of = f"{data.title} ({data.citation})"
    return ModelCard(
        name=recipe.name,
        version=recipe.version,
        title=recipe.title,
        task=recipe.task,
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
            data=f"Simulated, in the layout of {data.title}; no real pixel" if simulated else of,
            split=split,
            recipe=f"{recipe.name}, seed {recipe.seed}",
            steps=0,
            licence=recipe.licence,
            simulated=simulated,
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
    result = Result.read(run / BEST).rounded()
    card = draft_card(recipe, root, result.normalisation)
    network = build(card)
    network.load_state_dict(result.weights)
    network.eval()
    found = course_of(recipe.kind, f"recipe {recipe.name}").measure(recipe, root, network, card)
    command = f"cdscale train {recipe.name} --data ROOT --seed {recipe.seed}"
    finished = card.model_copy(
        update={
            "threshold": round(found.threshold, 4),
            "accuracy": {"command": command} | found.accuracy,
            "training": card.training.model_copy(update={"steps": result.step}),
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
            row |= {f"{name}_{figure}": value for figure, value in found["pooled"].items()}
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


def chosen_by_validation(recipe: Recipe) -> str:
    """What validation decided, in words."""
    chosen = ["the epoch"] if recipe.keep == "best" else []
    return " and ".join(chosen + ([] if recipe.threshold else ["the threshold"]) or ["nothing"])
