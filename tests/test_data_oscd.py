"""OSCD: every published form, faults, and the real set."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio import Affine

from cdscale.errors import ReadError
from cdscale.learn.data import oscd
from cdscale.learn.data.oscd import BANDS, IMAGES, OSCD, TRAIN_LABELS
from cdscale.testing.miniatures import OscdForm, write_oscd
from cdscale.testing.miniatures.oscd import SHIFT
from tests.miniature_roots import Miniatures, cut, elsewhere, miniatures, rewrite

__all__ = ["miniatures"]

ANVIL = Path(IMAGES) / "anvil"
LABEL = Path(TRAIN_LABELS) / "anvil" / "cm" / "anvil-cm.tif"


def test_the_published_split() -> None:
    assert len(oscd.CITIES["train"]) == 14
    assert len(oscd.CITIES["test"]) == 10
    assert len(set(oscd.CITIES["train"] + oscd.CITIES["test"])) == 24
    assert len(BANDS) == 13
    assert set(oscd.RGB_NIR) <= set(oscd.TO_20_M) <= set(BANDS)


def test_coarse_bands_read_in_both_published_forms(tmp_path: Path) -> None:
    """One scene with bands of 20 and 60 m as they are, and with all resampled to 10 m."""
    write_oscd(tmp_path / "native")
    write_oscd(tmp_path / "resampled", form=OscdForm(bands="resampled"))
    native, resampled = (OSCD.samples(tmp_path / n, "train")[0] for n in ("native", "resampled"))
    assert native.when == ("2016-01-10", "2018-02-14")
    coarse = native.read("after")
    fine = resampled.read("after")
    assert coarse.shape == fine.shape == (13, *native.grid().shape)
    tens = [BANDS.index(band) for band in oscd.RGB_NIR]
    np.testing.assert_array_equal(coarse[tens], fine[tens])
    assert np.abs(coarse - fine).mean() < 0.02


def test_native_images_are_read_where_there_are_no_registered_ones(tmp_path: Path) -> None:
    """Date 2 begins elsewhere and goes by its georeference."""
    write_oscd(tmp_path / "rect")
    write_oscd(tmp_path / "native", form=OscdForm(bands="unregistered"))
    assert OSCD.check(tmp_path / "native", deep=True).whole
    rect, native = (OSCD.samples(tmp_path / name, "train")[0] for name in ("rect", "native"))
    assert native.grid().shape == rect.grid().shape
    np.testing.assert_array_equal(native.read("before"), rect.read("before"))
    after, expected = native.read("after", oscd.RGB), rect.read("after", oscd.RGB)
    inner = (slice(None), slice(SHIFT, -SHIFT), slice(SHIFT, -SHIFT))
    np.testing.assert_allclose(after[inner], expected[inner], atol=2e-4)
    city = oscd.read_city(tmp_path / "native", "anvil", oscd.RGB)
    np.testing.assert_array_equal(city.s2_after, after)


@pytest.mark.parametrize("label", ["tif", "L", "RGB", "RGBA"])
def test_labels_of_every_form_say_the_same(label: Any, tmp_path: Path) -> None:
    write_oscd(tmp_path / "tif")
    write_oscd(tmp_path / label, form=OscdForm(label=label))
    assert OSCD.check(tmp_path / label, deep=True).whole
    for one, other in zip(
        OSCD.samples(tmp_path / "tif", "train"),
        OSCD.samples(tmp_path / label, "train"),
        strict=True,
    ):
        found = other.read("change")
        assert set(np.unique(found)) == {0, 1}
        np.testing.assert_array_equal(found, one.read("change"))


def test_greys_of_a_picture_go_to_the_nearer_side(tmp_path: Path) -> None:
    write_oscd(tmp_path, form=OscdForm(label="RGBA"))
    path = tmp_path / TRAIN_LABELS / "anvil" / "cm" / "cm.png"
    sample = OSCD.samples(tmp_path, "train")[0]
    expected = sample.read("change")
    rewrite(path, lambda x: np.clip(x, 60, 200))
    np.testing.assert_array_equal(sample.read("change"), expected)


@pytest.mark.parametrize("form", ["scaled", "mapped", "ebel"])
def test_radar_of_every_form_is_linear_power_on_the_grid(form: Any, tmp_path: Path) -> None:
    write_oscd(tmp_path, form=OscdForm(s1=form))
    report = OSCD.check(tmp_path, deep=True)
    assert report.whole
    assert dict(report.counts)["s1"] == 3
    sample = OSCD.samples(tmp_path, "train")[0]
    before, after = sample.read("s1_before"), sample.read("s1_after")
    assert before.shape == (2 if form == "ebel" else 1, *sample.grid().shape)
    assert np.isfinite(before).all()
    where = sample.read("change") == 1
    decibel = 10 * np.log10(np.stack([before, after]))
    assert np.median(decibel[:, 0, ~where]) == pytest.approx(-14, abs=0.3)
    assert np.median(decibel[1, 0, where]) == pytest.approx(-5, abs=1.0)
    if form == "ebel":
        assert np.median(decibel[0, 1]) == pytest.approx(-20, abs=0.3)
    city = oscd.read_city(tmp_path, "anvil", ("B02",))
    assert [pair.orbit for pair in city.orbits] == [0 if form == "ebel" else 59]
    np.testing.assert_array_equal(city.orbits[0].before, before[:1])


def test_orbits_that_lack_a_polarisation_are_left_out(tmp_path: Path) -> None:
    write_oscd(tmp_path, form=OscdForm(s1="ebel"))
    write_oscd(tmp_path, form=OscdForm(s1="scaled"))
    one = oscd.read_city(tmp_path, "anvil", ("B02",))
    assert [(pair.orbit, len(pair.before)) for pair in one.orbits] == [(59, 1), (0, 1)]
    both = oscd.read_city(tmp_path, "anvil", ("B02",), s1=("vv", "vh"))
    assert [(pair.orbit, len(pair.before)) for pair in both.orbits] == [(0, 2)]
    sample = OSCD.samples(tmp_path, "train")[0]
    assert sample.read("s1_before").shape[0] == 2
    assert sample.read("s1_before_59").shape[0] == 1


def test_a_city_without_radar_or_label_reads_as_nothing(miniatures: Miniatures) -> None:
    sample = OSCD.samples(miniatures["oscd"], "test")[1]
    assert not sample.has("s1_before")
    assert np.isnan(sample.read("s1_after")).all()
    assert (sample.read("change") == 255).all()
    city = oscd.read_city(miniatures["oscd"], "ember", ("B02",))
    assert city.label is None
    assert city.orbits == ()


def test_a_miniature_takes_the_names_of_a_recipe(tmp_path: Path) -> None:
    form = OscdForm(test_labels=True)
    write_oscd(tmp_path, form=form, train=("paris", "pisa"), test=("rio",))
    assert oscd.city_names(tmp_path, "train") == ("paris", "pisa")
    assert OSCD.samples(tmp_path, "test")[0].labelled


# ---------------------------------------------------------------------------------------- faults


def write_list(root: Path, text: str) -> None:
    (root / IMAGES / "train.txt").write_text(text, encoding="utf-8")


def masquerade(path: Path) -> None:
    path.write_text("<VRTDataset></VRTDataset>")


Fault = tuple[str, Callable[[Path], object], bool, str, str]
FAULTS: dict[str, Fault] = {
    "a band is missing": (
        "missing",
        lambda root: (root / ANVIL / "imgs_2_rect" / "B05.tif").unlink(),
        False,
        "anvil/imgs_2_rect/B05.tif",
        "not there",
    ),
    "a city is missing": (
        "missing",
        lambda root: write_list(root, "anvil,birch,cedar_e,atlantis"),
        False,
        "Images/atlantis",
        "listed in train.txt",
    ),
    "a list is missing": (
        "missing",
        lambda root: (root / IMAGES / "test.txt").unlink(),
        False,
        "test.txt",
        "the list of cities",
    ),
    "a city is not listed": (
        "missing",
        lambda root: write_list(root, "anvil,birch"),
        False,
        ".",
        "cedar_e of the train split",
    ),
    "a label is missing": (
        "missing",
        lambda root: (root / LABEL).unlink(),
        False,
        "anvil-cm.tif",
        "label of a train city",
    ),
    "half a pair of radar": (
        "missing",
        lambda root: (root / "S1" / "sentinel1_anvil_59_t2.tif").unlink(),
        False,
        "S1/sentinel1_anvil_59_t2.tif",
        "the other date",
    ),
    "a band cut short": (
        "unreadable",
        lambda root: cut(root / ANVIL / "imgs_1_rect" / "B03.tif", 0.7),
        False,
        "imgs_1_rect/B03.tif",
        "cut short",
    ),
    "a text for an image": (
        "unreadable",
        lambda root: masquerade(root / ANVIL / "imgs_1_rect" / "B03.tif"),
        False,
        "imgs_1_rect/B03.tif",
        "not recognized",
    ),
    "a label of other size": (
        "shape",
        lambda root: rewrite(root / LABEL, lambda x: x[:, :-4]),
        False,
        "anvil-cm.tif",
        "expected (100, 106) as the scene has; got (96, 106)",
    ),
    "rows for columns": (
        "shape",
        lambda root: rewrite(root / LABEL, lambda x: x.transpose(0, 2, 1)),
        False,
        "anvil-cm.tif",
        "expected (100, 106) as the scene has; got (106, 100)",
    ),
    "a label of another place": (
        "crs",
        lambda root: elsewhere(root / LABEL),
        False,
        "anvil-cm.tif",
        "expected EPSG:4326",
    ),
    "radar of another place": (
        "crs",
        lambda root: elsewhere(root / "S1" / "sentinel1_birch_59_t1.tif"),
        False,
        "sentinel1_birch_59_t1.tif",
        "elsewhere",
    ),
    "a band of another type": (
        "dtype",
        lambda root: rewrite(root / ANVIL / "imgs_1_rect" / "B8A.tif", lambda x: x / 1e4),
        False,
        "B8A.tif",
        "expected uint16; got float64",
    ),
    "codes of another table": (
        "codes",
        lambda root: rewrite(root / LABEL, lambda x: x - 1),
        True,
        "anvil-cm.tif",
        "expected only 1, 2; got 0",
    ),
    "a name that leads out": (
        "name",
        lambda root: write_list(root, "anvil,birch,cedar_e,../../anvil"),
        False,
        "train.txt",
        "refused '../../anvil'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reported_with_file_and_reason(
    fault: str, miniatures: Miniatures, tmp_path: Path
) -> None:
    kind, inject, deep, path, reason = FAULTS[fault]
    root = miniatures.copy("oscd", tmp_path)
    inject(root)
    report = OSCD.check(root, deep=deep)
    assert not report.whole
    severe = [finding for finding in report.findings if finding.severe]
    assert [(f.kind, f.path.endswith(path), reason in f.reason) for f in severe] == [
        (kind, True, True)
    ], str(report)


def test_what_does_not_belong_is_noted_and_nothing_more(
    miniatures: Miniatures, tmp_path: Path
) -> None:
    root = miniatures.copy("oscd", tmp_path)
    (root / IMAGES / "thumbs.db").write_text("x")
    report = OSCD.check(root)
    assert report.whole
    assert any(f.kind == "surplus" and f.path.endswith("thumbs.db") for f in report.findings)


def test_a_picture_that_contradicts_its_label_is_noted(
    miniatures: Miniatures, tmp_path: Path
) -> None:
    root = miniatures.copy("oscd", tmp_path)
    write_oscd(tmp_path / "png", form=OscdForm(label="RGB"))
    for name in ("anvil", "birch"):
        folder = Path(TRAIN_LABELS) / name / "cm"
        shutil.copy(tmp_path / "png" / folder / "cm.png", root / folder / "cm.png")
    rewrite(root / TRAIN_LABELS / "birch" / "cm" / "cm.png", lambda x: 255 - x)
    assert all(f.kind != "differs" for f in OSCD.check(root).findings)
    differing = [f for f in OSCD.check(root, deep=True).findings if f.kind == "differs"]
    assert [f.path.split("/")[1] for f in differing] == ["birch"]


def test_faults_stop_a_reader_too(miniatures: Miniatures, tmp_path: Path) -> None:
    root = miniatures.copy("oscd", tmp_path)
    write_list(root, "anvil,../anvil")
    with pytest.raises(ReadError, match=r"refused a name.*'\.\./anvil'"):
        OSCD.samples(root, "train")
    with pytest.raises(ReadError, match="refused a name"):
        oscd.read_city(root, "../anvil", ("B02",))
    elsewhere(root / LABEL)
    with pytest.raises(ReadError, match=r"anvil-cm\.tif.*expected EPSG:4326"):
        oscd.read_city(root, "anvil", ("B02",))


def test_radar_beyond_the_scene_is_nan(miniatures: Miniatures, tmp_path: Path) -> None:
    root = miniatures.copy("oscd", tmp_path)
    for when in ("t1", "t2"):
        path = root / "S1" / f"sentinel1_anvil_59_{when}.tif"
        step, west = 1e-4, 10 + 40e-4
        at = Affine(step, 0, west, 0, -step, 45 + 5 * step)
        rewrite(path, lambda x: x, crs="EPSG:4326", transform=at, nodata=-32768, scale=0.01)
    found = OSCD.samples(root, "train")[0].read("s1_before")
    assert np.isnan(found[:, :, :39]).all()
    assert np.isfinite(found[:, :, 41:]).all()


# -------------------------------------------------------------------------------------- real set


@pytest.mark.realdata
def test_the_real_set_is_whole(data_root: Path) -> None:
    root = data_root / "oscd"
    if not root.is_dir():
        pytest.skip(f"no OSCD under {data_root}")
    report = OSCD.check(root)
    assert report.whole, str(report)
    assert not report.simulated
    assert dict(report.counts) == {"cities": 24, "labels": 14, "s1": 22}
    notes = "\n".join(finding.reason for finding in report.findings)
    assert "no labels of brasilia" in notes
    assert "no Sentinel-1 of cupertino, beirut" in notes


@pytest.mark.realdata
def test_a_real_city_reads_in_physical_units(data_root: Path) -> None:
    root = data_root / "oscd"
    if not root.is_dir():
        pytest.skip(f"no OSCD under {data_root}")
    (sample,) = (s for s in OSCD.samples(root, "train") if s.key == "paris")
    assert sample.when == ("2016-11-30", "2017-11-07")
    image = sample.read("before")
    assert image.shape == (13, 408, 390)
    assert 0.03 < float(np.median(image)) < 0.4
    assert int(sample.read("change").sum()) == 458
    assert 0.1 < float(np.nanmedian(sample.read("s1_before"))) < 1
    grid = sample.grid()
    assert str(grid.crs) == "EPSG:4326"
    assert grid.shape == (408, 390)
