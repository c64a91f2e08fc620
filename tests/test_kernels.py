"""Pixel maths: properties, and plain loops as the expected answer."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cdscale import kernels
from cdscale.kernels import optical, radar
from cdscale.kernels.optical import Look

NAN = np.float32(np.nan)
power = st.floats(2**-20, 16, width=32)


def drawn(low: float, high: float) -> st.SearchStrategy[Any]:
    """Blocks with holes, drawn by numpy from a seed: many values at the cost of one."""

    def block(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        values = rng.uniform(low, high, (2, 3, 4)).astype(np.float32)
        values[rng.random((2, 3, 4)) < rng.random()] = np.nan
        return values

    return st.integers(0, 2**32 - 1).map(block)


powers, blocks = drawn(2**-20, 16), drawn(-0.5, 1.5)
masks = st.integers(0, 2**12 - 1).map(
    lambda bits: np.array([bits >> n & 1 for n in range(12)], bool).reshape(3, 4)
)


# --------------------------------------------------------------------------------------- decibel


@given(hnp.arrays(np.float32, 20, elements=power))
def test_power_goes_to_decibel_and_back(values: Any) -> None:
    decibel = kernels.to_decibel(values)
    assert decibel.dtype == np.float32
    np.testing.assert_allclose(kernels.to_power(decibel), values, rtol=1e-5)


def test_known_decibels() -> None:
    given_power = np.array([1.0, 0.1, 2.0, 0.0, -0.1, np.nan], np.float32)
    expected = np.array([0.0, -10.0, 3.0103, np.nan, np.nan, np.nan], np.float32)
    np.testing.assert_allclose(kernels.to_decibel(given_power), expected, rtol=1e-5)
    assert np.isnan(kernels.to_power(np.array([np.nan], np.float32))).all()


# ---------------------------------------------------------------------------------------- looks


CLEAR, SATURATED, DARK, NODATA = (4, 5), (1,), (4,), (0,)


def slow_look(classes: Any, dilate: int) -> Any:
    """Codes by a plain loop: cloud grows by a square over all that is seen."""
    known = {0: Look.unseen, 1: Look.saturated, 4: Look.dark, 5: Look.clear, 9: Look.cloud}
    rows, columns = classes.shape
    look = np.zeros((rows, columns), np.uint8)
    for y in range(rows):
        for x in range(columns):
            look[y, x] = known[int(classes[y, x])]
            near = classes[max(y - dilate, 0) : y + dilate + 1, max(x - dilate, 0) : x + dilate + 1]
            if look[y, x] and 9 in near:
                look[y, x] = Look.cloud
    return look


@given(hnp.arrays(np.uint8, (7, 6), elements=st.sampled_from([0, 1, 4, 5, 9])), st.integers(0, 3))
def test_a_look_is_what_a_plain_loop_says(classes: Any, dilate: int) -> None:
    """Cloud grows by a square on each side; the rim of the swath does not."""
    look = optical.look_of(classes, clear=CLEAR, nodata=NODATA, saturated=SATURATED, dark=DARK)
    optical.dilate_cloud(look, dilate)
    np.testing.assert_array_equal(look, slow_look(classes, dilate))
    np.testing.assert_array_equal(optical.is_clear(look), look >= 3)


def test_what_the_spec_calls_clear_is_clear() -> None:
    classes = np.array([[0, 1, 2, 4, 6]], np.uint8)
    look = optical.look_of(classes, clear=(0, 1, 2), nodata=(0,), saturated=(1,), dark=(4, 6))
    expected = [Look.unseen, Look.clear, Look.clear, Look.cloud, Look.cloud]
    np.testing.assert_array_equal(look[0], expected)


def test_probable_cloud_hides_all_that_is_seen() -> None:
    look = np.arange(5, dtype=np.uint8)[None]
    optical.add_cloud(look, np.ones((1, 5), bool))
    np.testing.assert_array_equal(look[0], [0, 1, 1, 1, 1])


# -------------------------------------------------------------------------------------- composites


@given(st.lists(st.tuples(blocks, masks), min_size=1, max_size=4))
def test_holes_are_filled_whole_from_the_first_scene_that_can(scenes: list[Any]) -> None:
    expected = np.full((2, 3, 4), NAN)
    for y in range(3):
        for x in range(4):
            for block, usable in scenes:
                if usable[y, x] and np.isfinite(block[:, y, x]).all():
                    expected[:, y, x] = block[:, y, x]
                    break
    composite = np.full((2, 3, 4), NAN)
    for block, usable in scenes:
        empty = np.isnan(composite[0])
        filled = optical.fill(composite, block, usable & empty)
        np.testing.assert_array_equal(filled, empty & ~np.isnan(composite[0]))
    np.testing.assert_array_equal(composite, expected)


stacks = st.lists(blocks, min_size=1, max_size=6).map(np.stack)


@given(stacks)
def test_the_median_is_that_of_numpy_where_every_band_has_one(stack: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of pixels without a value
        expected = np.nanmedian(stack, axis=0)
    expected[:, np.isnan(expected).any(axis=0)] = np.nan
    np.testing.assert_allclose(optical.median(stack.copy()), expected, rtol=1e-6)


@given(stacks)
def test_the_medoid_is_the_observation_nearest_to_all_others(stack: Any) -> None:
    chosen = optical.medoid(stack)
    for y, x in np.ndindex(3, 4):
        whole = [s for s in range(len(stack)) if np.isfinite(stack[s, :, y, x]).all()]
        if not whole:
            assert chosen[y, x] == -1
            continue
        assert chosen[y, x] in whole
        values = stack[:, :, y, x].astype(float)
        sums = {s: sum(np.linalg.norm(values[s] - values[o]) for o in whole) for s in whole}
        assert sums[int(chosen[y, x])] == pytest.approx(
            min(sums.values()), abs=2e-3
        )  # rounded steps


def test_of_two_observations_the_medoid_is_the_first() -> None:
    stack = np.array([0.3, 0.1], np.float32)[:, None, None, None]
    assert optical.medoid(stack).item() == 0


@given(hnp.arrays(np.uint16, (5, 3, 2), elements=st.sampled_from([7, 9, 11, 65535])))
def test_the_middle_day_is_one_of_the_days(days: Any) -> None:
    got = optical.middle_day(days.copy(), 65535)
    for y, x in np.ndindex(3, 2):
        seen = sorted(int(d) for d in days[:, y, x] if d != 65535)
        assert got[y, x] == (seen[(len(seen) - 1) // 2] if seen else 65535)


def test_what_cannot_be_stored_is_saturated() -> None:
    block = np.full((2, 1, 3), 0.2, np.float32)
    block[1, 0, 1], block[0, 0, 2] = 6.5535, np.nan
    np.testing.assert_array_equal(optical.drop_saturated(block), [[False, True, False]])
    np.testing.assert_array_equal(np.isnan(block).any(axis=0), [[False, True, True]])


def test_the_dark_level_wants_enough_pixels() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.uniform(0.02, 0.08, 400), rng.uniform(0.1, 0.3, 400)])
    level = optical.dark_level(values.astype(np.float32))
    assert level == pytest.approx(np.percentile(values[0], 5), abs=1e-6)
    values[0, 0] = np.nan
    assert optical.dark_level(values.astype(np.float32)) is None


# ------------------------------------------------------------------------------------------ radar


def slow_power_mean(scenes: list[tuple[str, Any]]) -> Any:
    expected = np.full((2, 3, 4), NAN)
    for index in np.ndindex(2, 3, 4):
        means = []
        for orbit in sorted({orbit for orbit, _ in scenes}):
            seen = [float(v[index]) for o, v in scenes if o == orbit and np.isfinite(v[index])]
            if seen:
                means.append(sum(seen) / len(seen))
        if means:
            expected[index] = sum(means) / len(means)
    return expected


def power_mean(scenes: list[tuple[str, Any]]) -> Any:
    orbits: dict[str, radar.Mean] = {}
    for orbit, values in scenes:
        orbits.setdefault(orbit, radar.Mean(values.shape)).add(values)
    return radar.mean_of_means([mean.result() for mean in orbits.values()])


scene_lists = st.lists(
    st.tuples(st.sampled_from(["1 up", "2 down", ""]), powers), min_size=1, max_size=5
)


@given(scene_lists, st.randoms())
def test_the_mean_is_that_of_the_orbits_means_in_any_order(scenes: list[Any], random: Any) -> None:
    np.testing.assert_allclose(power_mean(scenes), slow_power_mean(scenes), rtol=1e-6)
    shuffled = list(scenes)
    random.shuffle(shuffled)
    np.testing.assert_allclose(power_mean(shuffled), power_mean(scenes), rtol=1e-6)


def test_the_mean_is_of_power_and_not_of_decibels() -> None:
    scenes = [("1", kernels.to_power(np.full((1, 1, 1), d, np.float32))) for d in (0.0, -20.0)]
    assert kernels.to_decibel(power_mean(scenes)).item() == pytest.approx(-2.967, abs=1e-3)


def test_adding_leaves_the_scene_alone_and_result_can_be_asked_twice() -> None:
    mean = radar.Mean((1, 1, 2))
    scene = np.array([[[1.0, np.nan]]], np.float32)
    mean.add(scene)
    first = mean.result()
    np.testing.assert_array_equal(scene, [[[1.0, np.nan]]])
    np.testing.assert_array_equal(first, mean.result())
    mean.add(scene * 3)
    np.testing.assert_array_equal(mean.result(), [[[2.0, np.nan]]])


def test_nothing_scatters_nothing_back() -> None:
    power = np.array([[[0.0, -1.0, 0.5, np.nan]]], np.float32)
    radar.drop_powerless(power)
    np.testing.assert_array_equal(power, [[[np.nan, np.nan, 0.5, np.nan]]])


def swath(rng: Any, size: int = 40) -> Any:
    """A swath that begins somewhere in the block, dark pixels thrown over it, lakes among them."""
    power = rng.uniform(0.01, 0.5, (2, size, size)).astype(np.float32)
    power[:, rng.random((size, size)) < 0.45] = 1e-5
    edge = rng.integers(5, 15, size)
    for y in range(size):
        power[:, y, : edge[y]] = np.nan
    return power


@pytest.mark.parametrize("seed", range(5))
def test_border_noise_hangs_together_with_the_edge_of_the_swath(seed: int) -> None:
    power, reach = swath(np.random.default_rng(seed)), 6
    unseen = np.isnan(power).all(axis=0)
    dark = (power < 1e-4).all(axis=0)
    steps = np.where(unseen, 0, 99)  # by plain relaxation, one step after the other
    for _ in range(reach):
        near = ndimage.minimum_filter(steps, 3, mode="constant", cval=99) + 1
        steps = np.where(dark, np.minimum(steps, near), steps)
    expected = dark & (steps <= reach)
    assert expected.any()
    assert (dark & ~expected).any()
    got = radar.border_noise(power, ("vv", "vh"), reach)
    np.testing.assert_array_equal(got, expected)
    # Cut with a margin of its reach, a block says the same inside.
    cut = radar.border_noise(power[:, 4:36, 4:36], ("vv", "vh"), reach)
    np.testing.assert_array_equal(cut[reach:-reach, reach:-reach], got[10:30, 10:30])
    assert not radar.border_noise(power, ("vv", "vh"), 0).any()


def test_dark_water_away_from_the_edge_stays() -> None:
    power = np.full((1, 20, 20), 0.1, np.float32)
    power[:, :, :3] = np.nan
    power[:, 8:14, 8:14] = 1e-5
    assert not radar.border_noise(power, ("vv",), 8).any()


def test_the_filter_takes_speckle_and_leaves_a_bright_target_and_an_edge() -> None:
    rng = np.random.default_rng(1)
    truth = np.full((60, 60), 0.1)
    truth[:, 30:] = 0.4
    truth[45, 15] = 5.0
    mean = radar.Mean((1, 60, 60))
    for scene in (truth * rng.gamma(4.4, 1 / 4.4, (8, 60, 60))).astype(np.float32):
        mean.add(scene[None])
    plain = mean.result()
    filtered = radar.despeckle(plain, mean.count_BYX, 7)
    for field in (np.s_[0, 4:38, 4:26], np.s_[0, 4:56, 34:56]):
        before, after = plain[field], filtered[field]
        assert after.std() < 0.5 * before.std()
        assert after.mean() == pytest.approx(before.mean(), rel=0.01)
    assert filtered[0, 45, 15] == pytest.approx(plain[0, 45, 15], rel=0.05)
    left, right = filtered[0, 4:38, 28].mean(), filtered[0, 4:38, 31].mean()
    assert right - left > 0.9 * (plain[0, 4:38, 31].mean() - plain[0, 4:38, 28].mean())


def test_the_filter_knows_many_scenes_from_few() -> None:
    """The same mean: with more scenes behind it, less of its variance is taken for speckle."""
    image = np.random.default_rng(0).gamma(20, 0.005, (1, 40, 40))
    few, many = (radar.despeckle(image, np.full(image.shape, n, np.uint16), 5) for n in (2, 50))
    assert few.std() < 0.5 * many.std()


def test_the_filter_keeps_to_what_was_seen() -> None:
    image = np.full((1, 9, 9), 0.2)
    image[0, :, :4] = np.nan
    got = radar.despeckle(image, np.ones(image.shape, np.uint16), 3)
    np.testing.assert_allclose(got, image)


@given(powers, st.sampled_from([1, 3, 5]))
def test_the_window_mean_leaves_out_what_is_not_there(block: Any, side: int) -> None:
    half, image = side // 2, block[0]
    got = radar.window_mean(image, side)
    for y, x in np.ndindex(*image.shape):
        near = image[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1].astype(float)
        near = near[np.isfinite(near)]
        if len(near):
            assert got[y, x] == pytest.approx(near.mean(), rel=1e-6)
        else:
            assert np.isnan(got[y, x])


# --------------------------------------------------------------------------------------- quality


def test_later_layers_of_a_quality_variable_override_earlier_ones() -> None:
    left = np.array([[True, True, False, False]])
    both = np.array([[False, True, True, False]])
    got = kernels.quality_codes([(3, left), (7, both)], (1, 4))
    assert got.dtype == np.uint8
    assert got.tolist() == [[3, 7, 7, 0]]


# --------------------------------------------------------------------------------------- packing


@given(hnp.arrays(np.float32, (2, 3), elements=st.floats(-3, 3, width=32) | st.just(float("nan"))))
def test_packed_reflectance_unpacks_within_half_a_step(values: Any) -> None:
    packed = kernels.pack_reflectance(values, scale=0.0001, fill=-32768)
    assert packed.dtype == np.int16
    np.testing.assert_array_equal(packed == -32768, np.isnan(values))
    seen = np.isfinite(values)
    np.testing.assert_allclose(packed[seen] * 0.0001, values[seen], atol=0.5001e-4)


def test_packing_keeps_zero_and_stops_at_the_ends() -> None:
    values = np.array([0.0, -0.0, -0.01, 9.9, -9.9, np.inf, -np.inf, np.nan], np.float32)
    packed = kernels.pack_reflectance(values, scale=0.0001, fill=-32768)
    assert packed.tolist() == [0, 0, -100, 32767, -32767, 32767, -32767, -32768]


@given(hnp.arrays(np.float32, (2, 3), elements=st.floats(0, 1, width=32) | st.just(float("nan"))))
def test_packed_probability_unpacks_within_half_a_step(values: Any) -> None:
    packed = kernels.pack_probability(values)
    np.testing.assert_array_equal(packed == 255, np.isnan(values))
    assert packed[packed != 255].max(initial=0) <= kernels.PROBABILITY_LEVELS
    np.testing.assert_allclose(kernels.unpack_probability(packed), values, atol=0.5001 / 250)


def test_every_stored_probability_packs_back_to_itself() -> None:
    stored = np.array([*range(251), 255], np.uint8)
    np.testing.assert_array_equal(
        kernels.pack_probability(kernels.unpack_probability(stored)), stored
    )
    beyond = np.array([-0.2, 1.7, np.inf], np.float32)
    assert kernels.pack_probability(beyond).tolist() == [0, 250, 250]


# ----------------------------------------------------------------------------------------- onset


def slow_onset(series: list[float], threshold: float) -> tuple[int, list[int]]:
    """The best split, and all that are as good but for rounding."""
    seen = [(t, value) for t, value in enumerate(series) if np.isfinite(value)]
    steps = {}
    for cut in range(1, len(seen)):
        before = np.mean([v for _, v in seen[:cut]])
        after = np.mean([v for _, v in seen[cut:]])
        if before < threshold <= after:
            steps[seen[cut][0]] = float(after - before)
    if not steps:
        return -1, [-1]
    top = max(steps.values())
    best = min(t for t, step in steps.items() if step == top)
    return best, [t for t, step in steps.items() if step > top - 1e-9]


# Steps of 1/64 have exact means often enough, and a threshold between them is never met by one.
levels = st.integers(0, 64).map(lambda n: n / 64) | st.just(float("nan"))


@given(hnp.arrays(np.float32, (8, 2, 3), elements=levels))
def test_onset_is_the_best_of_all_splits(series: Any) -> None:
    threshold = 0.5003
    got = kernels.onset(series, threshold)
    assert got.dtype == np.int32
    for y, x in np.ndindex(2, 3):
        assert got[y, x] in slow_onset(series[:, y, x].tolist(), threshold)[1]


@pytest.mark.parametrize(
    ("series", "month"),
    [
        ([0.1, 0.1, 0.9, 0.9], 2),
        ([0.1, 0.9, 0.9, 0.9], 1),
        ([0.1, np.nan, np.nan, 0.9], 3),  # the first month that shows it
        ([np.nan, 0.1, 0.9, np.nan], 2),
        ([0.9, 0.9, 0.1, 0.1], -1),  # demolition is not building
        ([0.9, 0.9, 0.9, 0.9], -1),
        ([0.1, 0.1, 0.1, 0.2], -1),
        ([0.1, 0.9, 0.1, 0.1, 0.9, 0.9, 0.9], 4),  # one month of haze is not it
        ([np.nan] * 4, -1),
        ([0.9], -1),
    ],
)
def test_onset_of_plain_series(series: list[float], month: int) -> None:
    values = np.array(series, np.float32).reshape(-1, 1, 1)
    assert kernels.onset(values, 0.5).item() == month
