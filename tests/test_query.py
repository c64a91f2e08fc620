"""Questions to stores whose every pixel is known: the answer is written down first."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely.geometry import box

from cdscale.errors import SpecError, StoreError
from cdscale.grid import Tile, to_lon_lat
from cdscale.months import Month
from cdscale.query import Spot, Wanted, Zones
from cdscale.query import area as ask_area
from cdscale.query import point as ask_point
from cdscale.spec.cube import SensorQuality
from cdscale.spec.job import Job
from cdscale.spec.task import Stage
from cdscale.store import create, open_source
from tests.regions import CORNER, GRID, a_card, blank, made_job

APRIL, MAY = Month(2022, 4), Month(2022, 5)
WEST, EAST = CORNER, Tile(CORNER.ix + 1, CORNER.iy)
PX_KM2 = 0.0001
NO = -32768
CARDS = {"urban": a_card("urban", halo=16), "change": a_card("change", halo=16)}
Pixels = NDArray[Any]


def full(value: float, dtype: str, *bands: int) -> Pixels:
    return np.full((*bands, 64, 64), value, dtype)


def composites(seed: int) -> dict[str, Pixels]:
    random = np.random.default_rng(seed)
    return {
        "s2": random.integers(0, 6000, (2, 64, 64)).astype(np.int16),
        "s1": random.gamma(2, 0.05, (1, 64, 64)).astype(np.float32),
        "s2_quality": full(SensorQuality.valid, "uint8"),
        "s1_quality": full(SensorQuality.valid, "uint8"),
        "s2_scenes": full(3, "uint8"),
        "s2_clear": full(2, "uint8"),
        "s1_scenes": full(5, "uint8"),
        "s2_date": full(19_090, "uint16"),  # 2022-04-08
    }


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Two tiles side by side and two months; in April everything, in May the west tile alone."""
    job = made_job(tmp_path_factory.mktemp("query"), cards=CARDS)
    cube = create(job.store_path(Stage.COMPOSE), job.layouts[Stage.COMPOSE])
    west = composites(0)
    west["s2"][:, 10, 20] = 1234, 0  # true reflectance 0 is a value
    west["s1"][:, 10, 20] = 0.0625
    west["s2"][:, 11, 20], west["s2_quality"][11, 20] = NO, SensorQuality.cloud
    west["s1"][:, 11, 20], west["s1_quality"][11, 20] = np.nan, SensorQuality.no_scene
    cube.write(WEST, APRIL, west)
    cube.write(EAST, APRIL, composites(1))
    cube.write(WEST, MAY, composites(2))
    cube.publish([APRIL, MAY])
    change = create(job.store_path(Stage.CHANGE), job.layouts[Stage.CHANGE])
    blocks = blank(job.layouts[Stage.CHANGE]) | {
        "probability": full(50, "uint8"),
        "change": full(0, "uint8"),
        "quality": full(3, "uint8"),
        "state": full(2, "uint8"),
    }
    blocks["state"][5, 6], blocks["from_class"][5, 6], blocks["to_class"][5, 6] = 4, 1, 2
    blocks["probability"][5, 6], blocks["change"][5, 6] = 200, 1
    blocks["change_month"][5, 6] = (
        np.datetime64("2022-05-01") - np.datetime64("1970-01-01")
    ).astype(int)
    blocks["probability"][5, 7], blocks["change"][5, 7], blocks["quality"][5, 7] = 255, 255, 1
    change.write(WEST, MAY, blocks)
    change.publish([MAY])
    return job


@pytest.fixture(scope="module")
def cube(job: Job) -> Path:
    return job.store_path(Stage.COMPOSE)


@pytest.fixture(scope="module")
def change(job: Job) -> Path:
    return job.store_path(Stage.CHANGE)


def metres(row: float, column: float) -> tuple[float, float]:
    """Of a corner of a pixel of the west tile, counted from its north-west."""
    west, north = CORNER.ix * GRID.tile_m, GRID.extent.north - CORNER.iy * GRID.tile_m
    return west + 10 * column, north - 10 * row


def degrees(row: float, column: float) -> tuple[float, float]:
    return to_lon_lat(*metres(row, column), GRID.crs)


def point(path: Path, lon: float, lat: float, **wanted: Any) -> dict[str, Any]:
    return ask_point(open_source(path), Spot.checked(lon, lat), Wanted(**wanted))


def area(path: Path, zones: Zones, **wanted: Any) -> dict[str, Any]:
    return ask_area(open_source(path), zones, Wanted(**wanted))


def rectangle(top: float, left: float, bottom: float, right: float) -> Zones:
    """Rows and columns of the west tile from some up to others, in metres of the grid."""
    (west, north), (east, south) = metres(top, left), metres(bottom, right)
    return Zones.of(box(west, south, east, north), GRID.crs)


# --------------------------------------------------------------------------------------- point


def test_a_point_tells_every_value_by_band(cube: Path) -> None:
    answer = point(cube, *degrees(10.5, 20.5))
    april, may = answer["months"]
    assert april == {
        "month": "2022-04",
        "s2": {"B04": 0.1234, "B08": 0.0},
        "s1": {"vv": 0.0625},
        "s2_quality": "valid",
        "s1_quality": "valid",
        "s2_scenes": 3,
        "s2_clear": 2,
        "s1_scenes": 5,
        "s2_date": "2022-04-08",
    }
    assert may["month"] == "2022-05"
    x, y = metres(10.5, 20.5)
    assert (answer["x"], answer["y"], answer["crs"]) == (x, y, "EPSG:3035")
    assert answer["store"] == str(cube)


def test_a_point_without_data_says_why(cube: Path) -> None:
    april, _ = point(cube, *degrees(11.5, 20.5))["months"]
    assert april["s2"] == {"B04": None, "B08": None}
    assert april["s1"] == {"vv": None}
    assert (april["s2_quality"], april["s1_quality"]) == ("cloud", "no_scene")


def test_a_point_that_was_never_composed_is_outside(cube: Path) -> None:
    april, may = point(cube, *degrees(3.5, 70.5))["months"]
    assert april["s2_quality"] == "valid"
    assert (may["s2_quality"], may["s2"], may["s2_scenes"]) == (
        "outside",
        {"B04": None, "B08": None},
        0,
    )


@pytest.mark.parametrize("row", [0.01, 0.99])
@pytest.mark.parametrize("column", [63.99, 64.01, 127.99])
def test_a_point_belongs_to_the_pixel_that_holds_it(cube: Path, row: float, column: float) -> None:
    answer = point(cube, *degrees(row, column))
    assert (answer["x"], answer["y"]) == metres(0.5, math.floor(column) + 0.5)


def test_a_change_is_told_by_its_meaning_and_its_month(change: Path) -> None:
    (may,) = point(change, *degrees(5.5, 6.5))["months"]
    expected = {
        "month": "2022-05",
        "reference_month": "2022-04",
        "probability": 0.8,
        "change": "change",
        "quality": "both_sensors",
        "change_month": "2022-05",
        "state": "confirmed",
        "from_class": "open_land",
        "to_class": "built_up",
        "first_month": None,
    }
    assert expected.items() <= may.items()
    assert may["flags"] == []


def test_no_change_and_no_data_are_told_apart(change: Path) -> None:
    (still,) = point(change, *degrees(5.5, 8.5))["months"]
    assert (still["probability"], still["change"], still["change_month"]) == (
        0.2,
        "no_change",
        None,
    )
    (hidden,) = point(change, *degrees(5.5, 7.5))["months"]
    assert (hidden["probability"], hidden["change"]) == (None, None)
    assert hidden["quality"] == "no_optical_before"


def test_an_answer_is_plain_data(cube: Path, change: Path) -> None:
    where = rectangle(0, 0, 20, 20)
    for answer in (point(cube, *degrees(1, 1)), area(cube, where), area(change, where)):
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer


@pytest.mark.parametrize(
    ("row", "column"), [(-0.01, 5), (64.01, 5), (5, -0.01), (5, 128.01), (1e4, 1e4)]
)
def test_a_point_outside_is_refused(cube: Path, row: float, column: float) -> None:
    with pytest.raises(SpecError, match=r"lies outside .*which lie inside .*degrees"):
        point(cube, *degrees(row, column))


@pytest.mark.parametrize(
    ("lon", "lat"), [(181, 0), (0, 91), (math.nan, 50), (12, math.inf), (4321000, 3210000)]
)
def test_what_is_no_place_is_refused(cube: Path, lon: float, lat: float) -> None:
    with pytest.raises(SpecError, match="not a place; expected degrees"):
        point(cube, lon, lat)


# ---------------------------------------------------------------------------------------- area


def pixels(cube: Path, name: str) -> Pixels:
    """A variable over all months and tiles, as written."""
    import xarray as xr

    with xr.open_zarr(cube, consolidated=False) as dataset:
        return dataset[name].values


def test_an_area_across_tiles_has_the_means_of_its_pixels(cube: Path) -> None:
    answer = area(cube, rectangle(5, 60, 15, 70))
    assert answer["area_km2"] == pytest.approx(100 * PX_KM2, abs=1e-9)
    april, may = answer["months"]
    window = np.s_[5:15, 60:70]
    for i, band in enumerate(("B04", "B08")):
        expected = pixels(cube, "s2")[0, i][window].mean(dtype=np.float64)
        assert april["s2"][band]["mean"] == pytest.approx(expected, abs=1e-6)
        assert april["s2"][band]["valid_km2"] == 100 * PX_KM2
    # In May the east tile was not composed: its pixels count neither as zero nor at all.
    expected = np.nanmean(pixels(cube, "s1")[1, 0][window], dtype=np.float64)
    assert may["s1"]["vv"]["mean"] == pytest.approx(expected, abs=1e-6)
    assert may["s1"]["vv"]["valid_km2"] == 40 * PX_KM2
    assert may["s2_quality"]["km2"]["valid"] == 40 * PX_KM2
    assert may["s2_quality"]["km2"]["outside"] == 60 * PX_KM2


def test_codes_are_square_kilometres_by_meaning(cube: Path) -> None:
    april, _ = area(cube, rectangle(10, 20, 12, 22))["months"]
    assert april["s2_quality"]["missing_share"] == 0.25
    assert april["s2_quality"]["km2"] == {
        "outside": 0.0,
        "no_scene": 0.0,
        "read_failed": 0.0,
        "cloud": PX_KM2,
        "valid": 0.0003,
        "saturated": 0.0,
    }
    assert april["s2_scenes"] == {
        "mean": 3.0, "valid_km2": 4 * PX_KM2, "missing_share": 0.0
    }  # fmt: skip


def test_change_is_square_kilometres_by_class_and_month(change: Path) -> None:
    (may,) = area(change, rectangle(0, 0, 10, 10))["months"]
    assert may["reference_month"] == "2022-04"
    assert may["change"]["km2"] == {
        "no_change": 98 * PX_KM2,
        "change": PX_KM2,
        "no_data": PX_KM2,
    }
    assert may["change_month"]["km2"] == {"2022-05": PX_KM2}
    assert may["probability"]["valid_km2"] == 99 * PX_KM2
    assert may["probability"]["mean"] == pytest.approx((98 * 0.2 + 0.8) / 99, abs=1e-6)


def test_an_area_without_any_value_has_no_mean(change: Path) -> None:
    (may,) = area(change, rectangle(0, 70, 10, 80))["months"]
    assert may["probability"] == {"mean": None, "valid_km2": 0.0, "missing_share": 1.0}
    assert may["change_month"] == {"km2": {}, "missing_share": 0.0}
    assert may["quality"]["km2"]["outside"] == 100 * PX_KM2


def test_an_area_as_large_as_the_store_or_larger_is_all_of_it(cube: Path) -> None:
    answer = area(cube, rectangle(-300, -300, 400, 400))
    assert answer["area_km2"] == pytest.approx(2 * 64 * 64 * PX_KM2, rel=1e-12)
    assert answer["outside_share"] == pytest.approx(1 - 2 * 64 * 64 / 700**2, abs=1e-3)
    (note,) = answer["notes"]
    assert note.startswith("1 partly outside the store: area (98.3% of it)")


def test_an_area_that_reaches_out_of_the_store_counts_what_lies_inside(cube: Path) -> None:
    answer = area(cube, rectangle(-10, -10, 10, 10))
    assert answer["area_km2"] == pytest.approx(100 * PX_KM2, abs=1e-9)
    assert answer["outside_share"] == pytest.approx(0.75, abs=1e-3)


def test_one_pixel(cube: Path) -> None:
    answer = area(cube, rectangle(10, 20, 11, 21))
    assert answer["area_km2"] == PX_KM2
    assert answer["months"][0]["s2"]["B04"]["mean"] == 0.1234


def test_a_pixel_counts_with_the_share_of_it_that_is_covered(cube: Path) -> None:
    answer = area(cube, rectangle(10.0, 20.0, 11.0, 20.4))
    assert answer["area_km2"] == pytest.approx(0.4 * PX_KM2, abs=1e-9)
    two = area(cube, rectangle(10.0, 20.5, 12.0, 21.0))["months"][0]
    assert two["s2_quality"]["km2"]["valid"] == pytest.approx(0.5 * PX_KM2, abs=1e-9)
    assert two["s2_quality"]["km2"]["cloud"] == pytest.approx(0.5 * PX_KM2, abs=1e-9)
    assert two["s2_quality"]["missing_share"] == 0.5
    assert two["s2"]["B04"] == {
        "mean": 0.1234,
        "valid_km2": pytest.approx(0.5 * PX_KM2, abs=1e-9),
        "missing_share": 0.5,
    }


@pytest.mark.parametrize("where", [(-30, 0, -20, 10), (70, 0, 80, 10), (0, 130, 10, 140)])
def test_an_area_outside_is_refused(cube: Path, where: tuple[int, int, int, int]) -> None:
    with pytest.raises(SpecError, match=r"no pixel in .*expected an area that meets .*degrees"):
        area(cube, rectangle(*where))


# --------------------------------------------------------------------------------- what is read


def test_a_question_reads_only_the_shards_that_it_is_about(cube: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cube.zarr"
    shutil.copytree(cube, copy)
    for shard in (copy / "s2" / "c").rglob("1"):
        if shard.is_file():
            shard.write_bytes(b"broken")  # every shard of the east tile
    assert point(copy, *degrees(10.5, 20.5))["months"][0]["s2"]["B04"] == 0.1234
    assert area(copy, rectangle(0, 0, 64, 64))["area_km2"] == 64 * 64 * PX_KM2


def test_a_damaged_store_is_an_error_that_names_it(cube: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cube.zarr"
    shutil.copytree(cube, copy)
    shard = next(p for p in (copy / "s2_quality" / "c").rglob("*") if p.is_file())
    content = bytearray(shard.read_bytes())
    content[0] ^= 0xFF
    shard.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=r"cube\.zarr is damaged.*checksum"):
        area(copy, rectangle(0, 0, 128, 128))
    row, column = (0.5, 70.5) if shard.name == "1" else (0.5, 0.5)
    with pytest.raises(StoreError, match=r"cube\.zarr is damaged.*checksum"):
        point(copy, *degrees(row, column))


def test_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no Zarr store at"):
        point(tmp_path / "none.zarr", 12, 51)
