"""The largest patches of change in a run, and what they looked like before and after.

Patches are found in a view, which of a large area holds every n-th pixel only: the largest are
found there too, their area is then a multiple of what was counted. Shapes: ``YX`` rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cdscale.export.reading import View
from cdscale.grid import Tile, to_lon_lat
from cdscale.kernels import Bool

MOST_PATCHES = 6
"""That are shown, over all parts of the area."""
LEAST_PX = 3
"""Pixels of the smallest patch that is shown; less is noise to look at."""
AROUND = 0.8
"""Of a patch's longer side, on each side of it: what a chip shows of the surroundings."""
CHIP_PX = (48, 320)
"""Pixels along a side of a chip, at least and at most; of a larger one every n-th is drawn."""
EIGHT = np.ones((3, 3), bool)
"""Pixels that touch in a corner belong together."""


@dataclass(frozen=True)
class Patch:
    """Connected pixels of change."""

    view: View
    """In which it was found."""
    pixels: int
    """Of the view."""
    rows: slice
    columns: slice
    """Of the view, around it."""

    @property
    def km2(self) -> float:
        """Its area."""
        return self.pixels * (self.view.step * self.view.job.spec.lattice.resolution / 1000) ** 2

    @property
    def place(self) -> tuple[float, float]:
        """Longitude and latitude of the middle of its rectangle."""
        left, _, _, top = self.view.extent_km
        step_m = self.view.step * self.view.job.spec.lattice.resolution
        x = 1000 * left + step_m * (self.columns.start + self.columns.stop) / 2
        y = 1000 * top - step_m * (self.rows.start + self.rows.stop) / 2
        return to_lon_lat(x, y, self.view.job.spec.lattice.crs)

    @property
    def chip(self) -> View:
        """It and its surroundings, at full resolution unless it is very large."""
        view = self.view
        whole = view.job.spec.window()
        px = view.job.spec.grid.tile
        spans = [
            _widened(view.rows, self.rows, whole.ny * px),
            _widened(view.columns, self.columns, whole.nx * px),
        ]
        side = max(stop - start for start, stop in spans)
        step = -(-side // CHIP_PX[1])
        rows, columns = (
            _square(span, side, n * px) for span, n in zip(spans, (whole.ny, whole.nx), strict=True)
        )
        tiles = tuple(t for t in view.tiles if _meets(view, t, rows, columns))
        return View(view.job, tiles, range(*rows, step), range(*columns, step))


def _widened(axis: range, span: slice, limit: int) -> tuple[int, int]:
    """Pixels of the store around a span of a view, with surroundings."""
    start, stop = axis.start + span.start * axis.step, axis.start + span.stop * axis.step
    around = max(round(AROUND * (stop - start)), (CHIP_PX[0] - (stop - start)) // 2, 0)
    return max(0, start - around), min(limit, stop + around)


def _square(span: tuple[int, int], side: int, limit: int) -> tuple[int, int]:
    """A span of this length around the same middle, moved inside the store."""
    side = min(side, limit)
    start = min(max(0, (span[0] + span[1] - side) // 2), limit - side)
    return start, start + side


def _meets(view: View, tile: Tile, rows: tuple[int, int], columns: tuple[int, int]) -> bool:
    y, x = view.job.spec.window().slices(view.job.spec.lattice, tile)
    inside = y.start < rows[1] and y.stop > rows[0]
    return bool(inside and x.start < columns[1] and x.stop > columns[0])


def largest(view: View, change_YX: Bool) -> tuple[list[Patch], int]:
    """The largest connected patches of a view, and how many there are in all.

    Parameters
    ----------
    view : View
        What is looked at.
    change_YX : bool array
        Where it shows change.
    """
    labels_YX, _ = ndimage.label(change_YX, EIGHT)
    sizes = np.bincount(labels_YX.ravel())
    sizes[0] = 0
    boxes = ndimage.find_objects(labels_YX)
    order = [int(i) for i in np.argsort(-sizes, kind="stable") if sizes[i] >= LEAST_PX]
    patches = [Patch(view, int(sizes[i]), *boxes[i - 1]) for i in order[:MOST_PATCHES]]
    return patches, len(order)
