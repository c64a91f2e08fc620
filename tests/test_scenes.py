"""Catalogues of every kind to one scene table: real items, made-up ones, hostile ones."""

from __future__ import annotations

import copy
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
import yaml
from affine import Affine
from hypothesis import example, given
from hypothesis import strategies as st

from cdscale import scenes
from cdscale.errors import CatalogueError, SpecError
from cdscale.grid import GeoBox
from cdscale.months import Month, Months
from cdscale.scenes import harmonise, search, search_key
from cdscale.scenes.assets import Observed
from cdscale.scenes.items import Unusable, set_aside
from cdscale.scenes.names import said
from cdscale.scenes.table import found_as
from cdscale.spec.profile import (
    Access,
    BandProfile,
    CloudProfile,
    CollectionProfile,
    MaskProfile,
    OffsetRule,
    load_profile,
    profile_names,
)
from cdscale.spec.run import RunSpec, load_run, read_area
from cdscale.spec.scene import SceneTable, SetAside
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


def made(
    name: str, when: str = "2020-06-15T10:00:00Z", *, optical: bool = True, **properties: Any
) -> MadeItem:
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


DOCS = Path(__file__).parent.parent / "docs" / "catalogues.md"
OLD, NEW = {"s2:processing_baseline": "02.14"}, {"s2:processing_baseline": "04.00"}
ES_LEFT = {"earthsearch:boa_offset_applied": False}
RULES = (
    OffsetRule(when_property="earthsearch:boa_offset_applied", equals=True, offset=0.0),
    OffsetRule(when_property="earthsearch:boa_offset_applied", equals=False, offset=0.0),
    OffsetRule(when_asset_offset=True, offset="asset"),
    OffsetRule(baseline_at_least="04.00", offset=-0.1),
)
WHEN = datetime(2020, 6, 15, tzinfo=UTC)


def offset_by(
    rules: tuple[OffsetRule, ...],
    asset: dict[str, Any],
    properties: dict[str, Any],
    when: datetime = WHEN,
) -> float:
    profile = PC_S2.model_copy(update={"offsets": rules})
    seen = Observed(properties, said({"properties": properties}), when)
    return scenes.resolve_offset(asset, BandProfile(assets=("B02",), offset=0.02), profile, seen)


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
    assert offset_by(RULES, asset, properties) == offset


@pytest.mark.parametrize(
    "properties",
    [
        {"s2:processing_baseline": "04.00"},
        {"s2:processing_baseline": 5.1},  # a number in JSON loses its zero: 05.10
        {"sentinel:processing_baseline": "05.09"},
        {"processing:version": "05.11"},
        {"s2:product_uri": "S2A_MSIL2A_20230506T151801_N0509_R068_T24XWF_20230506T203101.SAFE"},
        {"sentinel:product_id": "S2A_MSIL2A_20230506T151801_N0509_R068_T24XWF_20230506T203101"},
        {"s2:granule_id": "S2A_OPER_MSI_L2A_TL_2APS_20240419T104851_A046093_T37WDS_N05.10"},
    ],
)
def test_a_baseline_is_found_under_each_of_its_names(properties: dict[str, Any]) -> None:
    assert offset_by(RULES, {}, properties) == -0.1


def test_an_offset_that_nobody_can_know_sets_an_item_aside() -> None:
    """Without a baseline a scene of the time after it came in may carry it or not."""
    rules = (
        OffsetRule(sensed_before=date(2022, 1, 25), offset=0.0),
        OffsetRule(offset="unknown"),
    )
    assert offset_by(rules, {}, {}) == 0
    assert offset_by(rules, {}, {}, datetime(2022, 1, 24, 23, tzinfo=UTC)) == 0
    with pytest.raises(Unusable, match="its offset is not known"):
        offset_by(rules, {}, {}, datetime(2022, 1, 25, tzinfo=UTC))
    with pytest.raises(Unusable, match="its offset is not known"):
        harmonise(
            item(datetime="2023-01-01T00:00:00Z", **{"s2:processing_baseline": None}),
            PC_S2,
            local=False,
        )


@pytest.mark.parametrize("told", [-1000, 1e9, "1000"])
def test_an_offset_in_other_units_sets_an_item_aside(told: Any) -> None:
    with pytest.raises(Unusable, match=f"its offset {told}.* is not one of reflectance"):
        offset_by(RULES, {"raster:bands": [{"offset": told}]}, {})


@pytest.mark.parametrize(
    ("asset", "properties", "epsg", "size"),
    [
        ({}, {"proj:epsg": 32631, "proj:shape": [10, 20]}, 32631, (10, 20)),
        ({"proj:epsg": 32632, "proj:shape": [5, 6]}, {"proj:epsg": 32631}, 32632, (5, 6)),
        ({}, {"proj:code": "EPSG:32631"}, 32631, None),
        ({"proj:code": "EPSG:32633"}, {"proj:code": "EPSG:32631"}, 32633, None),
        ({}, {"proj:code": None, "proj:epsg": None}, None, None),
        ({}, {}, None, None),
    ],
)
def test_projection_fields_of_stac_10_and_11(
    asset: dict[str, Any], properties: dict[str, Any], epsg: int | None, size: Any
) -> None:
    one = item(**properties)
    east = 75_000 if epsg == 32632 else 500_000  # both 3 E
    transform = [10, 0, east, 0, -10, 5_610_000]
    one["assets"]["B02"] |= {**asset, "proj:transform": [*transform, 0, 0, 1]}
    got = harmonise(one, PC_S2, local=False).assets["B02"]
    assert (got.crs, got.shape) == (f"EPSG:{epsg}" if epsg else "", size)
    assert got.transform == tuple(transform)


WKT = pyproj.CRS("EPSG:32631").to_wkt()
OWN = pyproj.CRS("+proj=laea +lat_0=51 +lon_0=4 +datum=WGS84 +units=m").to_wkt()


@pytest.mark.parametrize(
    ("fields", "crs"),
    [
        ({"proj:code": "EPSG:32631"}, "EPSG:32631"),
        ({"proj:code": "epsg:32631"}, "EPSG:32631"),
        ({"proj:code": "ESRI:102025"}, "ESRI:102025"),
        ({"proj:code": "urn:ogc:def:crs:EPSG::32631"}, "EPSG:32631"),
        ({"proj:code": "http://www.opengis.net/def/crs/EPSG/0/32631"}, "EPSG:32631"),
        ({"proj:epsg": "32631"}, "EPSG:32631"),
        ({"proj:epsg": 32631.0}, "EPSG:32631"),
        ({"proj:code": None, "proj:wkt2": WKT}, "EPSG:32631"),
        (
            {"proj:epsg": None, "proj:projjson": json.loads(pyproj.CRS(32631).to_json())},
            "EPSG:32631",
        ),
        ({"proj:projjson": pyproj.CRS(32631).to_json()}, "EPSG:32631"),
        ({"proj:wkt2": OWN}, OWN),
    ],
)
def test_a_crs_is_read_in_every_form(fields: dict[str, Any], crs: str) -> None:
    """Of the item or of the asset; the asset's counts first."""
    assert harmonise(item(**fields), PC_S2, local=False).assets["B02"].crs == crs
    one = item(**{"proj:code": "EPSG:3035", "proj:epsg": 3035})
    one["assets"]["B02"] |= fields
    assets = harmonise(one, PC_S2, local=False).assets
    assert (assets["B02"].crs, assets["B03"].crs) == (crs, "EPSG:3035")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"proj:epsg": 99999}, "proj:epsg is no known CRS: 99999"),
        ({"proj:epsg": -1}, "no known CRS"),
        ({"proj:epsg": True}, "no known CRS"),
        ({"proj:code": "EPSG"}, "no known CRS"),
        ({"proj:code": "EPSG:32631x"}, "no known CRS"),
        ({"proj:code": "+init=/etc/passwd:1"}, "no known CRS"),
        ({"proj:code": "+proj=utm +zone=31"}, "no known CRS"),
        ({"proj:wkt2": "PROJCRS["}, "proj:wkt2 is no known CRS"),
        ({"proj:projjson": {"type": "ProjectedCRS"}}, "proj:projjson is no known CRS"),
        ({"proj:code": "EPSG:5703"}, "no CRS of a map of the Earth: EPSG:5703"),
        ({"proj:code": "IAU_2015:30100"}, "no CRS of a map of the Earth"),
    ],
)
def test_a_crs_that_is_none_sets_an_item_aside(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(Unusable, match=re.escape(said)):
        harmonise(item(**fields), PC_S2, local=False)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"proj:transform": [10, 0, 5, 0, -10]}, "no affine"),
        ({"proj:transform": [10, 0, 5, 0, -10, "x"]}, "not a STAC item"),
        ({"proj:transform": [10, 0, 5, 0, -10, float("nan")]}, "no affine"),
        ({"proj:transform": [10, 0, 5, 0, -10, 7, 1, 0, 1]}, "no affine"),
        ({"proj:shape": [0, 5]}, "no pixels"),
        ({"proj:shape": [5]}, "not a STAC item"),
    ],
)
def test_a_projection_that_cannot_be_sets_an_item_aside(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(Unusable, match=said):
        harmonise(item(**fields), PC_S2, local=False)


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
        ({"geometry": {"type": "Polygon", "coordinates": []}}, "footprint does not read"),
        ({"geometry": {"type": "Point", "coordinates": [2, 50]}}, "footprint does not read"),
        ({"geometry": None, "bbox": [2, 50, 2, 51]}, "footprint has no area"),
        ({"geometry": None, "bbox": [500_000, 0, 600_000, 9]}, "not in degrees"),
        ({"geometry": None, "bbox": ["2", 50, 4, 51]}, "footprint does not read"),
        ({"properties": {"datetime": "1970-01-01T00:00:00Z"}}, "before the first Sentinel flew"),
        ({"properties": {"datetime": "2020-06-15", "deprecated": True}}, "calls it deprecated"),
        (
            {"properties": {"datetime": "2020-06-15", "s2:product_type": "S2MSI1C"}},
            "S2MSI1C, not S2MSI2A",
        ),
        (
            {"geometry": shapely.geometry.mapping(shapely.box(500_000, 0, 600_000, 9))},
            "not in degrees",
        ),
        (
            {"properties": {"start_datetime": "2020-06-15T10:00:00Z", "end_datetime": "later"}},
            "its time does not read: 'later'",
        ),
        (
            {"assets": {**item()["assets"], "B02": {"title": "blue"}}},
            "its asset B02 has no address",
        ),
        ({"assets": {**item()["assets"], "B02": {"href": 7}}}, "its asset B02 has no address"),
        ({"assets": {}}, r"no asset for any band \(B01, B02"),
        ({"assets": {"B02": {"href": HOST + "a"}}}, r"no mask asset \(SCL or SCL-20m\)"),
    ],
)
def test_an_item_that_cannot_be_read_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        harmonise({**item(), **change}, PC_S2, local=False)


def nested(levels: int) -> Any:
    inner: Any = []
    for _ in range(levels):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "field", ["id", "collection", "geometry", "assets", "datetime", "platform"]
)
def test_an_item_nested_without_end_is_set_aside(field: str) -> None:
    """As deep as JSON can be read and Python cannot follow."""
    one, deep = item(), nested(5_000)
    if field == "geometry":
        one["geometry"]["coordinates"] = deep
    elif field in one:
        one[field] = deep
    else:
        one["properties"][field] = deep
    reason = ""
    try:
        found_as(one, harmonise(one, PC_S2, local=False), PC_S2)
    except Unusable as err:
        reason = str(err)
    assert field == "collection" or "type" in reason or "time" in reason
    lost = set_aside(one, reason)
    assert lost.id == ("something nested too deeply" if field == "id" else "S2A_one")


def test_an_address_that_no_file_can_have_is_refused() -> None:
    one = item()
    one["assets"]["B02"]["href"] = "/data/\ud800.tif"
    with pytest.raises(Unusable, match="where the profile does not allow it"):
        harmonise(one, PC_S2, local=True)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"proj:transform": [0, 0, 5, 0, 0, 7]}, "pixels without a size"),
        ({"proj:transform": [10, 0, 5, 0, 0, 7]}, "pixels without a size"),
        ({"proj:shape": [10**400, 5]}, "larger than any scene"),
    ],
)
def test_a_grid_that_no_file_has_sets_an_item_aside(told: dict[str, Any], reason: str) -> None:
    one = item()
    one["assets"]["B02"] |= told
    with pytest.raises(Unusable, match=reason):
        harmonise(one, PC_S2, local=False)


@pytest.mark.parametrize(
    ("epsg", "placed"),
    [(32631, True), (32632, False), (32630, False), (32731, False), (4326, False), (3035, False)],
)
def test_a_projection_elsewhere_than_the_footprint_sets_an_item_aside(
    epsg: int, placed: bool
) -> None:
    """A file of tile 31UDS: with another zone or hemisphere its pixels would be missed silently."""
    one = item(**{"proj:epsg": epsg})
    grid = {"proj:shape": [10980, 10980], "proj:transform": [10, 0, 399960, 0, -10, 5700000]}
    one["assets"]["B02"] |= grid
    one["assets"]["SCL"] |= grid
    if placed:
        assert harmonise(one, PC_S2, local=False).assets["B02"].crs == f"EPSG:{epsg}"
    else:
        with pytest.raises(Unusable, match="projection and its footprint lie in different places"):
            harmonise(one, PC_S2, local=False)


def test_a_scale_of_another_unit_sets_an_item_aside() -> None:
    profile = PC_S2.model_copy(update={"trust": ("scale",)})
    one = item()
    one["assets"]["B02"]["raster:bands"] = [{"scale": 1}]
    with pytest.raises(Unusable, match="its scale 1 is far from the 0.0001 of its collection"):
        harmonise(one, profile, local=False)


@pytest.mark.parametrize(
    ("told", "baseline"), [(4, "04.00"), (5.1, "05.10"), ("05", "05.00"), ("N0509", "05.09")]
)
def test_a_baseline_that_lost_its_zeros_is_the_same(told: Any, baseline: str) -> None:
    scene = harmonise(item(**{"s2:processing_baseline": told}), PC_S2, local=False)
    assert (scene.baseline, scene.assets["B02"].offset) == (baseline, -0.1)


@pytest.mark.parametrize(
    "text",
    ["2020-06-15t09:59:59z", " 2020-06-15T09:59:59Z", "2020-06-15T11:59:59+02:00",
     "2020-06-15T09:59:60Z"],
)  # fmt: skip
def test_times_as_rfc_3339_allows_them(text: str) -> None:
    scene = harmonise(item(datetime=text), PC_S2, local=False)
    assert scene.start == datetime(2020, 6, 15, 9, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    ["earth-search-sentinel-2-c1-l2a", "earth-search-sentinel-2-pre-c1-l2a",
     "earth-search-sentinel-2-l1c", "cdse-sentinel-2-l2a", "stactools-sentinel-2-l2a",
     "stactools-sentinel-2-l1c"],
)  # fmt: skip
def test_no_offset_is_taken_off_what_was_made_before_there_was_one(name: str) -> None:
    """Also where the item names one: ESA added none to a product of those baselines."""
    profile = load_profile(name)
    told = {"raster:bands": [{"offset": -0.1}]}
    for baseline, offset in (("02.14", 0), ("03.01", 0), ("04.00", -0.1), ("05.11", -0.1)):
        assert offset_by(profile.offsets, told, {"s2:processing_baseline": baseline}) == offset


@pytest.mark.parametrize("collection", ["c1", "pre-c1"])
def test_an_offset_that_was_taken_off_is_not_taken_off_again(collection: str) -> None:
    profile = load_profile(f"earth-search-sentinel-2-{collection}-l2a")
    says = {"s2:processing_baseline": "05.10"}
    for applied, offset in ((True, 0.0), (False, -0.1)):
        one = item(**says, **{"earthsearch:boa_offset_applied": applied})
        host = f"https://{profile.hosts[0]}/"
        one["assets"] = {
            key: {"href": f"{host}{key}.tif", "raster:bands": [{"offset": -0.1}]}
            for key in ("blue", "scl")
        }
        assert harmonise(one, profile, local=False).assets["B02"].offset == offset


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
    "https://me:pw@sentinel2l2a01.blob.core.windows.net/a.tif", f"{HOST}a b.tif",
    f"{HOST}a.tif\x00",
    f"{HOST}../other/a.tif", f"{HOST}%2e%2e/a.tif", f"{HOST}a|b.tif", f"{HOST}<VRTDataset/>",
    f"{HOST}a\nb.tif", "https://evil.example\\@sentinel2l2a01.blob.core.windows.net/a.tif",
    "https://sentinel2l2a01.blob.core.windows.net:22/a.tif", f"{HOST}vsizip/vsicurl/a.zip",
    "https://blob.core.windows.net.:443/a.tif", "http://169.254.169.254/latest/meta-data",
    "https://sentinel2l2a01.blob.core.windows.net:99999/a.tif", "gs://bucket/a.tif",
    "vrt://https://sentinel2l2a01.blob.core.windows.net/a.tif", "/vsis3/bucket/a.tif",
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


@pytest.mark.parametrize(
    "href",
    [
        "https://evil.example/a.tif?sig=SECRET",
        "https://me:SECRET@evil.example/a.tif",
        "https://SECRET@sentinel2l2a01.blob.core.windows.net/a.tif",
        "ftp://evil.example/a.tif#SECRET",
        "/vsicurl/https://me:SECRET@evil.example/a.tif",
    ],
)
def test_the_reason_does_not_show_a_secret(href: str) -> None:
    one = item()
    one["assets"]["B02"]["href"] = href
    with pytest.raises(Unusable) as caught:
        harmonise(one, PC_S2, local=False)
    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in set_aside(one, str(caught.value)).model_dump_json()


ALLOWED = ("example.org", "s3://eodata", "http://127.0.0.1:8000", "https://other.org:8443")


@pytest.mark.parametrize(
    ("href", "allowed"),
    [
        ("https://example.org/a.tif", True),
        ("https://EXAMPLE.org/a.tif", True),
        ("https://example.org:443/a.tif", True),
        ("https://data.example.org/a.tif", True),
        ("https://example.org:8443/a.tif", False),
        ("http://example.org/a.tif", False),
        ("https://notexample.org/a.tif", False),
        ("s3://eodata/Sentinel-2/a.jp2", True),
        ("s3://eodata2/a.jp2", False),
        ("s3://evil/eodata/a.jp2", False),
        ("s3://eodata/../evil/a.jp2", False),
        ("https://eodata/a.jp2", False),
        ("http://127.0.0.1:8000/a.tif", True),
        ("http://127.0.0.1:8001/a.tif", False),
        ("http://127.0.0.1/a.tif", False),
        ("https://127.0.0.1:8000/a.tif", False),
        ("http://me@127.0.0.1:8000/a.tif", False),
        ("https://other.org:8443/a.tif", True),
        ("https://sub.other.org:8443/a.tif", False),
        ("https://other.org/a.tif", False),
    ],
)
def test_hosts_buckets_and_origins_are_allowed_as_the_profile_says(
    href: str, allowed: bool
) -> None:
    """The same for a catalogue on the web and for one on disk that points there."""
    profile = PC_S2.model_copy(update={"hosts": ALLOWED})
    one = item()
    for asset in one["assets"].values():
        asset["href"] = href
    for local in (False, True):
        if allowed:
            assert harmonise(one, profile, local=local).assets["B02"].href == href
        else:
            with pytest.raises(Unusable, match="its asset lies where the profile does not"):
                harmonise(one, profile, local=local)


@pytest.mark.parametrize("host", ["Example.org", "example.org/path", "ftp://a", "a b", "*.org", ""])
def test_a_profile_with_a_host_that_is_none_does_not_read(host: str) -> None:
    with pytest.raises(SpecError, match="hosts"):
        CollectionProfile.check({**PC_S2.model_dump(), "hosts": [host]}, where="mine.yaml")


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("?st=2024&se=2025&sp=rl&sv=2024&sr=c&skoid=1&sig=SECRET%3D", ""),
        ("?X-Amz-Algorithm=AWS4&X-Amz-Credential=SECRET&X-Amz-Signature=SECRET", ""),
        ("?versionId=7&X-Amz-Signature=SECRET", "?versionId=7"),
        ("?AWSAccessKeyId=SECRET&Expires=1&Signature=SECRET", ""),
        ("?token=SECRET", ""),
        ("?apikey=SECRET", ""),
        ("?band=2&api_key=SECRET", ""),
        ("?key=SECRET", ""),
        ("?subscription-key=SECRET", ""),
        ("?X-Amz-Credential=SECRET", ""),
        ("?password=SECRET", ""),
        ("?jwt=SECRET", ""),
        ("?Authorization=SECRET", ""),
        ("?monkey=1&author=me", "?monkey=1&author=me"),
        ("?band=2", "?band=2"),
        ("#SECRET", ""),
    ],
)
def test_nothing_signed_is_kept(query: str, kept: str) -> None:
    one = item()
    for asset in one["assets"].values():
        asset["href"] += query
    scene = harmonise(one, PC_S2, local=False)
    assert scene.assets["B02"].href == f"{HOST}B02.tif{kept}"
    assert "SECRET" not in scene.model_dump_json()


def test_access_follows_where_the_assets_lie() -> None:
    """A collection of items on disk whose assets lie on the web is signed like any other."""
    one = item()
    assert harmonise(one, PC_S2, local=True).access == PC_S2.access
    for key, asset in one["assets"].items():
        asset["href"] = f"/data/{key}.tif"
    assert harmonise(one, PC_S2, local=True).access.signing == "none"
    one["assets"]["SCL"]["href"] = f"{HOST}SCL.tif"
    assert harmonise(one, PC_S2, local=True).access == PC_S2.access


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("file:///data/a%20b.tif", "/data/a b.tif"),
        ("file://localhost/data/a.tif", "/data/a.tif"),
        ("file://server/data/a.tif", None),
        ("file:///vsizip/a.zip", None),
        ("file:///%2Fvsicurl/http://x", None),
        ("//server/data/a.tif", None),
        ("/data/a|b.tif", None),
        ("/data/a\x00.tif", None),
        ("data:text/plain,a", None),
    ],
)
def test_files_are_paths_and_nothing_else(href: str, path: str | None) -> None:
    one = item()
    one["assets"]["B02"]["href"] = href
    if path is None:
        with pytest.raises(Unusable, match="its asset"):
            harmonise(one, PC_S2, local=True)
    else:
        assert harmonise(one, PC_S2, local=True).assets["B02"].href == path


# ------------------------------------------------------------------------- what names and items say


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"id": "S2A_MSIL2A_20200302T102021_N0214_R065_T32TMT_20200302T140838.SAFE"},
         {"platform": "sentinel-2a", "tile": "32TMT", "datatake": "S2A_20200302T102021",
          "level": "L2A", "baseline": "02.14", "relative_orbit": "65",
          "generated": "2020-03-02T14:08:38.000000+00:00"}),
        ({"id": "S2C_MSIL1C_20250302T085921_N0511_R007_T35TQN_20250302T110827"},
         {"platform": "sentinel-2c", "tile": "35TQN", "level": "L1C", "baseline": "05.11"}),
        ({"id": "S2A_9VXK_20171002_0"}, {"platform": "sentinel-2a", "tile": "09VXK", "level": ""}),
        ({"id": "S2B_T21NYC_20221205T140704_L2A"},
         {"platform": "sentinel-2b", "tile": "21NYC", "strip": "20221205T140704", "level": "L2A"}),
        ({"id": "S2A_OPER_MSI_L1C_TL_EPAE_20190101T013420_A018417_T59VLF_N02.07"},
         {"platform": "sentinel-2a", "tile": "59VLF", "datatake": "S2A_A018417",
          "baseline": "02.07", "level": "L1C"}),
        ({"id": "S1C_IW_GRDH_1SDV_20250707T112159_20250707T112235_003113_006511_9324"},
         {"platform": "sentinel-1c", "datatake": "S1C_006511", "tile": ""}),
        ({"id": "x", "platform": "SENTINEL-1D", "s1:datatake_id": "425458"},
         {"platform": "sentinel-1d", "datatake": "S1D_067DF2"}),
        ({"id": "x", "platform": "S2A", "s2:datatake_id": "GS2A_20200302T102021_024515_N05.00"},
         {"platform": "sentinel-2a", "datatake": "S2A_20200302T102021", "baseline": ""}),
        ({"id": "x", "eopf:datatake_id": "GS2B_20200302T102021_024515_N05.00",
          "grid:code": "MGRS-1CCV",
          "eopf:datastrip_id": "S2B_OPER_MSI_L2A_DS_S2RP_20230630T022413_S20200305T103210_N05.00"},
         {"datatake": "S_20200302T102021", "tile": "01CCV", "strip": "20200305T103210"}),
        ({"id": "x", "mgrs:utm_zone": "17", "mgrs:latitude_band": "R", "mgrs:grid_square": "MJ"},
         {"tile": "17RMJ", "platform": "", "datatake": ""}),
        ({"id": "x", "s2:mgrs_tile": "T35TQN"}, {"tile": "35TQN"}),
        ({"id": "x", "s2:mgrs_tile": "99ZZZ"}, {"tile": ""}),
        ({"id": "x", "processing:version": "new"}, {"baseline": ""}),
    ],
)  # fmt: skip
def test_what_an_item_says_is_found_under_each_of_its_names(
    fields: dict[str, Any], expected: dict[str, str]
) -> None:
    name = fields.pop("id")
    facts = said({"id": name, "properties": fields})._asdict()
    assert {key: facts[key] for key in expected} == expected


def test_the_time_of_processing_is_not_taken_for_the_time_of_sensing() -> None:
    """One catalogue gives it as the item's time; the datatake tells."""
    late = {
        "datetime": "2020-07-01T01:08:27Z",
        "s2:datatake_id": "GS2A_20200630T235921_002551_N02.11",
    }
    scene = harmonise(item(**late), PC_S2, local=False)
    assert scene.start == scene.end == datetime(2020, 6, 30, 23, 59, 21, tzinfo=UTC)
    soon = {**late, "datetime": "2020-07-01T00:12:00Z"}
    assert harmonise(item(**soon), PC_S2, local=False).start == datetime(
        2020, 7, 1, 0, 12, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("fields", "cover"),
    [
        ({"eo:cloud_cover": None}, None), ({"eo:cloud_cover": 0}, 0.0),
        ({"eo:cloud_cover": 101}, None), ({"eo:cloud_cover": -1}, None),
        ({"eo:cloud_cover": "5"}, None), ({"eo:cloud_cover": True}, None),
        ({"eo:cloud_cover": 0, "sentinel:valid_cloud_cover": False}, None),
        ({"eo:cloud_cover": 7, "sentinel:valid_cloud_cover": False}, 7.0),
    ],
)  # fmt: skip
def test_cloud_cover_is_a_percentage_or_not_known(fields: dict[str, Any], cover: Any) -> None:
    assert harmonise(item(**fields), PC_S2, local=False).cloud_cover == cover


def test_the_item_is_believed_where_the_profile_says_so() -> None:
    one = item()
    one["assets"]["B02"]["raster:bands"] = [{"scale": 0.0002, "nodata": 9}]
    scenes_ = [
        harmonise(one, PC_S2.model_copy(update={"trust": trust}), local=False)
        for trust in ((), ("nodata",), ("scale", "nodata"))
    ]
    got = [(s.assets["B02"].scale, s.assets["B02"].nodata) for s in scenes_]
    assert got == [(0.0001, 0.0), (0.0001, 9.0), (0.0002, 9.0)]
    one["assets"]["B02"]["raster:bands"] = [{"scale": 0}]
    with pytest.raises(Unusable, match="its scale 0 is none"):
        harmonise(one, PC_S2.model_copy(update={"trust": ("scale",)}), local=False)


def test_what_items_call_no_data_of_a_mask_or_a_probability_is_not_believed() -> None:
    """0 % of cloud is none, and clouds everywhere else would follow from it."""
    profile = load_profile("earth-search-sentinel-2-c1-l2a").model_copy(
        update={"hosts": PC_S2.hosts}
    )
    one = item(**{"s2:processing_baseline": "05.11"})
    one["assets"] = {
        key: {"href": HOST + key, "raster:bands": [{"nodata": 0}]}
        for key in ("blue", "scl", "cloud")
    }
    scene = harmonise(one, profile, local=False)
    assert scene.mask is not None
    assert scene.cloud is not None
    assert (scene.cloud.scale, scene.cloud.offset, scene.cloud.nodata) == (1.0, 0.0, None)
    assert scene.mask.nodata == 0


# ------------------------------------------------------------------------------------- footprints


SQUARE = [[2, 50], [4, 50], [4, 51], [2, 51], [2, 50]]
CROSSED = [[2, 50], [4, 52], [4, 50], [2, 52], [2, 50]]
JUMPING = [[179, 5], [-179, 5], [-179, 6], [179, 6], [179, 5]]


@pytest.mark.parametrize(
    ("geometry", "bbox", "area"),
    [
        (None, [2, 50, 4, 51], 2),
        (None, [2, 50, 0, 4, 51, 99], 2),
        (None, [179, 50, -179, 51], 2),
        ({"type": "Polygon", "coordinates": []}, [2, 50, 4, 51], 2),
        ({"type": "MultiPolygon", "coordinates": [[], [SQUARE]]}, None, 2),
        ({"type": "Polygon", "coordinates": [[[x, y, 7] for x, y in SQUARE]]}, None, 2),
        ({"type": "Polygon", "coordinates": [JUMPING]}, None, 2),
        ({"type": "Polygon", "coordinates": [CROSSED]}, None, 2),
    ],
)  # fmt: skip
def test_a_footprint_is_valid_and_in_degrees(geometry: Any, bbox: Any, area: float) -> None:
    scene = harmonise({**item(), "geometry": geometry, "bbox": bbox}, PC_S2, local=False)
    assert scene.polygon.is_valid
    assert scene.polygon.area == pytest.approx(area, rel=1e-3)
    west, _, east, _ = scene.polygon.bounds
    assert -180 <= west <= east <= 180


@given(
    st.floats(-180, 180), st.floats(-75, 75), st.floats(0.1, 8), st.floats(0.1, 5),
    st.booleans(), st.sampled_from(["jump", "beyond", "below", "box", "cut"]),
)  # fmt: skip
@example(180.0, 0.0, 1.0, 1.0, False, "box")
@example(180.0 - 1e-11, 0.0, 1.0, 1.0, False, "box")
@example(180.0 - 1e-11, 0.0, 1.0, 1.0, True, "cut")
def test_a_footprint_is_the_same_however_it_is_written(
    lon: float, lat: float, width: float, height: float, clockwise: bool, form: str
) -> None:
    """Corners that jump, longitudes beyond 180, a box with west > east, two polygons."""
    lon = abs(lon) if form == "below" else lon
    east = lon + width
    corners = [(lon, lat), (east, lat), (east, lat + height), (lon, lat + height)]
    ring = corners[::-1] if clockwise else corners
    inside = shapely.box(lon, lat, min(east, 180), lat + height)
    outside = shapely.box(-180, lat, east - 360, lat + height) if east > 180 else shapely.Polygon()
    shift = {"jump": lambda x: (x + 180) % 360 - 180, "below": lambda x: x - 360}.get(form, float)
    written = shapely.Polygon([(shift(x), y) for x, y in ring])
    one = item()
    if form == "box":
        box = [lon, lat, east if east <= 180 else east - 360, lat + height]
        one |= {"geometry": None, "bbox": box}
    else:
        parts = [p for p in (inside, outside) if not p.is_empty]
        whole = shapely.MultiPolygon(parts) if form == "cut" else written
        one["geometry"] = shapely.geometry.mapping(whole)
    got = harmonise(one, PC_S2, local=False).polygon
    assert got.is_valid
    expected = shapely.union_all([inside, outside])
    # Where an edge crosses it follows a great circle, which leaves the parallel a little.
    assert got.symmetric_difference(expected).area <= 0.04 * expected.area + 1e-6


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


PROFILES = [load_profile(name) for name in profile_names()]
CROSSING = {
    "type": "MultiPolygon",
    "coordinates": [[JUMPING], [[[1, 2], [3, 2], [2, 4], [1, 2]]]],
}


@given(st.data(), json_values, st.sampled_from(PROFILES), st.booleans())
def test_any_field_of_any_type_is_read_or_set_aside(
    data: st.DataObject, value: Any, profile: CollectionProfile, local: bool
) -> None:
    one = item(**{
        "sat:relative_orbit": 5, "sat:orbit_state": "ascending", "proj:shape": [1, 2],
        "proj:code": "EPSG:32631", "s2:datatake_id": "GS2A_20200615T100031_024515_N05.00",
        "proj:transform": [10, 0, 5, 0, -10, 7, 0, 0, 1], "start_datetime": "2020-06-15T10:00:00Z",
        "end_datetime": "2020-06-15T10:00:01Z", "mgrs:utm_zone": 31, "sentinel:product_ids": ["a"],
    })  # fmt: skip
    one["geometry"] = CROSSING if data.draw(st.booleans()) else one["geometry"]
    asset = one["assets"]["B02"]
    parts = (*profile.bands.values(), profile.mask, profile.cloud)
    for key in (part.assets[0] for part in parts if part):
        one["assets"][key] = copy.deepcopy(asset) | {
            "raster:bands": [{"nodata": 0, "offset": 0, "scale": 1}], "proj:shape": [1, 2]
        }  # fmt: skip
    changed = copy.deepcopy(one)
    for _ in range(data.draw(st.integers(1, 3))):
        spots = list(places(changed))
        container, key = spots[data.draw(st.integers(0, len(spots) - 1))]
        if data.draw(st.booleans()):
            del container[key]
        else:
            container[key] = value
    open_to = profile.model_copy(update={"hosts": PC_S2.hosts, "refuse": ""})
    try:
        scene = harmonise(changed, open_to, local=local)
    except Unusable as err:
        aside = set_aside(changed, str(err))
        assert SetAside.model_validate_json(aside.model_dump_json()) == aside
        assert aside.reason
        return
    assert scene.polygon.is_valid
    table = SceneTable(search="x", scenes=(scene,))
    assert SceneTable.model_validate_json(table.model_dump_json()) == table


@pytest.mark.parametrize("text", ["\ud800", "\x00", "a" * 10_000, "\x1b[31m"])
def test_text_that_cannot_be_stored_or_printed_is_made_harmless(text: str) -> None:
    one = {**item(datetime=text), "id": text, "collection": text}
    with pytest.raises(Unusable) as caught:
        harmonise(one, PC_S2, local=False)
    aside = set_aside(one, str(caught.value))
    assert SetAside.model_validate_json(aside.model_dump_json()) == aside
    for shown in (aside.id, aside.collection, aside.reason):
        assert shown.isprintable()
        assert len(shown) <= 300


def test_what_is_set_aside_says_when_and_where_as_far_as_it_reads() -> None:
    there = set_aside(item(), "why")
    assert (there.id, there.collection, there.reason) == ("S2A_one", S2, "why")
    assert there.serves(Month(2020, 6))
    assert shapely.equals(there.polygon, shapely.box(2, 50, 4, 51))
    no_time = set_aside(item(datetime=None), "why")
    assert (no_time.start, no_time.end) == (None, None)
    assert no_time.footprint == there.footprint
    no_place = set_aside({**item(), "geometry": 5}, "why")
    assert (no_place.footprint, no_place.start) == ("", there.start)
    assert set_aside({}, "why").id == "without id"


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


def test_a_window_of_months_draws_on_those_before_it(tmp_path: Path) -> None:
    when = ["2020-01-31", "2020-02-01", "2020-04-30", "2020-05-02", "2020-06-10"]
    items = [made(day, f"{day}T10:00:00Z") for day in when]
    cube = {"s2_bands": ["B02", "B03"], "window_months": 3}
    spec = spec_of(write_catalogue(tmp_path, items), period="2020-04,2020-06", cube=cube)
    assert str(spec.drawn_on) == "2020-02..2020-06"
    table = search(spec)
    footprint = spec.lattice.footprint(spec.tiles()[0])
    found = {str(m): [s.id for s in table.of(footprint, m)] for m in spec.period}
    assert found == {"2020-04": when[1:3], "2020-06": when[2:]}
    with pytest.raises(CatalogueError, match=r"scenes of .* in 2019-01\.\.2019-06.* has scenes in"):
        search(spec.model_copy(update={"period": Months.parse("2019-03..2019-06")}))


SAME: dict[str, Any] = {"s2:mgrs_tile": "31UDS", "platform": "Sentinel-2A"}


def version(name: str, baseline: str, generated: str = "2020") -> MadeItem:
    when = f"{generated}-07-01T00:00:00Z"
    fields: dict[str, Any] = {
        "s2:processing_baseline": baseline,
        "s2:generation_time": when,
    }
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


CLOUDY: dict[str, Any] = {"eo:cloud_cover": 80}
UP: dict[str, Any] = {"sat:orbit_state": "ascending", "sat:relative_orbit": 5}
DOWN: dict[str, Any] = {"sat:orbit_state": "descending"}
OPTIONS: list[dict[str, Any]] = [
    {"clear": [4]}, {"dilate_px": 3}, {"cloud_probability": 40}, {"s1_directions": ["ascending"]},
    {"exclude": ["a"]}, {"max_cloud_cover": 50},
]  # fmt: skip


def test_options_of_the_cube_decide_which_scenes_there_are_and_how_they_are_masked(
    tmp_path: Path,
) -> None:
    items = [
        made("a"), made("b"), made("cloudy", **CLOUDY), made("up", optical=False, **UP),
        made("down", optical=False, **DOWN), made("r", optical=False),
    ]  # fmt: skip
    options: dict[str, Any] = {
        "clear": [4, 5], "dilate_px": 3, "exclude": ["b"], "max_cloud_cover": 50,
        "s1_directions": ["ascending"],
    }  # fmt: skip
    spec = spec_of(
        write_item_collection(tmp_path, items),
        collections={S2: PC_S2.name, S1: PC_S1.name},
        cube={"s2_bands": ["B02", "B03"], **options},
    )
    table = search(spec)
    assert {s.id: (s.mask_clear, s.mask_dilate_px) for s in table.scenes} == {
        "a": ((4, 5), 3), "up": ((), 0), "r": ((), 0)
    }  # fmt: skip
    assert {a.id: a.reason for a in table.set_aside} == {
        "b": "the spec excludes it",
        "cloudy": "cloud cover 80 % is over the spec's limit",
        "down": "its orbit is descending, which the spec leaves out",
    }
    assert all(a.serves(Month(2020, 6)) and a.footprint for a in table.set_aside)
    whole = search(spec.model_copy(update={"cube": spec.cube.model_copy(update={"dilate_px": 0})}))
    assert {s.mask_dilate_px for s in whole.scenes} == {0}


def test_the_probability_of_cloud_is_read_where_the_spec_asks(tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text(
        PC_S2.model_copy(update={"cloud": CloudProfile(assets=("B03",))}).model_dump_json()
    )
    catalogue = write_item_collection(tmp_path, [made("a")])
    for percent, there in ((None, False), (40, True)):
        cube = {"s2_bands": ["B02"], "cloud_probability": percent}
        spec = spec_of(catalogue, collections={S2: str(profile)}, cube=cube)
        (scene,) = search(spec).scenes
        assert (scene.cloud is not None) == there


def test_a_band_that_nobody_needs_sets_no_scene_aside(tmp_path: Path) -> None:
    path = write_item_collection(tmp_path, [made("a")])
    data = json.loads(path.read_text())
    data["features"][0]["assets"]["B09"] = {"href": "http://evil.example/B09.tif", "proj:epsg": 9}
    path.write_text(json.dumps(data))
    assert [s.id for s in search(spec_of(path)).scenes] == ["a"]
    nine = spec_of(path, cube={"s2_bands": ["B02", "B09"]})
    with pytest.raises(CatalogueError, match="where the profile does not allow it"):
        search(nine)


def test_what_is_set_aside_elsewhere_is_not_listed(tmp_path: Path) -> None:
    """Only what may have belonged to the run; what does not say where or when may have."""
    path = write_item_collection(tmp_path, [made(name) for name in "abcdefg"])
    data = json.loads(path.read_text())
    b, c, d, e, f, g = data["features"][1:]
    for one in (b, c, d, e, f, g):
        one["assets"] = {}
    c["properties"]["datetime"] = "2020-08-01T00:00:00Z"
    d["geometry"] = shapely.geometry.mapping(shapely.box(50, 10, 51, 11))
    e["properties"]["datetime"] = "never"
    f["geometry"], f["bbox"] = None, None
    path.write_text(json.dumps(data))
    table = search(spec_of(path))
    assert [s.id for s in table.scenes] == ["a"]
    assert [s.id for s in table.set_aside] == ["b", "e", "f", "g"]


def test_the_search_key_follows_what_decides_the_scenes(tmp_path: Path) -> None:
    base = search_key(spec_of("here"))
    assert search_key(spec_of("here", name="other", output="elsewhere")) == base
    changes: tuple[dict[str, Any], ...] = (
        {"catalogue": "there"}, {"period": "2020-07"}, {"grid": {"tile": 128, "chunk": 16}},
        {"cube": {"s2_bands": ["B02"]}}, {"collections": {"sentinel-2": PC_S2.name}},
        *({"cube": {"s2_bands": ["B02", "B03"], **option}} for option in OPTIONS),
        {"cube": {"s2_bands": ["B02", "B03"], "window_months": 2}},
        {"area": read_area([3.5, 50.5, 3.6, 50.6], Path())},
    )  # fmt: skip
    for change in changes:
        assert search_key(spec_of(**{"catalogue": "here", **change})) != base


# ------------------------------------------------------------------------------ shipped profiles


@pytest.mark.parametrize(
    ("profile", "told", "properties", "offset"),
    [
        ("earth-search-sentinel-2-l2a", -0.1, {"earthsearch:boa_offset_applied": True}, 0.0),
        ("earth-search-sentinel-2-l2a", 0, {**ES_LEFT, **OLD}, 0.0),
        ("earth-search-sentinel-2-l2a", -0.1, {**ES_LEFT, **NEW}, -0.1),
        ("earth-search-sentinel-2-l2a", -0.1, NEW, -0.1),
        ("earth-search-sentinel-2-l2a", None, OLD, 0.0),
        ("earth-search-sentinel-2-l2a", None, {}, None),
        ("earth-search-sentinel-2-c1-l2a", -0.1, NEW, -0.1),
        ("earth-search-sentinel-2-c1-l2a", 0, OLD, 0.0),
        ("earth-search-sentinel-2-c1-l2a", None, NEW, -0.1),
        ("earth-search-sentinel-2-c1-l2a", None, {}, None),
        ("earth-search-sentinel-2-pre-c1-l2a", -0.1, NEW, -0.1),
        ("earth-search-sentinel-2-l1c", -0.1, NEW, -0.1),
        ("earth-search-sentinel-2-l1c", 0, OLD, 0.0),
        ("earth-search-v0-sentinel-s2-l2a-cogs", None, {"sentinel:boa_offset_applied": True}, 0.0),
        ("earth-search-v0-sentinel-s2-l2a-cogs", None,
         {"sentinel:boa_offset_applied": False, "sentinel:processing_baseline": "04.00"}, -0.1),
        ("earth-search-v0-sentinel-s2-l2a-cogs", None, {}, 0.0),
        ("earth-search-v0-sentinel-s2-l2a", None, {"sentinel:processing_baseline": "05.09"}, -0.1),
        ("cdse-sentinel-2-l2a", -0.1, {"processing:version": "05.00"}, -0.1),
        ("cdse-sentinel-2-l2a", 0, {"processing:version": "02.14"}, 0.0),
        ("planetary-computer-sentinel-2-l2a", None, {"s2:processing_baseline": "05.12"}, -0.1),
        ("sage-uvt-sentinel-2-l1c", None, NEW, -0.1),
        ("stactools-sentinel-2-l2a", -0.1, NEW, -0.1),
        ("stactools-sentinel-2-l1c", 0, OLD, 0.0),
    ],
)  # fmt: skip
def test_each_catalogue_has_its_offset(
    profile: str, told: float | None, properties: dict[str, Any], offset: float | None
) -> None:
    """By what its pixels have in them; None where nobody can tell."""
    rules = load_profile(profile).offsets
    asset = {} if told is None else {"raster:bands": [{"offset": told}]}
    if offset is None:
        with pytest.raises(Unusable, match="offset is not known"):
            offset_by(rules, asset, properties)
    else:
        assert offset_by(rules, asset, properties) == offset


def test_every_profile_that_ships_is_listed_and_whole() -> None:
    text = DOCS.read_text(encoding="utf-8")
    listed = set(re.findall(r"`((?:\w|-)+)`", text.partition("## How an item")[0]))
    assert set(profile_names()) <= listed
    for name in profile_names():
        profile = load_profile(name)
        assert profile.name == name
        assert profile.title
        local = name.startswith(("oscd", "stactools"))
        assert local or profile.refuse or profile.hosts, name
        for host in profile.hosts:
            assert host.startswith("s3://") or "." in host
        if "l2a" in name:
            assert profile.mask is not None
            assert (profile.mask.saturated, profile.mask.dark) == ((1,), (4, 6))
            assert len(profile.bands) == 12


def test_the_example_of_the_documentation_is_read() -> None:
    """Every field that a profile has, and every one of a rule."""
    (block,) = re.findall("```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    data = yaml.safe_load(block)
    profile = CollectionProfile.check(data, where="docs")
    assert set(data) == set(CollectionProfile.model_fields)
    for part, of in (
        (data["mask"], MaskProfile),
        (data["cloud"], CloudProfile),
        (data["access"], Access),
    ):
        assert set(part) == set(of.model_fields)
    assert {key for rule in data["offsets"] for key in rule} == set(OffsetRule.model_fields)
    one = item(**{"my:version": "2", "s2:processing_baseline": "05.11", "my:tile": "a"})
    one["assets"] = {k: {"href": f"s3://my-bucket/{k}.tif"} for k in ("B02_10m", "red", "scl")}
    scene = harmonise(one, profile.model_copy(update={"refuse": ""}), local=False)
    assert {name: asset.offset for name, asset in scene.assets.items()} == {
        "B02": -0.1,
        "B04": -0.1,
    }


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
