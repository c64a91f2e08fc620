"""Classical detectors: against straightforward formulas, by what must hold, and on real cities.

Shape suffixes: B band, Y row, X column, N pixel, K component, P place in a patch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from cdscale.classical import (
    METHODS,
    Cnnf,
    DeepCva,
    ImageRegr,
    Irmad,
    Mad,
    Method,
    Pair,
    PcaKmeans,
    compare,
    cut,
    detect,
    method_named,
)
from cdscale.classical.mad import Canonical, reweighted
from cdscale.errors import ModelError, SpecError
from tests.pairs import PLAIN, SEEDS, Array, close, di, scene, table, with_holes

# --------------------------------------------------------------------- formulas, one by one


def image(table_NC: Array, like: Array) -> Array:
    return table_NC.T.reshape(-1, *like.shape[1:])


def formula_regr(x: Array, y: Array) -> Array:
    columns = []
    for one, two in zip(x.T, y.T, strict=True):
        slope, intercept = np.polyfit(one, two, 1)
        columns.append(np.abs(two - slope * one - intercept))
    return np.stack(columns, axis=1)


def formula_dpca(x: Array, y: Array) -> Array:
    d = np.abs(x - y)
    _, _, axes = np.linalg.svd(d - d.mean(axis=0), full_matrices=False)
    return np.abs((d - d.mean(axis=0)) @ axes.T)


def formula_pcda(x: Array, y: Array) -> Array:
    scores = []
    for date in (x, y):
        centred = date - date.mean(axis=0)
        scores.append(centred @ np.linalg.svd(centred, full_matrices=False)[2].T)
    one, two = scores
    signs = [np.sign(np.corrcoef(a, b)[0, 1]) for a, b in zip(one.T, two.T, strict=True)]
    return np.abs(one - two * signs)


def formula_mad(x: Array, y: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """By the generalised eigenvalue problem; variates over deviations, and correlations."""
    bands = x.shape[1]
    w = np.ones(len(x)) if weights is None else weights
    joint = np.cov(np.hstack((x, y)).T, aweights=w, ddof=0)
    # Divided by the sum of weights times (n - 1) / n.
    joint *= len(x) / (len(x) - 1)
    s11, s12, s22 = joint[:bands, :bands], joint[:bands, bands:], joint[bands:, bands:]
    middle = s12 @ np.linalg.inv(s22) @ s12.T
    squares, a = linalg.eigh((middle + middle.T) / 2, s11)
    rho = np.sqrt(squares)
    b = np.linalg.inv(s22) @ s12.T @ a / rho
    b /= np.sqrt(np.diag(b.T @ s22 @ b))
    mean_x, mean_y = np.average(x, axis=0, weights=w), np.average(y, axis=0, weights=w)
    mad = (x - mean_x) @ a - (y - mean_y) @ b
    return np.abs(mad) / np.sqrt(2 * (1 - rho)), rho


def formula_irmad(x: Array, y: Array, tolerance: float, most: int) -> Array:
    z, rho = formula_mad(x, y)
    for _ in range(most):
        weights = stats.chi2.sf((z**2).sum(axis=1), x.shape[1])
        old, (z, rho) = rho, formula_mad(x, y, weights)
        if np.abs(rho - old).max() < tolerance:
            break
    return z


FORMULAS = {
    "image-diff": lambda x, y: np.abs(x - y),
    "image-ratio": lambda x, y: np.abs(np.log((x + 2.0**-52) / (y + 2.0**-52))),
    "image-regr": formula_regr,
    "cva": lambda x, y: np.sqrt(((x - y) ** 2).sum(axis=1, keepdims=True)),
    "dpca": formula_dpca,
    "pcda": formula_pcda,
    "mad": lambda x, y: formula_mad(x, y)[0],
    "irmad": lambda x, y: formula_irmad(x, y, 1e-2, 30),
}
OPTIONS = {"irmad": Irmad(background=0)}


@pytest.mark.parametrize("name", FORMULAS)
@given(seed=SEEDS, bands=st.integers(1, 4))
def test_a_detector_agrees_with_its_formula(name: str, seed: int, bands: int) -> None:
    before, after = scene(seed, bands)
    expected = image(FORMULAS[name](table(before), table(after)), before)
    close(di(before, after, OPTIONS.get(name, METHODS[name])), expected)


@settings(max_examples=8)
@given(seed=SEEDS, size=st.integers(2, 4), centre=st.sampled_from(["blocks", "patch"]))
def test_pca_kmeans_agrees_with_loops_over_its_pixels(seed: int, size: int, centre: Any) -> None:
    before, after = scene(seed, 2, (23, 31))
    half, found = size // 2, []
    for band in np.abs(before - after):
        corners = [(y, x) for y in range(0, 24 - size, size) for x in range(0, 32 - size, size)]
        patches = np.stack([band[y : y + size, x : x + size].ravel() for y, x in corners])
        mean = patches.mean(axis=0)
        axes = np.linalg.svd(patches - mean, full_matrices=False)[2][:2]
        padded, maps = np.pad(band, half, mode="edge"), np.empty((2, *band.shape))
        for y, x in np.ndindex(*band.shape):
            near = padded[y : y + size, x : x + size].ravel()
            maps[:, y, x] = axes @ (near - (mean if centre == "blocks" else near.mean()))
        found += [*np.abs(maps)]
    close(di(before, after, PcaKmeans(size, 2, centre)), np.stack(found))


# ------------------------------------------------------------------------- what must hold


@pytest.mark.parametrize("method", PLAIN, ids=lambda method: method.name)
@given(seed=SEEDS)
def test_a_difference_is_not_negative_and_does_not_touch_its_images(
    method: Method, seed: int
) -> None:
    before, after = scene(seed)
    kept = before.copy(), after.copy()
    found = detect(before, after, method)
    assert found.di_CYX.dtype == found.score_YX.dtype == np.float32
    assert found.change_YX.dtype == bool
    assert found.di_CYX.min() >= 0
    assert 0 < found.change_YX.mean() < 1
    np.testing.assert_allclose(found.score_YX, found.di_CYX.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(before, kept[0])
    np.testing.assert_array_equal(after, kept[1])


@pytest.mark.parametrize("method", PLAIN, ids=lambda method: method.name)
@given(seed=SEEDS)
def test_absent_pixels_enter_nothing_and_come_out_absent(method: Method, seed: int) -> None:
    before, after = scene(seed)
    before, after = with_holes(before, seed), with_holes(after, seed + 1)
    absent = ~np.isfinite(before + after).all(axis=0)
    found = detect(before, after, method)
    assert (np.isnan(found.di_CYX) == absent).all()
    assert (np.isnan(found.score_YX) == absent).all()
    assert not found.change_YX[absent].any()
    # What stands in the other bands and in the other date there does not matter.
    rng = np.random.default_rng(seed)
    for changed in (before, after):
        changed[:, absent] = np.where(
            np.isnan(changed[:, absent]), np.inf, rng.normal(0, 100, (3, absent.sum()))
        )
    after[0, absent] = np.nan
    np.testing.assert_array_equal(found.di_CYX, di(before, after, method))


@pytest.mark.parametrize("method", PLAIN, ids=lambda method: method.name)
@pytest.mark.parametrize("name", ["identical", "constant band", "twice a band"])
def test_degenerate_images_give_finite_differences(method: Method, name: str) -> None:
    before, after = scene(3)
    if name == "identical":
        after = before
    elif name == "constant band":
        before[1], after[1] = 0.1, 0.7
    else:
        before[1], after[1] = 2 * before[0], 3 * after[0] + 1
    found = detect(before, after, method)
    assert np.isfinite(found.di_CYX).all()
    if name == "identical":
        close(found.di_CYX, np.zeros_like(found.di_CYX))
        assert not found.change_YX.any()
    elif method.name in ("mad", "irmad"):
        assert len(found.di_CYX) == 2


@given(seed=SEEDS)
def test_an_offset_moves_differences_but_neither_regression_nor_components(seed: int) -> None:
    before, _ = scene(seed)
    offset = np.random.default_rng(seed).uniform(0.1, 1, (3, 1, 1))
    after = before + offset
    close(di(before, after, METHODS["image-diff"]), np.broadcast_to(offset, before.shape))
    close(di(before, after, METHODS["cva"]), np.full((1, 24, 19), np.linalg.norm(offset)))
    for name in ("image-regr", "pcda", "mad", "irmad"):
        assert di(before, after, METHODS[name]).max() < 1e-3


@given(seed=SEEDS)
def test_sums_of_squares_are_kept(seed: int) -> None:
    before, after = scene(seed)
    difference = np.abs(after - before)
    square = (di(before, after, METHODS["image-diff"]).astype(float) ** 2).sum(axis=0)
    close(di(before, after, METHODS["cva"])[0] ** 2, square)
    centred = difference - difference.mean(axis=(1, 2), keepdims=True)
    scores = di(before, after, METHODS["dpca"]).astype(float)
    close((scores**2).sum(axis=0), (centred**2).sum(axis=0))


def affine(seed: int) -> tuple[Array, Array]:
    """An invertible map of three bands, not too far from a rotation, and an offset."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return turn * rng.uniform(0.3, 3, 3), rng.normal(size=(3, 1, 1))


@pytest.mark.parametrize("name", ["mad", "irmad"])
@given(seed=SEEDS, date=st.integers(0, 1))
def test_mad_does_not_see_affine_maps_of_either_date(name: str, seed: int, date: int) -> None:
    dates = list(scene(seed))
    expected = di(dates[0], dates[1], METHODS[name])
    matrix, offset = affine(seed)
    dates[date] = np.tensordot(matrix, dates[date], axes=1) + offset
    close(di(dates[0], dates[1], METHODS[name]), expected, 1e-4)


@given(seed=SEEDS)
def test_regression_does_not_see_gain_and_offset_of_date_1(seed: int) -> None:
    before, after = scene(seed)
    rng = np.random.default_rng(seed)
    gain, offset = rng.uniform(0.1, 10, (3, 1, 1)), rng.normal(size=(3, 1, 1))
    close(di(before * gain + offset, after, ImageRegr()), di(before, after, ImageRegr()))


@given(seed=SEEDS)
def test_mad_variates_have_unit_variance_and_rising_correlation(seed: int) -> None:
    before, after = scene(seed)
    found = Mad().fit([Pair(before, after)])
    assert (np.diff(found.correlation_K) >= 0).all()
    z_NK = found.standardised(table(before), table(after))
    np.testing.assert_allclose(np.cov(z_NK.T), np.eye(3), atol=1e-8)
    u_NK, v_NK = table(before) @ found.a_BK, table(after) @ found.b_BK
    for k in range(3):
        assert np.corrcoef(u_NK[:, k], v_NK[:, k])[0, 1] == pytest.approx(found.correlation_K[k])
        with_bands = [np.corrcoef(u_NK[:, k], band)[0, 1] for band in table(before).T]
        assert sum(with_bands) > 0


@given(seed=SEEDS)
def test_irmad_with_unit_weights_is_mad(seed: int) -> None:
    before, after = scene(seed)
    pair = Pair(before, after)
    found = reweighted([pair], Irmad(), lambda _, slab: np.ones(len(slab.before_NB)))
    assert found.ending == "converged"
    assert found.shifts == pytest.approx((0.0,), abs=1e-12)
    close(found.apply(pair), Mad().fit([pair]).apply(pair), 1e-9)


def test_irmad_gives_change_less_weight_than_mad_does() -> None:
    before, after = scene(5, shape=(60, 60))
    change = np.zeros((60, 60), bool)
    change[:15, :15] = True
    contrast = {
        name: np.median((score := compare(before, after, METHODS[name]).score_YX)[change])
        / np.median(score[~change])
        for name in ("mad", "irmad")
    }
    assert contrast["irmad"] > 2 * contrast["mad"]


def test_irmad_says_how_it_ended() -> None:
    before, after = scene(7)
    pair = [Pair(before, after)]
    once = Irmad(iterations=1, tolerance=1e-9).fit(pair)
    assert (once.ending, len(once.shifts)) == ("iterations", 1)
    assert Irmad().fit(pair).ending == "converged"

    def nothing(_: Canonical, slab: Any) -> Array:
        return np.zeros(len(slab.before_NB))

    assert reweighted(pair, Irmad(), nothing).ending == "background"
    kept = reweighted(pair, Irmad(background=0), nothing)
    assert kept.ending == "degenerate"
    close(kept.apply(pair[0]), Mad().fit(pair).apply(pair[0]))


@given(seed=SEEDS, ridge=st.floats(0.001, 1))
def test_a_ridge_leaves_variates_of_variance_1(seed: int, ridge: float) -> None:
    before, after = scene(seed)
    found = Mad(ridge).fit([Pair(before, after)])
    for date, axes in ((before, found.a_BK), (after, found.b_BK)):
        np.testing.assert_allclose((table(date) @ axes).var(axis=0, ddof=1), 1)
    assert ((found.correlation_K >= 0) & (found.correlation_K <= 1)).all()


def test_a_zero_is_no_hole_to_the_ratio_and_below_zero_is_zero() -> None:
    before, after = np.full((1, 2, 2), 0.5), np.full((1, 2, 2), 0.5)
    before[0, 0] = [0.0, -0.3]
    found = di(before, after, METHODS["image-ratio"])
    assert found[0, 0] == pytest.approx([np.log(0.5) + 52 * np.log(2)] * 2)
    assert (found[0, 1] == 0).all()


def test_whole_numbers_will_do() -> None:
    before, after = ((100 * x).astype(np.uint8) for x in scene(1))
    for method in PLAIN:
        close(di(before, after, method), di(before.astype(float), after.astype(float), method))


# ----------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("name", ["image-regr", "dpca", "pcda", "pca-kmeans", "mad", "irmad"])
def test_too_few_valid_pixels_are_refused(name: str) -> None:
    before, after = scene(1, bands=4, shape=(8, 8))
    least = {"image-regr": 0, "dpca": 4, "pcda": 4, "pca-kmeans": 9, "mad": 8, "irmad": 8}[name]
    before.reshape(4, -1)[0, least if name != "pca-kmeans" else 0 :] = np.nan
    expected = f"{name}.*too few pixels.*expected more than {least}; got"
    with pytest.raises(ModelError, match=expected):
        detect(before, after, METHODS[name])


def test_images_that_are_no_pair_are_refused() -> None:
    before, after = scene(1)
    for one, two in ((before, after[:, 1:]), (before[0], after[0]), (before[:0], after[:0])):
        with pytest.raises(ModelError, match=r"one shape .*got .*Resample"):
            Pair(one, two)
    with pytest.raises(ModelError, match="real numbers; got complex128 and float64"):
        Pair(before + 0j, after)
    with pytest.raises(ModelError, match="halo from 0 to 9 pixels; got 10"):
        Pair(before, after, halo=10)
    with pytest.raises(ModelError, match="a side from 1"):
        cut(Pair(before, after), 0)
    flat = np.full((2, 9, 9), 0.3)
    with pytest.raises(ModelError, match="only constant bands"):
        detect(flat, before[:2, :9, :9], Mad())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mad(ridge=-1),
        lambda: Irmad(ridge=-1),
        lambda: Irmad(tolerance=0),
        lambda: Irmad(iterations=0),
        lambda: Irmad(background=1),
        lambda: PcaKmeans(size=1),
        lambda: PcaKmeans(size=3, components=10),
        lambda: PcaKmeans(centre="image"),  # type: ignore[arg-type]
        lambda: Cnnf(saturation=50),
        lambda: DeepCva(difference_saturation=-1),
        lambda: DeepCva(shares=()),
        lambda: DeepCva(shares=(0.5, 0.0)),
        lambda: DeepCva(limit=0),
        lambda: detect(*scene(1), Mad(), norm="max"),  # type: ignore[arg-type]
    ],
)
def test_options_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(SpecError, match="expected .*; got "):
        make()


def test_methods_go_by_name() -> None:
    assert all(method.name == name for name, method in METHODS.items())
    assert method_named("IRMAD") is METHODS["irmad"]
    assert method_named("PCA kmeans") is METHODS["pca-kmeans"]
    assert method_named("ImageDiff") is METHODS["image-diff"]
    with pytest.raises(SpecError, match="one of image-diff, .*, cnnf; got svm"):
        method_named("svm")


# -------------------------------------------------------------------------------- real data


@pytest.mark.realdata
def test_detectors_rank_on_real_cities_as_in_the_published_table(data_root: Path) -> None:
    """By the area under the ROC curve, in the mean; published: 0.86, 0.86, 0.82, 0.75, 0.70."""
    from cdscale.learn.data import oscd
    from cdscale.learn.metrics import auc

    root = data_root / "oscd"
    if not root.is_dir():
        pytest.skip(f"no OSCD under {data_root}")
    areas: dict[str, list[float]] = {
        name: [] for name in ("mad", "irmad", "image-regr", "cva", "image-ratio")
    }
    for place in ("paris", "rennes", "aguasclaras", "bordeaux"):
        city = oscd.read_city(root, place, oscd.BANDS)
        assert city.label is not None
        for name, found in areas.items():
            layer = compare(city.s2_before, city.s2_after, METHODS[name])
            found.append(auc(layer.score_YX, city.label))
    mad, irmad, regression, vector, ratio = (np.mean(found) for found in areas.values())
    assert min(mad, irmad) > regression + 0.01
    assert regression > vector + 0.04
    assert vector > ratio + 0.04
