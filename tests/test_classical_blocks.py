"""Classical detectors over blocks: any cut of an image gives what the whole gives."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdscale.classical import (
    METHODS,
    Irmad,
    KMeans,
    Mad,
    Method,
    Otsu,
    Pair,
    PcaKmeans,
    cut,
    detect,
    fit,
)
from cdscale.classical.blocks import window
from cdscale.classical.moments import Moments
from cdscale.errors import ModelError
from tests.pairs import PLAIN, SEEDS, Array, close, scene, with_holes


@given(seed=SEEDS)
def test_moments_of_parts_add_up_far_from_zero(seed: int) -> None:
    """A million standard deviations off, where the mean of squares has no digits left."""
    rng = np.random.default_rng(seed)
    x_NB, weight_N = rng.normal(1e6, 1, (200, 3)), rng.random(200)
    ends = np.sort(rng.integers(0, 201, 4))
    parts = [
        Moments.of(x_NB[a:b], weight_N[a:b]) for a, b in zip([0, *ends], [*ends, 200], strict=True)
    ]
    total = sum(parts[1:], parts[0])
    np.testing.assert_allclose(total.mean_B, np.average(x_NB, axis=0, weights=weight_N))
    expected = np.cov(x_NB.T, aweights=weight_N, ddof=0) * 200 / 199
    np.testing.assert_allclose(total.covariance_BB, expected, rtol=1e-8, atol=1e-8)


def ragged(whole: Pair, halo: int, draw: Any) -> list[Pair]:
    """Blocks of all sizes, in any order, with at least the halo."""
    edges = []
    for length in whole.shape:
        inner = draw(st.sets(st.integers(1, length - 1), max_size=4))
        edges.append([0, *sorted(inner), length])
    spans = [
        (slice(y0, y1), slice(x0, x1))
        for y0, y1 in zip(edges[0], edges[0][1:], strict=False)
        for x0, x1 in zip(edges[1], edges[1][1:], strict=False)
    ]
    more = halo + draw(st.integers(0, 2))
    return [window(whole, rows, columns, more) for rows, columns in draw(st.permutations(spans))]


def put_together(blocks: list[Pair], maps: list[Array], shape: tuple[int, int]) -> Array:
    result = np.full((*maps[0].shape[:-2], *shape), np.nan)
    for block, map_CYX in zip(blocks, maps, strict=True):
        height, width = block.shape
        y, x = slice(block.row, block.row + height), slice(block.column, block.column + width)
        result[..., y, x] = map_CYX
    return result


@pytest.mark.parametrize("method", [*PLAIN, PcaKmeans(2, 2, "patch")], ids=repr)
@given(seed=SEEDS, data=st.data())
def test_blocks_give_what_the_whole_gives(method: Method, seed: int, data: Any) -> None:
    before, after = scene(seed)
    before = with_holes(before, seed)
    whole = detect(before, after, method)
    blocks = ragged(Pair(before, after), method.halo, data.draw)
    fitted = pickle.loads(pickle.dumps(fit(blocks, method)))
    found = [fitted.apply(block) for block in blocks]
    close(put_together(blocks, [x.di_CYX for x in found], (24, 19)), whole.di_CYX, 1e-6)
    close(put_together(blocks, [x.score_YX for x in found], (24, 19)), whole.score_YX, 1e-6)
    change = put_together(blocks, [x.change_YX for x in found], (24, 19))
    assert (change == whole.change_YX).all()


@pytest.mark.parametrize("method", [*PLAIN, PcaKmeans(4, 2)], ids=repr)
def test_how_many_rows_are_worked_on_at_a_time_does_not_matter(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = scene(8, shape=(40, 19))
    expected = detect(before, after, method).di_CYX
    monkeypatch.setattr("cdscale.classical.blocks._SLAB", 4 * 19)
    monkeypatch.setattr("cdscale.classical.pca_kmeans._ROWS", 7)
    close(detect(before, after, method).di_CYX, expected, 1e-6)


def test_cutting_covers_each_pixel_once_and_marks_what_lies_beyond() -> None:
    before, after = scene(2)
    blocks = cut(Pair(before, after), 7, halo=2)
    assert len(blocks) == 4 * 3
    assert blocks[-1].shape == (3, 5)
    cores = [np.asarray(block.core.before_BYX) for block in blocks]
    np.testing.assert_array_equal(put_together(blocks, cores, (24, 19)), before)
    assert np.isnan(blocks[0].before_BYX[:, :2]).all()
    np.testing.assert_array_equal(blocks[0].before_BYX[:, 2:, 2:], before[:, :9, :9])


class Lazy:
    """Blocks that are made when they are asked for; counts passes, and blocks held at a time."""

    def __init__(self, whole: Pair, halo: int) -> None:
        self.whole, self.halo = whole, halo
        self.passes = self.most = 0
        self.alive: weakref.WeakSet[Pair] = weakref.WeakSet()

    def __iter__(self) -> Iterator[Pair]:
        self.passes += 1
        for row in range(0, self.whole.shape[0], 4):
            block = window(self.whole, slice(row, row + 4), slice(0, 19), self.halo)
            self.alive.add(block)
            self.most = max(self.most, len(self.alive))
            yield block


@pytest.mark.parametrize(
    ("name", "passes"),
    [("cva", 0), ("image-regr", 1), ("dpca", 1), ("pcda", 1), ("pca-kmeans", 1), ("mad", 1)],
)
def test_blocks_are_held_one_at_a_time_and_gone_over_as_often_as_said(
    name: str, passes: int
) -> None:
    before, after = scene(9)
    method = METHODS[name]
    for threshold, more in ((KMeans(), 1), (Otsu(), 2)):
        blocks = Lazy(Pair(before, after), method.halo)
        fit(blocks, method, threshold)
        assert blocks.passes == passes + more
        # The next one is made while the loop still names the last.
        assert blocks.most <= 2


def test_irmad_goes_over_its_blocks_once_for_each_iteration() -> None:
    blocks = Lazy(Pair(*scene(9)), 0)
    found = Irmad().fit(blocks)
    assert found.ending == "converged"
    assert blocks.passes == 1 + len(found.shifts)


def test_a_block_without_a_valid_pixel_is_absent_and_harmless() -> None:
    before, after = scene(2)
    nothing = Pair(np.full((3, 5, 5), np.nan), np.zeros((3, 5, 5)), halo=1, row=24)
    for method in PLAIN:
        blocks = [nothing, *cut(Pair(before, after), 12, method.halo)]
        fitted = fit(blocks, method)
        assert np.isnan(fitted.apply(nothing).di_CYX).all()
        alone = detect(before, after, method)
        close(fitted.apply(blocks[1]).di_CYX, alone.di_CYX[:, :12, :12], 1e-6)


def test_blocks_that_do_not_fit_are_refused() -> None:
    before, after = scene(1)
    pair = Pair(before, after)
    with pytest.raises(ModelError, match="more than once; got a generator"):
        fit((block for block in [pair]), Mad())
    with pytest.raises(ModelError, match="more than once; got a list_iterator"):
        Irmad().fit(iter([pair]))
    with pytest.raises(ModelError, match=r"halo of a block; expected 2; got 0. Cut the image"):
        fit([pair], PcaKmeans(size=4))
    fewer = Pair(before[:2], after[:2])
    for method in ("mad", "image-regr", "pca-kmeans", "dpca", "pcda"):
        blocks = [cut(part, 24, METHODS[method].halo)[0] for part in (pair, fewer)]
        with pytest.raises(ModelError, match="bands; expected 3; got 2"):
            fit(blocks, METHODS[method])
        with pytest.raises(ModelError, match="bands; expected 3; got 2"):
            fit(blocks[:1], METHODS[method]).apply(blocks[1])
