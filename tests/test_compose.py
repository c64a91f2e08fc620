"""``stages.compose``: the expected composite is built first, and the scenes are cut from it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from cdscale import kernels, stages
from cdscale.errors import ReadError
from cdscale.grid import LON_LAT, Area, GeoBox, reproject
from cdscale.months import Month
from cdscale.pixels import Reader
from cdscale.progress import Progress
from cdscale.publication import Publication
from cdscale.run import prepared
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
    make_asset,
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
BANDS = ("vv", "vh")
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
    scenes: list[Scene],
    pixels: Mapping[str, ScenePixels],
    *,
    reader: Reader | None = None,
    cube: Mapping[str, Any] = MappingProxyType({}),
) -> stages.work.Work:
    spec = SPEC.model_copy(update={"cube": SPEC.cube.model_copy(update=dict(cube))})
    window = spec.cube.window_months
    job = Job(spec=spec, scenes=SceneTable(search="x", scenes=tuple(scenes), window=window))
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


DAY_ZERO = 18413
"""31 May 2020, in days since 1970."""


def at(day: int) -> str:
    return f"2020-06-{day:02d}T10:00:00+00:00"


# --------------------------------------------------------------------------------------- optical


def test_a_window_of_months_fills_holes_from_the_months_before() -> None:
    """But not from those after, nor from one before the window."""
    months = ("2020-03", "2020-04", "2020-06", "2020-07")
    pixels = {"2020-06": optical(LEFT | TOP, add=1), "2020-04": optical(~TOP, add=2)}
    pixels |= {month: optical(ALL, add=9) for month in ("2020-03", "2020-07")}
    scenes = [make_scene(month, when=f"{month}-15T10:00:00+00:00") for month in months]
    alone = compose(scenes, pixels)
    assert np.array_equal(alone.blocks["s2"], expected_s2([(LEFT | TOP, 1)]))
    work = compose(scenes, pixels, cube={"window_months": 3})
    assert np.array_equal(work.blocks["s2"], expected_s2([(~TOP, 2), (LEFT | TOP, 1)]))
    assert np.all(work.blocks["s2_date"][LEFT | TOP] == DAY_ZERO + 15)
    assert np.all(work.blocks["s2_date"][~LEFT & ~TOP] == DAY_ZERO - 46)
    assert sorted(work.used) == ["2020-04", "2020-06"]
    assert work.job.layouts[Stage.COMPOSE].attrs["compositing_window_months"] == 3


def test_radar_is_averaged_over_the_window() -> None:
    months = ("2020-05", "2020-06")
    scenes = [
        make_scene(
            m, sensor="s1", when=f"{m}-15T10:00:00+00:00", bands=BANDS, orbit=f"{i} ascending"
        )
        for i, m in enumerate(months)
    ]
    pixels = {m: radar({"vv": 1 + 2 * i, "vh": 1}) for i, m in enumerate(months)}
    assert np.all(compose(scenes, pixels).blocks["s1"][0] == 3)
    assert np.all(compose(scenes, pixels, cube={"window_months": 2}).blocks["s1"][0] == 2)


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
    work = compose([make_scene("more"), make_scene("full")], pixels, reader=reader)
    assert reader.calls == [("full", "mask"), ("more", "mask"), ("full", "B02,B03")]
    assert work.unused == {"more": "others were taken for every clear pixel that it shows"}


def test_a_scene_without_a_clear_pixel_is_not_read() -> None:
    pixels = {"cloud": optical(NONE)}
    reader = FakeReader(BOX, pixels)
    work = compose([make_scene("cloud")], pixels, reader=reader)
    assert reader.calls == [("cloud", "mask")]
    assert (work.blocks["s2_quality"] == Quality.cloud).all()
    assert (work.blocks["s2_date"] == 65535).all()
    assert work.used == []
    assert work.unused == {"cloud": "it shows no clear pixel of the tile"}


def test_every_reason_has_its_code() -> None:
    """Valid, cloud, no scene; and wherever a scene lies that cannot be read."""
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
    # A footprint may be drawn too small: the margin of a kilometre covers this small tile.
    expected[:] = Quality.read_failed
    np.testing.assert_array_equal(work.blocks["s2_quality"], expected)
    np.testing.assert_array_equal(work.blocks["s2"], expected_s2([(TOP & ~LEFT, 0)]))
    assert work.failed == {"broken": "scene broken: told to fail"}
    calm = compose(scenes[:1], pixels)
    expected[:] = np.where(TOP & ~LEFT, Quality.valid, Quality.no_scene)
    expected[LEFT & TOP] = Quality.cloud
    np.testing.assert_array_equal(calm.blocks["s2_quality"], expected)
    assert calm.failed == {}


def _half(box: GeoBox, side: str) -> GeoBox:
    return box[:, :32] if side == "left" else box[:, 32:]


def test_the_extent_of_a_file_says_better_where_it_is_missed() -> None:
    west = _half(BOX, "left")
    place = {"crs": GRID.crs, "transform": tuple(west.affine)[:6], "shape": (64, 32)}
    broken = make_scene("broken")
    assert broken.mask is not None
    broken = broken.model_copy(update={"mask": broken.mask.model_copy(update=place)})
    pixels = {"whole": optical(ALL), "broken": optical(ALL)}
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"broken"})
    work = compose([make_scene("whole"), broken], pixels, reader=reader)
    failed = work.blocks["s2_quality"] == Quality.read_failed
    assert failed[:, :32].all()
    assert not failed[:, 36:].any()  # a file reaches some pixels further when it is resampled
    np.testing.assert_array_equal(work.blocks["s2"], expected_s2([(ALL, 0)]))


def test_what_another_scene_fills_for_one_that_failed_is_marked() -> None:
    pixels = {"best": optical(ALL), "rest": optical(TOP, add=1)}
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"best"}, bands_only=True)
    work = compose([make_scene("best"), make_scene("rest")], pixels, reader=reader)
    np.testing.assert_array_equal(work.blocks["s2"], expected_s2([(TOP, 1)]))
    assert (work.blocks["s2_quality"] == Quality.read_failed).all()
    assert set(work.failed) == {"best"}
    assert work.used == ["rest"]


def test_a_scene_that_would_not_have_been_needed_takes_nothing_away() -> None:
    pixels = {"best": optical(ALL), "rest": optical(TOP, add=1)}
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"rest"}, bands_only=True)
    work = compose([make_scene("best"), make_scene("rest")], pixels, reader=reader)
    assert (work.blocks["s2_quality"] == Quality.valid).all()
    assert work.failed == {}


@pytest.mark.parametrize("permanent", [True, False])
def test_a_scene_that_fails_does_not_take_the_others_with_it(permanent: bool) -> None:
    pixels = {"one": optical(LEFT), "two": optical(ALL)}
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"two"}, permanent=permanent)
    work = compose([make_scene("one"), make_scene("two")], pixels, reader=reader)
    np.testing.assert_array_equal(work.blocks["s2"], expected_s2([(LEFT, 0)]))
    assert work.failed == {"two": "scene two: told to fail"}
    assert work.may_pass is not permanent


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
    day = np.full(SHAPE, 65535)
    for n in reversed(order):
        day[skies[n][0]] = DAY_ZERO + n + 1
    shuffle.shuffle(scenes)
    work = compose(scenes, pixels)
    np.testing.assert_array_equal(work.blocks["s2"], expected)
    np.testing.assert_array_equal(work.blocks["s2_date"], day)
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


# ---------------------------------------------------------------------------- median and medoid


def of_all(skies: list[tuple[Any, Any]], method: str) -> tuple[Any, Any]:
    """Median or medoid and date of scenes that are brighter one after the other, plainly."""
    values = np.full((2, *SHAPE), -32768, np.int64)
    day = np.full(SHAPE, 65535)
    for y, x in {(y, x) for y in range(0, 64, 16) for x in range(0, 64, 16)}:
        adds = [n for n in range(len(skies)) if skies[n][0][y, x]]
        if not adds:
            continue
        lower, upper = adds[(len(adds) - 1) // 2], adds[len(adds) // 2]
        block = np.s_[y : y + 16, x : x + 16]
        if method == "median":
            chosen: Any = (lower + upper) / 2
            day[block] = DAY_ZERO + lower + 1
        else:
            sums = [sum(abs(a - b) for b in adds) for a in adds]
            chosen = adds[int(np.argmin(sums))]
            day[block] = DAY_ZERO + chosen + 1
        for band, truth in enumerate(TRUTH.values()):
            values[band][block] = truth[block] + 4 * chosen
    return values, day


@pytest.mark.parametrize("method", ["median", "medoid"])
@pytest.mark.parametrize("rows", [64, 7])
@given(st.lists(st.tuples(masks, masks), min_size=1, max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=8)
def test_any_month_of_all_observations_is_what_the_rule_says(
    method: str, rows: int, skies: list[tuple[Any, Any]], shuffle: random.Random
) -> None:
    """However the tile is cut into strips, and in any order."""
    skies = [(clear & seen, seen) for clear, seen in skies]
    scenes = [make_scene(f"s{n}", when=at(n + 1)) for n in range(len(skies))]
    pixels = {f"s{n}": optical(c, seen=s, add=4 * n) for n, (c, s) in enumerate(skies)}
    expected, day = of_all(skies, method)
    shuffle.shuffle(scenes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "strip_rows", lambda self, passes: rows)
        work = compose(scenes, pixels, cube={"s2": method})
    np.testing.assert_array_equal(work.blocks["s2"], expected)
    np.testing.assert_array_equal(work.blocks["s2_date"], day)
    clear = np.any([c for c, _ in skies], axis=0)
    seen = np.any([s for _, s in skies], axis=0)
    quality = np.where(clear, Quality.valid, np.where(seen, Quality.cloud, Quality.no_scene))
    np.testing.assert_array_equal(work.blocks["s2_quality"], quality)
    np.testing.assert_array_equal(work.blocks["s2_clear"], np.sum([c for c, _ in skies], axis=0))


@pytest.mark.parametrize("method", ["median", "medoid"])
def test_an_observation_that_is_missing_marks_what_it_would_have_changed(method: str) -> None:
    pixels = {f"s{n}": optical(LEFT if n == 1 else ALL, add=n) for n in range(3)}
    scenes = [make_scene(f"s{n}", when=at(n + 1)) for n in range(3)]
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"s1"}, bands_only=True)
    work = compose(scenes, pixels, reader=reader, cube={"s2": method})
    expected = np.where(LEFT, Quality.read_failed, Quality.valid)
    np.testing.assert_array_equal(work.blocks["s2_quality"], expected)
    assert (work.blocks["s2"] != -32768).all()


# --------------------------------------------------------------------------- one pass, its granules


@dataclass
class WindowReader(FakeReader):
    """A fake that remembers how many pixels were asked for."""

    asked: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def mask(self, scene: Scene, geobox: GeoBox) -> Any:
        self.asked.setdefault((scene.id, "mask"), []).append(geobox.shape[0] * geobox.shape[1])
        return super().mask(scene, geobox)

    def bands(self, scene: Scene, names: tuple[str, ...], geobox: GeoBox) -> Any:
        self.asked.setdefault((scene.id, "bands"), []).append(geobox.shape[0] * geobox.shape[1])
        return super().bands(scene, names, geobox)


def granule(name: str, day: int = 1, take: str = "A_046695") -> Scene:
    return make_scene(name, when=at(day)).model_copy(update={"datatake": take})


def test_granules_of_one_pass_are_one_observation() -> None:
    """They overlap in a strip: there the first counts, and the second is not even read."""
    west, east = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    west[:, :40], east[:, 24:] = True, True
    pixels = {"a": optical(ALL, seen=west), "b": optical(ALL, seen=east, add=9)}
    reader = WindowReader(BOX, pixels)
    work = compose([granule("b"), granule("a")], pixels, reader=reader)
    np.testing.assert_array_equal(work.blocks["s2"], expected_s2([(west, 0), (~west, 9)]))
    for name in ("s2_scenes", "s2_clear"):
        assert (work.blocks[name] == 1).all()
    assert reader.asked == {
        ("a", "mask"): [64 * 64], ("b", "mask"): [64 * 24],
        ("a", "bands"): [64 * 40], ("b", "bands"): [64 * 24],
    }  # fmt: skip


def test_a_granule_that_shows_nothing_new_is_not_read() -> None:
    pixels = {"a": optical(ALL), "b": optical(ALL, add=9)}
    reader = WindowReader(BOX, pixels)
    work = compose([granule("a"), granule("b")], pixels, reader=reader)
    assert set(reader.asked) == {("a", "mask"), ("a", "bands")}
    assert work.unused == {"b": "others of the same pass show all that it shows here"}
    two = compose([granule("a"), granule("b", day=2, take="B")], pixels)
    assert (two.blocks["s2_scenes"] == 2).all()


def test_a_granule_that_fails_is_made_up_for_by_the_other_of_its_pass() -> None:
    pixels = {"a": optical(ALL), "b": optical(ALL, seen=LEFT)}
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"a"})
    work = compose([granule("a"), granule("b")], pixels, reader=reader)
    np.testing.assert_array_equal(work.blocks["s2"], expected_s2([(LEFT, 0)]))
    # It is the same observation, but by its own file it may look a little different.
    assert (work.blocks["s2_quality"] == Quality.read_failed).all()
    later = FailingReader(FakeReader(BOX, pixels), scenes={"b"})
    assert compose([granule("a"), granule("b")], pixels, reader=later).failed == {}


def test_only_the_window_with_holes_is_read_of_the_next_scene() -> None:
    clear = ALL.copy()
    clear[10:13, 20:25] = False
    pixels = {"best": optical(clear), "next": optical(TOP, add=3)}
    reader = WindowReader(BOX, pixels)
    compose([make_scene("best"), make_scene("next")], pixels, reader=reader)
    assert reader.asked["next", "bands"] == [3 * 5]


# ------------------------------------------------------------------- saturation, cloud, offsets


def test_saturated_is_told_from_cloud() -> None:
    one, two = optical(ALL), optical(NONE)
    assert one.mask is not None
    one.mask[LEFT & TOP] = 1  # by the mask
    one.bands["B03"][~LEFT & TOP] = 6.5535  # by the value
    scene = make_scene("one").model_copy(update={"mask_saturated": (1,)})
    work = compose([scene, make_scene("two")], {"one": one, "two": two})
    expected = np.where(TOP, Quality.saturated, Quality.valid)
    np.testing.assert_array_equal(work.blocks["s2_quality"], expected)
    np.testing.assert_array_equal(work.blocks["s2"], expected_s2([(~TOP, 0)]))


def test_probable_cloud_counts_where_the_spec_asks_for_it() -> None:
    hazy = replace(optical(ALL), cloud=np.where(LEFT, 60, 10).astype(np.uint8))
    assert hazy.cloud is not None
    hazy.cloud[0, 0] = 255  # none is known
    scene = make_scene("hazy").model_copy(update={"cloud": make_asset("nowhere/cloud.tif")})
    work = compose([scene], {"hazy": hazy}, cube={"cloud_probability": 50.0})
    expected = np.where(LEFT, Quality.cloud, Quality.valid)
    expected[0, 0] = Quality.valid
    np.testing.assert_array_equal(work.blocks["s2_quality"], expected)
    assert (compose([scene], {"hazy": hazy}).blocks["s2_quality"] == Quality.valid).all()


def test_cloud_beyond_the_edge_of_the_tile_grows_into_it() -> None:
    wide = GRID.window([TILE, replace(TILE, ix=TILE.ix + 1)]).geobox(GRID)
    mask = np.full((64, 128), SCL_CLEAR, np.uint8)
    mask[20, 66] = SCL_CLOUD
    bands = {name: np.full((64, 128), 0.1, np.float32) for name in TRUTH}
    scene = make_scene("one").model_copy(update={"mask_dilate_px": 4})
    work = compose([scene], {}, reader=FakeReader(wide, {"one": ScenePixels(bands, mask)}))
    expected = np.full(SHAPE, Quality.valid)
    expected[16:25, 62:] = Quality.cloud
    np.testing.assert_array_equal(work.blocks["s2_quality"], expected)


def test_cloud_of_a_granule_that_lies_beside_the_tile_grows_into_it() -> None:
    """However the ground is cut into tiles: a granule that ends at the edge of one is asked too."""
    beside = replace(TILE, ix=TILE.ix + 1)
    wide = GRID.window([TILE, beside]).geobox(GRID)
    bands = {name: np.full((64, 128), 0.1, np.float32) for name in TRUTH}
    here, there = (np.full((64, 128), SCL_CLEAR, np.uint8) for _ in range(2))
    here[:, 64:], there[:, :64] = SCL_NODATA, SCL_NODATA
    there[20, 66] = SCL_CLOUD
    granules = [
        granule(name).model_copy(
            # A hundredth of a pixel short of the edge: the footprints must not touch.
            update={"mask_dilate_px": 4, "footprint": GRID.footprint(tile).buffer(-1e-6).wkt}
        )
        for name, tile in (("a", TILE), ("b", beside))
    ]
    pixels = {"a": ScenePixels(bands, here), "b": ScenePixels(bands, there)}
    work = compose(granules, {}, reader=FakeReader(wide, pixels))
    expected = np.full(SHAPE, Quality.valid)
    expected[16:25, 62:] = Quality.cloud
    np.testing.assert_array_equal(work.blocks["s2_quality"], expected)


@pytest.mark.parametrize(("wrong", "ok"), [(0.0, True), (-0.1, False), (0.1, False)])
def test_an_offset_that_dark_objects_contradict_is_refused(wrong: float, ok: bool) -> None:
    """Left in, everything is brighter by 0.1; taken off twice, vegetation reflects less than 0."""
    dark = {name: np.full(SHAPE, 0.05 + wrong, np.float32) for name in TRUTH}
    mask = np.full(SHAPE, SCL_CLEAR, np.uint8)
    scene = make_scene("one").model_copy(update={"mask_dark": (SCL_CLEAR,)})
    work = compose([scene], {"one": ScenePixels(dark, mask)})
    if ok:
        assert work.failed == {}
        assert (work.blocks["s2_quality"] == Quality.valid).all()
        return
    assert (work.blocks["s2_quality"] == Quality.read_failed).all()
    assert "contradict its radiometric offset" in work.failed["one"]
    assert not work.may_pass


def test_side_by_side_gives_the_same_as_one_after_the_other() -> None:
    pixels = {f"s{n}": optical(LEFT if n % 2 else TOP, add=n) for n in range(6)}
    pixels |= {f"r{n}": radar({"vv": 0.1 * (n + 1), "vh": 0.01}) for n in range(6)}
    scenes = [make_scene(f"s{n}", when=at(n + 1)) for n in range(6)]
    scenes += [s1(f"r{n}", str(n % 2)) for n in range(6)]
    for method in ("least_cloudy", "median", "medoid"):
        results = []
        for lanes in (1, 4):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Job, "lanes", lambda self, scenes, lanes=lanes: lanes)
                results.append(compose(scenes, pixels, cube={"s2": method}))
        for name, block in results[0].blocks.items():
            np.testing.assert_array_equal(results[1].blocks[name], block)
        assert sorted(results[0].used) == sorted(results[1].used)


# ----------------------------------------------------------------------------------------- radar


def s1(name: str, orbit: str, bands: tuple[str, ...] = ("vv", "vh")) -> Scene:
    return make_scene(name, sensor="s1", bands=bands, orbit=orbit)


def test_radar_is_the_mean_of_the_orbits_means_in_linear_power() -> None:
    pixels = {
        "a1": radar({"vv": 0.10, "vh": 0.01}), "a2": radar({"vv": 0.30, "vh": 0.03}),
        "d1": radar({"vv": 0.60, "vh": np.where(LEFT, 0.06, np.nan)}),
    }  # fmt: skip
    scenes = [s1("a1", "161 ascending"), s1("a2", "161 ascending"), s1("d1", "37 descending")]
    work = compose(scenes, pixels)
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
    # The mean of the others stands there, and is not what it would be.
    assert (work.blocks["s1_quality"] == Quality.read_failed).all()
    np.testing.assert_array_equal(np.isfinite(work.blocks["s1"][0]), LEFT)
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
    for name in ("s1", "s1_quality", "s1_scenes"):
        np.testing.assert_array_equal(got[name], expected[name])


def test_slices_of_one_pass_are_one_observation() -> None:
    """Where they overlap the pixel counts once, and by the first slice."""
    pixels = {
        "n": radar({"vv": np.where(TOP, 0.2, np.nan), "vh": np.where(TOP, 0.02, np.nan)}),
        "s": radar({"vv": np.where(np.roll(~TOP, -4, axis=0), 0.4, np.nan), "vh": 0.04}),
    }
    scenes = [s1(n, "161 ascending").model_copy(update={"datatake": "x"}) for n in ("n", "s")]
    work = compose(scenes, pixels)
    np.testing.assert_allclose(work.blocks["s1"][0][:60], np.where(TOP, 0.2, 0.4)[:60], rtol=1e-6)
    assert (work.blocks["s1_scenes"] == 1).all()
    assert sorted(work.used) == ["n", "s"]


def test_radar_by_direction_lets_no_orbit_of_it_outweigh_the_other_direction() -> None:
    pixels = {n: radar({"vv": v, "vh": v}) for n, v in (("a", 0.1), ("b", 0.3), ("d", 0.6))}
    scenes = [s1("a", "161 ascending"), s1("b", "59 ascending"), s1("d", "37 descending")]
    by_orbit = compose(scenes, pixels).blocks["s1"]
    np.testing.assert_allclose(by_orbit, (0.1 + 0.3 + 0.6) / 3, rtol=1e-6)
    by_direction = compose(scenes, pixels, cube={"s1_by": "direction"}).blocks["s1"]
    np.testing.assert_allclose(by_direction, (0.2 + 0.6) / 2, rtol=1e-6)


def test_the_rim_of_a_swath_is_cleaned_and_zero_is_no_backscatter() -> None:
    vv = np.full(SHAPE, 0.1, np.float32)
    vv[:, :10], vv[:, 10:14], vv[40, 40] = np.nan, 1e-5, 0.0
    vh = np.where(np.isnan(vv), np.nan, np.where(vv == np.float32(1e-5), 1e-6, 0.01))
    vv[50, 14] = 1e-5  # beside the rim, but its other polarisation is that of land
    pixels = {"one": radar({"vv": vv, "vh": vh})}
    work = compose([s1("one", "1")], pixels)
    seen = np.ones(SHAPE, bool)
    seen[:, :14] = False
    np.testing.assert_array_equal(np.isfinite(work.blocks["s1"][1]), seen)
    seen[40, 40] = False
    np.testing.assert_array_equal(np.isfinite(work.blocks["s1"][0]), seen)
    kept = compose([s1("one", "1")], pixels, cube={"s1_border_px": 0})
    assert np.isfinite(kept.blocks["s1"][0][:, 10:14]).all()


def test_filtered_radar_is_the_same_however_the_ground_is_cut() -> None:
    wide = GRID.window([TILE, replace(TILE, ix=TILE.ix + 1)]).geobox(GRID)
    rng = np.random.default_rng(0)
    pixels = {
        f"r{n}": ScenePixels({b: rng.gamma(4.4, 0.02, (64, 128)).astype(np.float32) for b in BANDS})
        for n in range(4)
    }
    reader = FakeReader(wide, pixels)
    work = compose([s1(f"r{n}", str(n % 2)) for n in range(4)], {}, reader=reader,
                   cube={"s1_speckle_px": 7})  # fmt: skip
    orbits = [[pixels[f"r{n}"].bands["vv"] for n in range(o, 4, 2)] for o in range(2)]
    means = []
    for scenes in orbits:
        mean = np.mean(np.stack(scenes).astype(np.float64), axis=0)[None]
        means.append(kernels.radar.despeckle(mean, np.full(mean.shape, 2, np.uint16), 7)[0])
    np.testing.assert_allclose(work.blocks["s1"][0], np.mean(means, axis=0)[:, :64], rtol=1e-6)


def test_sensors_do_not_touch_each_other() -> None:
    pixels = {"o": optical(LEFT), "r": radar({"vv": 0.5, "vh": 0.1})}
    scenes = [make_scene("o"), s1("r", "1")]
    work = compose(scenes, pixels)
    only = compose(scenes[:1], pixels)
    for name in ("s2", "s2_quality", "s2_scenes", "s2_clear", "s2_date"):
        np.testing.assert_array_equal(work.blocks[name], only.blocks[name])


def test_many_scenes_are_counted_and_not_wrapped_round() -> None:
    """At the polar circle a month holds hundreds of scenes; 256 of them are not none."""
    number = 256
    pixels = {f"r{n}": radar({"vv": 0.5, "vh": 0.1}) for n in range(number)}
    work = compose([s1(f"r{n}", "1") for n in range(number)], pixels)
    assert (work.blocks["s1_scenes"] == 255).all()


# ------------------------------------------------------------- what lies beside a failed read


def test_cloud_that_a_failed_granule_may_have_grown_is_marked() -> None:
    """Its mask might have had cloud beside the seam, which grows into the granule that was read."""
    west, east = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    west[:, :32], east[:, 32:] = True, True
    pixels = {"a": optical(ALL, seen=west), "b": optical(NONE, seen=east)}
    scenes = [granule(name).model_copy(update={"mask_dilate_px": 3}) for name in ("a", "b")]
    scenes[1] = _in_the_east(scenes[1])
    whole = compose(scenes, pixels)
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"b"})
    work = compose(scenes, pixels, reader=reader)
    assert_marked_where_it_differs(work, whole, "s2")
    # The outline of a file is taken two pixels larger.
    assert (work.blocks["s2_quality"][:, :27] == Quality.valid).all()


def _in_the_east(scene: Scene) -> Scene:
    """A scene whose item says that its files hold no more than the eastern half."""
    box = _half(BOX, "right")
    place = {"crs": GRID.crs, "transform": tuple(box.affine)[:6], "shape": (64, 32)}
    assets = {name: asset.model_copy(update=place) for name, asset in scene.assets.items()}
    mask = scene.mask and scene.mask.model_copy(update=place)
    return scene.model_copy(update={"assets": assets, "mask": mask})


def test_a_pass_that_lost_rank_with_a_granule_marks_what_it_would_have_decided() -> None:
    """It shows more of the tile than any other, but half of its mask does not come."""
    pixels = {
        "a": optical(ALL, seen=LEFT),
        "b": optical(ALL, seen=~LEFT),
        "other": optical(TOP | ~LEFT, add=5),
    }
    scenes = [granule("a"), _in_the_east(granule("b")), make_scene("other", when=at(9))]
    whole = compose(scenes, pixels)
    assert whole.used == ["a", "b"]
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"b"})
    work = compose(scenes, pixels, reader=reader)
    assert_marked_where_it_differs(work, whole, "s2")
    # Where nothing else is clear it is as certain as before.
    assert (work.blocks["s2_quality"][32:, :30] == Quality.valid).all()


@pytest.mark.parametrize("cube", [{"s1_speckle_px": 5}, {"s1_border_px": 8}])
def test_radar_beside_a_failed_slice_is_marked(cube: dict[str, Any]) -> None:
    """The speckle filter looks at its pixels, and the border guard takes its rim for the swath's.

    A second pass shows all of it, so that the mean has a value either way.
    """
    rng = np.random.default_rng(0)
    dark = np.where(np.arange(64) < 34, 1e-6, 0.1) * np.ones(SHAPE)
    noise = rng.gamma(4.4, 0.02, SHAPE)
    shown = dark if "s1_border_px" in cube else noise
    pixels = {
        "n": radar({b: np.where(LEFT, shown, np.nan) for b in BANDS}),
        "s": radar({b: np.where(LEFT, np.nan, shown) for b in BANDS}),
        "t": radar(dict.fromkeys(BANDS, 0.2)),
    }
    there = {"datatake": "x"}
    scenes = [s1(n, "161 ascending").model_copy(update=there) for n in ("n", "s")]
    scenes[1] = _in_the_east(scenes[1])
    scenes.append(s1("t", "59 ascending"))
    whole = compose(scenes, pixels, cube=cube)
    reader = FailingReader(FakeReader(BOX, pixels), scenes={"s"})
    work = compose(scenes, pixels, reader=reader, cube=cube)
    assert_marked_where_it_differs(work, whole, "s1")
    assert (work.blocks["s1_quality"][:, :16] == Quality.valid).all()


def assert_marked_where_it_differs(work: Any, whole: Any, sensor: str) -> None:
    got, expected = work.blocks[sensor], whole.blocks[sensor]
    differs = ~np.isclose(got, expected, rtol=1e-6, atol=0, equal_nan=True).all(axis=0)
    marked = work.blocks[f"{sensor}_quality"] == Quality.read_failed
    assert differs.any()
    assert not (differs & ~marked).any()


@dataclass
class PatchyReader(FailingReader):
    """Fails on masks of some scenes and on bands of others."""

    masks: frozenset[str] = frozenset()

    def mask(self, scene: Scene, geobox: GeoBox) -> Any:
        if scene.id in self.masks:
            raise ReadError(f"scene {scene.id}: told to fail", permanent=True)
        return self.reader.mask(scene, geobox)


NAMES = tuple(f"{take}{part}" for take in "abc" for part in "ew")
some = st.frozensets(st.sampled_from(NAMES), max_size=3)


@pytest.mark.parametrize("method", ["least_cloudy", "median", "medoid"])
@given(st.tuples(*[masks] * 6), some, some, st.integers(0, 3))
@settings(max_examples=12)
def test_whatever_fails_each_pixel_is_right_or_marked(
    method: str, skies: tuple[Any, ...], masks: Any, bands: Any, dilate: int
) -> None:
    """Three passes of two granules; some of the masks and of the bands do not come."""
    west = np.zeros(SHAPE, bool)
    west[:, :36] = True
    pixels, scenes = {}, []
    for n, (name, sky) in enumerate(zip(NAMES, skies, strict=True)):
        seen = west if name.endswith("w") else ~np.roll(west, -8, axis=1)
        pixels[name] = optical(sky, seen=seen, add=7 * (n // 2))
        scene = granule(name, day=n // 2 + 1, take=name[0])
        scenes.append(scene.model_copy(update={"mask_dilate_px": dilate}))
    whole = compose(scenes, pixels, cube={"s2": method})
    patchy = PatchyReader(FakeReader(BOX, pixels), scenes=bands, masks=masks, bands_only=True)
    work = compose(scenes, pixels, reader=patchy, cube={"s2": method})
    failed = work.blocks["s2_quality"] == Quality.read_failed
    for name in ("s2_date", "s2_quality"):
        assert np.array_equal(work.blocks[name][~failed], whole.blocks[name][~failed])
    assert np.array_equal(work.blocks["s2"][:, ~failed], whole.blocks["s2"][:, ~failed])
    if not work.failed:
        assert not failed.any()


@pytest.mark.parametrize("method", ["least_cloudy", "median", "medoid"])
def test_an_offset_refused_in_one_strip_is_refused_in_all_of_them(method: str) -> None:
    """Dark objects show it in the lower strips only: the upper ones were made by then."""
    dark = {name: np.full(SHAPE, 0.15, np.float32) for name in TRUTH}
    mask = np.full(SHAPE, SCL_CLEAR, np.uint8)
    mask[:16] = 5  # clear, but not dark
    pixels = {"wrong": ScenePixels(dark, mask), "right": optical(ALL)}
    update = {"mask_dark": (SCL_CLEAR,), "mask_clear": (SCL_CLEAR, 5)}
    scenes = [
        make_scene("wrong", when=at(1)).model_copy(update=update),
        make_scene("right", when=at(2)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "strip_rows", lambda self, passes: 16)
        work = compose(scenes, pixels, cube={"s2": method})
    assert set(work.failed) == {"wrong"}
    assert work.used == ["right"]
    np.testing.assert_array_equal(work.blocks["s2"], expected_s2([(ALL, 0)]))
    assert (work.blocks["s2_quality"] == Quality.read_failed).all()


@pytest.mark.parametrize("method", ["least_cloudy", "median", "medoid"])
def test_dark_objects_of_all_strips_judge_an_offset_together(method: str) -> None:
    """Enough of them in the tile, but not in any one strip."""
    dark = {name: np.full(SHAPE, 0.15, np.float32) for name in TRUTH}
    mask = np.full(SHAPE, SCL_CLEAR, np.uint8)
    mask[:, 20:] = 5  # clear, but not dark
    update = {"mask_dark": (SCL_CLEAR,), "mask_clear": (SCL_CLEAR, 5)}
    scene = make_scene("wrong").model_copy(update=update)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "strip_rows", lambda self, passes: 8)
        work = compose([scene], {"wrong": ScenePixels(dark, mask)}, cube={"s2": method})
    assert set(work.failed) == {"wrong"}
    assert (work.blocks["s2"] == -32768).all()
    assert (work.blocks["s2_quality"] == Quality.read_failed).all()


def test_the_rim_is_cleaned_whatever_a_profile_calls_its_polarisations() -> None:
    vv = np.full((1, 8, 8), 0.1, np.float32)
    vv[0, :, 0], vv[0, :, 1] = NAN, 1e-5
    for name in ("VV", "copol"):
        assert kernels.radar.border_noise(vv, [name], 4)[:, 1].all()


@pytest.mark.parametrize("method", ["median", "medoid"])
def test_a_value_has_a_date_and_no_date_stands_without_a_value(method: str) -> None:
    """Also where every observation lacks one of the bands."""
    one, two = optical(ALL), optical(ALL, add=2)
    one.bands["B02"][LEFT], two.bands["B03"][LEFT] = NAN, NAN
    one.bands["B02"][TOP], two.bands["B02"][TOP] = NAN, NAN
    scenes = [make_scene("one", when=at(1)), make_scene("two", when=at(2))]
    work = compose(scenes, {"one": one, "two": two}, cube={"s2": method})
    valued = (work.blocks["s2"] != -32768).all(axis=0)
    np.testing.assert_array_equal(work.blocks["s2_date"] != 65535, valued)
    np.testing.assert_array_equal(work.blocks["s2_quality"] == Quality.valid, valued)


@pytest.mark.parametrize("method", ["least_cloudy", "median", "medoid"])
def test_a_pass_over_midnight_has_the_day_of_each_granule(method: str) -> None:
    pixels = {"a": optical(ALL, seen=LEFT), "b": optical(ALL, seen=~LEFT)}
    times = ("2020-06-01T23:59:50+00:00", "2020-06-02T00:00:10+00:00")
    scenes = [
        make_scene(name, when=when).model_copy(update={"datatake": "x"})
        for name, when in zip("ba", times, strict=True)
    ]
    work = compose(scenes, pixels, cube={"s2": method})
    expected = np.where(LEFT, DAY_ZERO + 2, DAY_ZERO + 1)
    np.testing.assert_array_equal(work.blocks["s2_date"], expected)


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
    assert receipt.pixels["s2_quality"] == {"read_failed": 4096}
    assert receipt.unused == {}
    assert not receipt.may_pass
    assert receipt.pixels["s1_quality"] == {"valid": 4096}
    np.testing.assert_array_equal(store.read("s2", TILE, TASK.month), expected_s2([(TOP, 0)]))


class BrokenReader(FakeReader):
    """One that has a fault of its own."""

    def bands(self, *arguments: Any) -> Any:
        raise RuntimeError("broken")


def test_a_task_that_fails_leaves_no_receipt(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"output": str(tmp_path)})
    job = Job(spec=spec, scenes=SceneTable(search="x", scenes=(make_scene("o"),)))
    create(tmp_path / STORES[Stage.COMPOSE], job.layouts[Stage.COMPOSE])
    with pytest.raises(RuntimeError, match="broken"):
        stages.perform(TASK, job, "print", BrokenReader(BOX, {"o": optical(ALL)}))
    assert Ledger(job.ledger_folder).read(TASK) is None


class Killed(BaseException):
    """What a task sees of the end of its process: nothing of its own runs after it."""


def test_a_spec_that_changes_and_changes_back_finds_what_a_killed_task_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shards are of the other spec by then: the receipt of the first must not hold."""
    scenes = tuple(make_scene(f"s{n}", when=at(n + 1)) for n in range(2))
    jobs = []
    for method in ("least_cloudy", "median"):
        cube = SPEC.cube.model_copy(update={"s2": method})
        spec = SPEC.model_copy(update={"output": str(tmp_path), "cube": cube})
        jobs.append(Job(spec=spec, scenes=SceneTable(search="x", scenes=scenes)))
    reader = FakeReader(BOX, {f"s{n}": optical(ALL, add=10 * n) for n in range(2)})

    def do(job: Job) -> None:
        with prepared(job) as progress:
            marks = Publication.open(progress, Stage.COMPOSE)
            for task, mark in progress.agenda(Stage.COMPOSE).ready.items():
                marks.begin(task)
                progress.record(stages.perform(task, job, mark, reader))

    def die(*_: object) -> None:
        raise Killed

    do(jobs[0])
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "write", die)
        with pytest.raises(Killed):
            do(jobs[1])
    assert not Progress.of(jobs[0]).finished
    with prepared(jobs[0]):
        pass
    store = create(tmp_path / STORES[Stage.COMPOSE], jobs[0].layouts[Stage.COMPOSE])
    assert store.published() == ()
    do(jobs[0])
    assert store.published() == (TASK.month,)
    np.testing.assert_array_equal(store.read("s2", TILE, TASK.month), expected_s2([(ALL, 0)]))


def test_the_area_of_the_tests_is_one_tile() -> None:
    assert SPEC.tiles() == (TILE,)
    assert Area.from_geojson(SPEC.area, where="it").geometry.area > 0
