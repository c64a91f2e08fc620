"""Composites of real months against computations of their own, straight from the files.

Nothing of cdscale is asked for the expected values: rasterio reads, numpy decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.warp import Resampling, reproject

from cdscale import scenes, stages
from cdscale.kernels import optical
from cdscale.months import Month
from cdscale.spec.cube import SensorQuality as Quality
from cdscale.spec.job import STORES, Job
from cdscale.spec.run import RunSpec, read_area
from cdscale.spec.task import Stage, Task
from cdscale.store import create

pytestmark = pytest.mark.realdata

TEN = ("B02", "B03", "B04", "B08")
TWENTY = ("B05", "B06", "B07", "B8A", "B11", "B12")
CLEAR = (4, 5, 6, 7, 11)
SITE = "0000280849BAC91C"
EVERY_MONTH = "2018-08..2019-11"
SOME = "2018-08,2018-12,2019-04,2019-08"
OTHERS = "2018-09,2019-01,2019-05,2019-09"
S2 = {"sentinel-2-l2a": "planetary-computer-sentinel-2-l2a"}
S1 = {"sentinel-1-rtc": "planetary-computer-sentinel-1-rtc"}
METHODS = ("least_cloudy", "median", "medoid")


@dataclass
class Item:
    """One item of the catalogue, as its file tells it."""

    folder: Path
    data: dict[str, Any]
    cache: dict[str, Any] = field(default_factory=dict)

    @property
    def when(self) -> datetime:
        text = str(self.data["properties"]["datetime"])
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    @property
    def day(self) -> int:
        return (self.when.date() - date(1970, 1, 1)).days

    @property
    def orbit(self) -> str:
        return str(self.data["properties"]["sat:relative_orbit"])

    def path(self, key: str) -> Path:
        return self.folder / self.data["assets"][key]["href"]

    def raw(self, key: str) -> Any:
        if key not in self.cache:
            with rasterio.open(self.path(key)) as file:
                self.cache[key] = file.read(1)
        return self.cache[key]


@dataclass
class Site:
    """All items of a place, and the place."""

    s2: list[Item]
    s1: list[Item]
    left: float
    top: float

    def of(self, items: list[Item], month: Month) -> list[Item]:
        chosen = [i for i in items if (i.when.year, i.when.month) == (month.year, month.month)]
        return sorted(chosen, key=lambda i: (i.when, i.data["id"]))


@pytest.fixture(scope="module")
def site(data_root: Path) -> Site:
    def items(collection: str) -> Iterator[Item]:
        for path in sorted((data_root / "flanders-stac" / collection).rglob("*.json")):
            data = json.loads(path.read_text())
            if data.get("type") == "Feature" and SITE in data["id"]:
                yield Item(path.parent, data)

    s2, s1 = list(items("sentinel-2-l2a")), list(items("sentinel-1-rtc"))
    assert (len(s2), len(s1)) == (72, 80)
    with rasterio.open(s2[0].path("B02")) as file:
        return Site(s2, s1, file.bounds.left, file.bounds.top)


def composed(data_root: Path, folder: Path, **fields: Any) -> Any:
    """The cube of the site, as cdscale makes it; and its spec."""
    spec = RunSpec.check(
        {
            "name": "site",
            "catalogue": str(data_root / "flanders-stac"),
            "area": read_area([4.0595, 50.744, 4.0665, 50.748], Path()),
            "output": str(folder),
            **fields,
        },
        where="test",
    )
    job = Job(spec=spec, scenes=scenes.search(spec))
    store = create(folder / STORES[Stage.COMPOSE], job.layouts[Stage.COMPOSE])
    (tile,) = spec.tiles()  # the site lies in one tile: it chooses its scenes as the test does
    for month in spec.period:
        receipt = stages.perform(Task(Stage.COMPOSE, month, tile), job, "x")
        assert receipt.complete
    return spec, store, tile


def window(spec: RunSpec, tile: Any, site: Site, pixels: int) -> tuple[slice, slice]:
    """Where the site lies in the tile."""
    box = spec.lattice.geobox(tile)
    column, row = (~box.affine) * (site.left, site.top)
    assert abs(column - round(column)) < 1e-6
    assert abs(row - round(row)) < 1e-6
    return slice(round(row), round(row) + pixels), slice(round(column), round(column) + pixels)


# -------------------------------------------------------------------------- exactly, native pixels


def expected_month(items: list[Item], bands: tuple[str, ...], method: str) -> dict[str, Any]:
    """A month on the pixels of the files themselves: stored integers, dates, counts."""
    repeat = 2 if bands == TEN else 1
    masks = [i.raw("SCL").repeat(repeat, 0).repeat(repeat, 1) for i in items]
    clear = np.stack([np.isin(m, CLEAR) for m in masks])
    seen = np.stack([m != 0 for m in masks])
    stack = np.stack([[i.raw(b) for b in bands] for i in items]).astype(float)
    stack[stack == 0] = np.nan
    whole = clear & np.isfinite(stack).all(axis=1)
    days = np.array([i.day for i in items])
    shape = clear.shape[1:]
    values, day = np.full((len(bands), *shape), -32768.0), np.full(shape, 65535)
    if method == "least_cloudy":
        order = sorted(range(len(items)), key=lambda s: (-clear[s].sum(), s))
        for s in reversed(order):
            values[:, whole[s]] = stack[s][:, whole[s]]
            day[whole[s]] = days[s]
    else:
        for y, x in np.ndindex(*shape):
            here = np.flatnonzero(clear[:, y, x])
            good = np.flatnonzero(whole[:, y, x])
            if method == "median" and len(here):
                of_each = [stack[here, b, y, x] for b in range(len(bands))]
                if all(np.isfinite(v).any() for v in of_each):
                    values[:, y, x] = [np.nanmedian(v) for v in of_each]
                    if len(good):
                        day[y, x] = days[good[(len(good) - 1) // 2]]
            elif method == "medoid" and len(good):
                points = stack[good, :, y, x]
                far = np.linalg.norm(points[:, None] - points[None], axis=2).sum(axis=1)
                best = good[int(np.argmin(np.round(far, 6)))]
                values[:, y, x], day[y, x] = stack[best, :, y, x], days[best]
    return {
        "s2": values,
        "s2_date": day,
        "s2_scenes": seen.sum(axis=0),
        "s2_clear": clear.sum(axis=0),
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("bands", "resolution", "pixels", "period"), [(TEN, 10, 64, SOME), (TWENTY, 20, 32, OTHERS)]
)
def test_a_composite_on_native_pixels_is_exact(
    data_root: Path,
    tmp_path: Path,
    site: Site,
    method: str,
    bands: Any,
    resolution: int,
    pixels: int,
    period: str,
) -> None:
    grid = {"preset": "EPSG:32631", "resolution": resolution, "tile": 5120 // resolution}
    cube = {"s2": method, "s2_bands": bands}
    spec, store, tile = composed(
        data_root, tmp_path, collections=S2, period=period, grid={**grid, "chunk": 64}, cube=cube
    )
    where = window(spec, tile, site, pixels)
    for month in spec.period:
        expected = expected_month(site.of(site.s2, month), bands, method)
        for name, values in expected.items():
            got = store.read(name, tile, month)[..., *where]
            if name == "s2" and method == "median":
                # Of an even number the median lies between two steps: half a step either way.
                assert np.abs(got - values).max() <= 0.5, (month, name)
            else:
                np.testing.assert_array_equal(got, values, err_msg=f"{month} {name}")
        quality = store.read("s2_quality", tile, month)
        valid = np.zeros(quality.shape, bool)
        valid[where] = expected["s2"][0] != -32768
        np.testing.assert_array_equal(quality == Quality.valid, valid)
        outside = np.ones(quality.shape, bool)
        outside[where] = expected["s2_scenes"] == 0
        np.testing.assert_array_equal(quality == Quality.no_scene, outside)


def test_backscatter_on_native_pixels_is_exact(data_root: Path, tmp_path: Path, site: Site) -> None:
    """Over the scenes of an orbit, then over orbits, in linear power."""
    grid = {"preset": "EPSG:32631", "resolution": 20, "tile": 256, "chunk": 64}
    spec, store, tile = composed(data_root, tmp_path, collections=S1, period=EVERY_MONTH, grid=grid)
    where = window(spec, tile, site, 32)
    for month in spec.period:
        items = site.of(site.s1, month)
        orbits = sorted({i.orbit for i in items})
        means = []
        for orbit in orbits:
            power = np.stack(
                [[i.raw(b) for b in ("vv", "vh")] for i in items if i.orbit == orbit]
            ).astype(np.float64)
            assert (power > 0).all()
            means.append(power.mean(axis=0))
        got = store.read("s1", tile, month)
        expected = np.mean(means, axis=0).astype(np.float32)
        np.testing.assert_allclose(got[:, *where], expected, rtol=2e-7)
        assert (store.read("s1_scenes", tile, month)[where] == len(items)).all()
        assert np.isfinite(got).sum() == expected.size


# --------------------------------------------------------------------------------- after resampling


@pytest.mark.parametrize("method", METHODS)
def test_a_composite_on_the_continental_grid_is_that_of_gdal(
    data_root: Path, tmp_path: Path, site: Site, method: str
) -> None:
    """Each scene resampled by GDAL itself, SCL by nearest neighbour, bands bilinearly.

    GDAL approximates its transformation by an eighth of a pixel, cdscale by 1e-4: a mask may fall
    to the neighbour along its edges, and then another scene is taken. Of the pixels, 98 in 100 are
    the same to 0.002 of reflectance and a hundredth of it.
    """
    grid = {"preset": "europe", "tile": 448, "chunk": 64}
    cube = {"s2": method, "s2_bands": ["B02", "B08", "B11"]}
    spec, store, tile = composed(
        data_root, tmp_path, collections=S2, period=OTHERS, grid=grid, cube=cube
    )
    box = spec.lattice.geobox(tile)

    def warped(item: Item, key: str, how: Resampling) -> Any:
        out = np.zeros(box.shape, np.float32)
        with rasterio.open(item.path(key)) as file:
            reproject(rasterio.band(file, 1), out, dst_transform=box.affine, dst_crs="EPSG:3035",
                      resampling=how, src_nodata=0, dst_nodata=0)  # fmt: skip
        return out

    close = number = 0
    for month in spec.period:
        items = site.of(site.s2, month)
        stand_in = [Item(i.folder, i.data) for i in items]
        for item in stand_in:
            item.cache["SCL"] = warped(item, "SCL", Resampling.nearest)
            for band in cube["s2_bands"]:
                item.cache[band] = warped(item, band, Resampling.bilinear)
        expected = expected_month(stand_in, tuple(cube["s2_bands"]), method)["s2"]
        got = store.read("s2", tile, month).astype(float)
        both = (got[0] != -32768) & (expected[0] != -32768)
        assert both.sum() > 0.97 * max((got[0] != -32768).sum(), (expected[0] != -32768).sum())
        same = np.abs(got - expected) <= 20 + 0.01 * np.abs(expected)
        close += same[:, both].sum()
        number += same[:, both].size
    assert close / number > 0.98


# ------------------------------------------------------------------------------------ empty months


def test_a_month_without_a_clear_pixel_is_empty_and_says_why(
    data_root: Path, tmp_path: Path, site: Site
) -> None:
    """Were only snow clear: most months are cloud, and outside the site no scene."""
    grid = {"preset": "EPSG:32631", "tile": 512, "chunk": 64}
    cube = {"s2_bands": ["B02"], "clear": [11]}
    spec, store, tile = composed(
        data_root, tmp_path, collections=S2, period=SOME, grid=grid, cube=cube
    )
    where = window(spec, tile, site, 64)
    empty = 0
    for month in spec.period:
        masks = [i.raw("SCL").repeat(2, 0).repeat(2, 1) for i in site.of(site.s2, month)]
        snow, seen = (np.any([f(m) for m in masks], axis=0) for f in (is_snow, is_seen))
        quality = store.read("s2_quality", tile, month)
        expected = np.full(quality.shape, Quality.no_scene)
        inside = np.where(snow, Quality.valid, np.where(seen, Quality.cloud, Quality.no_scene))
        expected[where] = inside
        saturated = quality == Quality.saturated  # defective by SCL, and seen by nothing else
        np.testing.assert_array_equal(quality[~saturated], expected[~saturated])
        assert not (saturated & (expected == Quality.valid)).any()
        values = store.read("s2", tile, month)[0]
        np.testing.assert_array_equal(values == -32768, expected != Quality.valid)
        empty += not snow.any()
    assert empty > 0


def is_snow(mask: Any) -> Any:
    return mask == 11


def is_seen(mask: Any) -> Any:
    return mask != 0


# ----------------------------------------------------------------------------- radiometric offsets


@pytest.mark.parametrize(("shift", "fits"), [(0.0, True), (0.1, False), (-0.1, False)])
def test_dark_objects_tell_a_wrong_offset_on_every_real_scene(
    data_root: Path, shift: float, fits: bool
) -> None:
    """An offset left in, or taken off twice: all scenes with enough dark pixels show it."""
    judged = 0
    for path in sorted((data_root / "flanders-stac" / "sentinel-2-l2a").rglob("*.json")):
        data = json.loads(path.read_text())
        if data.get("type") != "Feature":
            continue
        item = Item(path.parent, data)
        dark = np.isin(item.raw("SCL").repeat(2, 0).repeat(2, 1), (4, 6))
        pixels = np.stack([item.raw(b)[dark] for b in optical.DARK_BANDS]).astype(np.float32)
        pixels[pixels == 0] = np.nan
        level = optical.dark_level(pixels * np.float32(1e-4) + np.float32(shift))
        if level is not None:
            judged += 1
            assert (optical.DARK_LOW <= level <= optical.DARK_HIGH) is fits, (data["id"], level)
    assert judged > 90
