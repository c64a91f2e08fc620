"""Local thresholds and the cleaning of maps, as DeepCVA has them; for whole images.

S. Saha, F. Bovolo, L. Bruzzone, "Unsupervised deep change vector analysis for multiple-change
detection in VHR images", IEEE TGRS 57(6), 2019.

Shape suffixes: Y row, X column.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.morphology import closing, disk, remove_small_objects

from cdscale.classical.blocks import Booleans, Floats
from cdscale.classical.options import require
from cdscale.classical.threshold import Layer
from cdscale.errors import ModelError, explain


@dataclass(frozen=True)
class Adaptive:
    """Change where the score exceeds ``factor`` times its mean nearby, at any of several widths.

    The mean is a Gaussian's over the valid pixels; scores should begin at 0. As the widest
    Gaussian reaches over hundreds of pixels, it takes the image whole.
    """

    sigmas: tuple[float, ...] = (101.0, 151.0, 201.0)
    factor: float = 2.0

    def __post_init__(self) -> None:
        wide = bool(self.sigmas) and min(self.sigmas) > 0
        require(wide, "adaptive threshold: sigmas", "some, above 0", self.sigmas)
        require(self.factor > 0, "adaptive threshold: factor", "more than 0", self.factor)

    def fit(self, layers: Iterable[Layer]) -> Adaptive:
        """Nothing to fit but the promise that there is one layer.

        Raises
        ------
        ModelError
            When the image comes in blocks.
        """
        count = sum(1 for _ in layers)
        if count != 1:
            raise ModelError(
                explain(
                    "the adaptive threshold needs the image whole",
                    expected="one block",
                    got=count,
                    do="Use Otsu or k-means, which hold for all blocks of an image.",
                )
            )
        return self

    def change(self, layer: Layer) -> Booleans:
        """Union of the local thresholds."""
        found_YX = np.zeros(layer.score_YX.shape, bool)
        for sigma in self.sigmas:
            found_YX |= layer.score_YX > self.factor * _mean_near(layer.score_YX, sigma)
        return found_YX


def clean(change_YX: Booleans, *, least: int = 128, radius: int = 3) -> Booleans:
    """Drop small objects, then close gaps.

    Parameters
    ----------
    change_YX : array of bool
        A change map.
    least : int
        Objects of fewer pixels go; neighbours share a side. 0 or 1 keeps all.
    radius : int
        Of the disk that closes gaps; 0 closes none.

    Raises
    ------
    SpecError
        When either is negative.
    """
    require(least >= 0, "cleaning a change map: least", "0 or more", least)
    require(radius >= 0, "cleaning a change map: radius", "0 or more", radius)
    kept = remove_small_objects(change_YX, max_size=least - 1) if least > 1 else change_YX
    return np.asarray(closing(kept, disk(radius), mode="ignore") if radius else kept, bool)


def _mean_near(score_YX: Floats, sigma: float) -> Floats:
    """Gaussian mean over the valid pixels; beyond the image there are none."""
    seen_YX = np.isfinite(score_YX)
    total, weight = (
        gaussian_filter(x.astype(np.float64), sigma, mode="constant")
        for x in (np.where(seen_YX, score_YX, 0), seen_YX)
    )
    return np.asarray(total / np.maximum(weight, np.finfo(np.float64).tiny), np.float32)
