"""Accuracy of a trained change network on the grid that cubes have, and its finished card.

::

    python -m cdscale.learn.evaluate RECIPE.yaml --data ROOT --run DIR [--to FOLDER]

Each city is mapped with nothing around it, on its own grid and on a continental equal-area
grid of 10 m to which it is resampled first, with radar and with radar withheld. The threshold is
that of the highest pooled F1 over the validation cities on the equal-area grid, maps with and
without radar taken together; cities to show decide nothing.

Shape suffixes: C channel, Y row, X column.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.transform import array_bounds
from rasterio.warp import Resampling, calculate_default_transform, reproject, transform_bounds

from cdscale.learn.data.oscd import City, OrbitPair, radar, read_city, without_s1
from cdscale.learn.export import Result, ship
from cdscale.learn.metrics import Confusion, Curve
from cdscale.learn.training.loading import load_recipe
from cdscale.learn.training.mapping import Mapping
from cdscale.learn.training.pair.mapping import map_pair
from cdscale.learn.training.recipe import Recipe
from cdscale.learn.training.shipping import draft_card
from cdscale.models import build
from cdscale.spec.card import ModelCard

Floats = NDArray[np.float32]

CONTINENTS = (
    ("EPSG:3035", (-25, 34, 45, 72)),
    ("ESRI:102022", (-25, -35, 55, 34)),
    ("ESRI:102025", (45, -10, 180, 80)),
    ("EPSG:5070", (-170, 12, -50, 72)),
    ("ESRI:102033", (-90, -60, -30, 12)),
)
"""Equal-area systems, each with the box (west, south, east, north) that it is tried for."""

PIXEL = 10.0
"""Side of a pixel of the equal-area grid in metres."""

VARIANTS = (("native", "s1s2"), ("native", "s2"), ("equal_area", "s1s2"), ("equal_area", "s2"))


@dataclass(frozen=True)
class Mapped:
    """Probability (Y, X) of one city on its own grid, beside the truth."""

    city: str
    probability: Floats
    label: NDArray[np.uint8]


def on_equal_area(city: City) -> City:
    """The city resampled bilinearly to a continental equal-area grid of 10 m, NaN outside."""
    height, width = city.s2_before.shape[1:]
    bounds = array_bounds(height, width, city.transform)
    crs = _continental(city)
    near, _, _ = calculate_default_transform(
        city.crs, crs, width, height, *bounds, resolution=PIXEL
    )
    west, south, east, north = transform_bounds(city.crs, crs, *bounds, densify_pts=21)
    left = np.floor(min(west, near.c) / PIXEL) * PIXEL
    top = np.ceil(max(north, near.f) / PIXEL) * PIXEL
    shape = (int(np.ceil((top - south) / PIXEL)), int(np.ceil((east - left) / PIXEL)))
    grid = City(
        city.name,
        city.s2_before,
        city.s2_after,
        city.orbits,
        None,
        crs,
        Affine(PIXEL, 0, left, 0, -PIXEL, top),
    )

    def move(x_CYX: Floats) -> Floats:
        return _warp(x_CYX, city, grid, shape)

    return replace(
        grid,
        s2_before=move(city.s2_before),
        s2_after=move(city.s2_after),
        orbits=tuple(OrbitPair(o.orbit, move(o.before), move(o.after)) for o in city.orbits),
    )


def map_variant(
    network: torch.nn.Module, card: ModelCard, city: City, variant: tuple[str, str]
) -> Mapped:
    """Map a city on one of two grids, with or without its radar; the map on its own grid."""
    grid, sensors = variant
    seen = without_s1(city) if sensors == "s2" else city
    if grid == "native":
        probability = _map(network, card, seen)
    else:
        moved = on_equal_area(seen)
        there = _map(network, card, moved)[None]
        probability = _warp(there, moved, city, city.s2_before.shape[1:])[0]
    label = city.label if city.label is not None else np.zeros(probability.shape, np.uint8)
    return Mapped(city.name, probability, label)


def pooled_threshold(maps: list[Mapped]) -> float:
    """Threshold of the highest pooled F1."""
    curve = Curve()
    for one in maps:
        curve.add(one.probability, one.label)
    return curve.best()[0]


def figures(maps: list[Mapped], threshold: float) -> dict[str, Any]:
    """Accuracy of each city and of all pixels pooled; pixels that no map covers do not count."""
    total, cities = Confusion(), {}
    for one in maps:
        seen = np.isfinite(one.probability)
        counts = Confusion.of(one.probability[seen] >= threshold, one.label[seen])
        cities[one.city] = counts.figures()
        total += counts
    return {"pooled": total.figures(), "cities": cities}


def evaluate(recipe: Recipe, root: Path, result: Result) -> ModelCard:
    """The finished card of a run: threshold, and accuracy in every variant.

    Raises
    ------
    ReadError
        When the data set is not there.
    """
    card = draft_card(recipe, root, result.normalisation)
    network = build(card)
    network.load_state_dict(result.weights)
    network.eval()
    radar_bands = recipe.s1_bands or ("vv",)
    maps = {
        (split, variant): [map_variant(network, card, city, variant) for city in cities]
        for split, names in (("val", recipe.split.val), ("show", recipe.split.show))
        for cities in [[read_city(root, name, recipe.s2_bands, radar_bands) for name in names]]
        for variant in VARIANTS
    }
    threshold = pooled_threshold(
        maps["val", ("equal_area", "s1s2")] + maps["val", ("equal_area", "s2")]
    )
    accuracy: dict[str, Any] = {
        "command": f"python -m cdscale.learn.evaluate {recipe.name} --data OSCD --run RUN",
        "how": "whole cities never trained on, every pixel once, Level-1C; 'val' also chose epoch "
        "and threshold, 'show' chose neither; 'equal_area': resampled bilinearly to a continental "
        "10 m grid, mapped there, and the probability resampled back; 's2': radar withheld",
    }
    for (split, (grid, sensors)), found in maps.items():
        place = accuracy.setdefault(split, {}).setdefault(grid, {})
        place[sensors] = figures(found, threshold)
    training = card.training.model_copy(update={"steps": result.step})
    changed = {"threshold": round(threshold, 4), "accuracy": accuracy, "training": training}
    return card.model_copy(update=changed)


def _map(network: torch.nn.Module, card: ModelCard, city: City) -> Floats:
    """Map a whole city, with the radar of its first orbit."""
    orbit = radar(city)
    s2 = torch.from_numpy(np.stack((city.s2_before, city.s2_after)))
    s1 = np.stack((orbit.before, orbit.after))[:, : len(card.s1_bands)]
    if len(s1[0]) < len(card.s1_bands):
        s1 = np.repeat(s1, len(card.s1_bands), axis=1)
    how = Mapping(card.normalisation, card.halo, card.stride)
    return map_pair(network, s2, torch.from_numpy(s1), how)


def _continental(city: City) -> str:
    """Equal-area system of the continent that a city lies on."""
    height, width = city.s2_before.shape[1:]
    x, y = city.transform * (width / 2, height / 2)
    lon, lat, _, _ = transform_bounds(city.crs, "EPSG:4326", x, y, x, y)
    for crs, (west, south, east, north) in CONTINENTS:
        if west <= lon <= east and south <= lat <= north:
            return crs
    return "EPSG:6933"


def _warp(x_CYX: Floats, source: City, target: City, shape: tuple[int, ...]) -> Floats:
    """Bilinear resampling between the grids of two cities."""
    moved = np.full((len(x_CYX), *shape), np.nan, np.float32)
    reproject(
        x_CYX,
        moved,
        src_transform=source.transform,
        src_crs=source.crs,
        dst_transform=target.transform,
        dst_crs=target.crs,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
    )
    return moved


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Evaluate a trained change network on OSCD.")
    parser.add_argument("recipe", help="name of a recipe, or a .yaml file")
    parser.add_argument("--data", type=Path, required=True, help="root of the OSCD folders")
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--to", type=Path, help="write weights and card to this folder")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    result = Result.read(options.run / "best.safetensors").rounded()
    card = evaluate(load_recipe(options.recipe), options.data, result)
    for split in ("val", "show"):
        for grid, sensors in VARIANTS:
            found = card.accuracy.get(split, {}).get(grid, {}).get(sensors)
            print(split, grid, sensors, card.threshold, found)  # noqa: T201
    if options.to:
        print(ship(card, result, options.to))  # noqa: T201


if __name__ == "__main__":
    main()
