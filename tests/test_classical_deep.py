"""Detectors on deep features, with features that need no network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdscale.classical import METHODS, Cnnf, DeepCva, Fixed, Pair, cut, detect, fit, method_named
from cdscale.classical.deep import enlarge, most_varying, stretched
from cdscale.errors import ModelError
from tests.pairs import SEEDS, Array, close, scene, with_holes


class Bands:
    """The image itself, as one layer; keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: list[Array] = []

    def features(self, image_BYX: Array) -> list[Array]:
        self.seen.append(image_BYX)
        return [image_BYX]


class Pyramid:
    """Bands at full resolution, and their sums over 2 x 2 pixels, as pooling leaves them."""

    def features(self, image_BYX: Array) -> list[Array]:
        bands, height, width = image_BYX.shape
        even = image_BYX[:, : height // 2 * 2, : width // 2 * 2]
        blocks = even.reshape(bands, height // 2, 2, width // 2, 2)
        return [image_BYX, blocks.sum(axis=(2, 4))]


def by_hand(image_BYX: Array, saturation: float) -> Array:
    bands = []
    for band in image_BYX:
        low, high = np.percentile(band, [saturation, 100 - saturation])
        bands.append(np.clip((band - low) / (high - low), 0, 1))
    return np.stack(bands)


@given(seed=SEEDS, saturation=st.sampled_from([0.0, 1.0, 10.0]))
def test_cnnf_on_the_bands_is_the_distance_of_the_stretched_images(
    seed: int, saturation: float
) -> None:
    before, after = scene(seed)
    one, two = (by_hand(x, saturation) for x in (before, after))
    expected = np.sqrt(((one - two) ** 2).sum(axis=0, keepdims=True))
    close(detect(before, after, Cnnf(Bands(), saturation=saturation)).di_CYX, expected)


@given(seed=SEEDS)
def test_deepcva_with_all_features_is_the_distance_of_standardised_ones(seed: int) -> None:
    before, after = scene(seed)
    every = DeepCva(Bands(), shares=(1.0,), saturation=0, limit=np.inf, difference_saturation=0)
    one, two = (
        (x - x.mean(axis=(1, 2), keepdims=True)) / x.std(axis=(1, 2), keepdims=True)
        for x in (before, after)
    )
    length = np.sqrt(((one - two) ** 2).sum(axis=0, keepdims=True))
    expected = (length - length.min()) / (length.max() - length.min())
    found = detect(before, after, every).di_CYX
    close(found, expected, 1e-4)
    assert found.min() == 0
    assert found.max() == 1


def test_deepcva_keeps_in_each_quadrant_what_varies_most() -> None:
    rng = np.random.default_rng(0)
    difference = 0.01 * rng.random((20, 30, 40)).astype(np.float32)
    seen = np.ones((30, 40), bool)
    for feature, (y, x) in {3: (0, 0), 7: (0, 1), 11: (1, 0), 12: (1, 1)}.items():
        difference[feature, 15 * y : 15 * y + 15, 20 * x : 20 * x + 20] += rng.random((15, 20))
    assert most_varying(difference, seen, 0.05) == [3, 7, 11, 12]
    seen[15:, 20:] = False
    assert most_varying(difference, seen, 0.001) == [3, 7, 11]
    assert most_varying(difference, seen, 1.0) == list(range(20))


def test_features_are_clipped_and_differences_saturated() -> None:
    before, after = scene(3)
    after[0, 20, 15] = 1e6
    plain = {"shares": (1.0,), "saturation": 0.0}
    wild = detect(before, after, DeepCva(Bands(), limit=np.inf, difference_saturation=0, **plain))  # type: ignore[arg-type]
    tame = detect(before, after, DeepCva(Bands(), limit=np.inf, difference_saturation=5, **plain))  # type: ignore[arg-type]
    assert np.median(wild.score_YX) < 0.1 < 0.15 < np.median(tame.score_YX)
    low = detect(before, after, DeepCva(Bands(), limit=1e-9, **plain))  # type: ignore[arg-type]
    assert np.isfinite(low.di_CYX).all()


@pytest.mark.parametrize("method", [Cnnf(Pyramid()), DeepCva(Pyramid(), shares=(0.5, 0.5))])
@pytest.mark.parametrize("shape", [(24, 20), (25, 21)])
def test_deep_detectors_find_change_and_leave_absent_pixels_out(
    method: Any, shape: tuple[int, int]
) -> None:
    before, after = scene(5, shape=shape)
    before, after = with_holes(before, 1), with_holes(after, 2)
    absent = ~np.isfinite(before + after).all(axis=0)
    found = detect(before, after, method)
    assert found.di_CYX.shape == (1, *shape)
    assert (np.isnan(found.score_YX) == absent).all()
    corner = np.zeros(shape, bool)
    corner[: shape[0] // 4, : shape[1] // 4] = True
    inside, outside = (np.nanmedian(found.score_YX[where]) for where in (corner, ~corner))
    assert inside > 1.5 * outside
    same = detect(before, before, method)
    assert np.nanmax(same.score_YX) == 0
    assert not same.change_YX.any()
    nothing = detect(np.full_like(before, np.nan), after, method)
    assert np.isnan(nothing.di_CYX).all()
    assert not nothing.change_YX.any()


def test_the_extractor_sees_the_bands_asked_for_without_holes() -> None:
    before, after = scene(6)
    before[1, 3, 4] = np.nan
    extractor = Bands()
    detect(before, after, Cnnf(extractor, bands=(2, 1)), Fixed(0.5))
    for shown, image in zip(extractor.seen, (before, after), strict=True):
        assert shown.shape == (2, 24, 19)
        assert shown.dtype == np.float32
        assert shown.min() == 0
        assert shown.max() == 1
        whole = image[[2, 1], 10:]
        assert np.corrcoef(shown[:, 10:][0].ravel(), whole[0].ravel())[0, 1] > 0.95
    flat = np.full((1, 4, 4), 3.0)
    assert (stretched(flat, np.ones((4, 4), bool), 1.0) == 0.5).all()


@pytest.mark.parametrize(
    ("old", "new", "pooled"),
    [(8, 16, 2), (8, 17, 2), (9, 17, 2), (4, 19, 4), (5, 19, 4), (7, 7, 1)],
)
def test_features_stay_on_their_pixels_when_enlarged(old: int, new: int, pooled: int) -> None:
    """The centre of a pixel of the map stands for the middle of what it was pooled from."""
    ramp = (np.arange(old) + 0.5) * pooled
    found = enlarge(np.tile(ramp.astype(np.float32)[:, None], (1, old)), (new, new))
    assert found.shape == (new, new)
    inner = slice(pooled, min(old * pooled, new) - pooled)
    expected = np.arange(new) + 0.5
    np.testing.assert_allclose(found[inner, 0], expected[inner], rtol=1e-5)
    np.testing.assert_allclose(found[:, 0], found[:, -1])
    # No whole factor explains 5 from 7: then the map is stretched.
    assert enlarge(np.ones((5, 5), np.float32), (7, 7)).shape == (7, 7)


def test_what_does_not_fit_is_refused() -> None:
    before, after = scene(1)
    for name in ("deepcva", "cnnf"):
        with pytest.raises(ModelError, match="no feature extractor.*Name one"):
            detect(before, after, METHODS[name])
        with pytest.raises(ModelError, match=f"{name} needs the image whole.*got 4"):
            fit(cut(Pair(before, after), 12), method_named(name, Bands()))
    with pytest.raises(ModelError, match=r"deepcva; expected 1 shares; got 3 shares. Give one"):
        detect(before, after, DeepCva(Bands()))
    for bands in ((0, 3), (-1,), ()):
        with pytest.raises(
            ModelError, match="bands for deep features; expected some from 0 to 2; got"
        ):
            detect(before, after, Cnnf(Bands(), bands))

    class Flat:
        def features(self, image_BYX: Array) -> list[Array]:
            return [image_BYX[0]]

    class Growing:
        def __init__(self) -> None:
            self.calls = 0

        def features(self, image_BYX: Array) -> list[Array]:
            self.calls += 1
            return [image_BYX] * self.calls

    for extractor in (Flat(), Growing()):
        with pytest.raises(ModelError, match="maps of deep features; expected"):
            detect(before, after, Cnnf(extractor))
