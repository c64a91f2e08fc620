"""Metrics: known tables, identities, published rows, and torchmetrics as a second opinion.

Shape suffixes: T month, Y row, X column, K class.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.functional import classification as other

from cdscale.errors import SpecError, UserError
from cdscale.learn.labels import IGNORED
from cdscale.learn.metrics import (
    ClassConfusion,
    Confusion,
    Curve,
    MonthlyChange,
    Ranking,
    auc,
    averaged,
    averaged_area,
    bootstrap,
    change_miou,
    fscd,
    image_mean,
    implied_prevalence,
    legacy_confusion,
    legacy_tiles,
    sek,
)

SEEDS = st.integers(0, 10_000)
COUNTS = st.builds(Confusion, *(st.integers(0, 500) for _ in range(4)))
TABLES = st.lists(st.integers(0, 50), min_size=16, max_size=16).map(
    lambda cells: ClassConfusion(np.reshape(cells, (4, 4)))
)


def maps(seed: int, classes: int = 2, *shape: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """A prediction that is right half of the time, and the truth."""
    random = np.random.default_rng(seed)
    shape = shape or (12, 15)
    truth = random.integers(0, classes, shape)
    guess = random.integers(0, classes, shape)
    return np.where(random.random(shape) < 0.5, truth, guess), truth


def tensors(*arrays: NDArray[Any]) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(x)) for x in arrays]


def row(precision: float, recall: float, prevalence: float, pixels: int = 10**9) -> Confusion:
    """The table that figures imply."""
    hits = recall * prevalence * pixels
    false, missed = hits * (1 - precision) / precision, prevalence * pixels - hits
    tp, fp, fn = (round(x) for x in (hits, false, missed))
    return Confusion(tp, fp, fn, pixels - tp - fp - fn)


# ------------------------------------------------------------------------------------------- binary


def test_metrics_of_a_known_table() -> None:
    counts = Confusion(tp=30, fp=10, fn=20, tn=940)
    assert counts.precision == 0.75
    assert counts.recall == 0.6
    assert counts.f1 == pytest.approx(2 / 3)
    assert counts.iou == 0.5
    assert counts.overall == 0.97
    assert counts.prevalence == 0.05
    chance = (40 * 50 + 960 * 950) / 1000**2
    assert counts.kappa == pytest.approx((0.97 - chance) / (1 - chance))
    assert set(Confusion().figures().values()) == {0.0}
    assert list(counts.figures()) == ["precision", "recall", "f1", "iou", "kappa"]


@given(counts=COUNTS, more=COUNTS)
def test_metrics_keep_their_identities(counts: Confusion, more: Confusion) -> None:
    assert counts.f1 == pytest.approx(2 * counts.iou / (1 + counts.iou))
    assert counts.iou == pytest.approx(counts.f1 / (2 - counts.f1))
    assert 0 <= counts.f1 <= 1
    assert -1 - 1e-12 <= counts.kappa <= 1 + 1e-12
    assert (counts + more).total == counts.total + more.total
    if counts.precision > 0 and counts.overall < 1:
        share = implied_prevalence(counts.precision, counts.recall, counts.overall)
        assert share == pytest.approx(counts.prevalence)
    if counts.precision + counts.recall > 0:
        harmonic = 2 * counts.precision * counts.recall / (counts.precision + counts.recall)
        assert counts.f1 == pytest.approx(harmonic)


@given(SEEDS)
def test_adding_counts_is_pooling_pixels(seed: int) -> None:
    said, true = maps(seed)
    assert Confusion.of(said[:5], true[:5]) + Confusion.of(said[5:], true[5:]) == Confusion.of(
        said, true
    )
    said, true = maps(seed, 4)
    parts = [ClassConfusion.of(said[rows], true[rows], 4) for rows in (slice(5), slice(5, None))]
    assert parts[0] + parts[1] == ClassConfusion.of(said, true, 4)


@given(SEEDS)
def test_swapping_change_and_no_change_leaves_kappa(seed: int) -> None:
    said, true = maps(seed)
    one, turned = Confusion.of(said, true), Confusion.of(1 - said, 1 - true)
    assert turned.kappa == pytest.approx(one.kappa)
    assert turned.overall == one.overall


def test_independent_maps_have_no_kappa() -> None:
    random = np.random.default_rng(0)
    said, true = random.random((2, 1000, 1000)) < np.array([0.3, 0.05])[:, None, None]
    assert abs(Confusion.of(said, true).kappa) < 3e-3
    assert abs(ClassConfusion.of(said + 2 * true, np.roll(true, 7), 4).kappa) < 3e-3


@given(SEEDS)
def test_pixels_of_unknown_truth_never_count(seed: int) -> None:
    random = np.random.default_rng(seed)
    said, true = maps(seed, 3)
    unknown = random.random(true.shape) < 0.3
    label = np.where(unknown, IGNORED, true).astype(np.uint8)
    known = ~unknown
    score = random.random(true.shape)
    assert Confusion.of(said, label) == Confusion.of(said[known], true[known])
    assert ClassConfusion.of(said, label, 3) == ClassConfusion.of(said[known], true[known], 3)
    assert auc(score, label) == auc(score[known], true[known])
    with_unknown, without, curve, less = Ranking(), Ranking(), Curve(), Curve()
    for everything, part in ((with_unknown, without), (curve, less)):
        everything.add(score, label)
        part.add(score[known], true[known])
    assert with_unknown.area == without.area
    assert curve.at(0.4) == less.at(0.4)
    assert legacy_confusion(said, np.full_like(label, IGNORED)).total == 0


def test_maps_of_another_grid_are_refused() -> None:
    said, true = np.zeros((4, 5)), np.zeros((5, 4))
    for count in (
        lambda: Confusion.of(said, true),
        lambda: ClassConfusion.of(said, true, 2),
        lambda: Curve().add(said, true),
        lambda: Ranking().add(said, true),
        lambda: auc(said, true),
        lambda: legacy_confusion(said, true),
    ):
        with pytest.raises(UserError, match=r"map and truth; expected one shape, \(5, 4\); got"):
            count()


@given(seed=st.integers(0, 99))
def test_a_curve_counts_as_a_threshold_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    probability = random.random((20, 20)).astype(np.float32)
    truth = random.random((20, 20)) < probability
    curve = Curve(bins=64)
    curve.add(probability[:10], truth[:10])
    curve.add(probability[10:], truth[10:])
    for threshold in (0.25, 0.5, 0.75):
        assert curve.at(threshold) == Confusion.of(probability >= threshold, truth)
    best, counts = curve.best()
    assert counts.f1 >= curve.at(0.5).f1
    assert counts == curve.at(best)


def test_a_curve_leaves_out_what_has_no_probability() -> None:
    curve = Curve()
    curve.add(np.array([np.nan, 0.9], np.float32), np.array([1, 1]))
    assert curve.at(0.5) == Confusion(tp=1)
    with pytest.raises(UserError, match="expected 0 to 1; got -2 to 9"):
        curve.add(np.array([-2.0, 9]), np.array([1, 1]))


# ---------------------------------------------------------------------------------- published rows


@pytest.mark.parametrize(
    ("precision", "recall", "overall", "share"),
    [(0.4472, 0.5392, 0.9423, 0.05118), (0.5493, 0.6648, 0.9564, 0.04951)],
)
def test_the_prevalence_behind_a_row(
    precision: float, recall: float, overall: float, share: float
) -> None:
    assert implied_prevalence(precision, recall, overall) == pytest.approx(share, abs=5e-6)
    assert row(precision, recall, share).overall == pytest.approx(overall, abs=1e-4)


OSCD = {
    "FC-EF RGB": (44.72, 53.92, 94.23, 48.89),
    "conc RGB": (42.89, 47.77, 94.07, 45.20),
    "diff RGB": (49.81, 47.94, 94.86, 48.86),
    "Res RGB": (52.27, 68.24, 95.34, 59.20),
    "FC-EF": (64.42, 50.97, 96.05, 56.91),
    "conc": (42.39, 65.15, 93.68, 51.36),
    "diff": (57.84, 57.99, 95.68, 57.92),
    "Res": (54.93, 66.48, 95.64, 60.15),
}
"""Precision, recall, overall accuracy and Dice in percent (Caye Daudt et al. 2019, table 5)."""


@pytest.mark.parametrize("name", OSCD)
def test_oscd_rows_are_pooled_and_bear_two_prevalences(name: str) -> None:
    precision, recall, overall, dice = (x / 100 for x in OSCD[name])
    share = implied_prevalence(precision, recall, overall)
    # The residual net was evaluated with the tiles that count twice.
    assert share == pytest.approx(0.0495 if name.startswith("Res") else 0.0512, abs=1e-4)
    assert row(precision, recall, share).f1 == pytest.approx(dice, abs=2e-4)


def test_rows_that_imply_nothing_are_refused() -> None:
    for figures in ((0.0, 0.0, 0.9), (1.0, 1.0, 1.0)):
        with pytest.raises(UserError, match="some hits and some errors"):
            implied_prevalence(*figures)


HRSCD = {
    "1": (3.99, 5.56, 86.07, 2.95, 47.2),
    "3": (12.48, 13.79, 94.72, 8.04, 48.4),
    "4.1": (19.13, 20.23, 96.87, 13.0, 45.4),
    "4.2": (25.49, 26.33, 98.19, 20.5, 36.9),
    "CNNF-O": (0.74, 2.43, 64.54, 1.24, 50.6),
    "CNNF-F": (3.28, 4.84, 88.66, 2.61, 33.2),
    "PCA+KM": (0.67, 2.31, 83.95, 1.22, 21.8),
}
"""Kappa, Dice, overall accuracy, and the precision and recall behind them, in percent."""


@pytest.mark.parametrize("name", HRSCD)
def test_hrscd_rows_fit_one_pooled_table(name: str) -> None:
    kappa, dice, overall, precision, recall = (x / 100 for x in HRSCD[name])
    counts = row(precision, recall, 0.00872)
    assert counts.kappa == pytest.approx(kappa, abs=5e-4)
    assert counts.f1 == pytest.approx(dice, abs=4e-4)
    assert counts.overall == pytest.approx(overall, abs=1.2e-3)


def test_doing_nothing_has_an_accuracy_and_no_kappa() -> None:
    nothing = Confusion(fn=872, tn=100_000 - 872)
    assert nothing.overall == pytest.approx(0.9913, abs=1e-4)
    assert nothing.kappa == 0


QUICKBIRD = {
    "CVA": (0.415, 0.699, 0.521), "DPCA": (0.508, 0.512, 0.510), "ImageDiff": (0.411, 0.695, 0.516),
    "ImageRatio": (0.352, 0.667, 0.461), "ImageRegr": (0.437, 0.647, 0.522),
    "IRMAD": (0.394, 0.789, 0.526), "MAD": (0.348, 0.782, 0.482), "PCDA": (0.425, 0.728, 0.537),
    "U-Net": (0.344, 0.355, 0.349), "SeCo random": (0.506, 0.488, 0.497),
    "SeCo": (0.654, 0.588, 0.619), "Metric-CD": (0.486, 0.697, 0.573),
}  # fmt: skip
"""Precision, recall and F1 of the one pair of table 6.8."""


@pytest.mark.parametrize("name", QUICKBIRD)
def test_rows_of_a_single_image_agree_with_themselves(name: str) -> None:
    precision, recall, f1 = QUICKBIRD[name]
    assert row(precision, recall, 0.1).f1 == pytest.approx(f1, abs=1.1e-3)


def test_a_row_of_image_means_need_not() -> None:
    images = [row(0.9, 0.9, 0.05, 10**6), row(0.1, 0.2, 0.05, 10**6)]
    found = averaged(images, "image")
    harmonic = 2 * found["precision"] * found["recall"] / (found["precision"] + found["recall"])
    assert found["f1"] < harmonic - 0.005


@pytest.mark.parametrize(
    ("f1", "iou"), [(0.362, 0.221), (0.411, 0.259), (0.423, 0.269), (0.435, 0.278), (0.327, 0.195)]
)
def test_rows_of_system_c_are_pooled(f1: float, iou: float) -> None:
    assert f1 / (2 - f1) == pytest.approx(iou, abs=1e-3)


# ---------------------------------------------------------------------------------------- averages


EMPTY = Confusion(tn=100)
IMAGES = [Confusion(30, 10, 20, 940), Confusion(1, 0, 99, 0), EMPTY]


def test_pooled_figures_are_those_of_all_pixels() -> None:
    found = averaged(IMAGES, "pooled")
    assert found["f1"] == Confusion(31, 10, 119, 1040).f1
    assert found["overall"] == pytest.approx(1071 / 1200)


def test_image_means_skip_what_is_rightly_empty() -> None:
    found = averaged(IMAGES, "image")
    assert found["precision"] == pytest.approx((0.75 + 1) / 2)
    assert found["recall"] == pytest.approx((0.6 + 0.01) / 2)
    assert found["f1"] == pytest.approx((2 / 3 + 2 / 101) / 2)
    assert found["kappa"] == pytest.approx((IMAGES[0].kappa + IMAGES[1].kappa) / 2)
    assert found["overall"] == pytest.approx((0.97 + 0.01 + 1) / 3)
    assert averaged([EMPTY], "image")["f1"] == 0


def test_image_means_count_zero_where_nothing_was_found() -> None:
    missed, invented = Confusion(fn=10, tn=90), Confusion(fp=10, tn=90)
    perfect = Confusion(tp=10, tn=90)
    found = averaged([missed, invented, perfect], "image")
    assert [found[name] for name in ("precision", "recall", "f1")] == [pytest.approx(1 / 3)] * 3


def test_image_means_of_classes() -> None:
    images = [ClassConfusion(np.diag([5, 5, 0])), ClassConfusion(np.diag([5, 0, 0]))]
    images.append(ClassConfusion(np.array([[2, 2, 0], [2, 2, 0], [0, 0, 0]])))
    found = averaged(images, "image")
    assert found["miou"] == pytest.approx((1 + 1 + 1 / 3) / 3)
    assert found["kappa"] == pytest.approx((1 + 0) / 2)
    assert averaged(images, "pooled")["miou"] == sum(images[1:], images[0]).miou
    nothing = ClassConfusion(np.zeros((3, 3), int))
    assert averaged([images[0], nothing], "image") == averaged([images[0]], "image")
    assert averaged([nothing], "image")["miou"] == 0


@given(st.lists(COUNTS, min_size=1, max_size=1))
def test_one_image_is_its_own_pool(images: list[Confusion]) -> None:
    assert averaged(images, "image") == averaged(images, "pooled")


def test_averages_of_nothing_and_by_another_name_are_refused() -> None:
    with pytest.raises(UserError, match="one image or more"):
        averaged([], "pooled")
    with pytest.raises(SpecError, match="expected pooled or image; got 'macro'"):
        averaged(IMAGES, "macro")  # type: ignore[arg-type]


def pooled_f1(images: Any) -> float:
    return averaged(images, "pooled")["f1"]


def test_an_interval_draws_whole_images() -> None:
    random = np.random.default_rng(1)
    images = [row(p, r, 0.05, 10**5) for p, r in random.uniform(0.3, 0.9, (12, 2))]
    found = bootstrap(images, pooled_f1, resamples=400)
    assert found.low < found.estimate == pooled_f1(images) < found.high
    assert found == bootstrap(images, pooled_f1, resamples=400)
    narrow = bootstrap(images, pooled_f1, confidence=0.5, resamples=400)
    assert found.low < narrow.low < narrow.high < found.high
    # More images, less spread; images that are all alike, none.
    assert np.ptp(bootstrap(images * 9, pooled_f1, resamples=200)) < np.ptp(found) / 2
    assert len({*bootstrap(images[:1] * 4, pooled_f1, resamples=50)}) == 1
    with pytest.raises(UserError, match="two or more; got 1"):
        bootstrap(images[:1], pooled_f1)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    hits = 0
    for seed in range(60):
        cities = random.normal(0.5, 0.1, 30)
        found = bootstrap(list(cities), np.mean, confidence=0.8, resamples=150, seed=seed)
        hits += found.low < 0.5 < found.high
    assert 38 <= hits <= 57


def test_two_models_are_compared_city_by_city() -> None:
    random = np.random.default_rng(2)
    pairs = []
    for precision, recall in random.uniform(0.3, 0.8, (10, 2)):
        pairs.append([row(precision + more, recall, 0.05, 10**5) for more in (0, 0.05)])
    gain = bootstrap(
        pairs, lambda drawn: pooled_f1([b for _, b in drawn]) - pooled_f1([a for a, _ in drawn]),
        resamples=300,
    )  # fmt: skip
    alone = bootstrap([b for _, b in pairs], pooled_f1, resamples=300)
    assert 0 < gain.low < gain.high
    assert gain.high - gain.low < (alone.high - alone.low) / 4


# ----------------------------------------------------------------------------------------- classes


@given(SEEDS)
def test_torchmetrics_gives_the_same_numbers(seed: int) -> None:
    said, true = maps(seed, 5)
    true[true == 4] = 3  # one class is only ever predicted
    true[:2] = IGNORED
    p, t = tensors(said, true)
    found = ClassConfusion.of(said, true, 5)
    how: dict[str, Any] = {"num_classes": 5, "ignore_index": IGNORED}
    counted = MulticlassConfusionMatrix(**how)
    counted.update(p[:6], t[:6])
    counted.update(p[6:], t[6:])
    assert ClassConfusion(counted.compute().numpy()) == found
    each: dict[str, Any] = how | {"average": None}
    for mine, theirs in (
        (found.precision_K, other.multiclass_precision(p, t, **each)),
        (found.recall_K, other.multiclass_recall(p, t, **each)),
        (found.f1_K, other.multiclass_f1_score(p, t, **each)),
        (found.iou_K, other.multiclass_jaccard_index(p, t, **each)),
        (found.miou, other.multiclass_jaccard_index(p, t, **how)),
        (found.f1, other.multiclass_f1_score(p, t, **how)),
        (found.kappa, other.multiclass_cohen_kappa(p, t, **how)),
        (found.overall, other.multiclass_accuracy(p, t, average="micro", **how)),
    ):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-5, atol=1e-6)


@given(SEEDS)
def test_torchmetrics_gives_the_same_numbers_of_two_classes(seed: int) -> None:
    said, true = maps(seed)
    found, (p, t) = Confusion.of(said, true), tensors(said, true)
    for mine, theirs in (
        (found.precision, other.binary_precision(p, t)),
        (found.recall, other.binary_recall(p, t)),
        (found.f1, other.binary_f1_score(p, t)),
        (found.iou, other.binary_jaccard_index(p, t)),
        (found.kappa, other.binary_cohen_kappa(p, t)),
        (found.overall, other.binary_accuracy(p, t)),
    ):
        assert mine == pytest.approx(theirs.item(), rel=1e-5, abs=1e-6)
    two = ClassConfusion.of(said, true, 2)
    assert two.against((1,)) == found
    assert two.kappa == pytest.approx(found.kappa)


@given(TABLES, st.permutations(range(4)))
def test_names_of_classes_do_not_matter(counts: ClassConfusion, order: list[int]) -> None:
    renamed = ClassConfusion(counts.table_KK[np.ix_(order, order)])
    for name in counts.NAMES:
        assert getattr(renamed, name) == pytest.approx(getattr(counts, name), abs=1e-12)
    np.testing.assert_allclose(renamed.iou_K, counts.iou_K[order])
    # Kappa, IoU and accuracy do not know which of the two is the truth.
    swapped = ClassConfusion(counts.table_KK.T)
    for name in ("miou", "f1", "kappa", "overall"):
        assert getattr(swapped, name) == pytest.approx(getattr(counts, name), abs=1e-12)
    assert swapped.historical_f1(1e-7) == pytest.approx(counts.historical_f1(1e-7))
    np.testing.assert_allclose(swapped.precision_K, counts.recall_K)


@given(TABLES)
def test_tables_of_classes_keep_their_identities(counts: ClassConfusion) -> None:
    np.testing.assert_allclose(counts.f1_K, 2 * counts.iou_K / (1 + counts.iou_K))
    assert 0 <= counts.miou <= 1
    assert counts.kappa <= 1 + 1e-12
    for code in range(4):
        one = counts.against((code,))
        assert one.total == counts.total
        assert one.iou == pytest.approx(counts.iou_K[code])
        assert one.precision == pytest.approx(counts.precision_K[code])
        assert one.recall == pytest.approx(counts.recall_K[code])
    assert counts.against((0, 2)).tn == counts.against((1, 3)).tp


def test_empty_classes_are_skipped_or_historically_count_as_perfect() -> None:
    counts = ClassConfusion(np.array([[3, 1, 0], [1, 3, 0], [0, 0, 0]]))
    assert counts.miou == pytest.approx(0.6)
    assert counts.historical_miou(1e-7) == pytest.approx((0.6 + 0.6 + 1) / 3)
    assert counts.historical_f1(1e-7) == pytest.approx((0.75 + 0.75 + 1) / 3)
    assert ClassConfusion(np.zeros((3, 3), int)).figures() == {
        "miou": 0, "f1": 0, "kappa": 0, "overall": 0
    }  # fmt: skip


def test_codes_without_information_can_be_left_out() -> None:
    said, true = np.array([1, 2, 0, 1]), np.array([1, 2, 0, 0])
    assert ClassConfusion.of(said, true, 3, ignored=(0, IGNORED)).overall == 1
    assert ClassConfusion.of(said, true, 3).total == 4


def test_counts_of_a_nation_do_not_overflow() -> None:
    counts = ClassConfusion(np.diag([10**13, 10**12]) + 10**11)
    small = ClassConfusion(np.diag([1000, 100]) + 10)
    assert counts.kappa == pytest.approx(small.kappa)
    whole = Confusion(10**12, 10**11, 10**11, 10**13)
    assert whole.kappa == pytest.approx(Confusion(100, 10, 10, 1000).kappa)


def test_a_table_cannot_be_changed_or_be_none() -> None:
    counts = ClassConfusion(np.eye(2, dtype=int))
    assert hash(counts) == hash(ClassConfusion(np.eye(2, dtype=np.int16)))
    assert counts != "a table"
    with pytest.raises(ValueError, match="read-only"):
        counts.table_KK[0, 0] = 5
    tables: list[Any] = [np.zeros((2, 3)), np.eye(2) / 2, -np.eye(2), np.zeros((0, 0)), 3]
    for table in tables:
        with pytest.raises(UserError, match="as many columns as rows"):
            ClassConfusion(table)
    with pytest.raises(UserError, match=r"codes of the truth; expected 0 to 1.*; got 0 to 7"):
        ClassConfusion.of(np.zeros(2, int), np.array([0, 7]), 2)
    with pytest.raises(UserError, match=r"codes of the map; expected 0 to 1.*; got -1 to 0"):
        ClassConfusion.of(np.array([0, -1]), np.zeros(2, int), 2)
    with pytest.raises(UserError, match=r"one shape, \(2, 2\); got \(3, 3\)"):
        counts + ClassConfusion(np.eye(3, dtype=int))
    with pytest.raises(UserError, match="expected 0 to 1; got 2"):
        counts.against((2,))


# -------------------------------------------------------------------------------------------- AUC


def by_pairs(score: NDArray[Any], truth: NDArray[Any]) -> float:
    """Mann-Whitney by its definition."""
    high, low = score[truth == 1][:, None], score[truth == 0][None]
    return float(np.mean((high > low) + 0.5 * (high == low)))


@given(SEEDS, st.integers(1, 40))
def test_the_area_counts_pairs_and_half_the_ties(seed: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, 60)
    truth[:2] = (0, 1)
    score = (random.integers(-levels, levels, 60) + truth) / 4
    exact = by_pairs(score, truth)
    assert auc(score, truth) == pytest.approx(exact)
    ranking = Ranking()
    ranking.add(score, truth)
    # Ties are all that is uncertain, and the mean of both orders of a tie is exact.
    assert ranking.area == pytest.approx(exact)
    squashed = np.clip((score + 20) / 40, 0, 1)
    p, t = tensors(squashed, truth)
    theirs = other.binary_auroc(p, t).item()
    assert auc(squashed, truth) == pytest.approx(theirs, abs=1e-5)


@given(SEEDS)
def test_monotone_maps_leave_the_area(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.random(500) < 0.1
    truth[0] = True
    score = random.normal(size=500) + truth
    area = auc(score, truth)
    for moved in (3 * score - 100, np.exp(score), score**3, np.arctan(score)):
        assert auc(moved, truth) == pytest.approx(area, abs=1e-12)
    assert auc(-score, truth) == pytest.approx(1 - area)
    assert auc(score, ~truth) == pytest.approx(1 - area)


@given(SEEDS, st.integers(10, 14), st.sampled_from([0.0, 500.0, -3.0]))
def test_a_ranking_is_no_further_off_than_it_says(seed: int, bits: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    truth = random.random(400) < 0.2
    truth[0] = True
    score = random.normal(size=400) * 10 + 8 * truth + offset
    parts = [Ranking(bits), Ranking(bits)]
    parts[0].add(score[:150], truth[:150])
    parts[1].add(score[150:], truth[150:])
    pool = parts[0] + parts[1]
    assert abs(pool.area - auc(score, truth)) <= pool.error + 1e-12
    whole = Ranking()
    whole.add(score, truth)
    assert abs(whole.area - auc(score, truth)) <= whole.error + 1e-12 < 5e-3


def test_scores_sort_as_they_are() -> None:
    score = np.array([-np.inf, -5e4, -1.0, -1e-30, -0.0, 1e-30, 1.0, 3e38, 1e300, np.nan])
    truth = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    ranking = Ranking()
    ranking.add(score, truth)
    assert (ranking.area, ranking.error) == (1.0, 0.0)
    zeros = Ranking()
    zeros.add(np.array([-0.0, 0.0]), np.array([1, 0]))
    assert zeros.area == 0.5
    assert auc(score, truth) == 1


def test_what_cannot_be_ranked_has_no_area() -> None:
    score, one = np.arange(4.0), np.ones(4)
    assert math.isnan(auc(score, one))
    assert math.isnan(auc(score, 0 * one))
    alone, both = Ranking(), Ranking()
    alone.add(9 * one, one)
    both.add(score, np.array([1, 0, 0, 1]))
    assert math.isnan(alone.area)
    assert math.isnan(alone.error)
    assert averaged_area([alone, both], "image") == both.area == 0.5
    assert averaged_area([alone, both], "pooled") == 5 / 6
    assert math.isnan(averaged_area([alone], "pooled"))
    assert image_mean([math.nan]) == 0
    with pytest.raises(UserError, match="expected 10 to 24; got 40"):
        Ranking(40)
    with pytest.raises(UserError, match="sum of rankings"):
        both + Ranking(12)


# --------------------------------------------------------------------------------- semantic change


def test_separated_kappa_of_a_known_table() -> None:
    """By hand: what both call unchanged is out of the kappa, and in nothing else."""
    counts = ClassConfusion(np.array([[80, 2, 1], [3, 6, 1], [0, 2, 5]]))
    said, true = np.array([3, 10, 7]), np.array([3, 10, 7])
    chance = (said * true).sum() / 20**2
    kappa = (11 / 20 - chance) / (1 - chance)
    assert sek(counts) == pytest.approx(kappa * math.exp(14 / 20 - 1))
    assert change_miou(counts) == pytest.approx((80 / 86 + 14 / 20) / 2)
    assert fscd(counts) == pytest.approx(11 / 17)


@given(TABLES, st.integers(0, 10_000), st.permutations(range(1, 4)))
def test_semantic_scores_keep_their_identities(
    counts: ClassConfusion, quiet: int, order: list[int]
) -> None:
    more = counts.table_KK.copy()
    more[0, 0] = quiet
    assert sek(ClassConfusion(more)) == pytest.approx(sek(counts))
    assert fscd(ClassConfusion(more)) == pytest.approx(fscd(counts))
    renamed = ClassConfusion(counts.table_KK[np.ix_([0, *order], [0, *order])])
    for score in (sek, fscd, change_miou):
        assert score(renamed) == pytest.approx(score(counts))
        assert score(counts) <= 1 + 1e-12
    right = ClassConfusion(np.diag(np.diagonal(counts.table_KK)))
    if np.count_nonzero(np.diagonal(right.table_KK)[1:]) > 1:
        assert sek(right) == pytest.approx(1)
        assert fscd(right) == 1


def test_two_classes_of_semantic_change_are_plain_change() -> None:
    counts = Confusion(tp=30, fp=10, fn=20, tn=940)
    table = ClassConfusion(np.array([[940, 10], [20, 30]]))
    assert fscd(table) == pytest.approx(counts.f1)
    assert change_miou(table) == pytest.approx((940 / 970 + counts.iou) / 2)
    assert [score(ClassConfusion(np.zeros((3, 3), int))) for score in (fscd, sek)] == [0, 0]


def monthly_by_pixel(
    predicted: NDArray[Any], truth: NDArray[Any], classes: int
) -> tuple[float, ...]:
    """SCS by its definition, pixel by pixel."""
    both = either = 0
    inter, union, present = np.zeros(classes), np.zeros(classes), np.zeros(classes, bool)
    months, height, width = truth.shape
    for t, y, x in np.ndindex(months - 1, height, width):
        g0, g1 = truth[t : t + 2, y, x]
        p0, p1 = predicted[t : t + 2, y, x]
        if IGNORED in (g0, g1):
            continue
        both += g0 != g1 and p0 != p1
        either += g0 != g1 or p0 != p1
        if g0 != g1:
            present[g1] = True
            inter[g1] += g1 == p1
            union[g1] += 1
            union[p1] += p1 != g1
    sc = float(np.mean(inter[present] / union[present])) if present.any() else 0.0
    return (both / either if either else 0.0), sc


@given(SEEDS)
def test_the_monthly_score_is_pooled_over_cubes(seed: int) -> None:
    cubes = []
    for part in (0, 1):
        said, true = maps(2 * seed + part, 4, 3, 4, 5)
        true[true == 3] = 2  # class 3 is only ever predicted: it has no share in the mean
        true[np.random.default_rng(seed).random(true.shape) < 0.15] = IGNORED
        cubes.append((said, true))
    total = MonthlyChange.of(*cubes[0], 4) + MonthlyChange.of(*cubes[1], 4)
    said, true = (np.concatenate(part, axis=2) for part in zip(*cubes, strict=True))
    bc, sc = monthly_by_pixel(said, true, 4)
    assert total.bc == pytest.approx(bc)
    assert total.sc == pytest.approx(sc)
    assert total.scs == pytest.approx((bc + sc) / 2)


def test_the_truth_has_the_best_monthly_score() -> None:
    _, truth = maps(0, 3, 4, 6, 6)
    assert MonthlyChange.of(truth, truth, 3).scs == 1
    still = np.zeros((4, 6, 6), int)
    assert MonthlyChange.of(still, still, 3).scs == 0
    assert MonthlyChange.of(still, truth, 3).bc == 0
    for wrong in (truth[:1], truth[0]):
        with pytest.raises(UserError, match="two months or more"):
            MonthlyChange.of(wrong, wrong, 3)


# ------------------------------------------------------------------------------------- legacy tiles


def times_counted(height: int, width: int) -> NDArray[np.int64]:
    counted = np.zeros((height, width), np.int64)
    for tile in legacy_tiles(height, width):
        counted[tile] += 1
    return counted


def test_a_width_of_600_has_299_columns_counted_twice() -> None:
    counted = times_counted(400, 600)
    assert (counted == counted[0]).all()
    assert np.flatnonzero(counted[0] == 2).tolist() == list(range(1, 300))
    assert np.count_nonzero(counted[0] == 2) == 299
    assert (counted >= 1).all()


@given(st.integers(1, 90), st.integers(1, 90))
def test_legacy_tiles_double_the_left_half_but_for_its_first_column(
    height: int, width: int
) -> None:
    counted = times_counted(height, width)
    half = -(-width // 2)
    expected = np.ones(width, int)
    expected[1:half] = 2
    assert (counted == expected).all()


@given(SEEDS, st.integers(2, 20), st.integers(2, 20))
def test_legacy_counts_are_those_of_the_tiles(seed: int, height: int, width: int) -> None:
    said, true = maps(seed, 2, height, width)
    half = -(-width // 2)
    once = Confusion.of(said, true)
    again = Confusion.of(said[:, 1:half], true[:, 1:half])
    assert legacy_confusion(said, true) == once + again
