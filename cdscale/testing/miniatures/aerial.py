"""Miniatures of the aerial sets: HRSCD, SZTAKI AirChange and the QuickBird pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rasterio import Affine

from cdscale.learn.data.aerial import SZTAKI_SETS
from cdscale.learn.data.hrscd import FOLDERS, split_of
from cdscale.testing.miniatures import painting as paint
from cdscale.testing.miniatures.painting import Codes, Floats, Random

SCENES = (("14", 415, 6890), ("14", 420, 6890), ("35", 305, 6780), ("35", 310, 6785))
"""Department, x and y (in km) of the HRSCD scenes."""
SIDE = 128

_LAND_COLOUR = np.array(
    [(0, 0, 0), (0.40, 0.36, 0.36), (0.28, 0.26, 0.12), (0.06, 0.16, 0.06), (0.14, 0.2, 0.2),
     (0.03, 0.06, 0.16)],
    np.float32,
)  # fmt: skip
"""Red, green and blue of land-cover codes 0 to 5."""


def write_hrscd(root: Path, seed: int = 0) -> None:
    """Four scenes of 128 pixels: fields and woods, of which blobs become built-up.

    A strip of three rows has no information (code 0). One blob is in the change map and not in the
    land cover, as happens in the real set.
    """
    keys = [f"{department}-{x:04d}-{y:04d}" for department, x, y in SCENES]
    paint.sign(root, "hrscd", seed, split_of(keys))
    for number, (department, x, y) in enumerate(SCENES):
        random = np.random.default_rng([seed, number])
        land = _land(random)
        built = paint.blobs(random, land.shape, 5)
        later = np.where(built == 1, 1, land).astype(np.uint8)
        change = ((later != land) & (land != 0)).astype(np.uint8)
        change[-9:, -9:] = 1
        first, second = _names(department, x, y)
        at = Affine(0.5, 0, x * 1000, 0, -0.5, y * 1000)
        for layer, name, values in (
            ("before", first, _photograph(random, land)),
            ("after", second, _photograph(random, later)),
            ("land_before", first, land),
            ("land_after", second, later),
            ("change", second, change),
        ):
            path = root / FOLDERS[layer] / f"D{department}" / name
            paint.picture(path, values, crs="EPSG:2154", transform=at, compress="deflate")


def _names(department: str, x: int, y: int) -> tuple[str, str]:
    year = "2005" if department == "14" else "2006"
    first = f"{department}-{year}-{x:04d}-{y:04d}-LA93.tif"
    return first, f"{department}-2012-{x:04d}-{y:04d}-LA93-0M50-E080.tif"


def _land(random: Random) -> Codes:
    """Agriculture, with woods, water and a town, and a strip without information."""
    land = np.full((SIDE, SIDE), 2, np.uint8)
    relief = paint.ground(random, 1, land.shape)[0]
    land[relief > np.quantile(relief, 0.7)] = 3
    land[relief < np.quantile(relief, 0.1)] = 5
    land[paint.blobs(random, land.shape, 2) == 1] = 1
    land[:3] = 0
    return land


def _photograph(random: Random, land: Codes) -> Codes:
    colour: Floats = np.moveaxis(_LAND_COLOUR[land], 2, 0)
    return paint.bytes_of(colour + random.normal(0, 0.01, colour.shape).astype(np.float32))


def write_sztaki(root: Path, seed: int = 0) -> None:
    """All 13 pairs, at 96 x 64 pixels; change is white."""
    keys = [f"{name}-{k}" for name, pairs in SZTAKI_SETS.items() for k in range(1, pairs + 1)]
    paint.sign(root, "sztaki", seed, {"test": keys})
    for number, key in enumerate(keys):
        random = np.random.default_rng([seed, number])
        where = paint.blobs(random, (64, 96), 4)
        folder = root / Path(*key.split("-"))
        _write_pair(folder, ("im1.bmp", "im2.bmp"), random, where)
        paint.picture(folder / "gt.bmp", where * np.uint8(255))


def write_quickbird(root: Path, seed: int = 0) -> None:
    """The one pair, at 116 x 74 pixels; change is dark."""
    paint.sign(root, "quickbird", seed, {"test": ["quickbird"]})
    random = np.random.default_rng([seed, 0])
    where = paint.blobs(random, (74, 116), 6)
    _write_pair(root, ("t1.bmp", "t2.bmp"), random, where)
    paint.picture(root / "gt.bmp", (1 - where) * np.uint8(255))


def _write_pair(folder: Path, names: tuple[str, str], random: Random, where: Codes) -> None:
    before = paint.ground(random, 3, where.shape)
    after = paint.brightened(before, where, season=random.uniform(0.9, 1.1))
    for name, x_BYX in zip(names, (before, after), strict=True):
        paint.picture(folder / name, paint.bytes_of(x_BYX))
