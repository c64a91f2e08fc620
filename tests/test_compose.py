"""``stages.compose``: the expected composite is built first, and the scenes are cut from it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from cdscale import stages
from cdscale.errors import ReadError
from cdscale.grid import LON_LAT, Area, GeoBox, reproject
from cdscale.months import Month
from cdscale.pixels import Reader
from cdscale.spec.cube import SensorQuality as Quality
from cdscale.spec.job import STORES, Job
from cdscale.spec.run import RunSpec, read_area
from cdscale.spec.scene import Scene, SceneTable
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.store import Ledger, create
from cdscale.testing import (
    SCL_CLEAR,
    SCL_CLOUD,
    SCL_NODATA,
    FailingReader,
    FakeReader,
    ScenePixels,
    make_scene,
)

SPEC = RunSpec.check(
    {
        "name": "compose",
        "catalogue": "nowhere",
        "collections": {
            "s2": "planetary-computer-sentinel-2-l2a",
            "s1": "planetary-computer-sentinel-1-rtc",
        },
        "area": read_area([3.0, 50.8, 3.0001, 50.8001], Path()),
        "period": "2020-06",
        "grid": {"tile": 64, "chunk": 16},
        "cube": {"s2_bands": ["B02", "B03"]},
        "output": "nowhere",
    },
    where="test",
)
GRID = SPEC.lattice
TILE = SPEC.tiles()[0]
TASK = Task(Stage.COMPOSE, Month(2020, 6), TILE)
BOX = GRID.geobox(TILE)
SHAPE = (64, 64)
NAN = np.float32(np.nan)
RNG = np.random.default_rng(0)
TRUTH = {"B02": RNG.integers(1, 4000, SHAPE), "B03": RNG.integers(1, 4000, SHAPE)}
"""What the ground looks like: steps of 1/10000, so that packing is exact."""
LEFT, TOP = (np.zeros(SHAPE, bool) for _ in range(2))
LEFT[:, :32], TOP[:32] = True, True
ALL, NONE = np.ones(SHAPE, bool), np.zeros(SHAPE, bool)


def optical(clear: Any, *, seen: Any = ALL, add: int = 0, lacks: Any = NONE) -> ScenePixels:
    """A scene that shows the truth, brighter by ``add`` steps, where it is clear.

    Under cloud it shows 9999; where it ``lacks`` pixels its second band has none.
    """
    mask = np.where(clear, SCL_CLEAR, SCL_CLOUD).astype(np.uint8)
    mask[~seen] = SCL_NODATA
    bands = {}
    for name, truth in TRUTH.items():
        steps = np.where(clear, truth + add, 9999)
        bands[name] = np.where(seen, steps * 1e-4, NAN).astype(np.float32)
    bands["B03"][lacks] = NAN
    return ScenePixels(bands, mask)


def radar(values: Mapping[str, Any]) -> ScenePixels:
    return ScenePixels({k: np.full(SHAPE, 1, np.float32) * v for k, v in values.items()})


def compose(
    scenes: list[Scene], pixels: Mapping[str, ScenePixels], *, reader: Reader | None = None
) -> stages.work.Work:
    job = Job(spec=SPEC, scenes=SceneTable(search="x", scenes=tuple(scenes)))
    work = stages.work.Work(TASK, job, reader or FakeReader(BOX, pixels))
    stages.compose(work)
    layout = job.layouts[Stage.COMPOSE]
    assert set(work.blocks) == {v.name for v in layout.variables}
    for variable in layout.variables:
        block = work.blocks[variable.name]
        assert block.shape == layout.shard_shape(variable)[1:]
        assert block.dtype == np.dtype(variable.dtype)
    return work


def expected_s2(parts: list[tuple[Any, int]]) -> Any:
    """Packed composite: the truth plus so many steps where told, no data elsewhere."""
    out = np.full((2, *SHAPE), -32768, np.int16)
    for where, add in parts:
        for band, truth in enumerate(TRUTH.values()):
            out[band][where] = (truth + add)[where]
    return out


def at(day: int) -> str:
    return f"2020-06-{day:02d}T10:00:00+00:00"


# --------------------------------------------------------------------------------------- optical


def test_the_clearest_scene_comes_first_and_the_next_fills_its_holes() -> None:
    most = LEFT | TOP  # three quarters clear
    pixels = {"hazy": optical(TOP | ~LEFT, add=3), "clear": optical(most, add=1)}
    pixels["half"] = optical(~most, add=2)
    scenes = [make_scene("hazy", when=at(1)), make_scene("half", when=at(2)),
              make_scene("clear", when=at(3))]  # fmt: skip
    # "hazy" is as clear as "clear" but earlier; what it leaves is the lower left quarter.
    expected = expected_s2([(ALL, 1), (TOP | ~LEFT, 3)])
    work = compose(scenes, pixels)
    np.testing.assert_array_equal(work.blocks["s2"], expected)
    assert (work.blocks["s2_quality"] == Quality.valid).all()
    assert work.used == ["hazy", "clear"]
    np.testing.assert_array_equal(work.blocks["s2_scenes"], np.full(SHAPE, 3))
    clear = (TOP | ~LEFT).astype(int) + most + ~most
    np.testing.assert_array_equal(work.blocks["s2_clear"], clear)


@pytest.mark.parametrize("turned", [False, True])
def test_ties_go_to_the_earlier_scene_and_then_to_the_id(turned: bool) -> None:
    scenes = [make_scene("b", when=at(2)), make_scene("c", when=at(1)), make_scene("a", when=at(2))]
    pixels = {name: optical(LEFT, add=n) for n, name in enumerate("abc")}
    work = compose(scenes[::-1] if turned else scenes, pixels)
    np.testing.assert_array_equal(work.blocks["s2"], expected_s2([(LEFT, 2)]))
    assert work.used == ["c"]
    del pixels["c"]
    work = compose([s for s in scenes if s.id != "c"], pixels)
    assert work.used == ["a"]


def test_what_is_full_is_read_no_further() -> None:
    pixels = {"full": optical(ALL), "more": optical(LEFT, add=5)}
    reader = FakeReader(BOX, pixels)
    compose([make_scene("more"), make_scene("full")], pixels, reader=reader)
    assert reader.calls == [("more", "mask"), ("full", "mask"), ("full", "B02,B03")]


def test_a_scene_without_a_clear_pixel_is_not_read() -> None:
    pixels = {"cloud": optical(NONE)}
    reader = FakeReader(BOX, pixels)
    work = compose([make_scene("cloud")], pixels, reader=reader)
    assert reader.calls == [("cloud", "mask")]
    assert (work.blocks["s2_quality"] == Quality.cloud).all()
    assert work.used == []


def test_every_reason_has_its_code() -> None:
    """Valid, cloud, no scene; and of a scene that cannot be read, where it was not filled."""
    west = shapely.box(*_half(BOX, "left").boundingbox)
    footprint = reproject(west, GRID.crs, LON_LAT, resolution=10).wkt
    seen = TOP & ALL
    pixels = {"partly": optical(TOP & ~LEFT, seen=seen), "broken": optical(ALL)}
    scenes = [make_scene("partly"), make_scene("broken", footprint=footprint)]
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"broken"})
    work = compose(scenes, pixels, reader=reader)
    expected = np.full(SHAPE, Quality.no_scene)
    expected[TOP & ~LEFT] = Quality.valid
    expected[LEFT] = Quality.read_failed
    np.testing.assert_array_equal(work.blocks["s2_quality"], expected)
    assert work.failed == {"broken": "scene broken: told to fail"}
    calm = compose(scenes[:1], pixels)
    expected[LEFT] = Quality.no_scene
    expected[LEFT & TOP] = Quality.cloud
    np.testing.assert_array_equal(calm.blocks["s2_quality"], expected)
    assert calm.failed == {}


def _half(box: GeoBox, side: str) -> GeoBox:
    return box[:, :32] if side == "left" else box[:, 32:]


def test_a_scene_whose_bands_fail_says_so_only_where_nothing_else_is() -> None:
    pixels = {"best": optical(ALL), "rest": optical(TOP, add=1)}
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"best"}, bands_only=True)
    work = compose([make_scene("best"), make_scene("rest")], pixels, reader=reader)
    np.testing.assert_array_equal(work.blocks["s2"], expected_s2([(TOP, 1)]))
    expected = np.where(TOP, Quality.valid, Quality.read_failed)
    np.testing.assert_array_equal(work.blocks["s2_quality"], expected)
    assert set(work.failed) == {"best"}
    assert work.used == ["rest"]


def test_an_error_that_may_pass_ends_the_task() -> None:
    pixels = {"one": optical(ALL)}
    reader = FailingReader(FakeReader(BOX, pixels), every=2, permanent=False)
    with pytest.raises(ReadError, match="told to fail"):
        compose([make_scene("one")], pixels, reader=reader)


def test_a_pixel_is_taken_whole_from_one_scene() -> None:
    """Where the clearest lacks a band, both bands come from the other one."""
    pixels = {"a": optical(ALL, lacks=LEFT), "b": optical(ALL, add=7)}
    work = compose([make_scene("a", when=at(1)), make_scene("b", when=at(2))], pixels)
    np.testing.assert_array_equal(work.blocks["s2"], expected_s2([(ALL, 0), (LEFT, 7)]))


def test_reflectance_of_zero_is_a_value() -> None:
    zero = optical(ALL)
    zero.bands["B02"][LEFT] = 0.0
    work = compose([make_scene("zero")], {"zero": zero})
    expected = expected_s2([(ALL, 0)])
    expected[0][LEFT] = 0
    np.testing.assert_array_equal(work.blocks["s2"], expected)
    assert (work.blocks["s2_quality"] == Quality.valid).all()


def test_a_scene_without_a_mask_is_clear_where_it_has_pixels() -> None:
    pixels = {"l1c": optical(ALL, seen=LEFT)}
    scene = make_scene("l1c").model_copy(update={"mask": None, "mask_clear": ()})
    work = compose([scene], pixels)
    np.testing.assert_array_equal(work.blocks["s2"], expected_s2([(LEFT, 0)]))
    expected = np.where(LEFT, Quality.valid, Quality.no_scene)
    np.testing.assert_array_equal(work.blocks["s2_quality"], expected)


def test_cloud_grows_by_as_many_pixels_as_the_scene_says() -> None:
    clear = ALL.copy()
    clear[30, 30] = False
    scene = make_scene("one").model_copy(update={"mask_dilate_px": 2})
    work = compose([scene], {"one": optical(clear)})
    expected = np.full(SHAPE, Quality.valid)
    expected[28:33, 28:33] = Quality.cloud
    np.testing.assert_array_equal(work.blocks["s2_quality"], expected)


def test_no_scene_at_all_is_not_an_error() -> None:
    work = compose([make_scene("later", when="2020-07-01T00:00:00+00:00")], {})
    assert (work.blocks["s2"] == -32768).all()
    assert np.isnan(work.blocks["s1"]).all()
    for sensor in ("s1", "s2"):
        assert (work.blocks[f"{sensor}_quality"] == Quality.no_scene).all()
        assert (work.blocks[f"{sensor}_scenes"] == 0).all()


masks = st.integers(0, 2**16 - 1).map(
    lambda bits: (
        np.array([bits >> n & 1 for n in range(16)], bool)
        .reshape(4, 4)
        .repeat(16, axis=0)
        .repeat(16, axis=1)
    )
)


@given(st.lists(st.tuples(masks, masks), min_size=1, max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_any_month_is_what_the_rule_says_in_any_order(
    skies: list[tuple[Any, Any]], shuffle: random.Random
) -> None:
    """The rule, written plainly: sort by clear pixels, then time; take the first that is clear."""
    skies = [(clear & seen, seen) for clear, seen in skies]
    scenes = [make_scene(f"s{n}", when=at(n + 1)) for n in range(len(skies))]
    pixels = {f"s{n}": optical(c, seen=s, add=n) for n, (c, s) in enumerate(skies)}
    order = sorted(range(len(skies)), key=lambda n: (-skies[n][0].sum(), n))
    expected = expected_s2([(skies[n][0], n) for n in reversed(order)])
    seen = np.any([s for _, s in skies], axis=0)
    clear = np.any([c for c, _ in skies], axis=0)
    quality = np.where(clear, Quality.valid, np.where(seen, Quality.cloud, Quality.no_scene))
    shuffle.shuffle(scenes)
    work = compose(scenes, pixels)
    np.testing.assert_array_equal(work.blocks["s2"], expected)
    np.testing.assert_array_equal(work.blocks["s2_quality"], quality)
    np.testing.assert_array_equal(work.blocks["s2_scenes"], np.sum([s for _, s in skies], axis=0))
    np.testing.assert_array_equal(work.blocks["s2_clear"], np.sum([c for c, _ in skies], axis=0))


def test_a_tile_beside_the_pixels_of_a_scene_is_cut_where_it_lies() -> None:
    """The same ground, asked for as the tile to the east: the fake itself is put to the test."""
    wide = GRID.window([TILE, replace(TILE, ix=TILE.ix + 1)]).geobox(GRID)
    both = np.arange(64 * 128, dtype=np.float32).reshape(64, 128)
    reader = FakeReader(wide, {"one": ScenePixels({"B02": both}, both.astype(np.uint8))})
    scene = make_scene("one")
    east = GRID.geobox(replace(TILE, ix=TILE.ix + 1))
    np.testing.assert_array_equal(reader.bands(scene, ("B02",), east)[0], both[:, 64:])
    far = GRID.geobox(replace(TILE, ix=TILE.ix + 2))
    assert np.isnan(reader.bands(scene, ("B02",), far)).all()
    assert (reader.mask(scene, far) == SCL_NODATA).all()
    with pytest.raises(ValueError, match="does not resample"):
        reader.mask(scene, east.zoom_out(2))


# ----------------------------------------------------------------------------------------- radar


def s1(name: str, orbit: str, bands: tuple[str, ...] = ("vv", "vh")) -> Scene:
    return make_scene(name, sensor="s1", bands=bands, orbit=orbit)


def test_radar_is_the_mean_of_the_orbits_means_in_linear_power() -> None:
    pixels = {
        "a1": radar({"vv": 0.10, "vh": 0.01}), "a2": radar({"vv": 0.30, "vh": 0.03}),
        "d1": radar({"vv": 0.60, "vh": np.where(LEFT, 0.06, np.nan)}),
    }  # fmt: skip
    work = compose([s1("a1", "161 asc"), s1("a2", "161 asc"), s1("d1", "37 desc")], pixels)
    vv, vh = work.blocks["s1"]
    np.testing.assert_allclose(vv, (0.20 + 0.60) / 2, rtol=1e-6)
    np.testing.assert_allclose(vh, np.where(LEFT, (0.02 + 0.06) / 2, 0.02), rtol=1e-6)
    assert (work.blocks["s1_quality"] == Quality.valid).all()
    assert (work.blocks["s1_scenes"] == 3).all()
    assert work.used == ["a1", "a2", "d1"]


def test_radar_without_vh_is_still_radar() -> None:
    pixels = {"one": radar({"vv": 0.5})}
    work = compose([s1("one", "1", bands=("vv",))], pixels)
    np.testing.assert_array_equal(work.blocks["s1"][0], np.full(SHAPE, 0.5, np.float32))
    assert np.isnan(work.blocks["s1"][1]).all()
    assert (work.blocks["s1_quality"] == Quality.valid).all()
    mixed = {**pixels, "two": radar({"vv": 0.7, "vh": 0.1})}
    both = compose([s1("one", "1", bands=("vv",)), s1("two", "1")], mixed)
    np.testing.assert_allclose(both.blocks["s1"][0], 0.6, rtol=1e-6)
    np.testing.assert_allclose(both.blocks["s1"][1], 0.1, rtol=1e-6)


def test_radar_that_does_not_come_is_told_from_radar_that_is_not_there() -> None:
    pixels = {"half": radar({"vv": np.where(LEFT, 0.5, np.nan), "vh": np.nan})}
    scenes = [s1("half", "1"), s1("broken", "1")]
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"broken"})
    work = compose(scenes, pixels, reader=reader)
    expected = np.where(LEFT, Quality.valid, Quality.read_failed)
    np.testing.assert_array_equal(work.blocks["s1_quality"], expected)
    alone = compose(scenes[:1], pixels)
    expected = np.where(LEFT, Quality.valid, Quality.no_scene)
    np.testing.assert_array_equal(alone.blocks["s1_quality"], expected)
    np.testing.assert_array_equal(alone.blocks["s1_scenes"], LEFT.astype(np.uint8))


@given(st.permutations(range(6)))
@settings(max_examples=10)
def test_the_order_of_radar_scenes_does_not_matter(order: list[int]) -> None:
    pixels = {f"r{n}": radar({"vv": 0.1 + n, "vh": 0.2 * n}) for n in range(6)}
    scenes = [s1(f"r{n}", str(n % 2)) for n in range(6)]
    expected = compose(scenes, pixels).blocks
    got = compose([scenes[n] for n in order], pixels).blocks
    np.testing.assert_allclose(got["s1"], expected["s1"], rtol=1e-6)
    for name in ("s1_quality", "s1_scenes"):
        np.testing.assert_array_equal(got[name], expected[name])


def test_sensors_do_not_touch_each_other() -> None:
    pixels = {"o": optical(LEFT), "r": radar({"vv": 0.5, "vh": 0.1})}
    scenes = [make_scene("o"), s1("r", "1")]
    work = compose(scenes, pixels)
    only = compose(scenes[:1], pixels)
    for name in ("s2", "s2_quality", "s2_scenes", "s2_clear"):
        np.testing.assert_array_equal(work.blocks[name], only.blocks[name])


def test_many_scenes_are_counted_and_not_wrapped_round() -> None:
    """At the polar circle a month holds hundreds of scenes; 256 of them are not none."""
    number = 256
    pixels = {f"r{n}": radar({"vv": 0.5, "vh": 0.1}) for n in range(number)}
    work = compose([s1(f"r{n}", "1") for n in range(number)], pixels)
    assert (work.blocks["s1_scenes"] == 255).all()


# ------------------------------------------------------------------------------------- the task


def test_a_task_writes_its_shards_and_then_its_receipt(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"output": str(tmp_path)})
    pixels = {"o": optical(TOP), "r": radar({"vv": 0.5, "vh": 0.1})}
    table = SceneTable(search="x", scenes=(make_scene("o"), s1("r", "1"), make_scene("bad")))
    job = Job(spec=spec, scenes=table)
    store = create(tmp_path / STORES[Stage.COMPOSE], job.layouts[Stage.COMPOSE])
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"bad"})
    receipts = [stages.perform(TASK, job, "print", reader) for _ in range(2)]
    assert receipts[0].checksums == receipts[1].checksums
    receipt = Ledger(job.ledger_folder).read(TASK)
    assert isinstance(receipt, Receipt)
    assert receipt == receipts[1]
    assert receipt.fingerprint == "print"
    assert receipt.scenes == ("o", "r")
    assert receipt.failed == {"bad": "scene bad: told to fail"}
    assert not receipt.complete
    assert receipt.pixels["s2_quality"] == {"valid": 2048, "read_failed": 2048}
    assert receipt.pixels["s1_quality"] == {"valid": 4096}
    np.testing.assert_array_equal(store.read("s2", TILE, TASK.month), expected_s2([(TOP, 0)]))


def test_a_task_that_fails_leaves_no_receipt(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"output": str(tmp_path)})
    job = Job(spec=spec, scenes=SceneTable(search="x", scenes=(make_scene("o"),)))
    create(tmp_path / STORES[Stage.COMPOSE], job.layouts[Stage.COMPOSE])
    reader = FailingReader(FakeReader(BOX, {"o": optical(ALL)}), every=1, permanent=False)
    with pytest.raises(ReadError):
        stages.perform(TASK, job, "print", reader)
    assert Ledger(job.ledger_folder).read(TASK) is None


def test_the_area_of_the_tests_is_one_tile() -> None:
    assert SPEC.tiles() == (TILE,)
    assert Area.from_geojson(SPEC.area, where="it").geometry.area > 0
