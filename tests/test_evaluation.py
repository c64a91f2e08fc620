"""Evaluation and maps of data sets: the pipeline's own maps, scored as the metrics say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

from cdscale import evaluation, models
from cdscale.errors import ModelError, ReadError, SpecError
from cdscale.evaluation import Split, Way, evaluate
from cdscale.evaluation.report import acquaintance
from cdscale.evaluation.scenes import Mapper, orbits_of
from cdscale.inference import Block, Tiling, predict_change
from cdscale.learn.data import Sample
from cdscale.learn.data.oscd import OSCD
from cdscale.learn.data.spacenet7 import SPACENET7
from cdscale.learn.metrics import Confusion, auc, legacy_confusion
from cdscale.testing.miniatures import OscdForm, write_oscd
from tests.commands import INCOMPLETE, OK, Cli, refused
from tests.miniature_roots import Miniatures, cut
from tests.miniature_roots import miniatures as miniatures
from tests.regions import a_card, write_card


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def change(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A fast change network of two bands and VV, with random weights."""
    return str(write_card(tmp_path_factory.mktemp("change"), "change", **small()))


@pytest.fixture(scope="module")
def optical(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One that sees no radar."""
    return str(write_card(tmp_path_factory.mktemp("optical"), "change", **small(s1_bands=[])))


@pytest.fixture(scope="module")
def urban(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("urban")
    return str(write_card(folder, "urban", s1_bands=["vv", "vh"]))


def small(**changes: Any) -> dict[str, Any]:
    from cdscale.models import patch

    return {"family": "ef-15", "network": {}, "halo": patch.HALO, "stride": patch.STRIDE} | changes


@pytest.fixture(scope="module")
def oscd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labelled cities, the second without radar, and two without labels."""
    root = tmp_path_factory.mktemp("cities") / "oscd"
    write_oscd(root, train=("anvil", "birch"))
    return root


def train(root: Path) -> tuple[Sample, ...]:
    return OSCD.samples(root, "train")


def mapper(model: str, way: Way | None = None) -> Mapper:
    return Mapper.open(model, OSCD, way or Way())


def middle(model: str, samples: tuple[Sample, ...]) -> float:
    """A threshold with pixels on both sides."""
    return float(np.median([np.median(mapper(model).change(sample)) for sample in samples]))


# ------------------------------------------------------------------------------------------- maps


def test_a_scene_is_mapped_as_the_pipeline_maps_a_block(oscd: Path, change: str) -> None:
    sample = train(oscd)[0]
    own = mapper(change)
    halo = own.card.halo
    around = ((0, 0), (halo, halo), (halo, halo))

    def wide(layer: str, *bands: str) -> np.ndarray:
        return np.pad(sample.read(layer, bands), around, constant_values=np.nan)

    before, after = (
        Block(wide(when, "B04", "B08"), wide(f"s1_{when}_59", "vv")) for when in ("before", "after")
    )
    expected = predict_change(own.network, own.card, before, after, Tiling(core=64))
    np.testing.assert_allclose(own.change(sample), expected, rtol=0, atol=5e-6)


def test_radar_of_several_orbits_is_averaged_and_can_be_withheld(
    miniatures: Miniatures, change: str, tmp_path: Path
) -> None:
    root = miniatures.copy("oscd", tmp_path)
    alone = mapper(change).change(train(root)[0])
    withheld = mapper(change, Way(radar=False)).change(train(root)[0])
    for when in ("t1", "t2"):
        later = "t2" if when == "t1" else "t1"
        shutil.copy(
            root / "S1" / f"sentinel1_anvil_59_{later}.tif",
            root / "S1" / f"sentinel1_anvil_88_{when}.tif",
        )
    sample = train(root)[0]
    assert orbits_of(sample, ("vv",)) == ("_59", "_88")
    assert orbits_of(sample, ("vv", "vh")) == orbits_of(sample, ()) == ()
    both = mapper(change).change(sample)
    for path in root.glob("S1/sentinel1_anvil_59_*"):
        path.unlink()
    other = mapper(change).change(train(root)[0])
    np.testing.assert_allclose(both, (alone + other) / 2, rtol=0, atol=1e-6)
    assert np.abs(alone - other).max() > 1e-4
    again = mapper(change, Way(radar=False)).change(sample)
    np.testing.assert_array_equal(withheld, again)
    assert np.abs(withheld - alone).max() > 1e-4


def test_windows_of_large_scenes_are_bounded(change: str) -> None:
    own = mapper(change)
    assert own._tiling((600, 1200)).core == 600
    assert own._tiling((1024, 100)).core == 1024
    assert own._tiling((10, 20)).core == 20


# ---------------------------------------------------------------------------------------- figures


def test_figures_are_those_of_the_maps(oscd: Path, change: str) -> None:
    root, level = oscd, middle(change, train(oscd))
    found = evaluate(change, Split("oscd", root, "train"), threshold=level, legacy=True)
    own = mapper(change)
    maps = {s.key: (own.change(s), s.read("change")) for s in train(root)}
    counts = {key: Confusion.of(p >= level, label) for key, (p, label) in maps.items()}
    assert list(found.samples) == ["anvil", "birch"]
    for key, (p, label) in maps.items():
        row = found.samples[key]
        assert row["f1"] == counts[key].f1
        assert row["auc"] == auc(p, label)
        assert row["unseen"] == 0
    pooled = sum(counts.values(), Confusion())
    assert found.summary["pooled"]["f1"] == pooled.f1
    assert found.summary["pooled"]["kappa"] == pooled.kappa
    mean = np.mean([one.recall for one in counts.values()])
    assert found.summary["mean over images"]["recall"] == pytest.approx(mean)
    legacy = sum((legacy_confusion(p >= level, y) for p, y in maps.values()), Confusion())
    assert found.summary["legacy tiles"]["f1"] == legacy.f1 != pooled.f1
    interval = found.summary["pooled f1, 95 % over places"]
    assert interval["low"] <= pooled.f1 <= interval["high"]
    best = found.summary["best"]
    at_best = [Confusion.of(p >= best["threshold"], y) for p, y in maps.values()]
    assert best["f1"] == pytest.approx(sum(at_best, Confusion()).f1, abs=2e-3)
    assert best["f1"] >= pooled.f1 - 2e-3
    assert any("chosen on these very labels" in note for note in found.notes)


def test_the_card_gives_threshold_and_way_unless_told(
    oscd: Path, change: str, tmp_path: Path
) -> None:
    split = Split("oscd", oscd, "train")
    found = evaluate(change, split)
    assert (found.about["threshold"], found.about["tta"], found.about["radar"]) == (
        0.5, "none", True,
    )  # fmt: skip
    turned = evaluate(change, split, Way(tta="d4"))
    assert turned.about["tta"] == "d4"
    assert turned.summary["pooled"]["auc"] != found.summary["pooled"]["auc"]
    bare = evaluate(change, split, Way(radar=False))
    assert bare.about["radar"] is False
    # Of birch there is no radar: nothing is withheld there.
    assert bare.samples["birch"] == found.samples["birch"]
    assert bare.samples["anvil"]["auc"] != found.samples["anvil"]["auc"]


def test_a_precision_is_used_where_the_card_speaks_for_it(
    oscd: Path, change: str, tmp_path: Path, cdscale: Cli
) -> None:
    asked = ("--data", "oscd", "--root", oscd, "--split", "train", "--precision", "bfloat16")
    refused(cdscale("evaluate", change, *asked), "may not map in bfloat16", "none stated")
    told = {"argmax_disagreement": 5e-5, "largest_difference": 0.01, "pixels": 10**6}
    card = write_card(tmp_path, "change", **small(bfloat16=told | {"data": "d", "command": "c"}))
    rough = cdscale("evaluate", card, *asked, "--json")
    found = json.loads(rough.out)
    assert (rough.code, found["precision"]) == (OK, "bfloat16")
    exact = evaluate(str(card), Split("oscd", oscd, "train"))
    assert exact.about["precision"] == "float32"
    assert found["samples"]["anvil"]["auc"] != exact.samples["anvil"]["auc"]
    assert found["samples"]["anvil"]["auc"] == pytest.approx(exact.samples["anvil"]["auc"], abs=0.1)


def test_pixels_that_no_sensor_saw_do_not_count(optical: str, tmp_path: Path) -> None:
    root = tmp_path / "oscd"
    write_oscd(root, form=OscdForm(bands="unregistered"))
    found = evaluate(optical, Split("oscd", root, "train"))
    own = mapper(optical)
    for sample in train(root):
        seen = np.isfinite(own.change(sample))
        assert found.samples[sample.key]["unseen"] == np.count_nonzero(~seen)


def test_scenes_without_label_are_named_and_a_split_without_any_is_refused(
    miniatures: Miniatures, change: str, tmp_path: Path
) -> None:
    root = miniatures.copy("oscd", tmp_path)
    (next(root.glob("*Train Labels/birch/cm/*"))).unlink()
    found = evaluate(change, Split("oscd", root, "train"))
    assert list(found.samples) == ["anvil", "cedar_e"]
    assert "Without a label, and left out: birch." in found.notes
    with pytest.raises(SpecError, match=r"samples with the label 'change'.*2 samples without it"):
        evaluate(change, Split("oscd", root, "test"))


def test_a_scene_that_cannot_be_read_ends_an_evaluation(
    miniatures: Miniatures, change: str, tmp_path: Path
) -> None:
    root = miniatures.copy("oscd", tmp_path)
    cut(next(root.glob("*Images/birch/imgs_1_rect/B04.tif")))
    with pytest.raises(ReadError, match=r"birch.*B04"):
        evaluate(change, Split("oscd", root, "train"))


@pytest.mark.parametrize(
    ("split", "data", "said"),
    [
        ("train: paris, anvil; val: birch", "", "(train: anvil; val: birch)"),
        ("fold 0: anvil; fold 0: anvil | val: x", "", "(fold 0: anvil)"),
        ("anvil and birch", "", "(training: anvil, birch)"),
        ("train", "OSCD, all bands", "trained on the train split of oscd"),
        ("train", "another set", ""),
        ("test", "OSCD", ""),
        ("train: anvils", "OSCD", "trained on the train split"),
        ("none", "none", ""),
    ],
)
def test_a_card_that_has_met_the_places_is_called_out(split: str, data: str, said: str) -> None:
    card = a_card()
    training = card.training.model_copy(update={"split": split, "data": data})
    card = card.model_copy(update={"training": training})
    found = acquaintance(card, OSCD, "train", ["anvil", "birch", "cedar_e"])
    assert said in found
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    ("changes", "data", "way", "said"),
    [
        ({"s2_bands": ["B04", "B99"]}, OSCD, Way(), "bands B04, B99.*without B99"),
        ({}, SPACENET7, Way(), "layers before, after.*without before, after"),
        ({"s2_bands": []}, OSCD, Way(radar=False), "sees radar alone"),
    ],
)
def test_a_model_that_cannot_read_the_data_is_refused(
    changes: dict[str, Any], data: Any, way: Way, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        evaluation.scenes.check_fits(a_card(**changes), data, way)


# ------------------------------------------------------------------------------------------ urban


def test_urban_figures_tell_complete_months_from_missing_ones(
    miniatures: Miniatures, urban: str
) -> None:
    root = miniatures["spacenet7"]
    samples = SPACENET7.samples(root, "train")
    found = evaluate(urban, Split("spacenet7", root, "train"))
    own = Mapper.open(urban, SPACENET7, Way())
    sets = {"complete": Confusion(), "missing": Confusion()}
    for sample in samples:
        map_YX = own.urban(sample)
        assert map_YX.optical_YX.any() == sample.has("image")
        counts = Confusion.of(map_YX.probability_YX >= 0.5, sample.read("urban"))
        sets["complete" if sample.has("image") else "missing"] += counts
    for name, counts in sets.items():
        assert found.summary[name]["f1"] == counts.f1
        assert found.summary[name]["iou"] == counts.iou
    months = [found.summary[name]["months"] for name in ("complete", "missing", "pooled")]
    assert months[0] + months[1] == months[2] == len(samples)
    assert set(found.samples) == {sample.place for sample in samples}
    with pytest.raises(SpecError, match="legacy tiles"):
        evaluate(urban, Split("spacenet7", root, "train"), legacy=True)


# ------------------------------------------------------------------------------------ the commands


def test_evaluate_prints_a_table_or_json(oscd: Path, change: str, cdscale: Cli) -> None:
    told = ("evaluate", change, "--data", "oscd", "--root", oscd, "--split", "train")
    shown = cdscale(*told, "--legacy-tiles")
    assert (shown.code, shown.err) == (OK, "")
    for word in ("anvil", "pooled", "best", "legacy tiles", "mean over images"):
        assert word in shown.out
    plain = json.loads(cdscale(*told, "--json", "--threshold", "0.4", "--without-radar").out)
    assert (plain["threshold"], plain["radar"], plain["members"]) == (0.4, False, 1)
    assert plain["card_threshold"] == 0.5
    expected = evaluate(change, Split("oscd", oscd, "train"), Way(radar=False), threshold=0.4)
    assert plain == json.loads(json.dumps(expected.as_dict()))
    assert list(plain["samples"]) == ["anvil", "birch"]


def test_evaluate_says_what_is_wrong(oscd: Path, change: str, cdscale: Cli) -> None:
    root = oscd

    def said(model: str, data: str, split: str) -> Any:
        return cdscale("evaluate", model, "--data", data, "--root", root, "--split", split)

    refused(said("nonsense", "oscd", "train"), "no such model")
    refused(said(change, "oscar", "train"), "unknown data set")
    refused(said(change, "oscd", "dev"), "no split 'dev'")
    refused(said(change, "oscd", "test"), "cdscale predict")
    refused(said(change, "spacenet7", "test"), "cannot read spacenet7")


def test_predict_writes_a_map_of_every_scene_on_its_grid(
    oscd: Path, change: str, cdscale: Cli, tmp_path: Path
) -> None:
    root, out = oscd, tmp_path / "maps"
    samples = OSCD.samples(root, "test")
    level = middle(change, samples)
    told = ("predict", "oscd", root, "--model", change, "--out", out, "--threshold", level)
    done = cdscale(*told)
    assert (done.code, done.err) == (OK, "")
    assert sorted(path.name for path in out.iterdir()) == [f"{s.key}.tif" for s in samples]
    own = mapper(change)
    for sample in samples:
        assert not sample.has("change")
        with rasterio.open(out / f"{sample.key}.tif") as file:
            band1, band2 = file.read()
            grid = sample.grid()
            assert (file.height, file.width) == tuple(grid.shape)
            assert file.transform == grid.affine
            assert file.crs == rasterio.crs.CRS.from_user_input(str(grid.crs))
        np.testing.assert_array_equal(band2, own.change(sample))
        np.testing.assert_array_equal(band1, band2 >= level)
        assert band2.std() > 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    again = json.loads(cdscale(*told, "--json", "--without-radar").out)
    assert [one["sample"] for one in again] == [s.key for s in samples]
    assert any(path.read_bytes() != content for path, content in before.items())
    assert len(list(out.iterdir())) == len(samples)


def test_predict_goes_on_after_a_scene_that_cannot_be_read(
    miniatures: Miniatures, change: str, cdscale: Cli, tmp_path: Path
) -> None:
    root, out = miniatures.copy("oscd", tmp_path), tmp_path / "maps"
    cut(next(root.glob("*Images/delta/imgs_2_rect/B08.tif")))
    told = ("predict", "oscd", root, "--model", change, "--out", out)
    done = cdscale(*told)
    assert done.code == INCOMPLETE
    assert "delta: no map: cannot read" in done.err
    assert "1 of 2 scenes could not be read" in done.err
    assert [path.name for path in out.iterdir()] == ["ember.tif"]
    done = cdscale(*told, "--json")
    assert done.code == INCOMPLETE
    (bad, good) = json.loads(done.out)
    assert bad["map"] is None
    assert "B08" in bad["error"]
    assert good["error"] is None
    # An older map of a scene that is unreadable now stays as it is.
    (out / "delta.tif").write_text("older")
    assert cdscale(*told, "--json").code == INCOMPLETE
    assert (out / "delta.tif").read_text() == "older"


def test_predict_maps_months_too_and_says_what_is_wrong(
    miniatures: Miniatures, change: str, urban: str, cdscale: Cli, tmp_path: Path
) -> None:
    root = miniatures["spacenet7"]
    done = cdscale("predict", "spacenet7", root, "--model", urban, "--out", tmp_path / "u")
    assert (done.code, done.err) == (OK, "")
    keys = {sample.key for sample in SPACENET7.samples(root, "test")}
    assert {path.stem for path in (tmp_path / "u").iterdir()} == keys
    with rasterio.open(next((tmp_path / "u").iterdir())) as file:
        assert file.descriptions[0].startswith("urban (1 = urban")
    result = cdscale("predict", "spacenet7", root, "--model", change, "--out", tmp_path / "c")
    refused(result, "cannot read spacenet7")
    assert not (tmp_path / "c").exists()


# --------------------------------------------------------------------------------------- real data


class Cut(Sample):
    """The part of a city in which most has changed."""

    def read(self, name: str, bands: tuple[str, ...] | None = None, window: Any = None) -> Any:
        return super().read(name, bands, window)[..., 192:416, 64:288]


@pytest.mark.realdata
def test_the_shipped_model_knows_the_cities_that_it_was_trained_on(data_root: Path) -> None:
    root = data_root / "oscd"
    if not root.is_dir():
        pytest.skip(f"no OSCD under {data_root}")
    card = models.load_card("change-s1s2-oscd")
    (whole,) = (sample for sample in train(root) if sample.key == "nantes")
    city = Cut(**vars(whole))
    own = mapper("change-s1s2-oscd")
    found = Confusion.of(own.change(city) >= card.threshold, city.read("change"))
    assert found.f1 > 0.5
    assert "train: " in acquaintance(card, OSCD, "train", ["nantes"])
