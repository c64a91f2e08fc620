"""HRSCD, SpaceNet7, DynamicEarthNet, SZTAKI and QuickBird: layouts, traps and faults."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cdscale.errors import ReadError, SpecError
from cdscale.learn.data import DATASETS, IGNORED
from cdscale.learn.data import dynamicearthnet_2021 as den_2021
from cdscale.learn.data import dynamicearthnet_2022 as den_2022
from cdscale.learn.data.aerial import SZTAKI
from cdscale.learn.data.dynamicearthnet_2021 import DYNAMICEARTHNET_2021
from cdscale.learn.data.dynamicearthnet_2022 import DYNAMICEARTHNET_2022
from cdscale.learn.data.hrscd import FOLDERS, HRSCD, key_of, split_of
from cdscale.learn.data.report import MARKER
from cdscale.learn.data.spacenet7 import BANDS, RGB_NIR, SITES, SPACENET7, read_metadata
from tests.miniature_roots import Miniatures, cut, elsewhere, miniatures, rewrite

__all__ = ["miniatures"]

# ----------------------------------------------------------------------------------------- HRSCD


def test_pairs_go_by_key_and_not_by_name(miniatures: Miniatures) -> None:
    assert key_of("14-2005-0415-6890-LA93.tif") == "14-0415-6890"
    assert key_of("14-2012-0415-6890-LA93-0M50-E080.tif") == "14-0415-6890"
    for other in ("14-0415-6890.tif", "14-2005-0415-6890-LA93.tif.aux.xml", "../14-2005.tif"):
        assert key_of(other) == ""
    sample = HRSCD.samples(miniatures["hrscd"], "train")[0]
    assert sample.key == "14-0415-6890"
    assert sample.when == ("2005", "2012")
    assert HRSCD.samples(miniatures["hrscd"], "train")[1].when == ("2006", "2012")


def test_the_split_has_the_published_sizes_and_does_not_depend_on_order() -> None:
    keys = [f"14-{x:04d}-6890" for x in range(291)]
    split = split_of(keys[::-1])
    assert len(split["train"]) == 146
    assert len(split["test"]) == 145
    assert split == split_of(keys)
    assert not set(split["train"]) & set(split["test"])


def test_no_information_is_ignored_and_the_change_map_is_a_label_of_its_own(
    miniatures: Miniatures,
) -> None:
    sample = HRSCD.samples(miniatures["hrscd"], "train")[0]
    before, after = sample.read("land_before"), sample.read("land_after")
    assert (before[:3] == IGNORED).all()
    assert set(np.unique(before)) <= {1, 2, 3, 4, 5, IGNORED}
    assert str(sample.grid().crs) == "EPSG:2154"
    change = sample.read("change")
    assert set(np.unique(change)) == {0, 1}
    known = (before != IGNORED) & (after != IGNORED)
    assert ((change == 1) != (before != after))[known].any()
    image = sample.read("before")
    assert image.min() >= 0
    assert image.max() <= 1


def test_a_missing_label_does_not_move_a_pair_to_the_other_split(
    miniatures: Miniatures, tmp_path: Path
) -> None:
    root = miniatures.copy("hrscd", tmp_path)
    expected = [sample.key for sample in HRSCD.samples(root, "test")]
    (root / FOLDERS["change"] / "D14" / "14-2012-0415-6890-LA93-0M50-E080.tif").unlink()
    (root / FOLDERS["before"] / "D14" / "14-2005-0415-6890-LA93.tif").unlink()
    assert [sample.key for sample in HRSCD.samples(root, "test")] == expected
    assert [sample.key for sample in HRSCD.samples(root, "train")] == ["35-0305-6780"]


def test_a_part_of_the_real_set_is_told_from_the_whole(
    miniatures: Miniatures, tmp_path: Path
) -> None:
    root = miniatures.copy("hrscd", tmp_path)
    (root / MARKER).unlink()
    report = HRSCD.check(root)
    reasons = [finding.reason for finding in report.findings if finding.severe]
    assert any("expected 291 pairs; got 4" in reason for reason in reasons)
    assert any("expected (10000, 10000) as published; got (128, 128)" in r for r in reasons)


# ------------------------------------------------------------------------------------- SpaceNet7


def test_sixty_sites_in_three_splits() -> None:
    assert [len(SITES[split]) for split in ("train", "val", "test")] == [31, 15, 14]
    every = [site for sites in SITES.values() for site in sites]
    assert len(set(every)) == 60
    assert all(site.startswith("L15-") and site.endswith("_13") for site in every)


def test_months_without_optical_image_or_masked(miniatures: Miniatures) -> None:
    root = miniatures["spacenet7"]
    months = read_metadata(root)
    assert len(months) == 20
    train = SPACENET7.samples(root, "train")
    assert len(train) == 7  # one of eight is masked
    (missing,) = (sample for sample in train if not sample.has("image"))
    assert missing.when == ("2018-02",)
    assert np.isnan(missing.read("image", RGB_NIR)).all()
    assert missing.read("image").shape == (10, *missing.grid().shape)
    assert missing.has("urban")
    assert {sample.has("urban") for sample in SPACENET7.samples(root, "unlabelled")} == {False}


def test_near_infrared_is_taken_by_name(miniatures: Miniatures) -> None:
    """Index 3 of the public file is the red edge (B5); NIR is index 6."""
    sample = SPACENET7.samples(miniatures["spacenet7"], "train")[0]
    image = sample.read("image", RGB_NIR)
    whole = sample.read("image")
    np.testing.assert_array_equal(image, whole[[2, 1, 0, 6]])
    assert BANDS[6] == "B08"
    assert not np.array_equal(image[3], whole[3])


def test_units_of_spacenet7(miniatures: Miniatures) -> None:
    sample = SPACENET7.samples(miniatures["spacenet7"], "train")[0]
    built = sample.read("urban")
    assert set(np.unique(built)) == {0, 1}
    decibel = 10 * np.log10(sample.read("s1"))
    assert np.median(decibel[0][built == 0]) == pytest.approx(-14, abs=0.3)
    assert np.median(decibel[0][built == 1]) == pytest.approx(-5, abs=0.5)
    assert np.median(decibel[1][built == 0]) == pytest.approx(-20, abs=0.3)
    image = sample.read("image")
    assert 0 < image.min() < image.max() <= 1


def test_a_month_whose_optical_file_is_absent_counts_as_missing(
    miniatures: Miniatures, tmp_path: Path
) -> None:
    root = miniatures.copy("spacenet7", tmp_path)
    site = SITES["train"][0]
    (root / site / "s2" / f"s2_{site}_2018_01.tif").unlink()
    assert not SPACENET7.samples(root, "train")[0].has("image")
    assert dict(SPACENET7.check(root).counts)["without S2"] == 3


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("{", "not JSON"),
        ("[]", "expected lists of months by site"),
        ('{"../x": []}', r"refused a name.*'\.\./x'"),
        ('{"a": [1]}', "makes no sense"),
        ('{"a": [{"aoi_id": "b", "year": 2018, "month": 1}]}', "makes no sense"),
        (
            '{"a": [{"aoi_id": "a", "year": 2018, "month": 13, "s1": true, "s2": true,'
            ' "buildings": true, "masked": false}]}',
            "makes no sense",
        ),
    ],
)
def test_metadata_are_not_trusted(table: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(table)
    with pytest.raises(ReadError, match=said):
        SPACENET7.samples(tmp_path, "train")
    assert not SPACENET7.check(tmp_path).whole


# ------------------------------------------------------------------------------- DynamicEarthNet


def test_the_sites_of_the_challenge() -> None:
    assert [len(den_2021.SITES[split]) for split in ("train", "val", "test")] == [10, 10, 10]
    assert len({site for sites in den_2021.SITES.values() for site in sites}) == 30
    assert str(den_2021.MONTHS[-1]) == "2019-12"


def test_a_pair_is_two_consecutive_months(miniatures: Miniatures, tmp_path: Path) -> None:
    root = miniatures.copy("dynamicearthnet-2021", tmp_path)
    pairs = DYNAMICEARTHNET_2021.samples(root, "train")
    assert pairs[0].key == "19S_2470_5030_13-2018-02-2018-01"
    assert pairs[0].when == ("2018-01", "2018-02")
    assert len(pairs) == 6
    assert set(np.unique(pairs[0].read("change"))) <= set(range(8))
    # Another day of the month is not read; the first is.
    folder = pairs[0].grid_file.parent
    shutil.copy(folder / "2018-03-01.tif", folder / "2018-01-15.tif")
    assert DYNAMICEARTHNET_2021.samples(root, "train") == pairs
    (folder / "2018-03-01.tif").unlink()
    assert len(DYNAMICEARTHNET_2021.samples(root, "train")) == 4


def test_held_out_sites_have_images_alone(miniatures: Miniatures) -> None:
    root = miniatures["dynamicearthnet-2021"]
    for split in ("val", "test", "unlabelled"):
        samples = DYNAMICEARTHNET_2021.samples(root, split)
        assert len(samples) == 3
        assert not any(sample.labelled for sample in samples)
    val = DYNAMICEARTHNET_2021.samples(root, "val")[0]
    assert "planet_test" in val.grid_file.parts


def test_land_cover_of_both_months_and_the_change_between(miniatures: Miniatures) -> None:
    root = miniatures["dynamicearthnet-2022"]
    pairs = DYNAMICEARTHNET_2022.samples(root, "train")
    assert pairs[0].key == "1311_3077_13-2018-02-2018-01"
    for pair in pairs:
        older, newer = pair.read("land_before"), pair.read("land_after")
        assert (older[:4, :4] == IGNORED).all()  # snow
        assert (older[-2:, -2:] == IGNORED).all()  # unmarked
        known = (older != IGNORED) & (newer != IGNORED)
        change = pair.read("change")
        assert (change[~known] == IGNORED).all()
        expected = np.where(older != newer, newer + 1, 0)
        np.testing.assert_array_equal(change[known], expected[known])
    assert any((pair.read("change") == 1).any() for pair in pairs)


def test_single_months_for_land_cover_alone(miniatures: Miniatures) -> None:
    months = den_2022.months(miniatures["dynamicearthnet-2022"], "train")
    assert len(months) == 8
    assert months[0].names == ("image", "land")
    pair = DYNAMICEARTHNET_2022.samples(miniatures["dynamicearthnet-2022"], "train")[0]
    np.testing.assert_array_equal(months[0].read("land"), pair.read("land_before"))
    np.testing.assert_array_equal(months[1].read("image"), pair.read("after"))


@pytest.mark.parametrize("unpacked", ["planet", "planet.10N/planet"])
def test_images_are_found_where_archives_unpack_them(
    unpacked: str, miniatures: Miniatures, tmp_path: Path
) -> None:
    root = miniatures.copy("dynamicearthnet-2022", tmp_path)
    expected = len(DYNAMICEARTHNET_2022.samples(root, "train"))
    for folder in sorted(root.glob("planet.*")):
        shutil.copytree(folder / "planet", tmp_path / "all", dirs_exist_ok=True)
        shutil.rmtree(folder)
    shutil.copytree(tmp_path / "all", root / unpacked)
    (root / "labels").rename(root / "inner")
    (root / "labels").mkdir()
    (root / "inner").rename(root / "labels" / "labels")
    assert len(DYNAMICEARTHNET_2022.samples(root, "train")) == expected
    assert DYNAMICEARTHNET_2022.check(root).whole


# ----------------------------------------------------------------------------------- aerial pairs


def test_change_is_white_at_sztaki_and_dark_in_the_quickbird_pair(miniatures: Miniatures) -> None:
    for name in ("sztaki", "quickbird"):
        sample = DATASETS[name].samples(miniatures[name], "test")[0]
        label = sample.read("change")
        assert 0 < label.mean() < 0.5
        rise = (sample.read("after") - sample.read("before")).mean(axis=0)
        assert rise[label == 1].mean() > 0.1 > rise[label == 0].mean()


def test_the_thirteen_pairs_and_both_spellings_of_the_archive(
    miniatures: Miniatures, tmp_path: Path
) -> None:
    root = miniatures.copy("sztaki", tmp_path)
    keys = [sample.key for sample in SZTAKI.samples(root, "test")]
    assert len(keys) == 13
    assert keys[0] == "Szada-1"
    assert keys[-1] == "Archive-1"
    (root / "Archive" / "1").rename(root / "moved")
    (root / "Archive").rmdir()
    (root / "moved").rename(root / "Archieve")
    assert [sample.key for sample in SZTAKI.samples(root, "test")] == keys
    assert SZTAKI.check(root, deep=True).whole


def test_sizes_are_those_published(miniatures: Miniatures, tmp_path: Path) -> None:
    root = miniatures.copy("sztaki", tmp_path)
    (root / MARKER).unlink()
    report = SZTAKI.check(root)
    shapes = [finding for finding in report.findings if finding.kind == "shape"]
    assert len(shapes) == 13
    assert "expected (640, 952) as published; got (64, 96)" in shapes[0].reason


# ---------------------------------------------------------------------------------------- faults


def hrscd(layer: str, key: str = "35-2006-0305-6780-LA93.tif") -> Path:
    return Path(FOLDERS[layer]) / f"D{key[:2]}" / key


def spacenet7(part: str, month: str = "2018_03") -> Path:
    site = SITES["train"][1]
    return Path(site) / part / f"{part}_{site}_{month}.tif"


def planet(month: str) -> Path:
    return Path("planet/19S/2470_5030_13/L3H-SR") / f"{month}-01.tif"


CHANGES = Path("Labels/19S_2470_5030_13/19S_2470_5030_13-2018-03-2018-02.png")
CUBE = "labels/1311_3077_13_10N/Labels/Raster/10N-122W-40N-L3H-SR"
COVER = Path(CUBE) / "10N-122W-40N-L3H-SR-2018_02_01.tif"
LATER = "35-2012-0305-6780-LA93-0M50-E080.tif"


def second_of_key(root: Path) -> None:
    path = root / hrscd("after", LATER)
    shutil.copy(path, path.with_name("35-2012-0305-6780-LA93.tif"))


def lost_name(root: Path) -> None:
    path = root / hrscd("before")
    shutil.copy(path, path.with_name("scene.tif"))


def edit_metadata(root: Path, change: Callable[[dict], object]) -> None:
    path = root / "metadata.json"
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


def rename_site(table: dict) -> None:
    table["../elsewhere"] = []


def lose_a_month(root: Path) -> None:
    (root / planet("2018-02")).unlink()
    for path in (root / CHANGES).parent.glob("*2018-02*"):
        path.unlink()


def add_line(root: Path, line: str) -> None:
    path = root / "dynnet_training_splits" / "val.txt"
    path.write_text(path.read_text() + line + "\n")


Fault = tuple[str, Callable[[Path], object], bool, str, str, str]
FAULTS: dict[str, Fault] = {
    "HRSCD: a change map is missing": (
        "hrscd", lambda r: (r / hrscd("change", LATER)).unlink(), False,
        "missing", "change/D35/35-0305-6780", "no file of this key",
    ),
    "HRSCD: two files of one key": (
        "hrscd", second_of_key, False,
        "name", "35-2012-0305-6780-LA93.tif", "a second file of key 35-0305-6780",
    ),
    "HRSCD: a file without key": (
        "hrscd", lost_name, False, "name", "D35/scene.tif", "has no key",
    ),
    "HRSCD: sizes that differ": (
        "hrscd", lambda r: rewrite(r / hrscd("after", LATER), lambda x: x[:, :100]), False,
        "shape", LATER, "expected (128, 128) as the scene has; got (100, 128)",
    ),
    "HRSCD: land cover of another place": (
        "hrscd", lambda r: elsewhere(r / hrscd("land_before")), False,
        "crs", "labels_land_cover_2006/2006/D35/35-2006-0305-6780-LA93.tif", "EPSG:2154",
    ),
    "HRSCD: unknown land cover": (
        "hrscd", lambda r: rewrite(r / hrscd("land_before"), lambda x: x * 2), True,
        "codes", "35-2006-0305-6780-LA93.tif", "expected only 0, 1, 2, 3, 4, 5",
    ),
    "HRSCD: grey photographs": (
        "hrscd", lambda r: rewrite(r / hrscd("before"), lambda x: x[:1]), False,
        "bands", "35-2006-0305-6780-LA93.tif", "expected 3 as published; got 1",
    ),
    "HRSCD: cut short": (
        "hrscd", lambda r: cut(r / hrscd("after", LATER), 0.9), False,
        "unreadable", LATER, "",
    ),
    "SpaceNet7: a promised optical file": (
        "spacenet7", lambda r: (r / spacenet7("s2")).unlink(), False,
        "missing", "2018_03.tif", "metadata.json says that it is there",
    ),
    "SpaceNet7: radar is missing": (
        "spacenet7", lambda r: (r / spacenet7("s1")).unlink(), False,
        "missing", str(spacenet7("s1")), "not there",
    ),
    "SpaceNet7: a label is missing": (
        "spacenet7", lambda r: (r / spacenet7("buildings")).unlink(), False,
        "missing", str(spacenet7("buildings")), "not there",
    ),
    "SpaceNet7: the private copy's four bands": (
        "spacenet7", lambda r: rewrite(r / spacenet7("s2"), lambda x: x[:4]), False,
        "bands", str(spacenet7("s2")), "expected 10 as published; got 4",
    ),
    "SpaceNet7: digital numbers": (
        "spacenet7", lambda r: rewrite(r / spacenet7("s2"), lambda x: x * 10_000), True,
        "unreadable", str(spacenet7("s2")), "numbers of another unit",
    ),
    "SpaceNet7: nothing but holes": (
        "spacenet7", lambda r: rewrite(r / spacenet7("s1"), lambda x: x * np.float32(np.nan)),
        True, "empty", str(spacenet7("s1")), "no valid pixel",
    ),
    "SpaceNet7: a label of another place": (
        "spacenet7", lambda r: elsewhere(r / spacenet7("buildings")), False,
        "crs", str(spacenet7("buildings")), "expected EPSG:32631",
    ),
    "SpaceNet7: a site that leads out": (
        "spacenet7", lambda r: edit_metadata(r, rename_site), False,
        "name", "metadata.json", "refused '../elsewhere'",
    ),
    "SpaceNet7: a site is missing": (
        "spacenet7", lambda r: edit_metadata(r, lambda t: t.pop(SITES["val"][0])), False,
        "missing", ".", f"{SITES['val'][0]} of the val split",
    ),
    "DynamicEarthNet 2021: a month in between": (
        "dynamicearthnet-2021",
        lose_a_month, False, "missing", str(planet("2018-02")), "no image of this month",
    ),
    "DynamicEarthNet 2021: the last month": (
        "dynamicearthnet-2021", lambda r: (r / planet("2018-04")).unlink(), False,
        "missing", "19S_2470_5030_13-2018-04-2018-03.png", "two images are not both there",
    ),
    "DynamicEarthNet 2021: a label is missing": (
        "dynamicearthnet-2021", lambda r: (r / CHANGES).unlink(), False,
        "missing", str(CHANGES), "label of a training site",
    ),
    "DynamicEarthNet 2021: an unknown class": (
        "dynamicearthnet-2021", lambda r: rewrite(r / CHANGES, lambda x: x + np.uint8(9)), True,
        "codes", str(CHANGES), "expected only 0, 1, 2, 3, 4, 5, 6, 7; got 9",
    ),
    "DynamicEarthNet 2021: a label cut short": (
        "dynamicearthnet-2021", lambda r: cut(r / CHANGES, 0.8), False,
        "unreadable", str(CHANGES), "no end mark",
    ),
    "DynamicEarthNet 2022: a line that leads out": (
        "dynamicearthnet-2022",
        lambda r: add_line(r, "/planet/../../1311_3077_13/PF-SR /labels/x.tif 2018-01"), False,
        "name", "val.txt", "refused the line",
    ),
    "DynamicEarthNet 2022: a line of another form": (
        "dynamicearthnet-2022", lambda r: add_line(r, "1311_3077_13 2018-01"), False,
        "name", "val.txt", "refused the line",
    ),
    "DynamicEarthNet 2022: a label is missing": (
        "dynamicearthnet-2022", lambda r: (r / COVER).unlink(), False,
        "missing", "labels/1311_3077_13", "no label of 2018-02, listed in train.txt",
    ),
    "DynamicEarthNet 2022: codes that are not one-hot": (
        "dynamicearthnet-2022", lambda r: rewrite(r / COVER, lambda x: x // 255), True,
        "codes", str(COVER), "expected only 0, 255; got 1",
    ),
    "DynamicEarthNet 2022: six bands": (
        "dynamicearthnet-2022", lambda r: rewrite(r / COVER, lambda x: x[:6]), False,
        "bands", str(COVER), "expected 7 as published; got 6",
    ),
    "SZTAKI: a pair is missing": (
        "sztaki", lambda r: shutil.rmtree(r / "Tiszadob" / "3"), False,
        "missing", ".", "Tiszadob-3 of the test split",
    ),
    "SZTAKI: a label is missing": (
        "sztaki", lambda r: (r / "Szada" / "2" / "gt.bmp").unlink(), False,
        "missing", "Szada/2/gt.bmp", "the label",
    ),
    "SZTAKI: an image cut short": (
        "sztaki", lambda r: cut(r / "Szada" / "2" / "im2.bmp"), False,
        "unreadable", "Szada/2/im2.bmp", "its header says",
    ),
    "QuickBird: sizes that differ": (
        "quickbird", lambda r: rewrite(r / "t2.bmp", lambda x: x[:, :, :-1]), False,
        "shape", "t2.bmp", "expected (74, 116) as the scene has; got (74, 115)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reported_with_file_and_reason(
    fault: str, miniatures: Miniatures, tmp_path: Path
) -> None:
    name, inject, deep, kind, path, reason = FAULTS[fault]
    root = miniatures.copy(name, tmp_path)
    inject(root)
    report = DATASETS[name].check(root, deep=deep)
    assert not report.whole
    severe = [finding for finding in report.findings if finding.severe]
    assert [(f.kind, f.path.endswith(path), reason in f.reason) for f in severe] == [
        (kind, True, True)
    ], str(report)


def test_a_line_of_a_list_that_leads_out_stops_the_reader(
    miniatures: Miniatures, tmp_path: Path
) -> None:
    root = miniatures.copy("dynamicearthnet-2022", tmp_path)
    add_line(root, "/planet/../../1311_3077_13/PF-SR /labels/x.tif 2018-01")
    with pytest.raises(ReadError, match="refused the line"):
        DYNAMICEARTHNET_2022.samples(root, "val")


def test_an_image_of_other_bands_stops_the_reader(miniatures: Miniatures, tmp_path: Path) -> None:
    root = miniatures.copy("spacenet7", tmp_path)
    rewrite(root / spacenet7("s2", "2018_01"), lambda x: x[:4])
    sample = next(s for s in SPACENET7.samples(root, "train") if s.place == SITES["train"][1])
    with pytest.raises(ReadError, match="bands: expected 10; got 4"):
        sample.read("image", RGB_NIR)
    with pytest.raises(SpecError, match="image has no band B01"):
        sample.read("image", ("B01",))
