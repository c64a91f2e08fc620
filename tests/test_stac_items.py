"""Real items of every catalogue: each is used with the right CRS, offset and date, or set aside.

What is expected is worked out here from the items' own text, never by asking cdscale: the CRS from
the MGRS tile, the date from the name of the product, the offset from the kind of catalogue and the
baseline.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import shapely

from cdscale.months import Month
from cdscale.scenes import harmonise, search
from cdscale.scenes.duplicates import Found, newest_only
from cdscale.scenes.items import Unusable, set_aside
from cdscale.scenes.table import found_as
from cdscale.spec.profile import CollectionProfile, load_profile, profile_names
from cdscale.spec.run import RunSpec, read_area
from cdscale.spec.scene import Scene, SceneTable, SetAside, passes

Json = dict[str, Any]


class Kind(NamedTuple):
    """One file of items: by which profile it is read, and what comes of it."""

    profile: str
    used: int
    aside: int
    reason: str = ""


GRD = "GRD products are amplitudes in the radar's own geometry"
KINDS = {
    "astraea__sentinel2_l1c": Kind("astraea-sentinel-2-l1c", 4, 0),
    "astraea__sentinel2_l2a": Kind("astraea-sentinel-2-l2a", 3, 0),
    "cdse__sentinel-2-l2a": Kind("cdse-sentinel-2-l2a", 5, 0),
    "cdse_s1_global_mosaics_4items": Kind("cdse-sentinel-1-global-mosaics", 3, 0),
    "earthsearch__sentinel-1-grd": Kind("earth-search-sentinel-1-grd", 0, 24, GRD),
    "earthsearch__sentinel-2-c1-l2a": Kind("earth-search-sentinel-2-c1-l2a", 14, 0),
    "earthsearch__sentinel-2-l1c": Kind("earth-search-sentinel-2-l1c", 14, 0),
    "earthsearch__sentinel-2-l2a": Kind("earth-search-sentinel-2-l2a", 25, 0),
    "earthsearch__sentinel-2-pre-c1-l2a": Kind("earth-search-sentinel-2-pre-c1-l2a", 6, 0),
    "earthsearch__sentinel-s2-l2a": Kind("earth-search-v0-sentinel-s2-l2a", 5, 0),
    "earthsearch__sentinel-s2-l2a-cogs": Kind("earth-search-v0-sentinel-s2-l2a-cogs", 5, 0),
    # Answers of search tools: they name the archive of a product, or a preview, and no band.
    "file__S2_MSI_L1C": Kind("earth-search-sentinel-2-l1c", 0, 5, "no asset for any band"),
    "file__sentinel-2-l1c": Kind("earth-search-sentinel-2-l1c", 0, 3, "no asset for any band"),
    "file__sentinel-1-grd": Kind("planetary-computer-sentinel-1-grd", 0, 1, GRD),
    # HH and HV only, or a footprint in metres.
    "file__sentinel-1-rtc-pctasks": Kind(
        "planetary-computer-sentinel-1-rtc", 0, 5, "no asset for any band|not in degrees"
    ),
    "file__sentinel-s2-l2a-cogs": Kind("earth-search-v0-sentinel-s2-l2a-cogs", 1, 0),
    "file__sentinel1-grd": Kind("earth-search-sentinel-1-grd", 0, 1, GRD),
    "file__sentinel1-rtc-aws": Kind("sentinel-1-rtc-indigo", 1, 0),
    "file__sentinel1-slc": Kind("planetary-computer-sentinel-1-rtc", 0, 1, "SLC, not GRD or RTC"),
    "file__sentinel2-l1c-example": Kind("stactools-sentinel-2-l1c", 1, 0),
    # The file holds both levels: each item by the profile of its own.
    "file__stactools-expected": Kind("stactools-sentinel-2-", 10, 0),
    "pc_s2l2a_13TDE_2024jan-may": Kind("planetary-computer-sentinel-2-l2a", 28, 0),
    "planetarycomputer__sentinel-1-grd": Kind("planetary-computer-sentinel-1-grd", 0, 1, GRD),
    "planetarycomputer__sentinel-1-rtc": Kind("planetary-computer-sentinel-1-rtc", 3, 0),
    "planetarycomputer__sentinel-2-l2a": Kind("planetary-computer-sentinel-2-l2a", 29, 0),
    "sageuvt__sentinel-2-l1c": Kind("sage-uvt-sentinel-2-l1c", 6, 0),
}


def items_of(data_root: Path, name: str) -> list[Json]:
    path = data_root / "stac-items" / f"{name}.json"
    features: list[Json] = json.loads(path.read_text(encoding="utf-8"))["features"]
    return features


def profile_of(name: str, item: Json) -> CollectionProfile:
    profile = KINDS[name].profile
    level = re.search("L1C|L2A", item["id"])
    ending = level[0].lower() if level and profile.endswith("-") else ""
    return load_profile(profile + ending)


def read(name: str, item: Json) -> Scene | str:
    """The scene, or why there is none; items of files lie on disk."""
    local = KINDS[name].profile.startswith("stactools")
    try:
        return harmonise(item, profile_of(name, item), local=local)
    except Unusable as reason:
        return str(reason)


# ---------------------------------------------------- what is expected, from the items' own words


def words(item: Json) -> str:
    """Everything an item says that could be a name."""
    properties = item["properties"]
    return " ".join([item["id"], *(str(v) for v in properties.values() if isinstance(v, str))])


def tile_of(item: Json) -> str:
    """MGRS tile as the item's id, product name or grid code has it."""
    found = re.search(r"(?:_T|MGRS-|S2[A-D]_|_|^)(\d{1,2}[C-X][A-Z]{2})(?=[_ .]|$)", words(item))
    assert found, item["id"]
    return found[1].zfill(5)


def expected_crs(name: str, item: Json) -> str:
    """UTM zone of the MGRS tile; nothing where the catalogue tells no projection at all."""
    if "proj:" not in json.dumps(item):
        assert name.startswith(("astraea", "earthsearch__sentinel-s2-l2a", "planetary"))
        return ""
    if name == "planetarycomputer__sentinel-1-rtc":
        # No tile: the zone of the scene's centre.
        west, south, east, _ = item["bbox"]
        return f"EPSG:{32601 + int((west + east) / 2 + 180) // 6}" if south > 0 else "south"
    tile = tile_of(item)
    return f"EPSG:{32600 + int(tile[:2]) + (100 if tile[2] < 'N' else 0)}"


def baseline_of(item: Json) -> str:
    """``05.10``, of the property or of the product's name."""
    properties = item["properties"]
    for key in ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version"):
        if key in properties:
            return str(properties[key])
    found = re.search(r"_N(\d\d)\.?(\d\d)(?=[_ .]|$)", words(item))
    assert found, item["id"]
    return f"{found[1]}.{found[2]}"


def expected_offset(name: str, item: Json) -> float:
    """By the README of the items: what the pixels of each kind have in them."""
    if "sentinel-1" in name or "sentinel1" in name or "_s1_" in name:
        return 0.0
    flags = [v for k, v in item["properties"].items() if k.endswith(":boa_offset_applied")]
    if flags == [True]:
        return 0.0
    return -0.1 if baseline_of(item) >= "04.00" else 0.0


def expected_day(name: str, item: Json) -> str:
    """Day of sensing, as the name of product, scene or mosaic has it: ``20240530``."""
    text = words(item)
    mosaic = re.search(r"mosaic_(\d{4})_M(\d\d)", text)
    if mosaic:
        return f"{mosaic[1]}{mosaic[2]}01"
    for pattern in (
        r"S2[A-D]_MSIL[12][AC]_(\d{8})T",  # product
        r"GS2[A-D]_(\d{8})T",  # datatake
        r"S1[A-D]_\w\w_\w{4}_\w{4}_(\d{8})T",  # radar
        r"S2[A-D]_T?\w{5}_(\d{8})",  # Earth Search
        r"S1[A-D]_(\d{8})_",  # tiles of radar
    ):
        if found := re.search(pattern, text):
            return found[1]
    # A granule's name says when it was made, not when it was seen.
    return str(item["properties"]["datetime"])[:10].replace("-", "")


def resolution_of(href: str, transform: Any) -> float:
    """Metres of a pixel of a Sentinel-2 band, by its transform or its name."""
    found = re.search(r"R?(\d0)m", href)
    if transform:
        return float(transform[0])
    return float(found[1]) if found else 0.0


def finest(item: Json, band: str) -> float:
    """Of all files of a band that an item has, the finest."""
    pattern = re.compile(rf"(^|[_/]){band}(_\d0m)?\.(tif|jp2)$")
    return min(
        resolution_of(asset["href"], asset.get("proj:transform"))
        for key, asset in item["assets"].items()
        if pattern.search(asset["href"]) and "preview" not in key and not key.endswith("-jp2")
    )


# ------------------------------------------------------------------------------------- every item


@pytest.mark.realdata
def test_every_file_of_items_is_expected_here(data_root: Path) -> None:
    there = {path.stem for path in (data_root / "stac-items").glob("*.json")}
    assert there == set(KINDS)
    assert sum(kind.used + kind.aside for kind in KINDS.values()) == 204
    assert sum(len(items_of(data_root, name)) for name in KINDS) == 204


@pytest.mark.realdata
@pytest.mark.parametrize("name", KINDS)
def test_every_item_is_used_rightly_or_set_aside_with_a_reason(data_root: Path, name: str) -> None:
    used = aside = 0
    for item in items_of(data_root, name):
        before = copy.deepcopy(item)
        scene = read(name, item)
        assert item == before
        if isinstance(scene, str):
            assert KINDS[name].reason
            assert re.search(KINDS[name].reason, scene), scene
            lost = set_aside(item, scene)
            assert lost.id == item["id"]
            assert lost.start is not None
            assert f"{lost.start:%Y%m%d}" == expected_day(name, item)
            aside += 1
            continue
        used += 1
        assert {a.crs for a in scene.assets.values()} == {expected_crs(name, item)}, item["id"]
        assert {a.offset for a in scene.assets.values()} == {expected_offset(name, item)}, item[
            "id"
        ]
        assert f"{scene.start:%Y%m%d}" == expected_day(name, item), item["id"]
    assert (used, aside) == (KINDS[name].used, KINDS[name].aside)


@pytest.mark.realdata
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.used])
def test_scenes_of_real_items_are_complete(data_root: Path, name: str) -> None:
    """Bands at their finest, values in their unit, footprints valid, nothing signed."""
    optical = not re.search("sentinel-?1|_s1_", name)
    for item in items_of(data_root, name):
        scene = read(name, item)
        assert isinstance(scene, Scene)
        l1c = optical and "L1C" in item["id"]
        bands = {f"B{i:02d}" for i in range(1, 13)} | {"B8A"}
        wanted = (bands if l1c else bands - {"B10"}) if optical else {"vv", "vh"}
        assert set(scene.assets) == wanted
        assert (scene.mask is not None) == (optical and not l1c)
        for band, asset in scene.assets.items():
            assert "?" not in asset.href
            assert asset.scale == (0.0001 if optical else 1.0)
            assert asset.nodata is not None
            code = {"vv": "(?i)vv", "vh": "(?i)vh"}.get(band, band)
            assert re.search(code, asset.href.rpartition("/")[2]), asset.href
            if optical:
                assert resolution_of(asset.href, asset.transform) == finest(item, band)
        assert scene.polygon.is_valid
        assert scene.polygon.area < 60
        west, south, east, north = scene.polygon.bounds
        assert -180 <= west <= east <= 180
        assert -90 <= south <= north <= 90
        if scene.platform:
            assert re.fullmatch("sentinel-[12][a-d]", scene.platform)
            assert scene.platform[-1].upper() == item["id"][2]
        if optical:
            assert scene.datatake.startswith("S2")
            assert scene.baseline == baseline_of(item)


@pytest.mark.realdata
def test_every_item_by_every_profile_is_a_scene_or_has_a_reason(data_root: Path) -> None:
    """Whoever takes the wrong profile gets a sentence, and no other error."""
    for name in KINDS:
        for item in items_of(data_root, name)[:3]:
            for profile in profile_names():
                for local in (False, True):
                    assert reason_of(item, load_profile(profile), local=local) != ""


def reason_of(item: Json, profile: CollectionProfile, *, local: bool) -> str | None:
    try:
        harmonise(item, profile, local=local)
    except Unusable as reason:
        return str(reason)
    return None


@pytest.mark.realdata
def test_items_in_a_remote_catalogue_do_not_name_files(data_root: Path) -> None:
    for item in items_of(data_root, "file__stactools-expected"):
        with pytest.raises(Unusable, match="where the profile does not allow it"):
            harmonise(item, profile_of("file__stactools-expected", item), local=False)


# -------------------------------------------------------------------------------------- the traps


@pytest.mark.realdata
def test_footprints_across_the_antimeridian_are_two_parts_of_a_scene(data_root: Path) -> None:
    crossing = []
    for name in KINDS:
        for item in items_of(data_root, name):
            box = item["bbox"]
            if len(box) == 4 and box[0] > box[2]:
                footprint = shapely.from_wkt(set_aside(item, "x").footprint)
                west, _, east, _ = footprint.bounds
                assert (west, east) == (-180, 180)
                # Both parts together are as wide as the box says, the long way is not in them.
                parts = shapely.get_parts(footprint)
                width = sum(part.bounds[2] - part.bounds[0] for part in parts)
                assert width == pytest.approx(box[2] + 360 - box[0], abs=0.01)
                crossing.append(item["id"])
    assert len(crossing) == 6
    # One that only comes near to it stays in one piece.
    for item in items_of(data_root, "astraea__sentinel2_l1c"):
        assert shapely.from_wkt(set_aside(item, "x").footprint).geom_type == "Polygon"


@pytest.mark.realdata
def test_times_with_a_blank_and_times_of_processing(data_root: Path) -> None:
    for item in items_of(data_root, "planetarycomputer__sentinel-1-rtc"):
        assert " " in item["properties"]["end_datetime"]
        scene = read("planetarycomputer__sentinel-1-rtc", item)
        assert isinstance(scene, Scene)
        stamps = re.findall(r"\d{8}T\d{6}", item["id"])
        for got, stamp in zip((scene.start, scene.end), stamps, strict=True):
            there = datetime.strptime(stamp, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
            assert timedelta(0) <= got - there < timedelta(seconds=1)
        assert scene.orbit == "51 descending"
    for item in items_of(data_root, "sageuvt__sentinel-2-l1c"):
        assert item["properties"]["datetime"] == "2025-03-02T11:08:27Z"  # the end of its name
        scene = read("sageuvt__sentinel-2-l1c", item)
        assert isinstance(scene, Scene)
        assert scene.start == datetime(2025, 3, 2, 8, 59, 21, tzinfo=UTC)


@pytest.mark.realdata
def test_signing_and_keys_follow_the_catalogue(data_root: Path) -> None:
    access = {}
    for name, kind in KINDS.items():
        if kind.used:
            scene = read(name, items_of(data_root, name)[0])
            assert isinstance(scene, Scene)
            access[name] = scene.access
    assert access["planetarycomputer__sentinel-2-l2a"].signing == "planetary-computer"
    assert access["planetarycomputer__sentinel-1-rtc"].signing == "planetary-computer"
    assert access["cdse__sentinel-2-l2a"].s3_endpoint == "eodata.dataspace.copernicus.eu"
    paid = {name for name, one in access.items() if one.requester_pays}
    assert paid == {
        "earthsearch__sentinel-2-l1c", "earthsearch__sentinel-s2-l2a",
        "astraea__sentinel2_l1c", "astraea__sentinel2_l2a",
    }  # fmt: skip
    assert not {name for name, one in access.items() if one.signing != "none"} - {
        "planetarycomputer__sentinel-2-l2a", "planetarycomputer__sentinel-1-rtc",
        "pc_s2l2a_13TDE_2024jan-may",
    }  # fmt: skip


# ------------------------------------------------------------------------------------- duplicates


def found_in(data_root: Path, name: str, items: list[Json] | None = None) -> list[Found]:
    found = []
    for item in items if items is not None else items_of(data_root, name):
        profile = profile_of(name, item)
        found.append(found_as(item, harmonise(item, profile, local=False), profile))
    return found


def newest(found: list[Found]) -> tuple[tuple[Scene, ...], tuple[SetAside, ...]]:
    """The same from either order."""
    there, back = newest_only(found), newest_only(found[::-1])
    assert there == back
    return there


@pytest.mark.realdata
def test_scenes_that_earth_search_has_twice_are_kept_once(data_root: Path) -> None:
    """Six scenes as _0 of baseline 02.14 and as _1 of 05.00."""
    kept, aside = newest(found_in(data_root, "earthsearch__sentinel-2-l2a"))
    assert (len(kept), len(aside)) == (19, 6)
    for old in aside:
        new = old.id.replace("_0_L2A", "_1_L2A")
        assert old.id != new
        assert old.reason == f"the same observation came newer processed as {new}"
        (scene,) = [s for s in kept if s.id == new]
        assert (scene.baseline, {a.offset for a in scene.assets.values()}) == ("05.00", {0.0})
        assert old.start is not None
        assert abs(old.start - scene.start) < timedelta(seconds=1)
        assert old.footprint


@pytest.mark.realdata
def test_scenes_under_two_ids_are_kept_once(data_root: Path) -> None:
    """Four scenes of the Planetary Computer in an old form with .SAFE, and in the new one."""
    kept, aside = newest(found_in(data_root, "planetarycomputer__sentinel-2-l2a"))
    assert (len(kept), len(aside)) == (25, 4)
    for old in aside:
        assert old.id.endswith(".SAFE")
        new = re.sub(r"_N\d{4}|\.SAFE", "", old.id)
        assert old.reason.endswith(new)
        assert new in {s.id for s in kept}
    # The one of the old form that has no twin stays.
    assert [s.id for s in kept if s.id.endswith(".SAFE")] == [
        "S2B_MSIL2A_20210610T115639_N0212_R066_T33XXG_20210613T185024.SAFE"
    ]


HALVES = (
    "S2B_MSIL2A_20240530T174909_R141_T13TDE_20240530T231838",
    "S2B_MSIL2A_20240530T174909_R141_T13TDE_20240531T000206",
)


@pytest.mark.realdata
def test_two_halves_of_a_tile_are_one_observation_and_both_are_kept(data_root: Path) -> None:
    """One datatake was cut into two datastrips within tile 13TDE on 2024-05-30.

    Ids, times and baseline are those of a scene processed twice; yet the northern half shows 51 %
    of the tile and the southern one 67 %, by the items' own count of pixels without data, and only
    both together fill it. As an observation the two are one.
    """
    name = "pc_s2l2a_13TDE_2024jan-may"
    items = items_of(data_root, name)
    kept, aside = newest(found_in(data_root, name))
    assert (len(kept), aside) == (28, ())
    north, south = (next(s for s in kept if s.id == half) for half in HALVES)
    whole = next(s for s in kept if s.id.startswith("S2A_MSIL2A_20240326T174951")).polygon
    for half, share in ((north, 0.507), (south, 0.675)):
        (empty,) = [
            item["properties"]["s2:nodata_pixel_percentage"]
            for item in items
            if item["id"] == half.id
        ]
        assert 1 - empty / 100 == pytest.approx(share, abs=0.001)
        assert half.polygon.area / whole.area == pytest.approx(share, abs=0.01)
    assert north.polygon.union(south.polygon).area == pytest.approx(whole.area, rel=1e-6)
    groups = Counter(len(group) for group in passes(kept))
    assert groups == {1: 26, 2: 1}
    assert (north.datatake, south.datatake) == ("S2B_20240530T174909",) * 2


def reprocessed(item: Json, *, strip: str | None = None) -> Json:
    """The same granule of a later processing, as catalogues list it: other ids and times."""
    new = copy.deepcopy(item)
    properties = new["properties"]
    new["id"] = item["id"].rpartition("_")[0] + "_20260101T000000"
    properties["s2:generation_time"] = "2026-01-01T00:00:00Z"
    properties["s2:processing_baseline"] = "05.12"
    properties["s2:datatake_id"] = properties["s2:datatake_id"].replace("N05.10", "N05.12")
    old = properties["s2:datastrip_id"]
    properties["s2:datastrip_id"] = (
        f"S2B_OPER_MSI_L2A_DS_XXXX_20260101T000000_S{strip}_N05.12"
        if strip
        else re.sub(r"_\d{8}T\d{6}_S", "_20260101T000000_S", old)
    )
    new["geometry"]["coordinates"][0][1][0] += 0.002
    return new


@pytest.mark.realdata
@pytest.mark.parametrize("strip", [None, "20240530T170000"])
def test_of_two_halves_each_is_replaced_by_its_own_reprocessing(
    data_root: Path, strip: str | None
) -> None:
    """By datastrip, and by footprint where the datastrip was cut anew."""
    name = "pc_s2l2a_13TDE_2024jan-may"
    halves = [item for item in items_of(data_root, name) if item["id"] in HALVES]
    both = [reprocessed(half, strip=strip) for half in halves]
    for new in both:
        new["id"] += new["properties"]["s2:product_uri"][-20:-5]
    if strip:
        both[1]["properties"]["s2:datastrip_id"] = both[1]["properties"]["s2:datastrip_id"].replace(
            strip, "20240530T171000"
        )
    kept, aside = newest(found_in(data_root, name, [*halves, *both]))
    assert {s.id for s in kept} == {new["id"] for new in both}
    assert {a.id: a.reason.rpartition(" ")[2] for a in aside} == {
        half["id"]: new["id"] for half, new in zip(halves, both, strict=True)
    }
    kept, aside = newest(found_in(data_root, name, [*halves, both[0]]))
    assert {s.id for s in kept} == {both[0]["id"], halves[1]["id"]}
    assert [a.id for a in aside] == [halves[0]["id"]]


@pytest.mark.realdata
def test_radar_processed_twice_is_kept_once_and_its_neighbours_stay(data_root: Path) -> None:
    name = "planetarycomputer__sentinel-1-rtc"
    items = items_of(data_root, name)
    kept, aside = newest(found_in(data_root, name))
    assert (len(kept), aside) == (3, ())
    assert {s.datatake for s in kept} == {"S1A_067DF2"}
    assert len(passes(kept)) == 1
    again = copy.deepcopy(items[1])
    again["id"] = again["id"].replace("_rtc", "_ABCD_rtc")
    again["properties"]["s1:processing_datetime"] = "2025-01-01T00:00:00Z"
    kept, aside = newest(found_in(data_root, name, [*items, again]))
    assert {s.id for s in kept} == {items[0]["id"], again["id"], items[2]["id"]}
    assert [(a.id, a.reason.rpartition(" ")[2]) for a in aside] == [(items[1]["id"], again["id"])]


@pytest.mark.realdata
def test_the_same_scene_of_two_collections_is_kept_once(data_root: Path) -> None:
    """Earth Search lists tile 13TDE of some days in its old and in its new collection."""
    old, new = "earthsearch__sentinel-2-l2a", "earthsearch__sentinel-2-c1-l2a"
    (one,) = [i for i in items_of(data_root, old) if i["id"] == "S2A_38WMA_20240419_0_L2A"]
    (two,) = [i for i in items_of(data_root, new) if i["id"] == "S2A_T38WMA_20240419T090557_L2A"]
    kept, aside = newest([*found_in(data_root, old, [one]), *found_in(data_root, new, [two])])
    assert len(kept) == len(aside) == 1
    # The levels of one observation are different things.
    l1c = "earthsearch__sentinel-2-l1c"
    (raw,) = [i for i in items_of(data_root, l1c) if i["id"] == "S2A_38WMA_20240419_0_L1C"]
    kept, aside = newest([*found_in(data_root, old, [one]), *found_in(data_root, l1c, [raw])])
    assert (len(kept), aside) == (2, ())


# ------------------------------------------------------------------------------------ whole search


def searched(
    data_root: Path, name: str, collection: str, box: list[float], period: str
) -> SceneTable:
    spec = {
        "name": "real",
        "catalogue": str(data_root / "stac-items" / f"{name}.json"),
        "collections": {collection: KINDS[name].profile},
        "area": read_area(box, Path()),
        "period": period,
        "grid": {"tile": 64, "chunk": 16},
        "output": "nowhere",
    }
    return search(RunSpec.check(spec, where="test"))


@pytest.mark.realdata
def test_a_search_over_real_items_keeps_the_newest_and_lists_the_rest(data_root: Path) -> None:
    box, period = [8.4, 47.2, 8.401, 47.201], "2020-03"
    table = searched(data_root, "earthsearch__sentinel-2-l2a", "sentinel-2-l2a", box, period)
    assert [s.id for s in table.scenes] == ["S2A_32TMT_20200302_1_L2A", "S2A_32TMT_20200305_1_L2A"]
    assert [a.id for a in table.set_aside] == [
        "S2A_32TMT_20200302_0_L2A", "S2A_32TMT_20200305_0_L2A"
    ]  # fmt: skip
    (there,) = table.aside_of(shapely.box(8.4, 47.2, 8.401, 47.201), Month(2020, 3))[:1]
    assert there.start is not None


@pytest.mark.realdata
@pytest.mark.parametrize("lon", [179.9, -179.9])
def test_a_scene_across_the_antimeridian_is_found_on_either_side(
    data_root: Path, lon: float
) -> None:
    box = [lon, -16.0, lon + 0.001, -15.999]
    name = "file__sentinel2-l1c-example"
    table = searched(data_root, name, "sentinel2-l1c-example", box, "2020-07")
    assert [s.id for s in table.scenes] == ["S2A_T01LAC_20200717T221944_L1C"]
    assert {a.crs for a in table.scenes[0].assets.values()} == {"EPSG:32701"}
