"""Catalogues of every kind to one scene table: real items, made-up ones, hostile ones."""

from __future__ import annotations

import copy
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pystac_client
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from cdscale import scenes
from cdscale.errors import CatalogueError
from cdscale.grid import GeoBox
from cdscale.months import Month, Months
from cdscale.scenes import harmonise, search, search_key, table
from cdscale.scenes.items import Unusable
from cdscale.spec.profile import BandProfile, CollectionProfile, OffsetRule, load_profile
from cdscale.spec.run import RunSpec, load_run, read_area
from cdscale.spec.scene import SceneTable
from cdscale.testing import MadeItem, write_catalogue, write_item_collection

PC_S2 = load_profile("planetary-computer-sentinel-2-l2a")
PC_S1 = load_profile("planetary-computer-sentinel-1-rtc")
S2, S1 = "sentinel-2-l2a", "sentinel-1-rtc"
HOST = "https://sentinel2l2a01.blob.core.windows.net/"
BOX = GeoBox((4, 4), Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32631")  # 3 E, 50.55 N


def item(**properties: Any) -> dict[str, Any]:
    """A Sentinel-2 item in the manner of the Planetary Computer."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S2A_one",
        "collection": S2,
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[2, 50], [4, 50], [4, 51], [2, 51], [2, 50]]],
        },
        "assets": {
            key: {"href": f"{HOST}{key}.tif"} for key in ("B02", "B03", "B04", "B11", "SCL")
        },
        "properties": {
            "datetime": "2020-06-15T10:00:00Z",
            "platform": "Sentinel-2A",
            "s2:mgrs_tile": "31UDS",
            "s2:processing_baseline": "02.12",
            "s2:generation_time": "2020-06-16T00:00:00Z",
            "eo:cloud_cover": 12.5,
            **properties,
        },
    }


def spec_of(catalogue: Path | str, **changes: Any) -> RunSpec:
    spec = {
        "name": "test",
        "catalogue": str(catalogue),
        "collections": {S2: PC_S2.name},
        "area": read_area([2.9999, 50.5495, 3.0005, 50.5499], Path()),
        "period": "2020-06",
        "grid": {"tile": 64, "chunk": 16},
        "cube": {"s2_bands": ["B02", "B03"]},
        "output": "nowhere",
        **changes,
    }
    return RunSpec.check(spec, where="test")


def made(name: str, when: str = "2020-06-15T10:00:00Z", **properties: Any) -> MadeItem:
    optical = properties.pop("optical", True)
    keys = ("B02", "B03", "SCL") if optical else ("vv", "vh")
    pixels = {key: np.ones((4, 4), np.uint16 if optical else np.float32) for key in keys}
    return MadeItem(name, S2 if optical else S1, when, BOX, pixels, properties)


# ---------------------------------------------------------------------------------- one item read


def test_an_item_becomes_a_scene() -> None:
    scene = harmonise(item(), PC_S2, local=False)
    assert (scene.id, scene.sensor, scene.unit) == ("S2A_one", "s2", "reflectance")
    assert scene.start == scene.end
    assert scene.start.isoformat() == "2020-06-15T10:00:00+00:00"
    assert scene.cloud_cover == 12.5
    assert set(scene.assets) == {"B02", "B03", "B04", "B11"}
    assert scene.mask is not None
    assert scene.mask.offset == 0
    assert scene.mask_clear == (4, 5, 6, 7, 11)
    assert scene.access.signing == "planetary-computer"
    assert shapely.equals(scene.polygon, shapely.box(2, 50, 4, 51))


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [
        ("02.12", 0.0), ("03.01", 0.0), ("03.99", 0.0), ("04.00", -0.1), ("04.01", -0.1),
        ("05.00", -0.1), ("05.09", -0.1), ("05.11", -0.1), ("99.99", -0.1), (None, 0.0),
    ],
)  # fmt: skip
def test_the_offset_follows_the_baseline(baseline: str | None, offset: float) -> None:
    scene = harmonise(item(**{"s2:processing_baseline": baseline}), PC_S2, local=False)
    assert {asset.offset for asset in scene.assets.values()} == {offset}
    assert {asset.scale for asset in scene.assets.values()} == {0.0001}
    assert scene.mask is not None
    assert (scene.mask.offset, scene.mask.scale) == (0.0, 1.0)


RULES = (
    OffsetRule(when_property="earthsearch:boa_offset_applied", equals=True, offset=0.0),
    OffsetRule(when_property="earthsearch:boa_offset_applied", equals=False, offset=0.0),
    OffsetRule(when_asset_offset=True, offset="asset"),
    OffsetRule(when_property="s2:processing_baseline", at_least="04.00", offset=-0.1),
)


@pytest.mark.parametrize(
    ("asset", "properties", "offset"),
    [
        ({"raster:bands": [{"offset": -0.1}]}, {"earthsearch:boa_offset_applied": True}, 0.0),
        ({"raster:bands": [{"offset": -0.1}]}, {"earthsearch:boa_offset_applied": False}, 0.0),
        ({"raster:bands": [{"offset": -0.1}]}, {}, -0.1),  # STAC 1.0
        ({"bands": [{"raster:offset": -0.1}]}, {}, -0.1),  # STAC 1.1, of the band
        ({"raster:offset": -0.1}, {}, -0.1),  # STAC 1.1, of the asset
        ({"raster:bands": [{"offset": 0}]}, {"s2:processing_baseline": "05.00"}, 0.0),
        ({}, {"s2:processing_baseline": "05.00"}, -0.1),
        ({}, {"s2:processing_baseline": "02.12"}, 0.02),  # no rule: the band's own
        ({"raster:bands": []}, {}, 0.02),
    ],
)
def test_the_first_rule_that_fits_gives_the_offset(
    asset: dict[str, Any], properties: dict[str, Any], offset: float
) -> None:
    profile = PC_S2.model_copy(update={"offsets": RULES})
    band = BandProfile(assets=("B02",), offset=0.02)
    assert scenes.resolve_offset(asset, band, properties, profile) == offset


@pytest.mark.parametrize(
    ("asset", "properties", "epsg", "size"),
    [
        ({}, {"proj:epsg": 32631, "proj:shape": [10, 20]}, 32631, (10, 20)),
        ({"proj:epsg": 32632, "proj:shape": [5, 6]}, {"proj:epsg": 32631}, 32632, (5, 6)),
        ({}, {"proj:code": "EPSG:32631"}, 32631, None),
        ({"proj:code": "EPSG:32633"}, {"proj:code": "EPSG:32631"}, 32633, None),
        ({}, {"proj:code": None, "proj:epsg": None}, None, None),
        ({}, {"proj:code": "IAU_2015:30100"}, None, None),
        ({}, {}, None, None),
    ],
)
def test_projection_fields_of_stac_10_and_11(
    asset: dict[str, Any], properties: dict[str, Any], epsg: int | None, size: Any
) -> None:
    one = item(**properties)
    one["assets"]["B02"] |= {**asset, "proj:transform": [10, 0, 5, 0, -10, 7, 0, 0, 1]}
    got = harmonise(one, PC_S2, local=False).assets["B02"]
    assert (got.crs, got.shape) == (f"EPSG:{epsg}" if epsg else "", size)
    assert got.transform == (10, 0, 5, 0, -10, 7)


@pytest.mark.parametrize(
    ("fields", "nodata"),
    [
        ({}, 0.0),  # the profile's
        ({"raster:bands": [{"nodata": -9999}]}, -9999.0),
        ({"nodata": 255}, 255.0),
        ({"bands": [{"nodata": 7}]}, 7.0),
        ({"raster:bands": [{"nodata": "nan"}]}, None),  # NaN is no data already
    ],
)
def test_no_data_is_the_items_or_the_profiles(fields: dict[str, Any], nodata: Any) -> None:
    one = item()
    one["assets"]["B02"] |= fields
    assert harmonise(one, PC_S2, local=False).assets["B02"].nodata == nodata


def test_times_of_an_interval_and_a_blank_for_the_t() -> None:
    times = {
        "datetime": None,
        "start_datetime": "2020-06-30 23:59:50.5+00:00",
        "end_datetime": "2020-07-01 00:00:10+00:00",
    }
    scene = harmonise(item(**times), PC_S2, local=False)
    served = [m for m in Months.parse("2020-05..2020-08") if scene.serves(m)]
    assert served == [Month(2020, 6), Month(2020, 7)]
    naive = harmonise(item(datetime="2020-06-15T10:00:00"), PC_S2, local=False)
    assert naive.start.utcoffset() is not None


# ------------------------------------------------------------------------------------- set aside


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"properties": {"datetime": "yesterday"}}, "its time does not read: 'yesterday'"),
        ({"properties": {"datetime": None}}, "its time does not read"),
        ({"properties": None}, "its time does not read"),
        ({"geometry": None}, "footprint does not read"),
        ({"geometry": {"type": "Polygon", "coordinates": [[[2, 50], [3, 50]]]}}, "footprint"),
        ({"geometry": {"type": "Polygon", "coordinates": []}}, "not in degrees"),
        (
            {"geometry": shapely.geometry.mapping(shapely.box(500_000, 0, 600_000, 9))},
            "not in degrees",
        ),
        ({"assets": {}}, r"no mask asset \(SCL or SCL-20m\)"),
    ],
)
def test_an_item_that_cannot_be_read_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        harmonise({**item(), **change}, PC_S2, local=False)


def test_an_item_that_ends_before_it_starts_is_set_aside() -> None:
    times = {"start_datetime": "2020-06-15T00:00:00Z", "end_datetime": "2020-06-14T00:00:00Z"}
    with pytest.raises(Unusable, match="before it starts"):
        harmonise(item(**times), PC_S2, local=False)


HOSTILE = [
    "/etc/passwd", "etc/passwd", "../../secret.tif", "file:///etc/passwd", "file:/etc/passwd",
    "/vsicurl/https://sentinel2l2a01.blob.core.windows.net/a.tif", "/vsizip/a.zip/a.tif",
    "http://sentinel2l2a01.blob.core.windows.net/a.tif", "https://evil.example/a.tif",
    "https://blob.core.windows.net.evil.example/a.tif", "https://evilblob.core.windows.net/a.tif",
    "https://evil.example/?.blob.core.windows.net", "https://evil.example#.blob.core.windows.net",
    "https://sentinel2l2a01.blob.core.windows.net@evil.example/a.tif",
    "https://169.254.169.254/latest", "https://[::1]/a.tif", "https://[broken", "https:///a.tif",
    "s3://bucket/a.tif", "ftp://blob.core.windows.net/a.tif", "vrt:///etc/passwd",
    "<VRTDataset/>", "NETCDF:/etc/passwd", "data:text/plain,a", "", " ", "\n",
]  # fmt: skip


@pytest.mark.parametrize("href", HOSTILE)
def test_hostile_addresses_of_a_remote_catalogue_are_refused(href: str) -> None:
    for key in ("B02", "SCL"):
        one = item()
        one["assets"][key]["href"] = href
        with pytest.raises(Unusable, match="its asset"):
            harmonise(one, PC_S2, local=False)


@pytest.mark.parametrize(
    "href",
    ["/vsicurl/https://x/a.tif", "http://x/a.tif", "<VRTDataset/>", "vrt:///a", "https://[broken"],
)
def test_a_catalogue_on_disk_reaches_files_and_not_everything(href: str) -> None:
    one = item()
    one["assets"]["B02"]["href"] = href
    with pytest.raises(Unusable, match="its asset"):
        harmonise(one, PC_S2, local=True)
    one["assets"]["B02"]["href"] = "file:///data/a.tif"
    assert harmonise(one, PC_S2, local=True).assets["B02"].href == "/data/a.tif"


def test_the_reason_does_not_show_a_token() -> None:
    one = item()
    one["assets"]["B02"]["href"] = "https://evil.example/a.tif?sig=SECRET"
    with pytest.raises(Unusable) as caught:
        harmonise(one, PC_S2, local=False)
    assert "SECRET" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value with each of its keys."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@given(st.data(), json_values, st.sampled_from([PC_S2, PC_S1]))
def test_any_field_of_any_type_is_read_or_set_aside(
    data: st.DataObject, value: Any, profile: CollectionProfile
) -> None:
    one = item(**{"sat:relative_orbit": 5, "proj:shape": [1, 2], "proj:code": "EPSG:32631"})
    one["assets"]["vv"] = {**copy.deepcopy(one["assets"]["B02"]), "raster:bands": [{"nodata": 0}]}
    one["assets"]["B03"] |= {"raster:bands": [{"nodata": 0, "offset": 0}], "proj:shape": [1, 2]}
    spots = list(places(one))
    container, key = spots[data.draw(st.integers(0, len(spots) - 1))]
    container[key] = value
    try:
        scene = harmonise(one, profile, local=False)
    except Unusable:
        return
    table = SceneTable(search="x", scenes=(scene,))
    assert SceneTable.model_validate_json(table.model_dump_json()) == table


# ------------------------------------------------------------------------------------ catalogues


def test_every_kind_of_catalogue_on_disk_is_read(tmp_path: Path) -> None:
    items = [made("a"), made("b", "2020-06-20T10:00:00Z"), made("other", "2020-07-01T00:00:00Z")]
    radar = made("r", optical=False)
    root = write_catalogue(tmp_path / "static", [*items, radar])
    flat = write_item_collection(tmp_path / "flat", [*items, radar])
    for catalogue in (root, root.parent, flat, root.parent / S2 / "collection.json"):
        table = search(spec_of(catalogue))
        assert [scene.id for scene in table.scenes] == ["a", "b"]
        assert table.set_aside == ()
        for scene in table.scenes:
            assert Path(scene.assets["B02"].href).is_file()
            assert set(scene.assets) == {"B02", "B03"}
            assert scene.access.signing == "none"
    both = spec_of(flat, collections={S2: PC_S2.name, S1: PC_S1.name})
    assert {s.id: s.sensor for s in search(both).scenes} == {"a": "s2", "b": "s2", "r": "s1"}


def test_nested_catalogues_and_circles_of_links(tmp_path: Path) -> None:
    """Collection below collection, a child that links back, a link that is none."""
    root = write_catalogue(tmp_path, [made("a")])
    top = json.loads(root.read_text())
    home = {"rel": "child", "href": "./catalog.json"}
    inner = tmp_path / "inner" / "catalog.json"
    inner.parent.mkdir()
    inner.write_text(json.dumps({**top, "links": [
        {"rel": "child", "href": f"../{S2}/collection.json"},
        {"rel": "child", "href": "../catalog.json"}, 5, {"rel": "child"}, {"href": "x"},
    ]}))  # fmt: skip
    root.write_text(
        json.dumps({**top, "links": [home, {"rel": "child", "href": "inner/catalog.json"}]})
    )
    assert [scene.id for scene in search(spec_of(root)).scenes] == ["a"]


def test_a_nested_collection_is_searched_on_its_own(tmp_path: Path) -> None:
    root = write_catalogue(tmp_path, [made("a"), made("r", optical=False)])
    outer = tmp_path / S2 / "collection.json"
    data = json.loads(outer.read_text())
    data["links"].append({"rel": "child", "href": f"../{S1}/collection.json"})
    outer.write_text(json.dumps(data))
    top = json.loads(root.read_text())
    top["links"] = [link for link in top["links"] if S1 not in link["href"]]
    root.write_text(json.dumps(top))
    both = {S2: PC_S2.name, S1: PC_S1.name}
    assert {s.id for s in search(spec_of(root, collections=both)).scenes} == {"a", "r"}
    assert [s.id for s in search(spec_of(root)).scenes] == ["a"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read .*path"),
        ("", "cannot read .*not JSON"),
        ("[1]", "not STAC"),
        ('{"type": "Feature"}', "not a STAC catalogue.*got 'Feature'"),
        ('{"type": "FeatureCollection", "features": null}', "no collection sentinel-2-l2a"),
        ('{"type": "FeatureCollection", "features": [1, null, "x"]}', "no collection"),
        ('{"type": "Catalog", "links": 5}', "no collection"),
        ('{"type": "Catalog", "links": [{"rel": "child", "href": "gone.json"}]}', "cannot read"),
    ],
)
def test_what_is_no_catalogue_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "catalog.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CatalogueError, match=said):
        search(spec_of(path))


def test_a_collection_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    root = write_catalogue(tmp_path, [made("a"), made("r", optical=False)])
    spec = spec_of(root, collections={S2: PC_S2.name, "sentinel-9": PC_S1.name})
    with pytest.raises(CatalogueError, match=f"no collection sentinel-9.*one of {S1}, {S2}"):
        search(spec)


def test_an_empty_search_names_the_months_that_there_are(tmp_path: Path) -> None:
    when = ["2019-12-03", "2020-01-05", "2020-01-09", "2020-08-01"]
    root = write_catalogue(tmp_path, [made(f"s{i}", f"{w}T10:00:00Z") for i, w in enumerate(when)])
    said = r"no scene .*2020-06.*has scenes in 2019-12\.\.2020-01,2020-08"
    with pytest.raises(CatalogueError, match=said):
        search(spec_of(root))


def test_an_empty_search_says_what_was_set_aside(tmp_path: Path) -> None:
    root = write_catalogue(
        tmp_path,
        [MadeItem("a", S2, "2020-06-15T10:00:00Z", BOX, made("a").assets, {"eo:cloud_cover": 90})],
    )
    spec = spec_of(root, cube={"s2_bands": ["B02"], "max_cloud_cover": 50})
    with pytest.raises(CatalogueError, match="1 items cannot be used.*cloud cover 90 % is over"):
        search(spec)


def test_scenes_beside_the_tiles_are_left_out(tmp_path: Path) -> None:
    root = write_catalogue(tmp_path, [made("a")])
    with pytest.raises(CatalogueError, match="no scene"):
        search(spec_of(root, area=read_area([3.2, 50.5, 3.21, 50.51], Path())))


def test_an_optical_scene_needs_every_band_and_radar_one(tmp_path: Path) -> None:
    items = [made("a"), made("r", optical=False)]
    del items[0].assets["B03"]  # type: ignore[attr-defined]
    del items[1].assets["vh"]  # type: ignore[attr-defined]
    root = write_catalogue(tmp_path, items)
    both = {S2: PC_S2.name, S1: PC_S1.name}
    table = search(spec_of(root, collections=both))
    assert [(s.id, list(s.assets)) for s in table.scenes] == [("r", ["vv"])]
    assert [(a.id, a.reason) for a in table.set_aside] == [("a", "it has no asset for B03")]


def test_an_interval_is_found_in_each_month_that_it_overlaps(tmp_path: Path) -> None:
    long = made("long", start_datetime="2020-05-20T00:00:00Z", end_datetime="2020-07-02T00:00:00Z")
    root = write_catalogue(tmp_path, [long])
    spec = spec_of(root, period="2020-04..2020-08")
    table = search(spec)
    footprint = spec.lattice.footprint(spec.tiles()[0])
    served = [str(month) for month in spec.period if table.of(footprint, month)]
    assert served == ["2020-05", "2020-06", "2020-07"]
    assert [s.id for s in search(spec_of(root, period="2020-06")).scenes] == ["long"]


SAME = {"s2:mgrs_tile": "31UDS", "platform": "Sentinel-2A"}


def version(name: str, baseline: str, generated: str = "2020") -> MadeItem:
    fields = {"s2:processing_baseline": baseline, "s2:generation_time": generated}
    return made(name, **SAME, **fields)


@pytest.mark.parametrize("turned", [False, True])
def test_of_one_observation_the_newest_processing_is_kept(tmp_path: Path, turned: bool) -> None:
    items = [
        version("old", "02.12", "2023"), version("new", "05.00"), version("newer", "05.00", "2021")
    ]  # fmt: skip
    other = made("other", **{**SAME, "s2:mgrs_tile": "31UES"})
    items.append(other)
    root = write_catalogue(tmp_path, items[::-1] if turned else items)
    table = search(spec_of(root))
    assert {s.id: s.assets["B02"].offset for s in table.scenes} == {"newer": -0.1, "other": 0.0}
    assert {a.id for a in table.set_aside} == {"old", "new"}
    assert {a.reason for a in table.set_aside} == {
        "the same observation came newer processed as newer"
    }


def test_items_that_do_not_say_what_they_observed_are_never_merged(tmp_path: Path) -> None:
    root = write_catalogue(tmp_path, [made("a"), made("b")])
    assert [s.id for s in search(spec_of(root)).scenes] == ["a", "b"]


def test_the_table_is_the_same_whatever_the_order_of_the_items(tmp_path: Path) -> None:
    items = [made(f"s{i}", f"2020-06-{i + 1:02d}T00:00:00Z") for i in range(5)]
    path = write_item_collection(tmp_path, items)
    data = json.loads(path.read_text())
    digests = set()
    for _ in range(2):
        data["features"].reverse()
        path.write_text(json.dumps(data))
        table = search(spec_of(path))
        digests.add(table.digest)
        assert SceneTable.model_validate_json(table.model_dump_json()) == table
    assert len(digests) == 1


def test_the_search_key_follows_what_decides_the_scenes(tmp_path: Path) -> None:
    base = search_key(spec_of("here"))
    assert search_key(spec_of("here", name="other", output="elsewhere")) == base
    for change in (
        {"catalogue": "there"}, {"period": "2020-07"}, {"grid": {"tile": 128, "chunk": 16}},
        {"cube": {"s2_bands": ["B02"]}}, {"collections": {"sentinel-2": PC_S2.name}},
        {"area": read_area([3.5, 50.5, 3.6, 50.6], Path())},
    ):  # fmt: skip
        assert search_key(spec_of(**{"catalogue": "here", **change})) != base


# ------------------------------------------------------------------------------------- STAC APIs


class FakeClient:
    """What cdscale uses of a pystac client."""

    asked: list[dict[str, Any]]

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items, self.asked = items, []

    def get_collections(self) -> list[Any]:
        return [type("Collection", (), {"id": name}) for name in (S2, S1)]

    def search(self, **query: Any) -> Any:
        self.asked.append(query)
        return type("Result", (), {"items_as_dicts": lambda _: iter(self.items)})()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    client = FakeClient([item()])
    monkeypatch.setattr(pystac_client.Client, "open", lambda *a, **k: client)
    return client


def test_an_api_is_asked_once_for_each_run_of_months(api: FakeClient) -> None:
    spec = spec_of("https://stac.example/v1", period="2020-05..2020-06,2021-01")
    table = search(spec)
    assert [scene.id for scene in table.scenes] == ["S2A_one"]  # twice found, kept once
    assert [[str(t)[:10] for t in q["datetime"]] for q in api.asked] == [
        ["2020-05-01", "2020-07-01"],
        ["2021-01-01", "2021-02-01"],
    ]
    assert api.asked[0]["collections"] == [S2]
    asked = shapely.geometry.shape(api.asked[0]["intersects"])
    assert all(asked.covers(spec.lattice.footprint(t).buffer(-1e-9)) for t in spec.tiles())


def test_files_named_by_an_api_are_set_aside(api: FakeClient) -> None:
    bad = item()
    bad["id"] = "bad"
    bad["assets"]["B02"]["href"] = "/etc/passwd"
    api.items.append(bad)
    table = search(spec_of("https://stac.example/v1"))
    assert [scene.id for scene in table.scenes] == ["S2A_one"]
    assert [a.id for a in table.set_aside] == ["bad"]


def test_an_api_that_does_not_answer_is_a_plain_error() -> None:
    with pytest.raises(CatalogueError, match="does not answer as a STAC API"):
        search(spec_of("http://127.0.0.1:9/stac"))


# ----------------------------------------------------------------------------------- real items

DUPLICATES = {
    "planetarycomputer__sentinel-2-l2a": 4,
    "pc_s2l2a_13TDE_2024jan-may": 1,
}


def real_items(data_root: Path, name: str) -> list[dict[str, Any]]:
    path = data_root / "stac-items" / f"{name}.json"
    features: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["features"]
    return features


def reason_or_none(one: dict[str, Any], profile: CollectionProfile, *, local: bool) -> str | None:
    try:
        harmonise(one, profile, local=local)
    except Unusable as reason:
        return str(reason)
    return None


@pytest.mark.realdata
def test_every_real_item_is_harmonised_or_set_aside_with_a_reason(data_root: Path) -> None:
    """By each shipped profile, as remote and as local items; nothing else may be raised."""
    count = 0
    for path in sorted((data_root / "stac-items").glob("*.json")):
        for one in json.loads(path.read_text(encoding="utf-8"))["features"]:
            count += 1
            before = copy.deepcopy(one)
            for profile in (PC_S2, PC_S1, load_profile("oscd-sentinel-2-l1c")):
                for local in (False, True):
                    assert reason_or_none(one, profile, local=local) != ""
            assert one == before
    assert count == 204  # those of the .json files


@pytest.mark.realdata
def test_real_items_of_the_planetary_computer(data_root: Path) -> None:
    """Offsets by baseline, old and new asset keys side by side, no signed address."""
    offsets: dict[str, set[float]] = {}
    for name in DUPLICATES:
        for one in real_items(data_root, name):
            scene = harmonise(one, PC_S2, local=False)
            assert len(scene.assets) == 12
            assert scene.mask is not None
            for asset in (*scene.assets.values(), scene.mask):
                assert asset.href.startswith("https://")
                assert "?" not in asset.href
            offsets.setdefault(scene.baseline, set()).update(
                asset.offset for asset in scene.assets.values()
            )
    assert offsets.pop("02.12") == {0.0}
    assert {"04.00", "05.09", "05.10", "05.11"} <= set(offsets)
    assert all(values == {-0.1} for values in offsets.values())
    for one in real_items(data_root, "planetarycomputer__sentinel-1-rtc"):
        scene = harmonise(one, PC_S1, local=False)
        assert {a.nodata for a in scene.assets.values()} == {-32768.0}
        assert scene.orbit == "51 descending"
        assert 0 < (scene.end - scene.start).total_seconds() < 30
    (wide,) = real_items(data_root, "planetarycomputer__sentinel-1-grd")
    with pytest.raises(Unusable, match="EW, not IW"):
        harmonise(wide, PC_S1, local=False)


@pytest.mark.realdata
@pytest.mark.parametrize("name", DUPLICATES)
def test_real_scenes_that_came_twice_are_kept_once(data_root: Path, name: str) -> None:
    items = real_items(data_root, name)
    spec = spec_of("nowhere")
    found = [table._usable(one, _with_collection(spec, one), local=False) for one in items]
    for order in (found, found[::-1]):
        kept, aside = table._newest_only(order)
        assert (len(kept), len(aside)) == (len(items) - DUPLICATES[name], DUPLICATES[name])
        if name.startswith("pc"):
            (older,) = aside
            assert older.id == "S2B_MSIL2A_20240530T174909_R141_T13TDE_20240530T231838"
            assert "R141_T13TDE_20240531T000206" in older.reason
        else:
            assert all(old.id.endswith(".SAFE") for old in aside)


def _with_collection(spec: RunSpec, one: dict[str, Any]) -> RunSpec:
    return spec.model_copy(update={"collections": {one["collection"]: PC_S2.name}})


@pytest.mark.realdata
def test_real_antimeridian_footprints_stay_where_they_are(data_root: Path) -> None:
    """Footprints on both sides of it do not become a band around the world."""
    profile = PC_S1.model_copy(update={"hosts": ("",)})
    profile = profile.model_copy(update={"require": {}})
    for one in real_items(data_root, "earthsearch__sentinel-1-grd"):
        west, _, east, _ = one["bbox"][:4]
        if west < east and one["geometry"]["type"] == "Polygon":
            continue
        try:
            scene = harmonise(one, profile, local=True)
        except Unusable:
            continue
        assert scene.polygon.area < 100


# ------------------------------------------------------------------------------- real catalogues


def table_of(path: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Site and month to the numbers of S2 and S1 scenes, of the tables in the README."""
    rows, site = {}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.fullmatch(r"31U\w\w:", line):
            site = line[:-1]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if site and re.fullmatch(r"\d{4}-\d{2}", cells[0]):
            rows[site, cells[0]] = int(cells[1]), int(cells[5])
    return rows


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("site", "lon", "lat", "period"),
    [("31UDS", 3.024, 50.816, "2017-08..2018-11"), ("31UES", 4.063, 50.746, "2018-08..2019-11")],
)
def test_flanders_has_the_scenes_of_its_readme(
    data_root: Path, site: str, lon: float, lat: float, period: str
) -> None:
    folder = data_root / "flanders-stac"
    spec = spec_of(
        folder / "catalog.json",
        collections={S2: PC_S2.name, S1: PC_S1.name},
        area=read_area([lon - 0.002, lat - 0.002, lon + 0.002, lat + 0.002], Path()),
        period=period,
    )
    table = search(spec)
    counts = Counter((scene.sensor, str(Month.of(scene.start))) for scene in table.scenes)
    expected = {m: n for (where, m), n in table_of(folder / "README.md").items() if where == site}
    assert len(expected) == 16
    assert {m: (counts["s2", m], counts["s1", m]) for m in expected} == expected
    assert sum(counts.values()) == {"31UDS": 118 + 159, "31UES": 72 + 80}[site]
    assert table.set_aside == ()
    assert {a.offset for s in table.scenes for a in s.assets.values()} == {0.0}


@pytest.mark.realdata
def test_flanders_statistics_agree_with_the_readme(data_root: Path) -> None:
    """The expected numbers above come from two files that agree."""
    folder = data_root / "flanders-stac"
    with (folder / "statistics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(table_of(folder / "README.md")) == 32


@pytest.mark.realdata
def test_each_city_of_oscd_has_its_two_dates_and_its_radar(data_root: Path) -> None:
    collections = {
        "sentinel-2-l1c": "oscd-sentinel-2-l1c",
        "sentinel-1-vv-db": "oscd-sentinel-1-vv-db",
    }
    folder = data_root / "oscd-stac"
    cities: dict[str, list[dict[str, Any]]] = {}
    for path in folder.glob("*/items/*.json"):
        one = json.loads(path.read_text(encoding="utf-8"))
        cities.setdefault(one["properties"]["oscd:city"], []).append(one)
    assert len(cities) == 24
    assert sum(map(len, cities.values())) == 124
    found: set[str] = set()
    for city, items in cities.items():
        parts = [shapely.geometry.shape(one["geometry"]) for one in items]
        middle = shapely.intersection_all(parts).representative_point()
        spec = spec_of(
            folder,
            collections=collections,
            area=read_area([middle.x - 1e-4, middle.y - 1e-4, middle.x, middle.y], Path()),
            period="2015-01..2018-12",
            cube={"s2_bands": ["B02", "B11"], "s1_bands": ["vv"]},
        )
        table = search(spec)
        here = {one["id"] for one in items}
        # Cities of one scene of Paris lie side by side; a tile may reach over the border.
        got = [scene for scene in table.scenes if scene.id in here]
        assert Counter(s.sensor for s in got)["s2"] == 2, city
        assert len(got) == len(items)
        assert {a.offset for s in got for a in s.assets.values()} == {0.0}
        found |= {scene.id for scene in got}
    assert len(found) == 124


@pytest.mark.realdata
def test_a_run_file_over_real_data_reads(data_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        f"name: real\ncatalogue: {data_root / 'flanders-stac' / 'catalog.json'}\n"
        f"collections: {{{S2}: {PC_S2.name}}}\narea: [3.02, 50.81, 3.03, 50.82]\n"
        "period: 2018-05\noutput: out\n"
    )
    assert len(search(load_run(path)).scenes) == 11
