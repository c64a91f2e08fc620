"""Small pairs of images for the tests of the classical detectors.

Shape suffixes: B band, Y row, X column, N pixel, C channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from cdscale.classical import METHODS, Method, detect

Array = NDArray[Any]

PLAIN = [method for name, method in METHODS.items() if name not in ("deepcva", "cnnf")]
SEEDS = st.integers(0, 2**32 - 1)


def scene(seed: int, bands: int = 3, shape: tuple[int, int] = (24, 19)) -> tuple[Array, Array]:
    """Two dates of correlated bands: gain, offset and noise everywhere, change in a corner."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(bands) + 0.5 * rng.random((bands, bands))
    before = np.tensordot(mixing, rng.gamma(2.0, 0.05, (bands, *shape)), axes=1)
    gain, offset = 0.8 + 0.4 * rng.random(bands), 0.05 * rng.random(bands)
    after = before * gain[:, None, None] + offset[:, None, None]
    after += 0.01 * rng.random(after.shape)
    after[:, : shape[0] // 4, : shape[1] // 4] += 0.2 * rng.random((bands, 1, 1)) + 0.1
    return before, after


def with_holes(image: Array, seed: int, share: float = 0.02) -> Array:
    """The image with NaN in one band of some pixels."""
    rng = np.random.default_rng(seed)
    holes = np.zeros(image.shape, bool)
    holes[rng.integers(len(image))] = rng.random(image.shape[1:]) < share
    return np.where(holes, np.nan, image)


def table(image_BYX: Array) -> Array:
    """Pixels as rows, (N, B)."""
    return image_BYX.reshape(len(image_BYX), -1).T


def di(before: Array, after: Array, method: Method) -> Array:
    return detect(before, after, method).di_CYX


def close(found: Array, expected: Array, tolerance: float = 1e-5) -> None:
    """Equal up to a share of the largest expected value; NaN at the same places."""
    scale = np.nanmax(np.abs(expected), initial=1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)
