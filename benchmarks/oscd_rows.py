"""System A's rows, FC-EF-Res and the shipped recipe on OSCD, cross-validated over whole cities.

    python -m benchmarks.oscd_rows OUT [RECIPE ...] [--crops N] [--folds K] [--seeds 0 1] [--join]
        [--precision float32|bfloat16]

Every row trains by its own recipe (bands, normalisation, loss, optimiser, augmentation), and on
the same number of pixels: ``--crops`` crops of 96 x 96, or as many pixels in crops of another size,
spread over the recipe's epochs, in bfloat16 (slow on processors that do not have it). Each of the
14 labelled cities is mapped by the network that has not seen it. All maps of a seed together give
one pixel-pooled F1 at probability 0.5, which no city chose, and the highest F1 of any threshold,
which tells how well pixels are ranked; a row has their means and sample standard deviations over
seeds, and those of the mean of the seeds' probabilities (``joined``). A recipe that learns to do
without radar has a second row, radar withheld. ``--join`` adds a row for the mean of the named
recipes' probabilities.

OUT keeps each run with its maps, and a row in ``<recipe>.json``; what is there is not made again,
so that several processes may make different rows. ``table.md`` has the rows made so far.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

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
    "change-s1s2-oscd-spectral",
)
SIDE = 96
"""Of the crops that ``--crops`` counts."""

Maps = dict[str, NDArray[np.float32]]
"""Probability of change (Y, X) by city."""


@dataclass(frozen=True)
class Protocol:
    """What all rows share."""

    crops: int
    folds: int
    seeds: tuple[int, ...]
    threads: int
    precision: Literal["float32", "bfloat16"] = "bfloat16"


@dataclass(frozen=True)
class Row:
    """Figures of each seed, and of the mean of the seeds' probabilities."""

    recipe: str
    sensors: str
    seeds: list[dict[str, float]]
    joined: dict[str, float]

    def mean(self, what: str) -> float:
        """Over seeds."""
        return mean(one[what] for one in self.seeds)

    def cell(self, what: str) -> str:
        """Mean and sample standard deviation over seeds."""
        values = [one[what] for one in self.seeds]
        spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
        return f"{mean(values):.3f}{spread}"


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
        "precision": protocol.precision,
        "threshold": 0.5,
        "validate_every": recipe.epochs,
    }
    return recipe.model_copy(update=changes)


@torch.inference_mode()
def held_out(recipe: PairRecipe, card_at: Path, root: Path, radar: bool) -> Maps:
    """Maps of the cities that a run has not seen; kept beside its weights."""
    kept = card_at.with_name("held-out.npz" if radar else "held-out-s2.npz")
    if kept.exists():
        with np.load(kept) as found:
            return {name: found[name] for name in found.files}
    card = models.load_card(str(card_at))
    network = models.load(card, "cpu", folder=card_at.parent)
    maps: Maps = {}
    for place in read_places(recipe, root, recipe.split.val):
        seen = place if radar else replace(place, s1=())
        s2, s1 = (torch.from_numpy(x) for x in (seen.s2, seen.radar(len(recipe.s1_bands))))
        maps[place.name] = map_pair(network, s2, s1, Mapping.of(card, recipe.tta))
    write_whole(kept, maps)
    return maps


def write_whole(path: Path, maps: Maps) -> None:
    """An archive that is there whole or not at all."""
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, allow_pickle=False, **maps)
    part.replace(path)


def by_seed(recipe: PairRecipe, root: Path, out: Path, how: How, radar: bool) -> Maps:
    """All labelled cities, each mapped by the network of the fold that holds it out."""
    split = recipe.split
    places = tuple(sorted((*split.train, *split.val, *split.show)))
    maps: Maps = {}
    for number in range(1, recipe.folds.count + 1):
        one = recipe.fold(number, places)
        run = out / f"{recipe.name}-seed{recipe.seed}-fold{number}"
        # Nothing is chosen by the held-out cities: training does not see even their images.
        alone = one.model_copy(update={"split": one.split.model_copy(update={"val": ()})})
        maps |= held_out(one, train(alone, root, run, how), root, radar)
    return maps


def scored(maps: Maps, labels: dict[str, NDArray[np.uint8]]) -> dict[str, float]:
    """Figures of all cities' pixels together."""
    if set(maps) != set(labels):
        raise SystemExit(f"maps of {', '.join(maps)}, labels of {', '.join(labels)}")
    curve = Curve()
    for name, label in labels.items():
        curve.add(maps[name], label)
    half = curve.at(0.5)
    threshold, best = curve.best()
    return {
        "f1": half.f1, "precision": half.precision, "recall": half.recall,
        "best_f1": best.f1, "best_threshold": threshold,
    }  # fmt: skip


@dataclass(frozen=True)
class Made:
    """Maps of one recipe."""

    name: str
    labels: dict[str, NDArray[np.uint8]]
    maps: dict[str, list[Maps]]
    """By what they read, ``S1+S2`` or ``S2``: those of each seed."""


def made(name: str, root: Path, out: Path, protocol: Protocol) -> Made:
    """Train what is not there, and map."""
    found = load_recipe(name)
    if not isinstance(found, PairRecipe):
        raise SystemExit(f"{name} is no recipe of networks on pairs")
    recipes = [resolved(cut(found, protocol, seed), root) for seed in protocol.seeds]
    split = recipes[0].split
    names = (*split.train, *split.val, *split.show)
    labels = {place.name: place.label for place in read_places(recipes[0], root, names)}
    how = How(resume=True, threads=protocol.threads)
    withheld = bool(found.s1_bands) and found.augment.s1_drop > 0
    maps = {
        "S1+S2" if found.s1_bands and radar else "S2": [
            by_seed(recipe, root, out, how, radar) for recipe in recipes
        ]
        for radar in (True, False)[: 1 + withheld]
    }
    return Made(name, labels, maps)


def rows_of(parts: list[Made]) -> list[Row]:
    """Figures of a recipe, or of the mean of several; a second time without radar."""
    labels, rows = parts[0].labels, []
    for sensors in parts[0].maps:
        each = [part.maps[sensors] for part in parts if sensors in part.maps]
        if len(each) < len(parts):
            continue
        seeds = [averaged(list(one), labels) for one in zip(*each, strict=True)]
        name = " + ".join(part.name for part in parts)
        scores = [scored(one, labels) for one in seeds]
        rows.append(Row(name, sensors, scores, scored(averaged(seeds, labels), labels)))
    return rows


def averaged(maps: list[Maps], labels: dict[str, NDArray[np.uint8]]) -> Maps:
    """Mean probability of each city."""
    return {city: np.mean([one[city] for one in maps], axis=0) for city in labels}


def table(out: Path) -> str:
    """Markdown of all rows that OUT has."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("*.rows.json")]
    rows = sorted((Row(**r) for one in found for r in one["rows"]), key=lambda r: -r.mean("f1"))
    heads = "recipe", "reads", "F1 at 0.5", "precision", "recall", "highest F1", "joined", "highest"
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for r in rows:
        cells = [r.recipe, r.sensors, *(r.cell(what) for what in ("f1", "precision", "recall"))]
        cells += [r.cell("best_f1"), f"{r.joined['f1']:.3f}", f"{r.joined['best_f1']:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def keep(out: Path, protocol: Protocol, rows: list[Row]) -> None:
    """Write the rows of one recipe, or of several joined, and the table so far."""
    told = {"protocol": asdict(protocol), "rows": [asdict(r) for r in rows]}
    path = out / f"{rows[0].recipe.replace(' + ', '+')}.rows.json"
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (out / "table.md").write_text(table(out), encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the runs and of table.md")
    parser.add_argument("recipes", nargs="*", default=ROWS, help="rows; by default all")
    parser.add_argument("--data", type=Path, default=DATA, help="the copy of OSCD")
    parser.add_argument("--crops", type=int, default=6400)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--join", action="store_true", help="one more row: recipes averaged")
    options = parser.parse_intermixed_args()
    seeds = tuple(options.seeds)
    protocol = Protocol(options.crops, options.folds, seeds, options.threads, options.precision)
    parts = []
    for name in options.recipes:
        part = made(name, options.data, options.out, protocol)
        parts += [part] if options.join else []
        keep(options.out, protocol, rows_of([part]))
    if options.join:
        keep(options.out, protocol, rows_of(parts))
    print(table(options.out), end="")


if __name__ == "__main__":
    main()
