"""Pixel maths: properties, and plain loops as the expected answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cdscale import kernels
from cdscale.kernels import PowerMean

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


# ------------------------------------------------------------------------------------- clear sky


def slow_clear_sky(
    classes: Any, clear: tuple[int, ...], nodata: tuple[int, ...], dilate: int
) -> tuple[Any, Any]:
    rows, columns = classes.shape
    seen, free = np.zeros((2, rows, columns), bool)
    for y in range(rows):
        for x in range(columns):
            seen[y, x] = classes[y, x] not in nodata
            near = classes[max(y - dilate, 0) : y + dilate + 1, max(x - dilate, 0) : x + dilate + 1]
            cloud = any(c not in clear and c not in nodata for c in near.ravel().tolist())
            free[y, x] = seen[y, x] and not cloud
    return seen, free


@given(hnp.arrays(np.uint8, (7, 6), elements=st.sampled_from([0, 4, 5, 9])), st.integers(0, 3))
def test_clear_sky_is_what_a_plain_loop_says(classes: Any, dilate: int) -> None:
    """Cloud grows by a square on each side; the rim of the swath does not."""
    expected = slow_clear_sky(classes, (4, 5), (0,), dilate)
    got = kernels.clear_sky(classes, clear=(4, 5), nodata=(0,), dilate_px=dilate)
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])


# ------------------------------------------------------------------------------------ fill holes


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
        left = kernels.fill_holes(composite, block, usable)
        assert left == int(np.isnan(composite[0]).sum())
    np.testing.assert_array_equal(composite, expected)


# ------------------------------------------------------------------------------------ power mean


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


scene_lists = st.lists(st.tuples(st.sampled_from(["1 up", "2 down", ""]), powers), max_size=5)


@given(scene_lists)
def test_the_mean_is_that_of_the_orbits_means(scenes: list[Any]) -> None:
    mean = PowerMean((2, 3, 4))
    for orbit, values in scenes:
        mean.add(orbit, values)
    np.testing.assert_allclose(mean.result(), slow_power_mean(scenes), rtol=1e-5)


@given(scene_lists, st.randoms())
def test_the_order_of_scenes_does_not_matter(scenes: list[Any], random: Any) -> None:
    shuffled = list(scenes)
    random.shuffle(shuffled)
    results = []
    for order in (scenes, shuffled):
        mean = PowerMean((2, 3, 4))
        for orbit, values in order:
            mean.add(orbit, values)
        results.append(mean.result())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)


def test_the_mean_is_of_power_and_not_of_decibels() -> None:
    mean = PowerMean((1, 1, 1))
    for decibel in (0.0, -20.0):
        mean.add("1", kernels.to_power(np.full((1, 1, 1), decibel, np.float32)))
    assert kernels.to_decibel(mean.result()).item() == pytest.approx(-2.967, abs=1e-3)


def test_adding_leaves_the_scene_alone_and_result_can_be_asked_twice() -> None:
    mean = PowerMean((1, 1, 2))
    scene = np.array([[[1.0, np.nan]]], np.float32)
    mean.add("1", scene)
    first = mean.result()
    np.testing.assert_array_equal(scene, [[[1.0, np.nan]]])
    np.testing.assert_array_equal(first, mean.result())
    mean.add("1", scene * 3)
    np.testing.assert_array_equal(mean.result(), [[[2.0, np.nan]]])


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
