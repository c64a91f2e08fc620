"""What stands behind a pixel of the shared small run, and the accessor over its stores."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import cdscale
from cdscale.errors import SpecError, StoreError
from cdscale.grid import to_lon_lat
from cdscale.months import Month
from cdscale.query import Spot, Wanted, explain
from cdscale.query.reasons import reasons
from cdscale.spec.cube import UrbanQuality
from cdscale.store import open_source
from tests.regions import SmallRun


@pytest.fixture(scope="module")
def output(small_run: SmallRun) -> Path:
    return small_run.output


def pixel_with(output: Path, quality: UrbanQuality) -> tuple[str, float, float]:
    """Month, longitude and latitude of the first pixel of a quality."""
    with xr.open_zarr(output / "urban.zarr", chunks=None) as urban:
        month, row, column = np.argwhere(urban["quality"].values == quality)[0]
        text = str(Month.from_numpy(urban["month"].values[month]))
        x, y = float(urban["x"][column]), float(urban["y"][row])
        return text, *to_lon_lat(x, y, "EPSG:3035")


def told(store: Path, lon: float, lat: float, *months: str) -> dict[str, Any]:
    wanted = Wanted(frozenset(Month.parse(m) for m in months))
    return explain(open_source(store), Spot.checked(lon, lat), wanted)


def test_a_reconstructed_pixel_says_so_and_shows_its_radar(output: Path) -> None:
    month, lon, lat = pixel_with(output, UrbanQuality.optical_reconstructed)
    found = told(output / "urban.zarr", lon, lat, month)
    (evidence,) = found["months"]
    assert evidence["urban"]["quality"] == "optical_reconstructed"
    assert evidence["optical"]["quality"] in {"cloud", "no_scene"}
    assert evidence["optical"]["reflectance"] == {"B04": None, "B08": None}
    assert evidence["optical"]["seen_on"] is None
    radar = evidence["radar"]
    assert radar["quality"] == "valid"
    assert radar["dB"]["vv"] == pytest.approx(10 * np.log10(radar["power"]["vv"]), abs=0.01)
    assert radar["passes"] == len(radar["seen"]) == len({s["time"][:10] for s in radar["scenes"]})
    assert {scene["tile"] for scene in radar["scenes"]} == {"used"}
    (sentence,) = [r for r in found["reasons"] if "RECONSTRUCTED" in r]
    assert f"vv {radar['dB']['vv']:.1f} dB from {radar['passes']} passes" in sentence
    assert radar["seen"][0] in sentence
    assert any("tiny-urban version 1, trained on SIMULATED" in r for r in found["reasons"])
    assert found["models"]["urban"]["weights_sha256"]


def test_a_clear_pixel_names_the_scene_that_shows_it(output: Path) -> None:
    month, lon, lat = pixel_with(output, UrbanQuality.both_sensors)
    found = told(output / "change.zarr", lon, lat)
    evidence = next(m for m in found["months"] if m["month"] == month)
    optical = evidence["optical"]
    shown = [scene for scene in optical["scenes"] if scene.get("shown")]
    assert [scene["time"][:10] for scene in shown] == [optical["seen_on"]]
    assert shown[0]["tile"] == "used"
    assert 1 <= optical["clear"] <= optical["passes"]
    with xr.open_zarr(output / "cube.zarr") as cube:
        x, y = found["x"], found["y"]
        value = cube["s2"].sel(month=month, x=x, y=y, s2_band="B04").values.item()
    assert optical["reflectance"]["B04"] == pytest.approx(value, abs=1e-6)
    assert found["state"]["month"] == found["months"][-1]["month"]
    assert found["missing"] == []


def test_what_is_no_longer_beside_a_store_is_named(output: Path, tmp_path: Path) -> None:
    shutil.copytree(output / "urban.zarr", tmp_path / "urban.zarr")
    month, lon, lat = pixel_with(output, UrbanQuality.both_sensors)
    found = told(tmp_path / "urban.zarr", lon, lat, month)
    assert found["missing"] == ["cube.zarr", "change.zarr", "the record of the run (run/job.json)"]
    assert found["reasons"][-1].startswith("Not beside the store: cube.zarr, change.zarr")
    assert found["months"][0]["receipt"] == "missing"
    assert found["months"][0]["optical"]["scenes"] == []


def test_a_state_is_told_in_words() -> None:
    state = {
        "month": "2022-06", "state": "confirmed", "from_class": "open_land",
        "to_class": "built_up", "first_month": "2022-03", "confirmed_month": "2022-05",
        "support": 4, "confidence": 0.92,
    }  # fmt: skip
    told = {"state": state, "months": [], "models": {}, "missing": []}
    assert reasons(told) == [
        "2022-06: confirmed change, open_land to built_up, first seen 2022-03, confirmed 2022-05, "
        "4 observations support it, confidence 0.92."
    ]
    quiet = told | {"state": {"month": "2022-06", "state": "none"}}
    assert reasons(quiet) == ["2022-06: none: no change seen so far."]


# ------------------------------------------------------------------------------------- accessor


def test_an_open_store_is_what_xarray_reads(output: Path) -> None:
    for name in ("cube", "urban", "change"):
        plain = xr.open_zarr(output / f"{name}.zarr", chunks=None)
        xr.testing.assert_identical(cdscale.open(output / f"{name}.zarr").load(), plain.load())


def test_questions_are_of_what_is_selected(output: Path) -> None:
    cube = cdscale.open(str(output / "cube.zarr"))
    _, lon, lat = pixel_with(output, UrbanQuality.both_sensors)
    part = cube[["s2", "s2_quality"]].sel(month="2022-05")
    pixel = part.cd.point(lon, lat)
    assert pixel["s2"].dims == ("month", "s2_band")
    series = part.cd.series(lon, lat)
    assert list(series.columns) == ["s2_B04", "s2_B08", "s2_quality"]
    assert series.index.tolist() == [pd.Timestamp("2022-05-01")]
    value = pixel["s2"].sel(s2_band="B04").values.item()
    told_value = series["s2_B04"].iloc[0]
    assert (told_value is None) == np.isnan(value)
    x, y = float(pixel["x"]), float(pixel["y"])
    assert part.cd.series(x, y, crs="EPSG:3035").equals(series)
    square = {
        "type": "Polygon",
        "coordinates": [[[x, y], [x + 100, y], [x + 100, y - 100], [x, y - 100], [x, y]]],
    }
    table = part.cd.area(square, crs="EPSG:3035")
    assert set(table["variable"]) == {"s2", "s2_quality"}
    assert table[table["variable"] == "s2_quality"]["km2"].sum() == pytest.approx(0.01)
    assert part.cd.explain(lon, lat)["months"][0]["month"] == "2022-05"


def test_questions_outside_are_refused(output: Path) -> None:
    cube = cdscale.open(output / "cube.zarr")
    with pytest.raises(SpecError, match=r"lies outside .*which lie inside .*degrees"):
        cube.cd.series(2.0, 50.0)
    _, lon, lat = pixel_with(output, UrbanQuality.both_sensors)
    with pytest.raises(SpecError, match=r"lies outside .*Turned round.*would lie inside"):
        cube.cd.point(lat, lon)
    with pytest.raises(SpecError, match="outside what is selected"):
        cube.isel(x=slice(-2, None), y=slice(-2, None)).cd.point(lon, lat)
    with pytest.raises(SpecError, match="unknown CRS"):
        cube.cd.point(lon, lat, crs="EPSG:0")
    with pytest.raises(SpecError, match="does not say which store"):
        xr.Dataset().cd.series(lon, lat)
    with pytest.raises(SpecError, match="does not have these months"):
        cdscale.open(output / "cube.zarr", months="2030-01")
    with pytest.raises(StoreError, match="there is no Zarr store"):
        cdscale.open(output / "none.zarr")
    with pytest.raises(SpecError, match="no place of a store"):
        cdscale.open("ftp://somewhere/cube.zarr")


def test_the_package_stays_light() -> None:
    code = "import sys, cdscale; print(*{'xarray', 'zarr', 'dask', 'torch'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
