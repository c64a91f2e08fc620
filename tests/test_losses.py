"""Losses: the known figures, their formulas by another way, gradients, and pixels without labels.

Shape suffixes: B sample, C class or channel, F feature, Y row, X column.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu
from torch import Tensor
from torch.nn import functional

from cdscale.errors import UserError
from cdscale.learn.losses import (
    IGNORED,
    RULES,
    Branches,
    Evidence,
    MetricRule,
    MissingOpticalRule,
    SemanticLabels,
    SemanticRule,
    change_loss,
    class_weights,
    context_term,
    frequency_weights,
    mahalanobis,
    mean_absolute,
    metric_cd_loss,
    missing_optical_loss,
    multiclass_dice,
    multiclass_jaccard,
    positive_weight,
    power_jaccard,
    power_jaccard_each,
    semantic_change_loss,
    similarity,
    sparsity,
    standardised,
    unlabelled,
    weighted_bce,
    weighted_nll,
)
from cdscale.models.hrscd import SemanticChange

SEEDS = st.integers(0, 10_000)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def codes(classes: int, *shape: int, seed: int = 0, ignored: float = 0.0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    found = torch.randint(0, classes, shape, generator=random)
    return found.masked_fill(torch.rand(shape, generator=random) < ignored, IGNORED)


# ------------------------------------------------------------------------ weights, cross entropies


def test_class_weights_and_weighted_nll_give_the_known_figures() -> None:
    weights = class_weights(1000, 40_000, 10)
    assert weights == pytest.approx((0.5, 1.95))
    logits = torch.tensor([[[[2.0, 0], [0, 1]], [[0, 0], [3, 1]]]])
    label = torch.tensor([[[0, 1], [1, 0]]])
    assert weighted_nll(logits, label, weights).item() == pytest.approx(0.37886, abs=1e-5)


def test_lambda_weighs_no_change() -> None:
    few, many = class_weights(1000, 40_000, 1), class_weights(1000, 40_000, 10)
    assert many == pytest.approx((10 * few[0], few[1]))


@pytest.mark.parametrize("changed", [0, 40_000, 50_000])
def test_a_split_of_one_class_is_refused(changed: int) -> None:
    for weigh in (
        lambda: class_weights(changed, 40_000, 10),
        lambda: positive_weight(changed, 40_000),
    ):
        with pytest.raises(UserError, match="more than 0 and fewer than all 40000"):
            weigh()


def test_the_positive_weight_is_the_ratio_of_pixels() -> None:
    assert positive_weight(768, 100_000) == pytest.approx(99.232 / 0.768)
    assert positive_weight(768, 100_000, clip=50) == 50


@given(st.lists(st.integers(0, 10**10), min_size=2, max_size=9))
def test_weights_by_frequency_even_out_the_classes(counts: list[int]) -> None:
    if not any(counts[1:]):
        with pytest.raises(UserError, match="pixels of the training split by class"):
            frequency_weights(counts)
        return
    weights = frequency_weights(counts, clip=math.inf)
    assert weights[0] == 0
    mass = [n * w for n, w in zip(counts, weights, strict=True)]
    seen = [m for m, n in zip(mass[1:], counts[1:], strict=True) if n]
    assert seen == pytest.approx([sum(counts[1:]) / len(seen)] * len(seen))
    assert all(w == 0 for w, n in zip(weights, counts, strict=True) if n == 0)
    assert max(frequency_weights(counts, clip=3.0)) <= 3
    assert frequency_weights(counts[1:], excluded=(), clip=math.inf) == weights[1:]


def test_negative_counts_are_refused() -> None:
    with pytest.raises(UserError, match="none negative"):
        frequency_weights([1, 2, -3])


@given(SEEDS)
def test_weighted_nll_is_a_weighted_mean(seed: int) -> None:
    logits, label = drawn(2, 3, 4, 5, seed=seed), codes(3, 2, 4, 5, seed=seed, ignored=0.3)
    weights = (0.5, 1.0, 3.0)
    nll = -logits.log_softmax(1)
    cost, mass = 0.0, 0.0
    for b, y, x in np.ndindex(2, 4, 5):
        code = int(label[b, y, x])
        if code != IGNORED:
            cost += weights[code] * float(nll[b, code, y, x])
            mass += weights[code]
    assert weighted_nll(logits, label, weights).item() == pytest.approx(cost / mass)
    label8 = label.to(torch.uint8)
    assert weighted_nll(logits, label8, weights).item() == pytest.approx(cost / mass)


def test_a_batch_without_labels_costs_nothing_and_pulls_nowhere() -> None:
    label = torch.full((1, 4, 4), IGNORED)
    for loss in (
        lambda z: weighted_nll(z, label, (0.5, 1.95)),
        lambda z: weighted_nll(z, torch.zeros_like(label), (0.0, 1.0)),
        lambda z: weighted_bce(z[:, :1], label, 3.0),
        lambda z: multiclass_jaccard(z, label, absent="skipped"),
        lambda z: multiclass_dice(z, label, absent="skipped"),
    ):
        logits = torch.randn(1, 2, 4, 4, requires_grad=True)
        found = loss(logits)
        found.backward()
        assert found.item() == 0
        assert logits.grad is not None
        assert not logits.grad.any()


def test_weights_that_do_not_fit_the_network_are_refused() -> None:
    with pytest.raises(UserError, match="one for each of 2 logits, got 3|expected one for each"):
        weighted_nll(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4), (1.0, 1, 1))


@given(SEEDS)
def test_weighted_bce_is_a_mean_over_pixels(seed: int) -> None:
    logit, label = drawn(2, 4, 5, seed=seed), codes(2, 2, 4, 5, seed=seed, ignored=0.2)
    p = logit.sigmoid()
    cost = torch.where(label == 1, -7.0 * p.log(), -(1 - p).log())
    expected = cost[label != IGNORED].mean()
    torch.testing.assert_close(weighted_bce(logit, label, 7.0), expected)
    torch.testing.assert_close(weighted_bce(logit[:, None], label, 7.0), expected)


def test_one_logit_and_two_are_the_same_cross_entropy() -> None:
    logit, label = drawn(2, 4, 5), codes(2, 2, 4, 5)
    two = torch.stack((torch.zeros_like(logit), logit), dim=1)
    torch.testing.assert_close(weighted_bce(logit, label, 1.0), weighted_nll(two, label, (1, 1)))


# ----------------------------------------------------------------------------------------- overlap


def test_power_jaccard_gives_the_known_figures() -> None:
    probability = torch.tensor([2, -1, 0.5, -3]).sigmoid()
    target = torch.tensor([1, 0, 1, 1])
    assert power_jaccard(probability, target).item() == pytest.approx(0.4229283, abs=1e-6)
    assert power_jaccard(probability, target, 1.0).item() == pytest.approx(0.5256320, abs=1e-6)
    assert power_jaccard(torch.zeros(0), torch.zeros(0)).item() == 1
    assert power_jaccard(torch.zeros(4), torch.zeros(4)).item() == 1
    assert power_jaccard(torch.ones(4), torch.ones(4)).item() == pytest.approx(0, abs=1e-6)


@given(SEEDS, st.floats(1, 3))
def test_power_jaccard_stays_within_bounds_and_one_sample_is_its_own_pool(
    seed: int, exponent: float
) -> None:
    p, y = drawn(3, 4, 5, seed=seed).sigmoid(), codes(2, 3, 4, 5, seed=seed)
    each = power_jaccard_each(p, y, exponent)
    assert ((each >= 0) & (each <= 1)).all()
    for i in range(3):
        torch.testing.assert_close(each[i], power_jaccard(p[i], y[i], exponent))


def test_shapes_that_would_broadcast_are_refused() -> None:
    p, y = torch.rand(2, 1, 4, 4), torch.ones(2, 4, 4)
    for loss in (
        lambda: power_jaccard(p, y),
        lambda: power_jaccard_each(p, y),
        lambda: weighted_bce(torch.rand(2, 2, 4, 4), y, 1.0),
        lambda: multiclass_dice(torch.rand(2, 3, 4, 4), y[:, None]),
        lambda: metric_cd_loss(Evidence(p[0], y, (), torch.zeros(())), MetricRule()),
    ):
        with pytest.raises(UserError, match=r"one shape, \(.*got \(.*Take the channel off"):
            loss()


KNOWN_LOGITS = torch.tensor([[[[1.0, 2], [0, -1]], [[0, 0], [2, 0]], [[-1, 1], [0, 3]]]])
KNOWN_LABEL = torch.tensor([[[0, 0], [1, 2]]])


def test_multiclass_losses_give_the_known_figures() -> None:
    jaccard = multiclass_jaccard(KNOWN_LOGITS, KNOWN_LABEL)
    dice = multiclass_dice(KNOWN_LOGITS, KNOWN_LABEL)
    assert jaccard.item() == pytest.approx(0.3847671, abs=1e-6)
    assert dice.item() == pytest.approx(0.2387518, abs=1e-6)


@pytest.mark.parametrize("loss", [multiclass_jaccard, multiclass_dice])
def test_a_class_that_is_absent_adds_its_share_or_is_left_out(loss: Callable[..., Tensor]) -> None:
    label = codes(3, 2, 6, 6)
    certain = 60.0 * functional.one_hot(label, 8).movedim(-1, 1).double()
    assert loss(certain, label).item() == pytest.approx(5 / 8, abs=1e-4)
    assert loss(certain, label, absent="skipped").item() == pytest.approx(0, abs=1e-4)
    # Next to no pull: pushing the probability of absent classes changes hardly anything.
    tilted = certain.clone()
    tilted[:, 5] += 50.0
    assert loss(tilted, label).item() == pytest.approx(5 / 8, abs=1e-3)


@given(SEEDS, st.permutations(range(4)))
def test_names_of_classes_do_not_matter(seed: int, order: list[int]) -> None:
    logits, label = drawn(2, 4, 3, 3, seed=seed), codes(4, 2, 3, 3, seed=seed, ignored=0.2)
    renamed = torch.where(label == IGNORED, IGNORED, torch.tensor(order)[label.clamp_max(3)])
    moved = torch.empty_like(logits)
    moved[:, order] = logits
    for loss in (multiclass_jaccard, multiclass_dice):
        torch.testing.assert_close(loss(moved, renamed), loss(logits, label))
    weights = (0.5, 1.0, 2.0, 4.0)
    turned = [weights[order.index(i)] for i in range(4)]
    torch.testing.assert_close(
        weighted_nll(moved, renamed, turned), weighted_nll(logits, label, weights)
    )


def test_similarity_is_a_mean_square() -> None:
    assert similarity(torch.tensor([1.0, 2]), torch.tensor([1.0, 4])).item() == 2


# --------------------------------------------------------------------------- pixels without a label


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nll": lambda z, y: weighted_nll(z, y, (0.5, 1.5)),
    "change": lambda z, y: change_loss(z, y, (0.5, 1.5), 0.0),
    "change with jaccard": lambda z, y: change_loss(z, y, (0.5, 1.5), 1.0),
    "bce": lambda z, y: weighted_bce(z[:, 0], y, 3.0),
    "jaccard": lambda z, y: multiclass_jaccard(z, y),
    "jaccard of present": lambda z, y: multiclass_jaccard(z, y, absent="skipped"),
    "dice": lambda z, y: multiclass_dice(z, y),
    "paper": lambda z, y: missing_optical_loss(
        branches(z[:, 0], z[:, 1]), y, torch.tensor([True, False]), MissingOpticalRule()
    ),
    "code": lambda z, y: missing_optical_loss(
        branches(z[:, 0], z[:, 1]), y, torch.tensor([True, False]), MissingOpticalRule(form="code")
    ),
    "semantic": lambda z, y: semantic_change_loss(
        SemanticChange(z[:, :1], z, 2 * z), SemanticLabels(y, y, y), SemanticRule((1.0, 2.0), 9.0)
    ),
}


def branches(fused: Tensor, blind: Tensor, seed: int = 0) -> Branches:
    shape = (len(fused), 3, *fused.shape[-2:])
    s2, s2_from_s1 = drawn(*shape, seed=seed), drawn(*shape, seed=seed + 1)
    return Branches(fused, blind, s2.to(fused), s2_from_s1.to(fused))


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=20)
@given(seed=SEEDS)
def test_ignored_pixels_cost_nothing(name: str, seed: int) -> None:
    logits, label = drawn(2, 2, 6, 6, seed=seed), codes(2, 2, 6, 6, seed=seed, ignored=0.4)
    other = logits + 5 * drawn(2, 2, 6, 6, seed=seed + 1) * (label == IGNORED)[:, None]
    torch.testing.assert_close(LOSSES[name](logits, label), LOSSES[name](other, label))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_figures(name: str) -> None:
    label = codes(2, 2, 4, 4, seed=1, ignored=0.2)
    logits = drawn(2, 2, 4, 4, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, label), (logits,))


def test_change_loss_adds_the_jaccard_of_change() -> None:
    logits, label = drawn(2, 2, 6, 6), codes(2, 2, 6, 6)
    alone = weighted_nll(logits, label, (0.5, 1.5))
    overlap = power_jaccard(logits.softmax(1)[:, 1], label)
    torch.testing.assert_close(change_loss(logits, label, (0.5, 1.5), 0.7), alone + 0.7 * overlap)


# ------------------------------------------------------------------------ change and land cover (B)


def semantic(outputs: int) -> tuple[SemanticChange, SemanticLabels]:
    logits = SemanticChange(
        drawn(2, outputs, 5, 5, seed=1), drawn(2, 6, 5, 5, seed=2), drawn(2, 6, 5, 5, seed=3)
    )
    cover = (codes(6, 2, 5, 5, seed=4), codes(6, 2, 5, 5, seed=5))
    return logits, SemanticLabels(codes(2, 2, 5, 5, seed=6), *cover)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_loss_of_strategy_4_1_is_its_sum(outputs: int) -> None:
    logits, labels = semantic(outputs)
    assert logits.change is not None
    assert logits.before is not None
    assert logits.after is not None
    rule = SemanticRule(frequency_weights((5, 9, 9, 30, 0, 2)), positive=129.0)
    if outputs == 1:
        change = weighted_bce(logits.change, labels.change, 129.0)
    else:
        change = weighted_nll(logits.change, labels.change, (1.0, 129.0))
    before = weighted_nll(logits.before, labels.before, rule.classes)
    after = weighted_nll(logits.after, labels.after, rule.classes)
    found = semantic_change_loss(logits, labels, rule)
    torch.testing.assert_close(found, change + 0.05 * (before + after))


def test_land_cover_without_information_costs_nothing() -> None:
    logits, labels = semantic(1)
    assert logits.before is not None
    rule = SemanticRule(frequency_weights((500, 9, 9, 30, 0, 2)), positive=9.0)
    unknown = (labels.before == 0)[:, None]
    other = SemanticChange(
        logits.change, logits.before + 3.0 * unknown * drawn(2, 6, 5, 5), logits.after
    )
    found = [semantic_change_loss(one, labels, rule) for one in (logits, other)]
    torch.testing.assert_close(found[0], found[1])


def test_a_network_without_all_three_outputs_is_refused() -> None:
    logits, labels = semantic(1)
    half = SemanticChange(None, logits.before, logits.after)
    with pytest.raises(UserError, match="got before, after. Use strategy 3 or 4"):
        semantic_change_loss(half, labels, SemanticRule((1.0,) * 6, 9.0))


# ------------------------------------------------------------------------------ missing optical (C)


def batch(size: int = 4, seed: int = 0) -> tuple[Branches, Tensor]:
    fused, blind = (drawn(size, 6, 6, seed=seed + i) for i in (10, 11))
    return branches(fused, blind, seed), codes(2, size, 6, 6, seed=seed)


SEEN = torch.tensor([True, False, True, True])


def test_the_papers_loss_is_a_sum_over_samples() -> None:
    found, label = batch()
    expected = torch.zeros((), dtype=torch.float64)
    for i, seen in enumerate(SEEN):
        blind = power_jaccard(found.blind[i].sigmoid(), label[i])
        expected += blind
        if seen:
            fused = power_jaccard(found.fused[i].sigmoid(), label[i])
            expected += fused + 1e-2 * similarity(found.s2[i], found.s2_from_s1[i])
    torch.testing.assert_close(
        missing_optical_loss(found, label, SEEN, MissingOpticalRule()), expected
    )
    mean = missing_optical_loss(found, label, SEEN, MissingOpticalRule(reduction="mean"))
    torch.testing.assert_close(mean, expected / 4)


def test_the_codes_loss_pools_two_subsets_and_simulates_nothing() -> None:
    found, label = batch()
    fused, blind = found.fused.sigmoid(), found.blind.sigmoid()
    expected = (
        power_jaccard(fused[SEEN], label[SEEN])
        + power_jaccard(blind[~SEEN], label[~SEEN])
        + 1e-3 * similarity(found.s2[SEEN], found.s2_from_s1[SEEN])
    )
    rule = MissingOpticalRule(form="code", phi=1e-3)
    torch.testing.assert_close(missing_optical_loss(found, label, SEEN, rule), expected)


def test_an_empty_subset_of_the_code_costs_one() -> None:
    found, label = batch()
    rule = MissingOpticalRule(form="code", phi=0.0)
    everything = torch.ones(4, dtype=torch.bool)
    full = missing_optical_loss(found, label, everything, rule)
    torch.testing.assert_close(full, 1 + power_jaccard(found.fused.sigmoid(), label))
    none = missing_optical_loss(found, label, ~everything, rule)
    torch.testing.assert_close(none, 1 + power_jaccard(found.blind.sigmoid(), label))


@pytest.mark.parametrize("form", ["paper", "code"])
def test_flags_of_samples_are_flags_of_all_their_pixels(form: str) -> None:
    found, label = batch()
    rule = MissingOpticalRule.check({"form": form}, where="test")
    every = SEEN[:, None, None].expand(label.shape)
    channel = Branches(found.fused[:, None], found.blind[:, None], found.s2, found.s2_from_s1)
    torch.testing.assert_close(
        missing_optical_loss(found, label, SEEN, rule),
        missing_optical_loss(channel, label, every, rule),
    )


def test_features_count_where_optical_was_seen() -> None:
    found, label = batch()
    seen = torch.zeros(label.shape, dtype=torch.bool)
    seen[0, :2] = True
    rule = MissingOpticalRule(phi=1.0)
    without = missing_optical_loss(found, label, seen, rule.model_copy(update={"phi": 0.0}))
    close = similarity(found.s2[0, :, :2], found.s2_from_s1[0, :, :2])
    torch.testing.assert_close(missing_optical_loss(found, label, seen, rule), without + close)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_what_stands_where_optical_is_missing_is_not_read(form: str) -> None:
    found, label = batch()
    lost = ~SEEN[:, None, None]
    fused = found.fused.masked_fill(lost, math.nan).requires_grad_()
    s2 = found.s2.masked_fill(lost[:, None], math.nan).requires_grad_()
    rule = MissingOpticalRule.check({"form": form}, where="test")
    loss = missing_optical_loss(
        Branches(fused, found.blind, s2, found.s2_from_s1), label, SEEN, rule
    )
    torch.testing.assert_close(loss, missing_optical_loss(found, label, SEEN, rule))
    loss.backward()
    for x in (fused, s2):
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
        assert not x.grad[1].any()
        assert x.grad[0].any()


@pytest.mark.parametrize("detach", [True, False])
def test_the_similarity_pulls_optical_features_unless_told_not_to(detach: bool) -> None:
    found, label = batch()
    s2, s2_from_s1 = (x.clone().requires_grad_() for x in (found.s2, found.s2_from_s1))
    rule = MissingOpticalRule(detach_target=detach)
    inputs = Branches(found.fused, found.blind, s2, s2_from_s1)
    missing_optical_loss(inputs, label, SEEN, rule).backward()
    assert (s2.grad is None) == detach
    assert s2_from_s1.grad is not None
    assert s2_from_s1.grad[0].any()


@pytest.mark.parametrize("form", ["paper", "code"])
def test_gradients_of_the_features_are_those_of_the_figures(form: str) -> None:
    found, label = batch(3)
    rule = MissingOpticalRule.check({"form": form, "phi": 0.5}, where="test")
    parts = [x[:3].clone().requires_grad_() for x in (found.s2, found.s2_from_s1)]
    assert torch.autograd.gradcheck(
        lambda a, b: missing_optical_loss(
            Branches(found.fused, found.blind, a, b), label, SEEN[:3], rule
        ),
        parts,
    )


def test_sums_run_wide_whatever_the_features_come_in() -> None:
    found, label = batch()
    small = Branches(
        *(x.bfloat16() for x in (found.fused, found.blind, found.s2, found.s2_from_s1))
    )
    loss = missing_optical_loss(small, label, SEEN, MissingOpticalRule())
    assert loss.dtype == torch.float32
    exact = missing_optical_loss(found, label, SEEN, MissingOpticalRule())
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2)


def test_flags_of_another_shape_are_refused() -> None:
    found, label = batch()
    with pytest.raises(UserError, match=r"where optical was seen; expected \(4,\) or \(4, 6, 6\)"):
        missing_optical_loss(found, label, SEEN[:2], MissingOpticalRule())


# ------------------------------------------------------------------------------------ Metric-CD (E)


@pytest.mark.parametrize(
    ("mean", "cost"), [(0.01, 31.836), (0.05, 6.392), (0.1, 3.236), (0.5, 1.0), (0.9, 3.236)]
)
def test_sparsity_gives_the_known_figures(mean: float, cost: float) -> None:
    assert sparsity(torch.full((8, 8), mean)).item() == pytest.approx(cost, abs=1e-3)


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_sparsity_stays_finite_at_its_poles(mean: float) -> None:
    assert sparsity(torch.full((8,), mean)).item() == pytest.approx(318.3, abs=0.1)


@given(SEEDS)
@settings(max_examples=20)
def test_the_distance_is_that_of_mahalanobis(seed: int) -> None:
    D = drawn(3, 9, 11, seed=seed) + torch.tensor([0.5, 0.0, -1.0])[:, None, None]
    rows = D.reshape(3, -1).numpy()
    inverse = np.linalg.inv(np.cov(rows, bias=True))
    expected = np.sqrt(np.einsum("cn,cd,dn->n", rows, inverse, rows)).reshape(9, 11)
    np.testing.assert_allclose(mahalanobis(D, ridge=0).numpy(), expected, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(mahalanobis(D).numpy(), expected, rtol=1e-2)
    # No band's unit, and no mixing of bands, changes the distance.
    mixed = torch.einsum("dc,cyx->dyx", drawn(3, 3, seed=seed + 1) + 3 * torch.eye(3), D)
    np.testing.assert_allclose(mahalanobis(mixed, ridge=0).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_distance_survives_what_has_no_inverse() -> None:
    same = torch.zeros(3, 8, 8)
    assert mahalanobis(same).max() < 1e-5
    offset = torch.ones(3, 8, 8)
    assert torch.isfinite(mahalanobis(offset)).all()
    copies = torch.randn(1, 8, 8).expand(64, 8, 8)
    assert torch.isfinite(mahalanobis(copies)).all()
    dead = torch.cat((torch.zeros(5, 8, 8), torch.randn(2, 8, 8)))
    dead.requires_grad_()
    mahalanobis(dead).sum().backward()
    assert dead.grad is not None
    assert torch.isfinite(dead.grad).all()


def test_pixels_that_are_not_there_count_nowhere() -> None:
    D = drawn(3, 8, 8)
    hole = D.clone()
    hole[1, :3] = math.nan
    for distance in (mahalanobis, mean_absolute):
        found = distance(hole)
        assert torch.isnan(found[:3]).all()
        torch.testing.assert_close(found[3:], distance(D[:, 3:]))
    P = drawn(8, 8, seed=3).sigmoid()
    for rule in RULES.values():
        whole = metric_cd_loss(evidence(P[3:], mean_absolute(D[:, 3:])), rule)
        torch.testing.assert_close(metric_cd_loss(evidence(P, mean_absolute(hole)), rule), whole)
        gone = torch.full_like(P, math.nan)
        assert torch.isfinite(metric_cd_loss(evidence(P, gone), rule))


def evidence(P: Tensor, image: Tensor, *features: Tensor, context: float = 0.0) -> Evidence:
    return Evidence(P, image, features, torch.tensor(context, dtype=P.dtype))


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """P, distance of images, and of features at half the size."""
    P = drawn(8, 6, seed=1).sigmoid()
    return P, drawn(8, 6, seed=2).abs(), drawn(4, 3, seed=3).abs()


def test_the_papers_objective_is_as_printed() -> None:
    P, d, level = scene()
    expected = ((1 - P) * d).mean() - (P * d).mean()
    small = P[::2, ::2]
    expected = expected + ((1 - small) * level).mean() - (small * level).mean()
    expected = expected + 0.7 + 1 / torch.sin(math.pi * P.mean())
    found = metric_cd_loss(evidence(P, d, level, context=0.7), RULES["paper"])
    torch.testing.assert_close(found, expected)


def test_the_notebooks_objective_gates_and_squares() -> None:
    P, d, level = scene()
    expected = torch.zeros((), dtype=torch.float64)
    for p, distance in ((P, d), (P[::2, ::2], level)):
        change = p > 1 - p
        expected += ((1 - p) * distance)[~change].sum() / p.numel()
        expected -= (p * distance)[change].sum() / p.numel()
    change = P > 0.5
    expected += (P[change].square().sum() - (1 - P)[~change].square().sum()) / P.numel()
    found = metric_cd_loss(evidence(P, d, level, context=5.0), RULES["notebook"])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("reference", ["otsu", "spread"])
def test_the_centred_objective_measures_from_a_reference(reference: str) -> None:
    P, d, level = scene()
    rule = MetricRule.check({"reference": reference, "spread": 1.0}, where="test")
    expected = 0.05 * sparsity(P)
    for p, distance in ((P, d), (P[::2, ::2], level)):
        scaled = distance / distance.mean()
        tau = scaled.mean() + scaled.std(correction=0)
        if reference == "otsu":
            tau = unlabelled.otsu(scaled)
        expected = expected + ((1 - 2 * p) * (scaled - max(tau, scaled.median()))).mean()
    torch.testing.assert_close(metric_cd_loss(evidence(P, d, level), rule), expected)
    # Units of the distance do not matter.
    torch.testing.assert_close(metric_cd_loss(evidence(P, 40 * d, 7 * level), rule), expected)


@given(SEEDS, st.sampled_from(["two heaps", "heavy tail", "mostly far"]))
def test_otsu_agrees_with_another_one(seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    values = {
        "two heaps": np.concatenate((random.normal(0, 1, 900), random.normal(9, 1, 100))),
        "heavy tail": random.exponential(1, 1000),
        "mostly far": np.concatenate((random.normal(0, 1, 100), random.normal(9, 1, 900))),
    }[kind].astype(np.float32)
    width = float(np.ptp(values)) / 256
    found = float(unlabelled.otsu(torch.from_numpy(values)))
    # Values on the edge of a bin may fall to either side of it.
    if kind == "heavy tail":
        assert found == pytest.approx(threshold_otsu(values), abs=2.5 * width)
    else:
        split = float(threshold_otsu(values))
        assert abs(np.mean(values > found) - np.mean(values > split)) < 0.01
    tau = float(unlabelled.reference(torch.from_numpy(values), MetricRule()))
    assert np.mean(values > tau) <= 0.5


def test_otsu_of_what_is_all_alike() -> None:
    assert float(unlabelled.otsu(torch.full((9,), 3.0))) == 3
    assert float(unlabelled.reference(torch.zeros(0), MetricRule())) == 0


def optimised(mode: str) -> tuple[Tensor, Tensor]:
    """P after free descent on a scene of 5 % change, and the truth."""
    truth = torch.zeros(48, 48, dtype=torch.bool)
    truth[8:19, 8:19] = True
    random = torch.Generator().manual_seed(0)
    before = 0.1 * torch.randn(3, 48, 48, generator=random)
    after = before + 0.1 * torch.randn(3, 48, 48, generator=random)
    after[:, truth] += torch.tensor([0.4, 0.3, 0.5])[:, None]
    if mode == "notebook":
        d = mean_absolute(standardised(before) - standardised(after))
    else:
        d = mahalanobis(before - after)
    logits = torch.zeros(48, 48, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(120):
        optimiser.zero_grad()
        metric_cd_loss(evidence(logits.sigmoid(), d), RULES[mode]).backward()
        optimiser.step()
    return logits.detach().sigmoid(), truth


def test_the_printed_objective_marks_more_than_half_and_the_centred_one_does_not() -> None:
    marked, truth = optimised("paper")
    assert (marked > 0.5).float().mean() > 0.5
    for mode in ("centred", "notebook"):
        marked, truth = optimised(mode)
        assert (marked > 0.5).float().mean() < 0.25, mode
        assert (marked[truth] > 0.5).all(), mode


def test_context_is_how_far_jitter_moves_features() -> None:
    plain = [drawn(3, 4, 4, seed=i) for i in range(4)]
    moved = [x + 0.1 * (i + 1) for i, x in enumerate(plain)]
    assert context_term(plain, moved).item() == pytest.approx(1.0)
    assert context_term(plain, plain).item() == 0
    with pytest.raises(UserError, match="plain and jittered"):
        context_term(plain, [x[:1] for x in plain])


def test_standardised_features_have_no_scale() -> None:
    F = drawn(3, 6, 6) * torch.tensor([1.0, 10, 0])[:, None, None] + 5
    found = standardised(F)
    torch.testing.assert_close(found.mean(dim=(1, 2)), torch.zeros(3).double(), atol=1e-6, rtol=0)
    spread = torch.tensor([1.0, 1, 0]).double()
    torch.testing.assert_close(found.std(dim=(1, 2), correction=0), spread, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", RULES)
def test_gradients_of_the_objective_are_those_of_the_figures(mode: str) -> None:
    P, d, level = scene()
    rule = RULES[mode]
    inputs = (P.requires_grad_(),)
    assert torch.autograd.gradcheck(lambda p: metric_cd_loss(evidence(p, d, level), rule), inputs)


def test_gradients_of_distances_are_those_of_the_figures() -> None:
    P = drawn(4, 5, seed=1).sigmoid()
    D = drawn(3, 4, 5, seed=2).requires_grad_()
    for distance in (mahalanobis, mean_absolute):
        assert torch.autograd.gradcheck(
            lambda x, distance=distance: metric_cd_loss(evidence(P, distance(x)), RULES["paper"]),
            (D,),
        )
    assert torch.autograd.gradcheck(lambda x: standardised(x), (D,))
    other = drawn(3, 4, 5, seed=3)
    assert torch.autograd.gradcheck(lambda x: context_term([x], [other]), (D,))


def test_metric_cd_takes_no_label() -> None:
    """No function or value of it has a place for one."""
    words = ("label", "truth", "target", "mask")
    for name, thing in vars(unlabelled).items():
        if getattr(thing, "__module__", None) == unlabelled.__name__:
            parameters = inspect.signature(thing).parameters
            assert not [p for p in parameters if any(w in p.lower() for w in words)], name
