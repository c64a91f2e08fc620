"""PCA-k-means: principal components of the neighbourhoods of a difference image.

T. Celik, "Unsupervised change detection in satellite images using principal component analysis and
k-means clustering", IEEE GRSL 6(4), 2009.

Shape suffixes: B band, Y row, X column, P place in a patch, S component, N patch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from cdscale.classical.blocks import Blocks, Doubles, Floats, Pair, alike, check_bands
from cdscale.classical.components import principal_axes
from cdscale.classical.method import Method
from cdscale.classical.moments import Moments, check_pixels
from cdscale.classical.options import require
from cdscale.classical.threshold import KMeans, Threshold
from cdscale.errors import ModelError, explain

Centre = Literal["blocks", "patch"]

_ROWS = 128
"""Rows whose neighbourhoods are held at a time."""


@dataclass(frozen=True)
class PcaKmeans(Method):
    """Absolute scores of the neighbourhood of each pixel on the leading axes of all patches.

    Per band: the absolute difference is cut into ``size`` x ``size`` patches that do not overlap;
    their covariance gives the axes, on which the neighbourhood of every pixel is projected.
    ``components`` channels per band, those of the first band first; k-means over all of them is the
    threshold that belongs to it.

    Patches lie on one lattice from the first row and column of the image on; those that are not
    wholly valid are left out. Of a neighbourhood, an absent place takes the value of the nearest
    valid one in the rectangle between it and the pixel: beyond a straight edge, the edge repeats.
    """

    size: int = 3
    components: int = 9
    centre: Centre = "blocks"
    """What is taken off before the projection: "blocks", the mean of all patches (Celik); "patch",
    the mean of the patch itself (the ChangeDetectionToolbox), which removes the uniform part of a
    change."""

    name = "pca-kmeans"

    def __post_init__(self) -> None:
        most = self.size**2
        require(self.size >= 2, "pca-kmeans: size", "2 or more", self.size)
        within = 1 <= self.components <= most
        require(within, "pca-kmeans: components", f"1 to {most}", self.components)
        known = self.centre in ("blocks", "patch")
        require(known, "pca-kmeans: centre", "blocks or patch", self.centre)

    @property
    def halo(self) -> int:
        """Half a patch."""
        return self.size // 2

    @property
    def threshold(self) -> Threshold:
        """k-means."""
        return KMeans()

    def fit(self, blocks: Blocks) -> PatchAxes:
        """The axes of every band, in one pass.

        Raises
        ------
        ModelError
            When there are not more whole patches than places in a patch, or a block lacks the halo.
        """
        total: list[Moments] = []
        for block in alike(blocks):
            parts = [Moments.of(patches) for patches in self._patches(block)]
            total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
        check_pixels(f"{self.name}: patches", total[0].pixels if total else 0, self.size**2)
        axes = [principal_axes(band.covariance_BB)[:, : self.components] for band in total]
        mean = [band.mean_B for band in total]
        return PatchAxes(self, np.stack(mean), np.stack(axes))

    def _patches(self, block: Pair) -> Iterator[Doubles]:
        """Whole patches whose middle lies in the block, band by band, (N, P)."""
        first_y, first_x = ((self.halo - start) % self.size for start in (block.row, block.column))
        for band_YX in difference_bands(block, self.halo):
            places_PYX = views(band_YX, self.size)[:, first_y :: self.size, first_x :: self.size]
            patches_NP = places_PYX.reshape(self.size**2, -1).T
            yield patches_NP[np.isfinite(patches_NP).all(axis=1)]


@dataclass(frozen=True, eq=False)
class PatchAxes:
    """Mean patch and axes of every band."""

    how: PcaKmeans
    mean_BP: Doubles
    axes_BPS: Doubles

    def apply(self, pair: Pair) -> Floats:
        """Difference image of a block: (bands times components, Y, X)."""
        bands, _, components = self.axes_BPS.shape
        check_bands(pair, bands)
        di = np.empty((bands, components, *pair.shape), np.float32)
        for b, band_YX in enumerate(difference_bands(pair, self.how.halo)):
            for first in range(0, pair.shape[0], _ROWS):
                slab_YX = band_YX[first : first + _ROWS + 2 * self.how.halo]
                near_PYX = neighbourhoods(slab_YX, self.how.size)
                whole = self.how.centre == "blocks"
                near_PYX -= self.mean_BP[b, :, None, None] if whole else near_PYX.mean(axis=0)
                scores = np.tensordot(self.axes_BPS[b].T, near_PYX, axes=1)
                di[b, :, first : first + _ROWS] = np.abs(scores)
        return di.reshape(bands * components, *pair.shape)


def difference_bands(pair: Pair, halo: int) -> Iterator[Doubles]:
    """Absolute difference, band by band, with so much context; NaN where absent.

    There is as much context before the first as after the last row and column, one less after them
    for patches of even size; see :func:`views`.

    Raises
    ------
    ModelError
        When the block has less context.
    """
    if pair.halo < halo:
        do = f"Cut the image into blocks with a halo of {halo}."
        raise ModelError(
            explain("pca-kmeans: halo of a block", expected=halo, got=pair.halo, do=do)
        )
    spare = pair.halo - halo
    inside = tuple(slice(spare, length - spare) for length in pair.before_BYX.shape[1:])
    seen_YX = pair.valid_YX[inside]
    for before_YX, after_YX in zip(pair.before_BYX, pair.after_BYX, strict=True):
        one, two = (np.where(seen_YX, x[inside], np.nan) for x in (before_YX, after_YX))
        yield np.abs(two.astype(np.float64) - one)


def views(band_YX: Doubles, size: int) -> Doubles:
    """The neighbourhood of each pixel inside the context, (P, Y, X), as a view.

    Places go row by row; the pixel itself is place ``size // 2`` in both directions.
    """
    near_YXyx = np.lib.stride_tricks.sliding_window_view(band_YX, (size, size))
    if size % 2 == 0:
        near_YXyx = near_YXyx[:-1, :-1]
    return near_YXyx.transpose(2, 3, 0, 1).reshape(size * size, *near_YXyx.shape[:2])


def neighbourhoods(band_YX: Doubles, size: int) -> Doubles:
    """Neighbourhoods whose absent places are filled; all NaN where the pixel itself is absent."""
    near_PYX = views(band_YX, size)
    filled_PYX = near_PYX.copy()
    for place, others in enumerate(substitutes(size)):
        for other in others:
            absent_YX = np.isnan(filled_PYX[place])
            if not absent_YX.any():
                break
            filled_PYX[place][absent_YX] = near_PYX[other][absent_YX]
    middle = size // 2 * (size + 1)
    filled_PYX[:, np.isnan(near_PYX[middle])] = np.nan
    return filled_PYX


@cache
def substitutes(size: int) -> tuple[tuple[int, ...], ...]:
    """For each place those between it and the middle, nearest first, of two along the row first."""
    middle = size // 2
    found = []
    for y, x in np.ndindex(size, size):
        between = [
            ((v - y) ** 2 + (u - x) ** 2, abs(v - y), v * size + u)
            for v in range(min(y, middle), max(y, middle) + 1)
            for u in range(min(x, middle), max(x, middle) + 1)
            if (v, u) != (y, x)
        ]
        found.append(tuple(place for _, _, place in sorted(between)))
    return tuple(found)
