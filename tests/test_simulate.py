"""The simulated region: the same every time, true to its truth, and as awkward as real scenes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import numpy as np
import pystac
import pystac.extensions.projection
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from cdscale.errors import SpecError
from cdscale.grid import Area, Grid
from cdscale.months import Month, Months
from cdscale.simulate import Region, gloom, shaded, truth, write
from cdscale.simulate.noise import uniform, value_noise
from cdscale.simulate.region import Raster
from cdscale.simulate.sensors import LOOKS, View, optical, radar, speckle
from cdscale.simulate.stac import mgrs_tile
from cdscale.simulate.weather import Sky, passes
from cdscale.simulate.write import _land

REGION = Region(seed=3, size_px=256, months=Months.parse("2021-10..2022-02"))
YEAR = Region(seed=0, size_px=256)
CLOUDS = (8, 9, 10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(REGION, tmp_path_factory.mktemp("region")).parent


@pytest.fixture(scope="module")
def items(folder: Path) -> list[pystac.Item]:
    catalogue = pystac.Catalog.from_file(str(folder / "catalog.json"))
    found = list(catalogue.get_items(recursive=True))
    for item in found:
        item.make_asset_hrefs_absolute()
    return found


def of(items: list[pystac.Item], collection: str) -> list[pystac.Item]:
    return [item for item in items if item.collection_id == collection]


def read(item: pystac.Item, asset: str) -> np.ndarray:
    with rasterio.open(item.assets[asset].href) as file:
        return file.read(1)


def epsg(item: pystac.Item) -> int:
    """Of the zone; pystac turns ``proj:epsg`` into the newer ``proj:code`` as it reads."""
    code = pystac.extensions.projection.ProjectionExtension.ext(item).epsg
    assert code is not None
    return code


def when(item: pystac.Item) -> datetime:
    assert item.datetime is not None
    return item.datetime


def own_raster(item: pystac.Item, asset: str) -> Raster:
    extra = item.assets[asset].extra_fields
    height, width = extra["proj:shape"]
    step, _, west, _, _, north = extra["proj:transform"]
    return Raster(f"EPSG:{epsg(item)}", west, north, width, height, step)


def inside(region: Region, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    west, south, east, north = region.raster.bounds
    return (x > west) & (x < east) & (y > south) & (y < north)


def clear_sky() -> Sky:
    nothing = np.zeros((4, 4), np.float32)
    return Sky(0.0, 0.0, nothing, nothing, (0.0, 0.0))


@pytest.fixture(scope="module")
def view() -> View:
    """The year's region on its own pixels, so that truth and sensors compare pixel by pixel."""
    raster = YEAR.raster
    return View.of(YEAR, _land(YEAR), Raster("EPSG:3035", *raster.bounds[::3], *raster.shape))


# -- files ---------------------------------------------------------------------------------------


def digest(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


SMALL = Region(seed=5, size_px=128, months=Months.parse("2022-02"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(SMALL, tmp_path_factory.mktemp("small")).parent


def test_the_same_region_gives_the_same_bytes(small: Path, tmp_path: Path) -> None:
    _land.cache_clear()
    assert digest(write(SMALL, tmp_path / "again").parent) == digest(small)


def test_another_seed_is_another_place() -> None:
    one, other = (truth(Region(seed=seed, size_px=128, months=SMALL.months)) for seed in (5, 6))
    assert (one["built_up_fraction"] != other["built_up_fraction"]).mean() > 0.02


def test_writing_again_changes_nothing_and_repairs_what_is_missing(
    small: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(small, tmp_path / "r"))
    times = {p: p.stat().st_mtime_ns for p in root.rglob("*.tif")}
    (root / "notes.txt").write_text("beside it")
    assert write(SMALL, root) == root / "catalog.json"
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*.tif")} == times
    (root / "notes.txt").unlink()
    next((root / "sentinel-1-rtc").rglob("*.tif")).unlink()
    write(SMALL, root)
    assert digest(root) == digest(small)


def test_a_cut_short_write_is_taken_up_again(small: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(small, tmp_path / "cut"))
    mark = json.loads((root / "region.json").read_text())
    (root / "region.json").unlink()
    (root / "catalog.json").unlink()
    mark.pop("files")
    (root / "region.json.part").write_text(json.dumps(mark))
    write(SMALL, root)
    assert digest(root) == digest(small)


@pytest.mark.parametrize("content", ['{"seed": 1}', "no json", None])
def test_a_foreign_folder_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is None:
        (tmp_path / "thesis.doc").write_text("years of work")
    else:
        (tmp_path / "region.json").write_text(content)
    before = digest(tmp_path)
    with pytest.raises(SpecError, match="not free for this simulated region"):
        write(REGION, tmp_path)
    assert digest(tmp_path) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_px": 100},
        {"size_px": 257},
        {"seed": -1},
        {"centre_lon": -75.0},
        {"centre_lat": 5.0},
    ],
)
def test_impossible_regions_are_refused(wrong: dict) -> None:
    with pytest.raises(SpecError):
        Region(**wrong)


# -- place ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "tile", "count"), [(512, 128, 16), (512, 256, 4), (256, 256, 1)])
def test_the_area_hits_exactly_the_tiles_that_it_fills(size: int, tile: int, count: int) -> None:
    region = Region(size_px=size)
    grid = Grid.preset("europe", tile_px=tile)
    tiles = grid.tiles(Area.from_geojson(region.area(), where="area"))
    assert len(tiles) == count
    filled = grid.window(tiles).geobox(grid)
    assert filled.shape == region.raster.shape
    assert filled.affine == region.raster.affine


def test_scenes_come_in_both_zones_and_overlap(items: list[pystac.Item]) -> None:
    optics = of(items, "sentinel-2-l2a")
    assert {epsg(i) for i in optics} == {32632, 32633}
    assert {i.properties["s2:mgrs_tile"] for i in optics} == {"32UQB", "33UTS"}
    radars = of(items, "sentinel-1-rtc")
    assert {epsg(i) for i in radars} == {32632, 32633}
    assert {i.properties["sat:orbit_state"] for i in radars} == {"ascending", "descending"}
    west = next(i for i in optics if epsg(i) == 32632 and full(i))
    east = next(i for i in optics if epsg(i) == 32633 and full(i))
    assert west.bbox is not None
    assert east.bbox is not None
    overlap = (west.bbox[2] - east.bbox[0]) * 111.32 * np.cos(np.radians(51.4))
    assert 1.0 < overlap < 3.0  # kilometres


def full(item: pystac.Item) -> bool:
    return item.properties["s2:nodata_pixel_percentage"] == 0


def test_names_of_mgrs_tiles() -> None:
    # Known tiles: Leipzig lies in 33UUS, Munich in 32UPU, Aarhus in 32VNH (32 V for 56 to 64 N).
    assert mgrs_tile(Region(centre_lon=12.5, centre_lat=51.35), 32633) == "33UUS"
    assert mgrs_tile(Region(centre_lon=11.6, centre_lat=48.14), 32632) == "32UPU"
    assert mgrs_tile(Region(centre_lon=10.2, centre_lat=56.15), 32632) == "32VNH"


# -- catalogue -----------------------------------------------------------------------------------


def test_items_read_and_agree_with_their_files(items: list[pystac.Item]) -> None:
    assert len(items) > 40
    for item in items:
        assert item.properties["cdscale:simulated"] is True
        assert Month.of(when(item)) in REGION.months
        for name, asset in item.assets.items():
            with rasterio.open(asset.href) as file:
                assert list(file.shape) == asset.extra_fields["proj:shape"]
                assert list(file.transform)[:6] == asset.extra_fields["proj:transform"]
                assert list(file.bounds) == asset.extra_fields["proj:bbox"]
                assert file.crs.to_epsg() == epsg(item)
                assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                assert file.nodata == (-32768 if item.collection_id == "sentinel-1-rtc" else 0)
                expected = {"SCL": "uint8", "vv": "float32", "vh": "float32"}
                assert file.dtypes[0] == expected.get(name, "uint16")
    first = of(items, "sentinel-2-l2a")[0].assets.values()
    assert not any("raster:bands" in asset.extra_fields for asset in first)


def test_it_says_simulated_wherever_it_shows(folder: Path) -> None:
    for path in (folder / "catalog.json", *folder.glob("sentinel-*/collection.json")):
        data = json.loads(path.read_text())
        assert "simulated" in data["title"].lower()
        assert "SIMULATED" in data["description"]


def test_cloud_cover_is_that_of_the_pixels(items: list[pystac.Item]) -> None:
    for item in of(items, "sentinel-2-l2a"):
        scl = read(item, "SCL")
        share = 100 * np.isin(scl, CLOUDS).sum() / (scl > 0).sum()
        assert item.properties["eo:cloud_cover"] == pytest.approx(share, abs=1e-3)


def test_some_swaths_end_inside_the_region(items: list[pystac.Item]) -> None:
    cut = [i for i in of(items, "sentinel-2-l2a") if not full(i)]
    assert cut
    assert {i.properties["sat:relative_orbit"] for i in cut} == {65}
    for item in cut:
        dn, scl = read(item, "B02"), read(item, "SCL")
        assert ((dn[::2, ::2] == 0) == (scl == 0)).all()
        area = 100 * (scl == 0).mean()
        assert item.properties["s2:nodata_pixel_percentage"] == pytest.approx(area, abs=1e-3)


# -- clouds --------------------------------------------------------------------------------------


def test_one_month_is_overcast_and_in_one_a_corner_is_never_seen(items: list[pystac.Item]) -> None:
    special = gloom(REGION)
    assert special.overcast is not None
    assert special.partly is not None
    best: dict[Month, float] = defaultdict(lambda: 100.0)
    for item in of(items, "sentinel-2-l2a"):
        month, scl = Month.of(when(item)), read(item, "SCL")
        x, y = own_raster(item, "SCL").centres()
        here = inside(REGION, x, y) & (scl > 0)
        if not here.any():
            continue
        cloudy = np.isin(scl, CLOUDS)
        if full(item):
            best[month] = min(best[month], 100 * cloudy[here].mean())
        if month == special.overcast:
            assert cloudy[here].all()
        if month == special.partly:
            assert cloudy[here & shaded(REGION, x, y)].all()
    assert best[special.overcast] == 100
    assert best[special.partly] < 80
    others = [v for m, v in best.items() if m not in (special.overcast, special.partly)]
    assert np.mean(np.array(others) < 10) >= 0.7


def test_covers_range_from_clear_to_overcast(items: list[pystac.Item]) -> None:
    cover = np.array([i.properties["eo:cloud_cover"] for i in of(items, "sentinel-2-l2a")])
    assert (cover < 10).any()
    assert (cover > 90).any()
    assert ((cover > 15) & (cover < 85)).any()


# -- truth ---------------------------------------------------------------------------------------


def test_the_truth_on_disk_is_the_truth(folder: Path) -> None:
    data = truth(REGION)
    for month in REGION.months:
        with rasterio.open(folder / f"truth/built_up_fraction_{month}.tif") as file:
            share = data["built_up_fraction"].sel(month=month.to_numpy())
            assert np.array_equal(file.read(1), np.rint(share * 100))
            assert file.transform == REGION.raster.affine
    with rasterio.open(folder / "truth/change_month.tif") as file:
        assert np.array_equal(file.read(1), data["change_month"])


def test_change_month_follows_from_the_fractions() -> None:
    data = truth(YEAR)
    built = data["built_up_fraction"].to_numpy() >= 0.5
    change = data["change_month"].to_numpy()
    assert not (built[:-1] & ~built[1:]).any()  # nothing is pulled down
    assert ((change >= 0) == (built[-1] & ~built[0])).all()
    for index, month in enumerate(YEAR.months):
        day = (month.to_numpy() - np.datetime64("1970-01-01")).astype("timedelta64[D]").astype(int)
        here = change == day
        assert built[index][here].all()
        assert not built[index - 1][here].any()


@pytest.mark.parametrize("seed", range(3))
def test_some_percent_change_and_in_every_part_of_the_period(seed: int) -> None:
    region = Region(seed=seed, size_px=256)
    data = truth(region)
    change = data["change_month"].to_numpy()
    assert 0.02 <= (change >= 0).mean() <= 0.05
    days = data["month"].to_numpy().astype("datetime64[D]").astype(int)
    third = np.searchsorted(days, change[change >= 0]) * 3 // len(days)
    assert set(third) == {0, 1, 2}
    assert 0.02 < (data["built_up_fraction"][0] >= 0.5).mean() < 0.25


def test_the_truth_on_another_grid_is_the_same_truth() -> None:
    grid = Grid.preset("europe", tile_px=128, resolution=20.0)
    tiles = grid.tiles(Area.from_geojson(REGION.area(), where="area"))
    coarse = truth(REGION, grid.window(tiles).geobox(grid))["built_up_fraction"]
    fine = truth(REGION)["built_up_fraction"].coarsen(y=2, x=2).mean()
    assert np.abs(coarse.sel(y=fine.y, x=fine.x) - fine).max() <= 0.0101  # whole percents


# -- sensors -------------------------------------------------------------------------------------


def summer_view(view: View, month: str) -> dict[str, np.ndarray]:
    """Bands at 10 m as reflectance and VV in dB, without clouds, of the first passes of a month."""
    every = [p for p in passes(YEAR) if Month.of(p.moment) == Month.parse(month)]
    optic = next(p for p in every if p.mission == "sentinel-2" and p.orbit == 22)
    scene = optical(view, optic, clear_sky())
    offset = 1000 if month >= "2022-02" else 0
    bands = {k: (scene.bands[k].astype(float) - offset) / 10000 for k in ("B02", "B04", "B08")}
    powers = [radar(view, p).vv for p in every if p.mission == "sentinel-1"]
    bands["VV"] = 10 * np.log10(np.mean(powers, axis=0))
    bands["NDVI"] = (bands["B08"] - bands["B04"]) / (bands["B08"] + bands["B04"])
    return bands


def test_built_up_land_looks_built_up(view: View) -> None:
    seen = summer_view(view, "2022-05")
    share = truth(YEAR)["built_up_fraction"].sel(month="2022-05-01").to_numpy()
    built, open_ = share >= 0.7, share == 0
    assert np.median(seen["NDVI"][open_]) - np.median(seen["NDVI"][built]) > 0.25
    assert np.median(seen["VV"][built]) - np.median(seen["VV"][open_]) > 3.0
    # Hard enough: single pixels of one are often like the other.
    assert (seen["VV"][open_] > np.quantile(seen["VV"][built], 0.1)).mean() > 0.02
    assert (seen["NDVI"][open_] < np.median(seen["NDVI"][built])).mean() > 0.01


def test_changed_pixels_change(view: View) -> None:
    data = truth(YEAR)
    share = data["built_up_fraction"].to_numpy()
    changed = (data["change_month"] >= 0).to_numpy() & (share[-1] > 0.6)
    before, after = summer_view(view, "2021-08"), summer_view(view, "2022-08")
    stable = share[-1] == 0
    gain = {k: after[k] - before[k] for k in ("VV", "NDVI")}
    assert np.median(gain["VV"][changed]) - np.median(gain["VV"][stable]) > 2.0
    assert np.median(after["NDVI"][changed]) < 0.35
    # Confusers: plenty of land that was not built over lost its green as well.
    assert (gain["NDVI"][stable] < np.median(gain["NDVI"][changed])).mean() > 0.05


def test_the_offset_of_baseline_04_is_in_the_numbers(items: list[pystac.Item]) -> None:
    dark: dict[str, list[float]] = defaultdict(list)
    for item in of(items, "sentinel-2-l2a"):
        baseline = item.properties["s2:processing_baseline"]
        assert baseline == ("04.00" if when(item).isoformat() >= "2022-01-25" else "03.01")
        if item.properties["eo:cloud_cover"] < 20 and full(item):
            values, scl = read(item, "B04"), read(item, "SCL").repeat(2, 0).repeat(2, 1)
            dn = values[np.isin(scl, (4, 5))].astype(float)
            dark[baseline].append(np.median(dn) - (1000 if baseline == "04.00" else 0))
    old, new = np.mean(dark["03.01"]), np.mean(dark["04.00"])
    assert abs(old - new) < 250
    assert 300 < old < 1500


def test_speckle_has_the_looks_and_the_mean_of_sentinel_1() -> None:
    noise = speckle(np.random.default_rng(1), (400, 400))
    assert noise.mean() == pytest.approx(1, abs=0.02)
    assert noise.mean() ** 2 / noise.var() == pytest.approx(LOOKS, rel=0.05)
    centred = noise - noise.mean()
    beside = (centred[:, 1:] * centred[:, :-1]).mean() / noise.var()
    apart = (centred[:, 5:] * centred[:, :-5]).mean() / noise.var()
    assert 0.2 < beside < 0.45
    assert abs(apart) < 0.03


def test_the_scenes_show_the_same_looks_over_even_ground(view: View) -> None:
    every = [p for p in passes(YEAR) if p.mission == "sentinel-1" and p.ascending]
    stack = np.stack([radar(view, p).vh for p in every])
    conifers = view.mixture.share @ (view.land.units.kind == 3).astype(np.float32)
    never = (view.land.units.felled == 9999) & (view.land.units.begin == 9999)
    pure = (conifers > 0.99) & (view.mixture.share @ never.astype(np.float32) > 0.99)
    series = stack.reshape(len(every), -1)[:, pure]
    series = series / series.mean(axis=1, keepdims=True)
    looks = np.median(series.mean(axis=0) ** 2 / series.var(axis=0, ddof=1))
    assert looks == pytest.approx(LOOKS, rel=0.2)


def test_the_two_orbits_see_streets_differently(view: View) -> None:
    every = [p for p in passes(YEAR) if p.mission == "sentinel-1"]
    mean = {
        side: np.mean([radar(view, p).vv for p in every[:16] if p.ascending == side], axis=0)
        for side in (True, False)
    }
    built = truth(YEAR)["built_up_fraction"][0].to_numpy() > 0.6
    ratio = 10 * np.log10(mean[True] / mean[False])
    assert np.median(ratio[~built]) == pytest.approx(1.0, abs=0.4)
    assert np.std(ratio[built]) > 1.3 * np.std(ratio[~built])


# -- noise ---------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.integers(0, 10**6))
def test_noise_depends_on_the_place_alone(x: int, y: int, key: int) -> None:
    px, py = np.meshgrid(x + np.arange(5.0), y + np.arange(4.0))
    whole = value_noise(px, py, 3.7, key)
    assert np.array_equal(whole[2:, 3:], value_noise(px[2:, 3:], py[2:, 3:], 3.7, key))
    assert np.abs(whole).max() <= 1


def test_hashes_are_uniform() -> None:
    drawn = uniform(7, np.arange(100_000))
    assert abs(drawn.mean() - 0.5) < 0.005
    assert np.abs(np.histogram(drawn, 20, (0, 1))[0] / 5000 - 1).max() < 0.08
