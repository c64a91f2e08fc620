"""System A's rows, FC-EF-Res and the shipped recipes on OSCD, cross-validated over whole cities.

    python -m benchmarks.oscd_rows OUT [--crops N] [--folds K] [--seeds 0 1] [RECIPE ...]

Every row trains by its own recipe (bands, normalisation, loss, optimiser, augmentation), and on
the same number of pixels: ``--crops`` crops of 96 x 96, or as many pixels in crops of another size,
spread over the recipe's epochs. Each of the 14 labelled cities is mapped by the network that has
not seen it. All maps of a seed together give one pixel-pooled F1 at probability 0.5, which no city
chose, and the highest F1 of any threshold, which tells how well pixels are ranked; the table has
their means and sample standard deviations over seeds. A finished run in OUT is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import torch

from cdscale import models
from cdscale.learn.metrics import Curve
from cdscale.learn.training import How, load_recipe, resolved, train
from cdscale.learn.training.mapping import Mapping
from cdscale.learn.training.pair.mapping import map_pair
from cdscale.learn.training.pair.recipe import PairRecipe
from cdscale.learn.training.pair.scenes import read_places

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("CDSCALE_DATA", ROOT.parent / "shared" / "data")) / "oscd"
ROWS = (
    "oscd-fc-ef-13",
    "oscd-fc-siam-conc-13",
    "oscd-fc-siam-diff-13",
    "oscd-unet-s2",
    "oscd-siamese-s2",
    "oscd-fc-ef-res-13",
    "oscd-unet-s1s2-vv",
    "oscd-siamese-s1s2-vv",
    "oscd-two-branch-s1s2-vv",
    "oscd-fc-ef-res-s1s2-vv",
    "change-s1s2-oscd",
)
SIDE = 96
"""Of the crops that ``--crops`` counts."""


@dataclass(frozen=True)
class Protocol:
    """What all rows share."""

    crops: int
    folds: int
    seeds: tuple[int, ...]
    threads: int


def cut(recipe: PairRecipe, protocol: Protocol, seed: int) -> PairRecipe:
    """The recipe of a row on the pixels, folds and seed of the table."""
    sampling = recipe.sampling
    pixels = protocol.crops * SIDE**2
    steps = max(1, round(pixels / sampling.crop**2 / sampling.batch / recipe.epochs))
    changes = {
        "sampling": sampling.model_copy(update={"crops_per_epoch": steps * sampling.batch}),
        "folds": recipe.folds.model_copy(update={"count": protocol.folds}),
        "seed": seed,
        "keep": "last",
        "threshold": 0.5,
        "validate_every": recipe.epochs,
    }
    return recipe.model_copy(update=changes)


@torch.inference_mode()
def held_out(recipe: PairRecipe, card_at: Path, root: Path) -> Curve:
    """Pixels of the cities that a run has not seen, counted by probability."""
    card = models.load_card(str(card_at))
    network = models.load(card, "cpu", folder=card_at.parent)
    curve = Curve()
    for place in read_places(recipe, root, recipe.split.val):
        s2, s1 = (torch.from_numpy(x) for x in (place.s2, place.radar(len(recipe.s1_bands))))
        curve.add(map_pair(network, s2, s1, Mapping.of(card, recipe.tta)), place.label)
    return curve


def by_seed(name: str, root: Path, out: Path, protocol: Protocol, seed: int) -> Curve:
    """All labelled cities, each mapped by the network of the fold that holds it out."""
    found = load_recipe(name)
    if not isinstance(found, PairRecipe):
        raise SystemExit(f"{name} is no recipe of networks on pairs")
    recipe = resolved(cut(found, protocol, seed), root)
    split = recipe.split
    places = tuple(sorted((*split.train, *split.val, *split.show)))
    total = Curve()
    for number in range(1, protocol.folds + 1):
        one = recipe.fold(number, places)
        run = out / f"{name}-seed{seed}-fold{number}"
        card = train(one, root, run, How(resume=True, threads=protocol.threads))
        total += held_out(one, card, root)
    return total


def row(name: str, curves: Sequence[Curve]) -> dict[str, str | float]:
    """Means and spreads over seeds."""
    at_half = [curve.at(0.5) for curve in curves]
    columns = {
        "f1": [counts.f1 for counts in at_half],
        "precision": [counts.precision for counts in at_half],
        "recall": [counts.recall for counts in at_half],
        "best_f1": [curve.best()[1].f1 for curve in curves],
    }
    figures: dict[str, str | float] = {"recipe": name}
    for column, values in columns.items():
        figures[column] = round(mean(values), 4)
        if len(values) > 1:
            figures[f"{column}_spread"] = round(stdev(values), 4)
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the runs and of table.json")
    parser.add_argument("recipes", nargs="*", default=ROWS, help="rows; by default all")
    parser.add_argument("--data", type=Path, default=DATA, help="the copy of OSCD")
    parser.add_argument("--crops", type=int, default=6400)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    protocol = Protocol(options.crops, options.folds, tuple(options.seeds), options.threads)
    table = []
    for name in options.recipes:
        curves = [by_seed(name, options.data, options.out, protocol, s) for s in protocol.seeds]
        table.append(row(name, curves))
        print(json.dumps(table[-1]), flush=True)
        text = json.dumps({"protocol": vars(protocol), "rows": table}, indent=1)
        (options.out / "table.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
