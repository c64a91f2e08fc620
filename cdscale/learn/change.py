"""Training of the two-branch change network on OSCD.

::

    python -m cdscale.learn.change RECIPE.yaml --data ROOT --out DIR

Writes ``curve.csv``, ``last.safetensors`` (to go on from) and ``best.safetensors`` (averaged
weights of the best validation so far, with its threshold) to DIR; run again, it goes on from there.
``python -m cdscale.learn.evaluate`` turns the best into shipped weights and their card.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdscale.learn.augment import Scene, draw_batch
from cdscale.learn.data.oscd import City, radar, read_city, without_s1
from cdscale.learn.losses import change_loss, class_weights
from cdscale.learn.metrics import Curve
from cdscale.learn.recipe import ChangeRecipe
from cdscale.learn.state import Run, descend, log_row, write_tensors
from cdscale.learn.whole import centre, surrounded
from cdscale.models.inputs import Pair, change_inputs
from cdscale.models.two_branch import HALO, STRIDE, TwoBranch
from cdscale.spec.card import Normalisation


def build_network(recipe: ChangeRecipe) -> TwoBranch:
    """The network of a recipe, with random weights from torch's global generator."""
    return TwoBranch(len(recipe.s2_bands), len(recipe.s1_bands), **recipe.network)


def read_cities(recipe: ChangeRecipe, root: Path, names: tuple[str, ...]) -> list[City]:
    """Cities of a split, with the bands of the recipe."""
    return [read_city(root, name, recipe.s2_bands) for name in names]


def measure(recipe: ChangeRecipe, cities: list[City]) -> Normalisation:
    """Clip ranges of the recipe, with mean and standard deviation of the training cities.

    Every city counts alike, whatever its size, and both dates.
    """
    planes = [
        np.clip(date, *recipe.s2_clip).reshape(len(date), -1)
        for city in cities
        for date in (city.s2_before, city.s2_after)
    ]
    mean = np.mean([plane.mean(axis=1, dtype=np.float64) for plane in planes], axis=0)
    square = np.mean([(plane.astype(np.float64) ** 2).mean(axis=1) for plane in planes], axis=0)
    std = np.sqrt(square - mean**2)
    return Normalisation(
        s2_clip=recipe.s2_clip,
        s2_mean=tuple(round(float(v), 5) for v in mean),
        s2_std=tuple(round(float(v), 5) for v in std),
        s1_db_clip=recipe.s1_db_clip,
    )


def scene_of(city: City) -> Scene:
    """A labelled city as tensors for drawing crops."""
    label = torch.from_numpy(city.label) if city.label is not None else torch.zeros(0, 0)
    return Scene(
        s2=torch.from_numpy(np.stack((city.s2_before, city.s2_after))),
        s1=tuple(torch.from_numpy(np.stack((o.before, o.after))) for o in city.orbits),
        label=label,
        changed=torch.nonzero(label == 1),
    )


@torch.inference_mode()
def map_city(network: torch.nn.Module, city: City, rule: Normalisation) -> NDArray[np.float32]:
    """Map a whole city in one pass: probability (Y, X), NaN where neither sensor saw both dates.

    Radar is that of the first orbit.
    """
    orbit = radar(city)
    planes = (city.s2_before, city.s2_after, orbit.before, orbit.after)
    pair = Pair(*(surrounded(plane, HALO, STRIDE) for plane in planes))
    logits_BCYX: Tensor = network(*change_inputs(pair, rule).tensors())
    probability = centre(logits_BCYX.softmax(dim=1)[0, 1], HALO, city.s2_before.shape)
    seen = [np.isfinite(plane).all(axis=0) for plane in planes]
    return np.where((seen[0] & seen[1]) | (seen[2] & seen[3]), probability, np.float32(np.nan))


def validate(network: torch.nn.Module, cities: list[City], rule: Normalisation) -> dict[str, float]:
    """Pooled figures at the best thresholds, with radar and with radar withheld.

    ``score``, by which weights are chosen, is the mean F1 of both.
    """
    row: dict[str, float] = {}
    for name, withheld in (("both", False), ("s2", True)):
        curve = Curve()
        for city in cities:
            if city.label is not None:
                seen = without_s1(city) if withheld else city
                curve.add(map_city(network, seen, rule), city.label)
        threshold, best = curve.best()
        row |= {f"{name}_f1": best.f1, f"{name}_p": best.precision, f"{name}_r": best.recall}
        row[f"{name}_threshold"] = threshold
    row["score"] = (row["both_f1"] + row["s2_f1"]) / 2
    return row


def train(recipe: ChangeRecipe, root: Path, out: Path) -> Path:
    """Train, or go on training, and return the path of the best weights.

    The randomness of a step depends on the seed and the step alone, so that a run that was stopped
    goes on as if it had not been.

    Raises
    ------
    ReadError
        When the data set is not there.
    ModelError
        When ``out`` holds a checkpoint of another network.
    """
    torch.set_num_threads(recipe.optimiser.threads)
    torch.manual_seed(recipe.seed)
    network = build_network(recipe).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run.start(network, recipe.optimiser)
    last, best = out / "last.safetensors", out / "best.safetensors"
    if last.exists():
        run.load(last)
    cities = read_cities(recipe, root, recipe.split.train)
    val = read_cities(recipe, root, recipe.split.val)
    rule = measure(recipe, cities)
    scenes = [scene_of(city) for city in cities]
    changed = sum(len(scene.changed) for scene in scenes)
    total = sum(scene.label.numel() for scene in scenes)
    weights = class_weights(changed, total, recipe.loss.lambda_fp)
    begun, losses = time.monotonic(), []
    while run.step < recipe.optimiser.steps:
        losses.append(_step(run, recipe, scenes, rule, weights))
        if run.step % recipe.validate_every and run.step != recipe.optimiser.steps:
            continue
        row = validate(run.average.network, val, rule)
        seconds = round(time.monotonic() - begun, 1)
        log_row(
            out / "curve.csv",
            {"step": run.step, "seconds": seconds, "loss": round(float(np.mean(losses)), 4)}
            | {name: round(value, 4) for name, value in row.items()},
        )
        losses.clear()
        if row["score"] > run.best:
            run.best = row["score"]
            notes = {"step": str(run.step), "threshold": str(row["both_threshold"])}
            notes["normalisation"] = rule.model_dump_json()
            write_tensors(best, run.average.network.state_dict(), notes)
        run.save(last)
    return best


def _step(
    run: Run,
    recipe: ChangeRecipe,
    scenes: list[Scene],
    rule: Normalisation,
    weights: tuple[float, float],
) -> float:
    """One batch; the loss before the step."""
    torch.manual_seed(recipe.seed * 1_000_003 + run.step)
    batch = draw_batch(scenes, recipe.s2_bands, recipe.augment, recipe.optimiser.batch)
    pair = change_inputs(batch.pair, rule)
    run.network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.optimiser.bf16):
        tensors = (x.contiguous(memory_format=torch.channels_last) for x in pair.tensors())
        logits_BCYX: Tensor = run.network(*tensors)
    loss = change_loss(logits_BCYX.float(), batch.label, weights, recipe.loss.jaccard)
    descend(run, loss, recipe.optimiser)
    return float(loss.detach())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the two-branch change network on OSCD.")
    parser.add_argument("recipe", type=Path, help="recipe in YAML")
    parser.add_argument("--data", type=Path, required=True, help="root of the OSCD folders")
    parser.add_argument("--out", type=Path, required=True, help="where the run is kept")
    options = parser.parse_args()
    print(train(ChangeRecipe.read(options.recipe), options.data, options.out))  # noqa: T201


if __name__ == "__main__":
    main()
