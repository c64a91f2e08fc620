"""Where change begins: thresholds against the libraries' own, samples, local means, cleaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu
from sklearn.cluster import KMeans as Lloyd

from cdscale.classical import (
    METHODS,
    Adaptive,
    Fixed,
    ImageDiff,
    KMeans,
    Layer,
    Otsu,
    Pair,
    Threshold,
    clean,
    compare,
    cut,
    detect,
    fit,
    threshold_named,
)
from cdscale.classical.sample import Sample, draw
from cdscale.errors import ModelError, SpecError
from tests.pairs import SEEDS, Array, scene, with_holes


def layer_of(di_CYX: Array) -> Layer:
    di = np.asarray(di_CYX, np.float32)
    return Layer(di, di.mean(axis=0))


def changed(threshold: Threshold, layer: Layer) -> Array:
    return threshold.fit([layer]).change(layer)


# ------------------------------------------------------------------------- Otsu and fixed


@given(seed=SEEDS)
def test_otsu_is_the_librarys_on_the_8_bit_image(seed: int) -> None:
    score = np.random.default_rng(seed).gamma(2, 3, (30, 40)).astype(np.float32)
    score[:8, :8] += 20
    layer = layer_of(score[None])
    unit = (score.astype(float) - score.min()) / (score.max() - score.min())
    grey = np.floor(unit * 255 + 0.5).astype(np.uint8)
    expected = grey > threshold_otsu(grey)
    assert expected.any()
    assert (changed(Otsu(), layer) == expected).mean() > 0.999
    stricter = changed(Otsu(factor=1.25), layer)
    assert stricter.sum() < expected.sum()
    assert not (stricter & ~expected).any()


def test_a_score_is_the_mean_or_the_norm_over_channels() -> None:
    before, after = scene(1)
    mean, norm = (compare(before, after, METHODS["mad"], how) for how in ("mean", "euclidean"))
    np.testing.assert_allclose(mean.score_YX, mean.di_CYX.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(norm.score_YX, np.linalg.norm(norm.di_CYX, axis=0), rtol=1e-5)
    both = [detect(before, after, METHODS["mad"], Fixed(2.0), how) for how in ("mean", "euclidean")]
    for found, layer in zip(both, (mean, norm), strict=True):
        assert (found.change_YX == (layer.score_YX >= 2.0)).all()
    assert both[1].change_YX.sum() > both[0].change_YX.sum() > 0


def test_an_image_of_one_score_or_none_holds_no_change() -> None:
    flat, empty = np.full((2, 5, 6), 0.7), np.full((2, 5, 6), np.nan)
    for threshold in (Otsu(), KMeans()):
        for image in (flat, empty):
            assert not changed(threshold, layer_of(image)).any()
    assert changed(Fixed(0.7), layer_of(flat.astype(np.float32))).all()
    assert not changed(Fixed(0.0), layer_of(empty)).any()


def test_thresholds_go_by_name() -> None:
    assert threshold_named("Otsu") == Otsu()
    assert threshold_named("kmeans") == threshold_named("k-means") == KMeans()
    assert threshold_named("2300") == Fixed(2300.0)
    for text in ("nan", "median", ""):
        with pytest.raises(SpecError, match="expected otsu, kmeans or a number; got"):
            threshold_named(text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Otsu(factor=0),
        lambda: KMeans(starts=0),
        lambda: KMeans(sample=1),
        lambda: Adaptive(sigmas=()),
        lambda: Adaptive(sigmas=(3.0, 0.0)),
        lambda: Adaptive(factor=0),
        lambda: clean(np.zeros((2, 2), bool), least=-1),
        lambda: clean(np.zeros((2, 2), bool), radius=-1),
    ],
)
def test_options_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(SpecError, match="expected .*; got "):
        make()


# --------------------------------------------------------------------------------- k-means


@given(seed=SEEDS)
def test_kmeans_is_the_librarys_and_change_the_larger_cluster(seed: int) -> None:
    rng = np.random.default_rng(seed)
    di = rng.gamma(2, 1, (3, 20, 30))
    di[:, :6, :6] += 9
    layer = layer_of(di)
    pixels = layer.di_CYX.reshape(3, -1).T
    lloyd = Lloyd(2, n_init=10, random_state=seed % 1000).fit(pixels)
    larger = lloyd.cluster_centers_.mean(axis=1).argmax()
    expected = (lloyd.labels_ == larger).reshape(20, 30)
    assert (changed(KMeans(), layer) == expected).mean() > 0.99


def test_kmeans_is_the_same_every_time_and_one_start_begins_at_the_extremes() -> None:
    before, after = scene(4)
    first, again = (detect(before, after, METHODS["mad"], KMeans()) for _ in range(2))
    assert (first.change_YX == again.change_YX).all()
    # Two values: whatever the seed, the extremes are the centres.
    di = np.where(np.arange(12).reshape(1, 3, 4) % 4 == 0, 5.0, 1.0)
    for seed in (0, 1):
        assert (changed(KMeans(starts=1, seed=seed), layer_of(di)) == (di[0] == 5)).all()


@given(seed=SEEDS, side=st.integers(3, 24), size=st.integers(20, 400))
def test_a_sample_stands_for_the_image_however_it_is_cut(seed: int, side: int, size: int) -> None:
    before, after = scene(seed)
    before = with_holes(before, seed)
    threshold = KMeans(sample=size)
    whole = detect(before, after, ImageDiff(), threshold)
    fitted = fit(cut(Pair(before, after), side), ImageDiff(), threshold)
    found = fitted.apply(Pair(before, after))
    assert (found.change_YX == whole.change_YX).all()


@given(seed=SEEDS, size=st.integers(1, 120))
def test_a_sample_does_not_depend_on_the_order_of_its_parts(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    row, column = (x.ravel() for x in np.mgrid[-5:5, 100:110])
    values = rng.random((100, 2)).astype(np.float32)
    results = []
    for _ in range(2):
        sample = Sample(size)
        for part in np.array_split(rng.permutation(100), rng.integers(1, 9)):
            sample.add(values[part], row[part], column[part])
        results.append(sample.values())
    assert len(results[0]) == min(size, 100)
    np.testing.assert_array_equal(results[0], results[1])


def test_draws_are_even_over_an_image() -> None:
    row, column = (x.ravel() for x in np.mgrid[:200, :200])
    first = np.argsort(draw(row, column))[:4000]
    counts = np.histogram2d(row[first], column[first], bins=4, range=[[0, 200]] * 2)[0]
    assert len(np.unique(draw(row, column))) == 40_000
    # 250 expected in each of 16 cells, standard deviation 15.
    assert np.abs(counts - 250).max() < 60


# ----------------------------------------------------------------------- local, and cleaning


@given(seed=SEEDS)
def test_a_local_threshold_is_a_multiple_of_the_mean_nearby(seed: int) -> None:
    score = np.random.default_rng(seed).gamma(2, 1, (30, 40))
    score[10:13, 10:13] = 20
    whole = np.ones((30, 40))
    expected = np.zeros((30, 40), bool)
    for sigma in (3.0, 6.0):
        mean, weight = (gaussian_filter(x, sigma, mode="constant") for x in (score, whole))
        expected |= score > 2 * mean / weight
    found = changed(Adaptive((3.0, 6.0)), layer_of(score[None]))
    assert (found == expected).mean() > 0.999
    assert found[10:13, 10:13].all()


def test_a_local_threshold_knows_no_absent_pixels_and_wants_the_image_whole() -> None:
    score = np.ones((20, 20))
    score[5, 5] = 3
    score[:, 10:] = np.nan
    # Zeros instead of NaN would halve the mean at the border, and so find change there.
    found = changed(Adaptive((4.0,), factor=1.5), layer_of(score[None]))
    assert found[5, 5]
    assert found.sum() == 1
    before, after = scene(1)
    with pytest.raises(ModelError, match="image whole; expected one block; got 4"):
        fit(cut(Pair(before, after), 12), ImageDiff(), Adaptive())
    nothing = layer_of(np.full((1, 9, 9), np.nan))
    assert not changed(Adaptive((2.0,)), nothing).any()


def test_cleaning_drops_small_objects_then_closes_gaps() -> None:
    change = np.zeros((40, 40), bool)
    change[5:20, 5:20] = True
    change[12, 12] = False
    change[30:33, 30:33] = True
    cleaned = clean(change, least=10, radius=3)
    assert cleaned[5:20, 5:20].all()
    assert cleaned.sum() == 15 * 15
    assert clean(change, least=9, radius=0).sum() == change.sum()
    assert (clean(change, least=0, radius=0) == change).all()
    assert clean(change)[30:33, 30:33].sum() == 0
    edge = np.zeros((20, 20), bool)
    edge[:, :8] = True
    assert (clean(edge, least=0) == edge).all()
