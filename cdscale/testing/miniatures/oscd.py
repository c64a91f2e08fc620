"""A miniature of OSCD, in every form that its reader knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rasterio import Affine

from cdscale.learn.data.oscd import BANDS, IMAGES, TEST_LABELS, TRAIN_LABELS
from cdscale.testing.miniatures import painting as paint
from cdscale.testing.miniatures.painting import Codes, Floats, Random

STEP = 1e-4
"""Degrees of a 10 m pixel."""
COARSE = {"B01": 6, "B09": 6, "B10": 6, "B05": 2, "B06": 2, "B07": 2, "B8A": 2, "B11": 2, "B12": 2}
"""Size of a native pixel in pixels of 10 m; the others are of 10 m."""
SHIFT = 3
"""Rows and columns by which native date 2 starts before date 1."""


@dataclass(frozen=True)
class OscdForm:
    """Which of the published forms.

    ``bands``: "native" keeps coarse bands coarse in ``imgs_*_rect``; "resampled" has all at 10 m;
    "unregistered" writes ``imgs_*`` alone, date 2 on a grid of its own. ``s1``: "scaled" and
    "mapped" are both states of Hafner et al.'s VV, "ebel" is VV and VH; the last city of each
    split has none. ``label``: the format, and channels of a PNG.
    """

    bands: Literal["native", "resampled", "unregistered"] = "native"
    s1: Literal["scaled", "mapped", "ebel", "none"] = "scaled"
    label: Literal["tif", "L", "RGB", "RGBA"] = "tif"
    test_labels: bool = False


def write_oscd(
    root: Path,
    seed: int = 0,
    form: OscdForm | None = None,
    train: Sequence[str] = ("anvil", "birch", "cedar_e"),
    test: Sequence[str] = ("delta", "ember"),
) -> None:
    """Write the miniature: bright blobs at date 2, in all bands and in radar.

    Parameters
    ----------
    root : Path
        Where; the folder is made.
    seed : int
        Of all that is random.
    form : OscdForm, optional
        Which of the published forms.
    train, test : sequence of str
        Names of the cities; those of a recipe, say.
    """
    form = form or OscdForm()
    paint.sign(root, "oscd", seed, {"train": train, "test": test})
    for number, name in enumerate((*train, *test)):
        random = np.random.default_rng([seed, number])
        # A multiple of 6 in neither direction: coarse grids do not divide the fine one.
        shape = (100 + number % 7, 106 - number % 5)
        where = paint.blobs(random, shape, 5)
        grid = Affine(STEP, 0, 10 + number % 100, 0, -STEP, 45)
        _write_optical(root / IMAGES / name, random, form, where, grid)
        if form.s1 != "none" and name not in (*train[-1:], *test[-1:]):
            _write_radar(root / "S1", name, random, form, where, grid)
        if name in train or form.test_labels:
            labels = TRAIN_LABELS if name in train else TEST_LABELS
            _write_label(root / labels / name / "cm", name, form, where)
    for split, names in (("train", train), ("test", test)):
        (root / IMAGES / f"{split}.txt").write_text(",".join(names) + "\n", encoding="utf-8")


def _write_optical(
    folder: Path, random: Random, form: OscdForm, where: Codes, grid: Affine
) -> None:
    before = paint.ground(random, len(BANDS), where.shape)
    after = paint.brightened(before, where, season=random.uniform(0.9, 1.1))
    unregistered = form.bands == "unregistered"
    tail = "" if unregistered else "_rect"
    for date, x_BYX in ((1, before), (2, after)):
        at = grid
        if unregistered and date == 2:
            x_BYX = np.pad(x_BYX, ((0, 0), (SHIFT, 0), (SHIFT, 0)), mode="edge")
            at = grid * Affine.translation(-SHIFT, -SHIFT)
        for band, plane in zip(BANDS, x_BYX, strict=True):
            size = 1 if form.bands == "resampled" else COARSE.get(band, 1)
            name = f"S2A_MADE_UP_{band}.tif" if unregistered else f"{band}.tif"
            path = folder / f"imgs_{date}{tail}" / name
            paint.picture(path, paint.digital(_coarse(plane, size)), **_place(plane, at, size))
    dates = "date_1: 20160110\ndate_2: 20180214\n"
    (folder / "dates.txt").write_text(dates, encoding="utf-8")


def _coarse(plane: Floats, size: int) -> Floats:
    """Means of squares; rows and columns that fill no square are left out."""
    if size == 1:
        return plane
    rows, columns = (side // size for side in plane.shape)
    squares = plane[: rows * size, : columns * size].reshape(rows, size, columns, size)
    means: Floats = squares.mean(axis=(1, 3))
    return means


def _place(plane: Floats, at: Affine, size: int) -> dict[str, Any]:
    return {"crs": "EPSG:4326", "transform": at * Affine.scale(size)}


def _write_radar(
    folder: Path, name: str, random: Random, form: OscdForm, where: Codes, grid: Affine
) -> None:
    """Hafner's files reach five pixels beyond the optical grid; Ebel's are on it."""
    nothing = np.zeros_like(where)
    for number, mask in ((1, nothing), (2, where)):
        if form.s1 == "ebel":
            path = folder / name / f"imgs_{number}" / "transformed" / "S1_made_up.tif"
            decibel = paint.decibel(random, 2, mask)
            paint.picture(path, decibel, crs="EPSG:4326", transform=grid)
            continue
        decibel = paint.decibel(random, 1, np.pad(mask, 5))
        at = {"crs": "EPSG:4326", "transform": grid * Affine.translation(-5, -5)}
        path = folder / f"sentinel1_{name}_59_t{number}.tif"
        if form.s1 == "mapped":
            paint.picture(path, paint.between_0_and_1(decibel, -25, 5), **at)
        else:
            stored = np.round(decibel * 100).astype(np.int16)
            paint.picture(path, stored, nodata=-32768, scale=0.01, **at)


def _write_label(folder: Path, name: str, form: OscdForm, where: Codes) -> None:
    if form.label == "tif":
        paint.picture(folder / f"{name}-cm.tif", where + np.uint8(1))
        return
    channels = np.repeat(where[None] * np.uint8(255), len(form.label), axis=0)
    if form.label == "RGBA":
        channels[3] = 255
    paint.picture(folder / "cm.png", channels)
