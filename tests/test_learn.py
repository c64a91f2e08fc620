"""Learning: the OSCD reader, drawn batches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio import Affine

from cdscale.errors import ReadError
from cdscale.learn import augment
from cdscale.learn.augment import (
    Augment,
    Drawing,
    Sampling,
    draw_batch,
    filled,
    jittered,
    window_size,
)
from cdscale.learn.data import oscd
from cdscale.learn.labels import IGNORED
from cdscale.models.inputs import Pair, change_inputs
from cdscale.spec.card import Normalisation

BANDS = ("B02", "B04", "B11")

# ------------------------------------------------------------------------------------------- OSCD


def write(path: Path, values: np.ndarray, transform: Affine | None = None, **tags: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"transform": transform, "crs": "EPSG:4326"} if transform else {}
    height, width = values.shape
    scale = tags.pop("scale", None)
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1}
    with rasterio.open(path, "w", dtype=values.dtype, **profile, **place, **tags) as file:
        file.write(values, 1)
        if scale is not None:
            file.scales = (scale,)


def bright(label: np.ndarray, random: np.random.Generator, band: int) -> np.ndarray:
    base = 1000 + 200 * band + random.integers(0, 60, label.shape)
    return (base + 2500 * (label == 1)).astype(np.uint16)


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three made-up cities in the published layout; change is a bright square at date 2."""
    root = tmp_path_factory.mktemp("oscd")
    (root / oscd.IMAGES).mkdir()
    (root / oscd.IMAGES / "train.txt").write_text("aa,bb, cc\n", encoding="utf-8")
    step = 1e-4
    for number, name in enumerate(("aa", "bb", "cc")):
        random = np.random.default_rng(number)
        height, width = 120 + number, 115
        label = np.zeros((height, width), np.uint8)
        for _ in range(6):
            top, left = random.integers(0, 100, 2)
            label[top : top + 14, left : left + 14] = 1
        grid = Affine(step, 0, 10 + number, 0, -step, 45)
        for date, changed in (("imgs_1_rect", np.zeros_like(label)), ("imgs_2_rect", label)):
            for index, band in enumerate(BANDS):
                plane, at = bright(changed, random, index), grid
                if band == "B11":
                    plane, at = plane[::2, ::2], grid * Affine.scale(2)
                write(root / oscd.IMAGES / name / date / f"{band}.tif", plane, at)
        folder = root / oscd.TRAIN_LABELS / name / "cm"
        folder.mkdir(parents=True)
        with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
            write(folder / f"{name}-cm.tif", label + 1)
        if name != "cc":
            radar = np.full((140, 140), -1000, np.int16)
            radar[:20] = -32768
            radar[60:] = 0
            at = Affine(step, 0, 10 + number - 10 * step, 0, -step, 45 + 10 * step)
            for when in ("t1", "t2"):
                path = root / "S1" / f"sentinel1_{name}_59_{when}.tif"
                write(path, radar, at, nodata=-32768, scale=0.01)
    return root


def test_a_city_reads_on_the_grid_of_date_one(miniature: Path) -> None:
    assert oscd.city_names(miniature, "train") == ("aa", "bb", "cc")
    city = oscd.read_city(miniature, "aa", BANDS)
    assert city.s2_before.shape == city.s2_after.shape == (3, 120, 115)
    assert city.s2_before.dtype == np.float32
    assert city.label is not None
    assert set(np.unique(city.label)) == {0, 1}
    rise = city.s2_after[:, city.label == 1].mean() - city.s2_before[:, city.label == 1].mean()
    assert rise == pytest.approx(0.25, abs=0.02)


def test_radar_comes_by_georeference_in_linear_power(miniature: Path) -> None:
    (pair,) = oscd.read_city(miniature, "aa", BANDS).orbits
    assert pair.orbit == 59
    assert pair.before.shape == (1, 120, 115)
    # Ten rows and columns further out than the optical grid: row r there is row r + 10 of radar.
    assert np.isnan(pair.before[0, :9]).all()
    np.testing.assert_allclose(pair.before[0, 12:48], 0.1, rtol=1e-5)
    np.testing.assert_allclose(pair.before[0, 52:], 1.0, rtol=1e-5)


def test_a_city_without_radar_has_none(miniature: Path) -> None:
    city = oscd.read_city(miniature, "cc", BANDS)
    assert city.orbits == ()


def test_a_missing_city_or_list_is_a_permanent_read_error(miniature: Path) -> None:
    with pytest.raises(ReadError, match="cannot read .*atlantis") as caught:
        oscd.read_city(miniature, "atlantis", BANDS)
    assert caught.value.permanent
    with pytest.raises(ReadError, match=r"test\.txt"):
        oscd.city_names(miniature, "test")


@pytest.mark.realdata
def test_real_cities_read(data_root: Path) -> None:
    root = data_root / "oscd"
    if not root.is_dir():
        pytest.skip(f"no OSCD under {data_root}")
    assert len(oscd.city_names(root, "train")) == 14
    assert len(oscd.city_names(root, "test")) == 10
    paris = oscd.read_city(root, "paris", ("B04", "B11"))
    assert paris.s2_before.shape == (2, 408, 390)
    assert paris.label is not None
    assert int(paris.label.sum()) == 458
    assert [pair.orbit for pair in paris.orbits] == [59, 110]
    for pair in paris.orbits:
        decibel = 10 * np.log10(pair.before)
        assert -6 < float(np.mean(decibel)) < -3
    rio = oscd.read_city(root, "rio", ("B04",))
    assert rio.label is None


# --------------------------------------------------------------------------------------- augment


IMAGE = Normalisation(s2_standardise="image", s1_standardise="image")


def scenes_of(root: Path, side: int, rule: Normalisation = IMAGE) -> list[augment.Scene]:
    cities = [oscd.read_city(root, name, BANDS) for name in ("aa", "bb", "cc")]
    scenes = []
    for city in cities:
        assert city.label is not None
        optical = torch.from_numpy(np.stack((city.s2_before, city.s2_after)))
        nothing = np.full((2, 1, *city.label.shape), math.nan, np.float32)
        dates = [np.stack((orbit.before, orbit.after)) for orbit in city.orbits[:1]]
        radar = torch.from_numpy((dates or [nothing])[0])
        planes = (filled(x, side, math.nan) for x in (optical, radar))
        label = filled(torch.from_numpy(city.label), side, IGNORED)
        s2, s1 = planes
        scenes.append(augment.Scene.of(s2, (s1,), label, rule))
    return scenes


PLAIN = Augment(
    resample=0, atmosphere=0, season=0, noise=0, swap=0, hole=0, s1_drop=0, s1_gain_db=0,
    s1_speckle=0,
)  # fmt: skip


def drawing(
    rule: Augment, batch: int, norm: Normalisation = IMAGE, crop: int = 64, **sampling: Any
) -> Drawing:
    how = Sampling(crop=crop, batch=batch, **sampling)
    return Drawing(BANDS, how, rule, norm)


def test_a_plain_crop_is_a_piece_of_the_scene(miniature: Path) -> None:
    """Nothing is blurred or shifted when nothing is asked for; the label stays on its pixels."""
    scenes = scenes_of(miniature, 64)
    torch.manual_seed(0)
    batch = draw_batch(scenes, drawing(PLAIN, 8))
    rise = batch.pair.s2_after[:, 0] - batch.pair.s2_before[:, 0]
    assert ((rise > 0.125) == (batch.label == 1)).all()
    known = torch.cat([scene.s2[:, 0].flatten() for scene in scenes])
    distance = batch.pair.s2_before[:, 0].flatten()[::97, None] - known[None, :]
    assert distance.abs().min(dim=1).values.max() == 0


@pytest.mark.parametrize("whose", ["image", "image_scalar"])
def test_moments_are_those_of_the_whole_scene(miniature: Path, whose: Any) -> None:
    """A crop is standardised as its scene is; gains and offsets of a date leave no trace."""
    rule = Normalisation(s2_clip=(-1, 3), s2_standardise=whose, s1_standardise="image")
    scenes = scenes_of(miniature, 64, rule)[:1]
    whole = change_inputs(
        Pair(scenes[0].s2[0], scenes[0].s2[1], scenes[0].s1[0][0], scenes[0].s1[0][1]), rule
    )
    torch.manual_seed(3)
    found = draw_batch(scenes, drawing(PLAIN, 4, rule)).inputs(rule)
    for part, scene in zip(found.tensors(), whole.tensors(), strict=True):
        values, known = part[:, 0].flatten()[::61, None], scene[0].flatten()[None]
        assert (values - known).abs().min(dim=1).values.max() < 1e-5


def test_gains_and_offsets_are_taken_off_again(miniature: Path) -> None:
    rule = Normalisation(s2_clip=(-1, 3), s2_standardise="image")
    strong = PLAIN.model_copy(update={"season": 0.2, "turn": False})
    scenes = scenes_of(miniature, 128, rule)[:1]
    how = Sampling(crop=128, batch=4)
    torch.manual_seed(0)
    varied = draw_batch(scenes, Drawing(BANDS, how, strong, rule))
    torch.manual_seed(0)
    plain = draw_batch(scenes, Drawing(BANDS, how, PLAIN.model_copy(update={"turn": False}), rule))
    assert not torch.allclose(varied.pair.s2_after, plain.pair.s2_after, equal_nan=True, atol=0.02)
    for one, other in zip(varied.inputs(rule).tensors(), plain.inputs(rule).tensors(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_jitter_leaves_holes_and_radar_alone(miniature: Path) -> None:
    rule = PLAIN.model_copy(update={"hole": 1.0, "jitter": 0.2})
    torch.manual_seed(0)
    inputs = draw_batch(scenes_of(miniature, 64), drawing(rule, 6)).inputs(IMAGE)
    found = jittered(inputs, rule)
    holes = (inputs.s2_before == 0).all(dim=1)
    assert holes.any()
    assert ((found.s2_before == 0).all(dim=1) == holes).all()
    assert not torch.equal(found.s2_before, inputs.s2_before)
    torch.testing.assert_close(found.s1_after, inputs.s1_after, rtol=0, atol=0)
    assert jittered(inputs, PLAIN) is inputs


def test_crops_are_sampled_as_asked(miniature: Path) -> None:
    """Round a changed pixel in the middle, or the best of several."""
    scenes = scenes_of(miniature, 32)
    torch.manual_seed(0)
    centred = draw_batch(scenes, drawing(PLAIN, 16, crop=15, near_change=1.0, centred=True))
    assert (centred.label[:, 7, 7] == 1).float().mean() > 0.8  # not so at the border
    shares = []
    for candidates in (1, 20):
        torch.manual_seed(0)
        batch = draw_batch(scenes, drawing(PLAIN, 64, crop=16, candidates=candidates))
        shares.append(float((batch.label == 1).float().mean()))
    assert shares[1] > 1.5 * shares[0]


def test_a_drawn_batch_is_what_it_says(miniature: Path) -> None:
    rule = Augment(hole=1.0)
    scenes = scenes_of(miniature, window_size(64, rule))
    torch.manual_seed(1)
    batch = draw_batch(scenes, drawing(rule, 12))
    assert batch.pair.s2_before.shape == (12, 3, 64, 64)
    assert batch.pair.s1_after.shape == (12, 1, 64, 64)
    assert set(batch.label.unique().tolist()) <= {0, 1, IGNORED}
    holes = torch.isnan(batch.pair.s2_before).any(1) | torch.isnan(batch.pair.s2_after).any(1)
    assert (holes == (batch.label == IGNORED)).all()
    assert torch.isnan(batch.pair.s1_before).flatten(1).all(1).any()
    torch.manual_seed(1)
    again = draw_batch(scenes, drawing(rule, 12))
    for x, y in zip(batch.pair.tensors(), again.pair.tensors(), strict=True):
        torch.testing.assert_close(x, y, equal_nan=True, rtol=0, atol=0)


def test_change_is_drawn_more_often_than_it_occurs(miniature: Path) -> None:
    torch.manual_seed(2)
    batch = draw_batch(scenes_of(miniature, 64), drawing(PLAIN, 16, near_change=1.0))
    assert (batch.label == 1).flatten(1).any(1).all()


def test_vegetation_of_one_date_turns_to_soil_and_nothing_else_does() -> None:
    bands = ("B04", "B08", "B11")
    green, roof = torch.tensor([0.05, 0.4, 0.2]), torch.tensor([0.3, 0.3, 0.3])
    left = torch.arange(32)[None, None, None, None, :] < 16
    s2 = torch.where(left, green[:, None, None], roof[:, None, None]).expand(64, 2, 3, 32, 32)
    torch.manual_seed(0)
    found = augment._phenology(s2, bands, Augment(phenology=0.5))
    moved = (found != s2).any(dim=2)
    assert not moved[..., 16:].any()
    dates = moved[..., :16].flatten(2).any(dim=2)
    assert not dates.all(dim=1).any()
    assert 10 < int(dates.any(dim=1).sum()) < 54
    ndvi = (found[:, :, 1] - found[:, :, 0]) / (found[:, :, 1] + found[:, :, 0])
    assert ndvi[moved].max() < 7 / 9
    assert augment._phenology(s2, ("B02", "B03", "B11"), Augment(phenology=1.0)) is s2


def test_a_pair_goes_in_the_order_of_the_network() -> None:
    parts = [torch.full((1,), float(i)) for i in range(4)]
    assert [int(x) for x in Pair(*parts).tensors()] == [0, 1, 2, 3]
