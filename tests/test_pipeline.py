"""The whole way: catalogue, cube, maps, change, report, answers; and tiles that are one whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cdscale import cli, query, simulate
from cdscale.grid import to_lon_lat
from cdscale.plan import freeze
from cdscale.progress import status
from cdscale.run import prepared
from cdscale.spec.cube import ChangeQuality
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec, load_run
from cdscale.spec.task import Stage
from cdscale.stages import perform
from cdscale.store import Store, open_dataset, open_source
from tests.regions import (
    REGION,
    do_serially,
    plain_spec,
    rounds,
    west_half,
    write_card,
    write_spec,
)

MONTHS = [np.datetime64(f"2022-0{m}-01", "ns") for m in (4, 5, 6)]


def whole_region(catalogue: Path, output: Path, tile: int, **changes: Any) -> dict[str, Any]:
    """Fields of a spec of the whole region and its last three months."""
    return plain_spec(
        catalogue,
        output,
        area=str(catalogue.parent / "area.geojson"),
        period="2022-04..2022-06",
        grid={"preset": "europe", "tile": tile, "chunk": 64},
        **changes,
    )


@pytest.fixture(scope="module")
def spec(
    region_catalogue: Path,
    tiny_models: dict[str, Any],
    threads: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> RunSpec:
    """The region as one tile of 256 pixels, run to its end."""
    folder = tmp_path_factory.mktemp("pipeline")
    fields = whole_region(region_catalogue, folder / "out", 256, models=tiny_models)
    spec = load_run(write_spec(folder / "spec.yaml", fields))
    assert cli.run_job(spec, threads) == 0
    return spec


def test_the_run_is_complete(spec: RunSpec) -> None:
    found = status(freeze(spec))
    assert found.complete
    assert {name: part.done for name, part in found.stages.items()} == {
        "compose": 3,
        "map": 3,
        "change": 3,
    }
    assert all(
        sum(counts["s2_quality"].values()) == 256 * 256
        for counts in found.stages["compose"].pixels.values()
    )


@pytest.mark.parametrize(
    ("store", "months"), [("cube", MONTHS), ("urban", MONTHS), ("change", MONTHS)]
)
def test_plain_xarray_reads_the_stores(spec: RunSpec, store: str, months: list[Any]) -> None:
    with xr.open_zarr(spec.folder / f"{store}.zarr", consolidated=False) as data:
        assert dict(data.sizes)["y"] == dict(data.sizes)["x"] == 256
        assert data.month.values.tolist() == np.array(months).tolist()
        raster = REGION.raster
        assert (float(data.x[0]), float(data.y[0])) == (raster.west + 5, raster.north - 5)
        assert "SIMULATED" in data.attrs["comment"]
        assert data.spatial_ref.attrs["crs_wkt"].startswith("PROJCRS[")
        assert all(data[name].chunks is not None for name in data.data_vars)


def test_the_cube_holds_what_its_quality_says(spec: RunSpec) -> None:
    with open_dataset(spec.folder / "cube.zarr") as cube:
        for sensor in ("s2", "s1"):
            valid = (cube[f"{sensor}_quality"] == 4).values
            has = np.isfinite(cube[sensor].values).any(axis=1)
            assert (valid == has).all()
            assert valid.mean() > 0.5
            assert (cube[f"{sensor}_scenes"].values[valid] > 0).all()


def test_the_maps_are_there_where_a_sensor_saw_the_ground(spec: RunSpec) -> None:
    with (
        open_dataset(spec.folder / "cube.zarr") as cube,
        open_dataset(spec.folder / "urban.zarr") as urban,
    ):
        seen = (cube.s1_quality == 4).values | (cube.s2_quality == 4).values
        assert (np.isfinite(urban.probability.values) == seen).all()
        assert ((urban.quality == 3).values == (cube.s2_quality != 4).values & seen).all()


def test_the_truth_is_compared_with(spec: RunSpec) -> None:
    box = spec.window().geobox(spec.lattice)
    with open_dataset(spec.folder / "change.zarr") as change:
        scores = simulate.score(change, simulate.truth(REGION, box))
    assert set(scores) == {"changed_share", "series", "states", "pair"}
    assert set(scores["states"]) == {
        *scores["series"],
        "false_alarms_per_km2_month",
        "delay",
    }
    assert set(scores["pair"]) == {"precision", "recall", "f1"}
    assert set(scores["series"]) == {
        "precision",
        "recall",
        "f1",
        "month_error",
        "within_one_month",
    }
    assert 0 <= scores["changed_share"] <= 0.3
    assert all(0 <= scores[part][key] <= 1 for part in ("pair", "series") for key in scores["pair"])


def test_a_report_tells_it(spec: RunSpec) -> None:
    (page,) = spec.folder.rglob("*.html")
    text = page.read_text(encoding="utf-8")
    assert "SIMULATED" in text.upper()
    assert "2022-04" in text


def test_answers(spec: RunSpec) -> None:
    raster = REGION.raster
    lon, lat = to_lon_lat(raster.west + 1235, raster.north - 845, raster.crs)
    spot = query.Spot.checked(lon, lat)
    answer = query.point(open_source(spec.folder / "urban.zarr"), spot)
    with open_dataset(spec.folder / "urban.zarr") as urban:
        there = urban.probability.isel(y=84, x=123).values
    told = [month["probability"] for month in answer["months"]]
    assert told == [None if np.isnan(v) else round(float(v), 6) for v in there]
    zones = query.Zones.of(spec.aoi.geometry)
    region = query.area(open_source(spec.folder / "change.zarr"), zones)
    assert region["area_km2"] == pytest.approx(2.56**2, rel=0.01)
    *_, month = region["months"]
    assert month["reference_month"] == "2022-04"
    assert sum(month["quality"]["km2"].values()) == pytest.approx(region["area_km2"])


# -------------------------------------------------------------------------- tiled equals whole


@pytest.fixture(scope="module")
def tiled(
    region_catalogue: Path,
    tiny_models: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Job:
    """The region as four tiles of 128 pixels, composed."""
    folder = tmp_path_factory.mktemp("tiled")
    fields = whole_region(region_catalogue, folder / "out", 128, models=tiny_models)
    job = freeze(load_run(write_spec(folder / "spec.yaml", fields)))
    do_serially(Job(spec=job.spec, scenes=job.scenes))
    return job


@pytest.mark.parametrize(
    "name", ["s1", "s1_quality", "s1_scenes", "s2_quality", "s2_scenes", "s2_clear"]
)
def test_four_tiles_compose_the_pixels_of_one(spec: RunSpec, tiled: Job, name: str) -> None:
    with (
        open_dataset(spec.folder / "cube.zarr") as one,
        open_dataset(tiled.store_path(Stage.COMPOSE)) as four,
    ):
        # Places are followed to 1e-4 of a pixel, so that only the last digits depend on the tile.
        rtol = 1e-3 if name == "s1" else 0
        np.testing.assert_allclose(four[name].values, one[name].values, rtol=rtol)


def test_four_tiles_compose_the_optical_pixels_of_one(spec: RunSpec, tiled: Job) -> None:
    """Where both took the pixel from the same scene: each tile begins with its own clearest."""
    with (
        open_dataset(spec.folder / "cube.zarr") as one,
        open_dataset(tiled.store_path(Stage.COMPOSE)) as four,
    ):
        a_TBYX, b_TBYX = one["s2"].values, four["s2"].values
        clear_TYX = one["s2_clear"].values
    # With one clear scene there is nothing to choose.
    only_TYX = clear_TYX == 1
    assert only_TYX.mean() > 0.02
    for band in range(a_TBYX.shape[1]):
        ours, theirs = b_TBYX[:, band][only_TYX], a_TBYX[:, band][only_TYX]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1.1e-4)  # one step as stored


def test_four_tiles_map_the_pixels_of_one(spec: RunSpec, tiled: Job) -> None:
    _same_cube(spec, tiled)
    with prepared(tiled):
        for stage in (Stage.MAP, Stage.CHANGE):
            for ready in rounds(tiled, stage):
                for task, mark in ready:
                    perform(task, tiled, mark)
    for store in ("urban", "change"):
        with (
            open_dataset(spec.folder / f"{store}.zarr") as one,
            open_dataset(tiled.spec.folder / f"{store}.zarr") as four,
        ):
            for name in one.data_vars:
                np.testing.assert_array_equal(
                    four[name].values, one[name].values, err_msg=f"{store} {name}"
                )


def _same_cube(spec: RunSpec, tiled: Job) -> None:
    """Give the tiled run the pixels of the whole one."""
    whole = freeze(spec)
    source = Store(whole.store_path(Stage.COMPOSE), whole.layouts[Stage.COMPOSE])
    target = Store(tiled.store_path(Stage.COMPOSE), tiled.layouts[Stage.COMPOSE])
    (tile,) = whole.tiles
    for month in spec.period:
        full = {v.name: source.read(v.name, tile, month) for v in source.spec.variables}
        for small in tiled.tiles:
            y, x = target.spec.window.slices(target.spec.grid, small)
            target.write(small, month, {name: block[..., y, x] for name, block in full.items()})


def test_a_network_made_for_it_says_change_where_radar_alone_was(
    region_catalogue: Path, tiny_models: dict[str, Any], tmp_path: Path
) -> None:
    """Under the clouds of one month, and nowhere else, the map differs in extent."""
    from cdscale.models import missing_optical_pair

    halo, stride = missing_optical_pair.HALO, missing_optical_pair.STRIDE
    tiles = {"halo": halo, "stride": stride}
    card = write_card(
        tmp_path / "cards", "change", family="missing-optical-pair", network={"width": 2}, **tiles
    )
    maps = {}
    for name, model in (("plain", tiny_models["change"]), ("radar", {"card": str(card)})):
        fields = whole_region(region_catalogue, tmp_path / name, 128, models={"change": model}) | {
            "area": west_half(),
            "period": "2022-03,2022-06",
        }
        job = freeze(load_run(write_spec(tmp_path / f"{name}.yaml", fields)))
        do_serially(job)
        with open_dataset(job.store_path(Stage.CHANGE)) as found:
            maps[name] = found.isel(month=-1).load()
    plain, radar = (maps[name].quality.values for name in ("plain", "radar"))
    alone = radar == ChangeQuality.radar_only
    assert alone.any()
    np.testing.assert_array_equal(radar[~alone], plain[~alone])
    blind = (ChangeQuality.no_optical_before, ChangeQuality.no_optical_after)
    assert np.isin(plain[alone], blind).all()
    assert np.isfinite(maps["radar"].probability.values[alone]).all()
    assert np.isin(maps["radar"].change.values[alone], (0, 1)).all()
    assert np.isnan(maps["plain"].probability.values[alone]).all()
