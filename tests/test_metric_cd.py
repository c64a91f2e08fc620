"""Metric-CD over a pair: colours, tiles, the three modes, and no label anywhere.

Shape suffixes: B band, Y row, X column, N pixel, T term.
"""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cdscale.errors import ModelError, SpecError
from cdscale.learn import metric_cd as package
from cdscale.learn.data import oscd
from cdscale.learn.losses import Evidence, MetricRule
from cdscale.learn.metric_cd import (
    RECIPES,
    ArrayScene,
    ColourRule,
    Found,
    MetricCd,
    Step,
    extractor_for,
    metric_cd,
    recipe_named,
    threshold_of,
)
from cdscale.learn.metric_cd.colour import learn_colours
from cdscale.learn.metric_cd.jitter import jittered
from cdscale.learn.metric_cd.scene import Blend, Window, pieces, tiles
from cdscale.learn.metrics import auc
from cdscale.models.extractors import FilterBank
from tests.pairs import SEEDS, Array, scene, with_holes

SIDE = 64


def changed(seed: int = 0, bands: int = 3) -> tuple[ArrayScene, Array]:
    """A scene with texture, haze at the second date, and 5 % change; where the change is."""
    rng = np.random.default_rng(seed)
    rough = rng.random((bands, SIDE // 4, SIDE // 4)).repeat(4, axis=1).repeat(4, axis=2)
    before = 0.2 + 0.2 * rough + 0.02 * rng.random((bands, SIDE, SIDE))
    after = 0.9 * before + 0.05 + 0.02 * rng.random((bands, SIDE, SIDE))
    truth = np.zeros((SIDE, SIDE), bool)
    truth[20:36, 30:43] = True
    after[:, truth] = 0.6 + 0.1 * rng.random((bands, int(truth.sum())))
    return ArrayScene(before.astype(np.float32), after.astype(np.float32)), truth


def small(mode: str = "centred", **options: Any) -> MetricCd:
    """A recipe of a mode that takes a second."""
    told = {"blocks": 4, "width": 8, "iterations": 40, "rate": 1e-3, "recompute": False}
    return RECIPES[mode].model_copy(update=told | options)


def area(found: Found, truth: Array) -> float:
    return auc(found.probability_YX.ravel(), truth.ravel())


# --------------------------------------------------------------------------------------- no label


def test_a_label_is_no_argument_of_anything() -> None:
    """Neither of a function nor a field of a value that the optimisation takes."""
    words = ("label", "truth", "target", "mask", "reference_YX")
    modules = [package.colour, package.detect, package.fitting, package.jitter, package.scene]
    named: set[str] = set()
    for module in [package, *modules]:
        for _, thing in inspect.getmembers(module):
            if not getattr(thing, "__module__", "").startswith(package.__name__):
                continue
            members = [thing] if not inspect.isclass(thing) else [thing, *vars(thing).values()]
            for member in filter(callable, members):
                named |= set(inspect.signature(member).parameters)
    named |= set(MetricCd.model_fields) | set(MetricRule.model_fields)
    assert {"scene", "recipe", "extractor", "progress", "images"} <= named
    assert [name for name in named if any(word in name.lower() for word in words)] == []
    assert list(inspect.signature(metric_cd).parameters) == [
        "scene", "recipe", "extractor", "progress",
    ]  # fmt: skip


# ---------------------------------------------------------------------------------- the three modes


def test_centred_finds_the_change_and_marks_less_than_half() -> None:
    pair, truth = changed()
    found = metric_cd(pair, small(iterations=60))
    assert area(found, truth) > 0.97
    assert found.change_YX[truth].mean() > 0.8
    assert found.change_YX.mean() < 0.2


def test_the_printed_objective_marks_more_than_the_centred_one() -> None:
    """It gains from every pixel that is called change; models.md finds 66 % in the end."""
    pair, _ = changed()
    marked = {
        mode: float((metric_cd(pair, small(mode, iterations=80)).probability_YX > 0.5).mean())
        for mode in ("centred", "paper")
    }
    assert marked["paper"] > 0.5 > 2 * marked["centred"]


def test_the_notebook_runs_and_orders_pixels() -> None:
    pair, truth = changed()
    found = metric_cd(pair, small("notebook", iterations=20))
    assert found.threshold == 0.97
    assert area(found, truth) > 0.8


def test_modes_have_what_is_published() -> None:
    """Learning rate, iterations, threshold, blocks; who is optimised."""
    paper, notebook, centred = (RECIPES[mode] for mode in ("paper", "notebook", "centred"))
    assert (paper.rate, paper.iterations, paper.threshold, paper.blocks) == (1e-5, 80, 0.5, 32)
    assert (notebook.rate, notebook.iterations, notebook.threshold) == (1e-4, 50, 0.97)
    assert [rule.beta for rule in notebook.colour] == [1, 1]
    assert (paper.train_features, notebook.train_features, centred.train_features) == (
        True, False, False,
    )  # fmt: skip
    assert [recipe.rule.mode for recipe in RECIPES.values()] == list(RECIPES)


def test_an_unknown_mode_lists_the_known() -> None:
    with pytest.raises(SpecError, match="centred, paper, notebook; got best"):
        recipe_named("best")


@pytest.mark.parametrize(
    "options",
    [
        {"iterations": 0},
        {"blocks": 0},
        {"rate": 0.0},
        {"rate": 1e38},
        {"overlap": 300},
        {"seed": -1},
        {"colour": ()},
        {"colour": (ColourRule(beta=0),)},
        {"colour": (ColourRule(ridge=-1.0),)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_recipe_that_cannot_be_run_is_refused(options: dict[str, Any]) -> None:
    pair, _ = changed()
    with pytest.raises(ModelError, match="expected.*got"):
        metric_cd(pair, small(**options))


@given(seed=SEEDS, share=st.floats(0.01, 1), level=st.floats(0, 1))
def test_centred_never_marks_more_than_half(seed: int, share: float, level: float) -> None:
    """Whatever map the optimisation comes to: constant, few values, or nearly all high."""
    rng = np.random.default_rng(seed)
    high = rng.random((9, 11)) < share
    P = np.where(high, level, rng.integers(0, 3, (9, 11)) / 3).astype(np.float32)
    P[0, :3] = np.nan
    for cut in ("otsu", 0.0, 0.5):
        recipe = RECIPES["centred"].model_copy(update={"threshold": cut})
        found = Found(P, threshold_of(P, recipe))
        assert 2 * found.change_YX.sum() <= np.isfinite(P).sum()


@pytest.mark.parametrize("iterations", [1, 30])
def test_centred_marks_no_more_than_half_of_noise(iterations: int) -> None:
    rng = np.random.default_rng(5)
    one, two = rng.random((2, 3, 40, 40))
    found = metric_cd(ArrayScene(one, two), small(iterations=iterations, width=4))
    assert found.change_YX.mean() <= 0.5


@pytest.mark.parametrize("mode", list(RECIPES))
def test_identical_images_and_flat_ones_do_not_break_it(mode: str) -> None:
    pair, _ = changed()
    for image in (pair.before_BYX, np.ones_like(pair.before_BYX)):
        found = metric_cd(ArrayScene(image, image), small(mode, iterations=3, width=4))
        assert np.isfinite(found.probability_YX).all()


# ---------------------------------------------------------------------------- what a run depends on


def test_a_seed_decides_the_map_and_nothing_else_does() -> None:
    pair, _ = changed()
    torch.manual_seed(1)
    once = metric_cd(pair, small(iterations=5)).probability_YX
    torch.manual_seed(2)
    drawn = torch.rand(())
    torch.manual_seed(2)
    again = metric_cd(pair, small(iterations=5)).probability_YX
    np.testing.assert_array_equal(once, again)
    assert torch.equal(drawn, torch.rand(()))
    other = metric_cd(pair, small(iterations=5, seed=1)).probability_YX
    assert (once != other).any()


def test_recomputing_changes_memory_and_not_the_map() -> None:
    pair, _ = changed()
    kept, again = (
        metric_cd(pair, small(iterations=4, recompute=recompute)).probability_YX
        for recompute in (False, True)
    )
    np.testing.assert_allclose(kept, again, atol=1e-5)


def test_progress_is_told_every_iteration_of_every_tile() -> None:
    pair, _ = changed()
    steps: list[Step] = []
    options: dict[str, Any] = {"side": 48, "overlap": 16, "iterations": 3, "width": 4}
    metric_cd(pair, small(**options), progress=steps.append)
    assert [(step.tile, step.iteration) for step in steps] == list(
        itertools.product(range(1, 5), range(1, 4))
    )
    assert {(step.tiles, step.iterations) for step in steps} == {(4, 3)}
    assert steps[2].loss < steps[0].loss


def test_units_of_either_date_do_not_matter() -> None:
    """Reflectance or digital numbers: the correction finds the one in the other."""
    pair, _ = changed()
    scaled = ArrayScene(5000 * pair.before_BYX + 300, (10_000 * pair.after_BYX).astype(np.float32))
    for kernels in (("linear",), ("squares",), ("linear", "squares")):
        colour = tuple(ColourRule(kernel=kernel, ridge=0) for kernel in kernels)
        recipe = small(iterations=5, colour=colour)
        one, two = (metric_cd(x, recipe).probability_YX for x in (pair, scaled))
        np.testing.assert_allclose(one, two, atol=0.02)


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_any_bands(bands: int) -> None:
    pair, truth = changed(bands=bands)
    for mode in RECIPES:
        found = metric_cd(pair, small(mode, iterations=20))
        assert found.probability_YX.shape == truth.shape
        assert area(found, truth) > 0.8, mode


# ---------------------------------------------------------------------------------- absent pixels


def test_absent_pixels_are_absent_and_what_they_hold_does_not_count() -> None:
    pair, truth = changed()
    gone = np.zeros((SIDE, SIDE), bool)
    gone[:10] = gone[50:, :20] = True
    maps = []
    for filling in (np.nan, np.inf):
        before, after = pair.before_BYX.copy(), pair.after_BYX.copy()
        before[1, gone] = filling
        after[2, gone] = -filling
        maps.append(metric_cd(ArrayScene(before, after), small(iterations=30)))
    np.testing.assert_array_equal(maps[0].probability_YX, maps[1].probability_YX)
    np.testing.assert_array_equal(np.isnan(maps[0].probability_YX), gone)
    assert not maps[0].change_YX[gone].any()
    assert area(Found(maps[0].probability_YX[~gone], 0), truth[~gone]) > 0.95


def test_a_tile_of_nothing_is_passed_over() -> None:
    pair, _ = changed()
    before = pair.before_BYX.copy()
    before[:, :, 20:] = np.nan
    steps: list[Step] = []
    options: dict[str, Any] = {"side": 32, "overlap": 8, "iterations": 1, "width": 4}
    found = metric_cd(ArrayScene(before, pair.after_BYX), small(**options), progress=steps.append)
    np.testing.assert_array_equal(np.isnan(found.probability_YX), np.isnan(before[0]))
    assert {(step.tile, step.tiles) for step in steps} == {(n, 9) for n in (1, 2, 4, 5, 7, 8)}


def test_nothing_in_common_is_refused() -> None:
    pair, _ = changed()
    nothing = np.full_like(pair.after_BYX, np.nan)
    with pytest.raises(ModelError, match="pixels that both dates show.*got none.*overlap"):
        metric_cd(ArrayScene(pair.before_BYX, nothing), small())
    nothing[:, 5, 5] = 1
    with pytest.raises(ModelError, match="two pixels or more"):
        metric_cd(ArrayScene(pair.before_BYX, nothing), small())


def test_a_pair_that_is_none_is_refused() -> None:
    image = np.zeros((3, 20, 20))
    with pytest.raises(ModelError, match="one shape.*Resample"):
        ArrayScene(image, image[:, 1:])
    with pytest.raises(ModelError, match="real numbers.*complex"):
        ArrayScene(image, image.astype(complex))


def test_an_image_too_small_for_the_features_is_refused() -> None:
    image = np.random.default_rng(0).random((3, 10, 40))
    with pytest.raises(ModelError, match="too small.*at least 16 pixels a side.*10 x 40"):
        metric_cd(ArrayScene(image, image[:, ::-1]), small())


def test_a_loss_that_is_lost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = itertools.count()

    def loss(found: Evidence, rule: MetricRule) -> Tensor:
        total = found.probability.sum()
        return total * torch.nan if next(lost) else total

    monkeypatch.setattr(package.fitting, "metric_cd_loss", loss)
    said = (
        "loss at iteration 2; expected a finite number; got nan. Lower the learning rate of 0.001"
    )
    with pytest.raises(ModelError, match=said):
        metric_cd(changed()[0], small())


# -------------------------------------------------------------------------------------- extractors


class Tiny(nn.Module):
    """An extractor with weights, as VGG is, small enough to be trained in a test."""

    channels, strides, halo = (4, 6), (1, 2), 3

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, image_BCYX: Tensor) -> list[Tensor]:
        first = self.first(image_BCYX).relu()
        return [first, self.second(nn.functional.max_pool2d(first, 2)).relu()]


def test_paper_trains_a_copy_of_the_extractor_and_centred_none() -> None:
    pair, _ = changed()
    torch.manual_seed(0)
    given_one = Tiny()
    before = [weight.detach().clone() for weight in given_one.parameters()]
    maps = {}
    for train in (True, False):
        recipe = small("paper", iterations=3, train_features=train)
        maps[train] = metric_cd(pair, recipe, given_one).probability_YX
    assert (maps[True] != maps[False]).any()
    for old, new in zip(before, given_one.parameters(), strict=True):
        assert torch.equal(old, new)
        assert new.grad is None
        assert new.requires_grad


def test_the_context_term_is_drawn_by_the_seed() -> None:
    pair, _ = changed()
    torch.manual_seed(0)
    network = Tiny()
    recipe = small("paper", iterations=3)
    losses: list[list[float]] = []
    for _ in range(2):
        steps: list[Step] = []
        metric_cd(pair, recipe, network, steps.append)
        losses.append([step.loss for step in steps])
    assert losses[0] == losses[1]


def test_without_weights_the_features_are_of_the_filter_bank() -> None:
    assert isinstance(extractor_for(7, RECIPES["paper"]), FilterBank)


def test_jitter_changes_colours_a_little_and_draws_anew() -> None:
    draws = torch.Generator().manual_seed(0)
    for bands in (1, 3, 5):
        image = torch.rand(bands, 20, 20)
        one, two = jittered(image, draws), jittered(image, draws)
        assert one.shape == image.shape
        assert not torch.equal(one, two)
        assert float((one - image).abs().mean()) < 0.4


# ---------------------------------------------------------------------------------------- real data


@pytest.mark.realdata
def test_a_city_is_mapped_better_than_by_chance_and_by_less_than_half(data_root: Path) -> None:
    city = oscd.read_city(data_root / "oscd", "rennes", oscd.RGB)
    assert city.label is not None
    place = np.s_[..., 60:220, 240:400]
    truth = city.label[place] == 1
    pair = ArrayScene(city.s2_before[place], city.s2_after[place])
    found = metric_cd(pair, small(iterations=20, width=16))
    assert area(found, truth) > 0.9
    assert found.change_YX.mean() <= 0.5


# -------------------------------------------------------------------------------- colour correction


def products(kernel: Any, x: Array) -> Array:
    """Terms by hand, (N, T)."""
    if isinstance(kernel, str):
        squares = [band**2 for band in x] if kernel == "squares" else []
        return np.stack([*x, *squares, np.ones_like(x[0])], axis=1)
    r, g, b = x
    one = np.ones_like(r)
    cross, squares = [r * g, r * b, g * b], [r * r, g * g, b * b]
    lists = {
        3: [], 5: [r * g * b, one], 7: [*cross, one], 8: [*cross, r * g * b, one],
        10: [*cross, *squares, one], 11: [*cross, *squares, r * g * b, one],
    }  # fmt: skip
    return np.stack([r, g, b, *lists[kernel]], axis=1)


@pytest.mark.parametrize("kernel", [3, 5, 7, 8, 10, 11, "linear", "squares"])
@pytest.mark.parametrize("beta", [1, 4])
def test_a_kernel_is_least_squares_over_its_terms(kernel: Any, beta: int) -> None:
    before, after = scene(7, shape=(24, 32))
    rule = ColourRule(kernel=kernel, beta=beta, ridge=0)
    assert len(rule.terms(3)) == (
        kernel if isinstance(kernel, int) else len(products(kernel, before[:, 0, :1]).T)
    )
    cells = [
        image.reshape(3, 24 // beta, beta, 32 // beta, beta).mean(axis=(2, 4)).reshape(3, -1)
        for image in (before, after)
    ]
    matrix, *_ = np.linalg.lstsq(products(kernel, cells[0]), cells[1].T, rcond=None)
    expected = (products(kernel, before.reshape(3, -1)) @ matrix).T.reshape(before.shape)
    found = learn_colours(ArrayScene(before, after), (rule,)).corrected(before)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@given(seed=SEEDS, bands=st.integers(1, 5))
def test_a_linear_relation_is_taken_out_whole(seed: int, bands: int) -> None:
    rng = np.random.default_rng(seed)
    before = with_holes(rng.random((bands, 20, 22)), seed)
    mixing, offset = rng.normal(size=(bands, bands)), rng.normal(size=(bands, 1, 1))
    after = np.tensordot(mixing, before, axes=1) + offset
    colours = learn_colours(ArrayScene(before, after), (ColourRule(ridge=1e-12),))
    np.testing.assert_allclose(colours.corrected(before), after, atol=1e-4)


@settings(max_examples=10)
@given(side=st.integers(1, 12))
def test_colours_are_the_same_however_the_scene_is_read(side: int) -> None:
    before, after = scene(11, shape=(30, 41))
    pair = ArrayScene(with_holes(before, 1), after)
    rules = (ColourRule(beta=4), ColourRule(kernel=11, beta=3))
    expected = learn_colours(pair, rules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package.colour, "_SIDE", side)
        found = learn_colours(pair, rules)
    np.testing.assert_allclose(found.corrected(before), expected.corrected(before), rtol=1e-6)
    for name in ("mean_B", "spread_B", "low_B", "high_B"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name))


def test_a_second_correction_sees_what_the_first_put_out() -> None:
    """In its unit: date 1 in digital numbers, date 2 in reflectance, and a square between them."""
    rng = np.random.default_rng(0)
    before = 1e4 * rng.random((3, 40, 40))
    after = (before / 1e4) ** 2
    rules = tuple(ColourRule(kernel=kernel, beta=1, ridge=0) for kernel in ("linear", 11))
    colours = learn_colours(ArrayScene(before, after), rules)
    np.testing.assert_allclose(colours.corrected(before), after, atol=1e-6)


def test_averaged_pixels_do_not_see_a_shift_of_one() -> None:
    """Why they are averaged: texture that is off by a pixel spoils a fit to single ones."""
    rng = np.random.default_rng(0)
    rough = rng.random((1, 16, 16)).repeat(8, axis=1).repeat(8, axis=2)
    before = rough + rng.random((1, 128, 128))
    after = 2 * np.roll(before, 1, axis=2)
    gains = {}
    for beta in (1, 8):
        (found,) = learn_colours(ArrayScene(before, after), (ColourRule(beta=beta),)).maps
        gains[beta] = float(found.matrix_TB[0, 0] / found.unit_B[0])
    assert abs(gains[8] - 2) < abs(gains[1] - 2) / 2


def test_kernels_of_three_bands_refuse_others_and_auto_does_not() -> None:
    with pytest.raises(ModelError, match="11 terms; expected 3 bands; got 4. Choose linear"):
        ColourRule(kernel=11).terms(4)
    assert len(ColourRule(kernel="auto").terms(3)) == 11
    assert len(ColourRule(kernel="auto").terms(4)) == 5
    assert len(ColourRule(kernel="squares").terms(13)) == 27


# -------------------------------------------------------------------------------------------- tiles


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    side=st.integers(2, 40),
    part=st.floats(0, 0.5),
)
def test_tiles_cover_the_scene_overlap_and_have_one_size(
    height: int, width: int, side: int, part: float
) -> None:
    overlap = int(part * side)
    pair = ArrayScene(*np.zeros((2, 1, height, width)))
    found = tiles(pair, side, overlap)
    times = np.zeros((height, width), int)
    for tile in found:
        times[tile.slices] += 1
        assert times[tile.slices].shape == (min(side, height), min(side, width))
    assert (times > 0).all()
    for starts in ({tile.row for tile in found}, {tile.column for tile in found}):
        for one, two in itertools.pairwise(sorted(starts)):
            assert one + side - two >= overlap
    covered = sum(piece.height * piece.width for piece in pieces(pair, side))
    assert covered == height * width


@given(seed=SEEDS, side=st.integers(2, 30))
def test_tiles_that_agree_blend_to_what_they_say(seed: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    whole = np.where(rng.random((33, 27)) < 0.1, np.nan, rng.random((33, 27))).astype(np.float32)
    pair = ArrayScene(*np.zeros((2, 1, 33, 27)))
    blend = Blend(pair)
    for tile in tiles(pair, side, side // 3):
        blend.add(tile, whole[tile.slices], side // 3)
    np.testing.assert_allclose(blend.mean(), whole, rtol=1e-5)


def test_a_seam_is_a_ramp() -> None:
    pair = ArrayScene(*np.zeros((2, 1, 8, 28)))
    blend = Blend(pair)
    for tile, value in zip(tiles(pair, 16, 4), (0.0, 1.0), strict=True):
        blend.add(tile, np.full((tile.height, tile.width), value, np.float32), 4)
    found = blend.mean()
    np.testing.assert_allclose(
        found[:, 11:17], np.tile([0, 0.2, 0.4, 0.6, 0.8, 1], (8, 1)), atol=1e-6
    )
    assert Window(0, 12, 8, 16) in tiles(pair, 16, 4)


def test_tiles_map_what_the_whole_maps() -> None:
    """Not the same, since each is an image of its own; but the change is found in each way."""
    pair, truth = changed()
    found = metric_cd(pair, small(side=48, overlap=16, iterations=30))
    assert area(found, truth) > 0.95
    assert found.change_YX.mean() <= 0.5
