"""Before and after of the largest patches of change: real composites, the change outlined.

Shapes: ``YX`` rows and columns, ``YXC`` with colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cdscale.export import pictures
from cdscale.export.pictures import DPI, INK, VERMILLION, Map
from cdscale.export.reading import Product, View
from cdscale.kernels import Bool, Float
from cdscale.months import Month
from cdscale.spec.base import Frozen
from cdscale.spec.cube import SensorQuality

CLEAR = 0.95
"""Share of a chip that has to be seen for its month to be taken at once."""
TRIES = 8
"""Months that are looked at for one that shows a chip clear."""
Line = NDArray[np.float64]
SIDE = 2.3
"""Inches of each of the two pictures."""


class PatchFacts(Frozen):
    """What is known of a patch."""

    number: int
    km2: float
    lon: float
    lat: float
    before: str
    after: str
    """Months of the composites that are shown."""
    first: str
    """Month that first shows the change, of most of its pixels; empty where a pair says only
    between which months."""
    confirmed: str
    sure: float | None
    """Mean confidence of the series' states, or probability of the pair network."""


@dataclass(frozen=True)
class Chip:
    """A patch at full resolution, where it can be looked at."""

    view: View
    change_YX: Bool
    before: Month
    after: Month
    facts: PatchFacts


def clearest(cube: Product, view: View, months: Iterable[Month]) -> Month | None:
    """The first of these months that shows a view clear, else the clearest of some."""
    best: tuple[float, Month | None] = (-1.0, None)
    for month, _ in zip(months, range(TRIES), strict=False):
        share = float((cube.picture("s2_quality", month, view) == SensorQuality.valid).mean())
        if share >= CLEAR:
            return month
        if share > best[0]:
            best = share, month
    return best[1]


def draw_chip(chip: Chip, colours: Callable[[View, Month], Float], cube: Product) -> bytes:
    """Both dates side by side, stretched alike."""
    months = (chip.before, chip.after)
    shown = pictures.stretch([colours(chip.view, month) for month in months])
    figure = Figure(figsize=(2 * SIDE + 0.1, SIDE + 0.27), dpi=DPI)
    wide, high = 2 * SIDE + 0.1, SIDE + 0.27
    for i, (month, colour_YXC) in enumerate(zip(months, shown, strict=True)):
        quality_YX = cube.picture("s2_quality", month, chip.view)
        what = pictures.composite(str(month), colour_YXC, quality_YX)
        place = (i * (SIDE + 0.1) / wide, 0.0, SIDE / wide, SIDE / high)
        _draw(figure.add_axes(place), chip, what)
    return pictures.to_png(figure)


def _draw(axes: Axes, chip: Chip, what: Map) -> None:
    left, right, bottom, top = chip.view.extent_km
    axes.imshow(what.image_YXC, extent=(left, right, bottom, top), interpolation="nearest")
    for ring in outlines(chip.change_YX, chip.view):
        axes.plot(*ring, color="white", linewidth=1.8, solid_joinstyle="miter")
        axes.plot(*ring, color=VERMILLION, linewidth=1.0, solid_joinstyle="miter")
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    pictures.scale_bar(axes, chip.view)
    axes.set_title(what.title, fontsize=9, color=INK, loc="left", pad=3)
    axes.set_xticks([])
    axes.set_yticks([])
    for name, colour in what.legend:
        axes.text(
            0.98, 0.97, name, transform=axes.transAxes, ha="right", va="top", fontsize=8,
            color=INK, bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip


def outlines(change_YX: Bool, view: View) -> list[tuple[Line, Line]]:
    """Edges of pixels of change as lines with gaps, in kilometres: no pixel is cut or rounded."""
    left, _, _, top = view.extent_km
    step = view.step * view.job.spec.lattice.resolution / 1000
    around_YX = np.pad(change_YX, 1)
    across = np.argwhere(around_YX[1:-1, 1:] != around_YX[1:-1, :-1])
    along = np.argwhere(around_YX[1:, 1:-1] != around_YX[:-1, 1:-1])
    nothing = np.full(len(across), np.nan)
    x = np.stack([across[:, 1], across[:, 1], nothing], axis=1).ravel()
    y = np.stack([across[:, 0], across[:, 0] + 1, nothing], axis=1).ravel()
    nothing = np.full(len(along), np.nan)
    x = np.concatenate([x, np.stack([along[:, 1], along[:, 1] + 1, nothing], axis=1).ravel()])
    y = np.concatenate([y, np.stack([along[:, 0], along[:, 0], nothing], axis=1).ravel()])
    return [(left + x * step, top - y * step)]
