"""Miniatures of the monthly sets: SpaceNet7 with Sentinel-1/2, and DynamicEarthNet's releases."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale.learn.data import dynamicearthnet_2021 as release_2021
from cdscale.learn.data.spacenet7 import BANDS, METADATA, SITES
from cdscale.months import Month
from cdscale.testing.miniatures import painting as paint
from cdscale.testing.miniatures.painting import Codes, Floats, Random

SPACENET7_SIDE = 72
PLANET_SIDE = 128
MONTHS = tuple(Month(2018, 1) + k for k in range(4))
UNLABELLED_SITE = "L15-0000E-0000N_0000_0000_13"
MISSING_S2 = MONTHS[1]
MASKED = MONTHS[3]


def _growing(random: Random, side: int) -> list[Codes]:
    """Built-up masks of the months, each at least the one before."""
    masks = [paint.blobs(random, (side, side), 3)]
    for _ in MONTHS[1:]:
        masks.append(np.maximum(masks[-1], paint.blobs(random, (side, side), 1)))
    return masks


# ------------------------------------------------------------------------------------- SpaceNet7


def write_spacenet7(root: Path, seed: int = 0) -> None:
    """Five sites (two to train) of 72 pixels and four months; buildings grow and are bright.

    One month of every other site has no optical image; one is masked. Sites have real names, for
    the split goes by them.
    """
    places = {"train": SITES["train"][:2], "val": SITES["val"][:1], "test": SITES["test"][:1]}
    split = places | {"unlabelled": (UNLABELLED_SITE,)}
    paint.sign(root, "spacenet7", seed, split)
    sites = [site for own in split.values() for site in own]
    table = {site: _write_site(root, seed, number, site) for number, site in enumerate(sites)}
    (root / METADATA).write_text(json.dumps(table, indent=1), encoding="utf-8")


def _write_site(root: Path, seed: int, number: int, site: str) -> list[dict[str, Any]]:
    """Write the months of a site; their entries in the metadata."""
    random = np.random.default_rng([seed, number])
    land = paint.ground(random, len(BANDS), (SPACENET7_SIDE, SPACENET7_SIDE))
    at = paint.metre_grid(number, 10.0)
    entries = []
    labelled = site != UNLABELLED_SITE
    for month, built in zip(MONTHS, _growing(random, SPACENET7_SIDE), strict=True):
        optical = not (month == MISSING_S2 and number % 2 == 0)
        parts = {"s1": paint.between_0_and_1(paint.decibel(random, 2, built), -25, 0)}
        if optical:
            season = random.uniform(0.9, 1.1)
            parts["s2"] = paint.brightened(land, built, season=season)
        if labelled:
            parts["buildings"] = built[None] * np.float32(0.7)
        for part, x_BYX in parts.items():
            stamp = str(month).replace("-", "_")
            path = root / site / part / f"{part}_{site}_{stamp}.tif"
            paint.picture(path, x_BYX.astype(np.float32), **at)
        entries.append(
            {"aoi_id": site, "year": month.year, "month": month.month, "s1": True, "s2": optical}
            | {"buildings": labelled, "masked": labelled and month == MASKED and number == 0}
        )
    return entries


# ------------------------------------------------------------------------------- DynamicEarthNet


def _land_cover(random: Random) -> list[Codes]:
    """Classes 0 (impervious) to 5 (water) of the months: forest and soil are built over."""
    relief = paint.ground(random, 1, (PLANET_SIDE, PLANET_SIDE))[0]
    land = np.full(relief.shape, 2, np.uint8)
    land[relief > np.quantile(relief, 0.6)] = 4
    land[relief < np.quantile(relief, 0.15)] = 5
    masks = _growing(random, PLANET_SIDE)
    return [np.where(built == 1, 0, land).astype(np.uint8) for built in masks]


_TONE = np.array(
    [(0.22, 0.24, 0.26, 0.28), (0.05, 0.09, 0.06, 0.40), (0.02, 0.05, 0.03, 0.30),
     (0.04, 0.06, 0.05, 0.20), (0.08, 0.12, 0.17, 0.22), (0.05, 0.05, 0.03, 0.02)],
    np.float32,
)  # fmt: skip
"""Blue, green, red and near infrared of the classes."""


def _planet(random: Random, land: Codes) -> NDArray[Any]:
    tone: Floats = np.moveaxis(_TONE[land], 2, 0)
    season = random.uniform(0.92, 1.08)
    noisy = (tone * season + random.normal(0, 0.006, tone.shape)).clip(0.001, 1)
    return paint.digital(noisy.astype(np.float32), "int16")


def write_dynamicearthnet_2021(root: Path, seed: int = 0) -> None:
    """Five sites of 128 pixels and four months: two to train, one without labels, two held out."""
    own = {split: release_2021.SITES[split] for split in ("train", "val", "test")}
    split = {"train": own["train"][:2], "unlabelled": ("11N_1417_3281_13",)}
    split |= {"val": own["val"][:1], "test": own["test"][:1]}
    paint.sign(root, "dynamicearthnet-2021", seed, split)
    number = 0
    for name, sites in split.items():
        for site in sites:
            random = np.random.default_rng([seed, number])
            land = _land_cover(random)
            zone, cube = site.split("_", 1)
            folder = root / release_2021.IMAGES[name] / zone / cube / "L3H-SR"
            for month, codes in zip(MONTHS, land, strict=True):
                image = _planet(random, codes)
                paint.picture(folder / f"{month}-01.tif", image, **paint.metre_grid(number, 3.0))
            if name == "train":
                _write_changes(root / release_2021.LABELS / site, site, land)
            number += 1


def _write_changes(folder: Path, site: str, land: list[Codes]) -> None:
    for index, (older, newer) in enumerate(pairwise(land)):
        change = np.where(newer != older, newer + 1, 0).astype(np.uint8)
        paint.picture(folder / f"{site}-{MONTHS[index + 1]}-{MONTHS[index]}.png", change)


def write_dynamicearthnet_2022(root: Path, seed: int = 0) -> None:
    """Four cubes of 128 pixels and four months, in the folders that the archives unpack to.

    Labels are spelt both ways, and a corner of one is snow, another unmarked.
    """
    split = {"train": ("1311_3077_13", "1700_3100_13"), "val": ("2065_3647_13",)}
    split |= {"test": ("2415_3082_13",)}
    paint.sign(root, "dynamicearthnet-2022", seed, split)
    lists = root / "dynnet_training_splits"
    lists.mkdir(parents=True, exist_ok=True)
    number = 0
    for name, cubes in split.items():
        lines = []
        for cube in cubes:
            lines += _write_cube(root, seed, number, cube)
            number += 1
        (lists / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_cube(root: Path, seed: int, number: int, cube: str) -> list[str]:
    """Write the months of a cube; their lines in the list of the split."""
    random = np.random.default_rng([seed, number])
    zone, scene = f"{10 + number}N", f"{10 + number}N-122W-40N-L3H-SR"
    folder = root / f"planet.{zone}" / "planet" / zone / "26E-183N" / cube / "PF-SR"
    labels = root / "labels" / f"{cube}_{zone}" / "Labels" / "Raster" / scene
    at = paint.metre_grid(number, 3.0)
    lines = []
    for month, codes in zip(MONTHS, _land_cover(random), strict=True):
        paint.picture(folder / f"{month}-01.tif", _planet(random, codes), **at)
        one_hot = np.zeros((7, *codes.shape), np.uint8)
        for code in range(6):
            one_hot[code][codes == code] = 255
        one_hot[:, :4, :4] = 0
        one_hot[6, :4, :4] = 255
        one_hot[:, -2:, -2:] = 0
        stamp = f"{month}-01" if number % 2 else f"{month}-01".replace("-", "_")
        paint.picture(labels / f"{scene}-{stamp}.tif", one_hot, compress="deflate", **at)
        image = f"/reprocess-cropped/UTM-24000/{zone}/26E-183N/{cube}/PF-SR"
        lines.append(f"{image} /labels/{cube}_{zone}/{scene}-{stamp}.tif {month}")
    return lines
