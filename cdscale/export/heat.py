"""Completeness by tile and month as a heat map: where and when the cube holds pixels.

Shapes: ``RM`` rows (tiles, or groups of tiles) and months.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cdscale.export.pictures import DPI, INK, QUIET, VERMILLION, to_png
from cdscale.grid import Tile
from cdscale.kernels import Float
from cdscale.months import Month

MOST_ROWS = 40
"""Of the picture; of more tiles, neighbours are put together."""
LABELLED = 12
"""Columns that have a label, at most."""


@dataclass(frozen=True)
class Heat:
    """Share of valid pixels, NaN where a tile and month is not processed."""

    sensor: str
    rows: tuple[str, ...]
    share_RM: Float


def grouped(tiles: Sequence[Tile]) -> tuple[int, list[list[int]]]:
    """Tiles to rows: one each, or blocks of neighbours, so that there are few enough.

    Returns
    -------
    int
        Tiles along a side of a block.
    list of list of int
        For each row the places of its tiles, north to south and west to east.
    """
    side = 1
    while True:
        blocks: dict[tuple[int, int], list[int]] = {}
        for i, tile in enumerate(tiles):
            blocks.setdefault((tile.iy // side, tile.ix // side), []).append(i)
        if len(blocks) <= MOST_ROWS:
            return side, [blocks[key] for key in sorted(blocks)]
        side *= 2


def heat_of(sensor: str, tiles: Sequence[Tile], share_TM: Float) -> Heat:
    """Rows of a heat map from the share of each tile and month (tile, month)."""
    side, rows = grouped(tiles)
    names, means = [], []
    for places in rows:
        part = share_TM[places]
        seen = np.isfinite(part)
        number = seen.sum(axis=0)
        total = np.where(seen, part, 0).sum(axis=0)
        means.append(np.where(number > 0, total / np.maximum(number, 1), np.nan))
        first = tiles[places[0]]
        names.append(str(first) if side == 1 else f"{first} and near ({len(places)})")
    return Heat(sensor, tuple(names), np.asarray(means, np.float32))


def draw_heat(months: Sequence[Month], heats: Sequence[Heat]) -> bytes:
    """One panel for each sensor, months from left to right, tiles from top to bottom."""
    rows, count = len(heats[0].rows), len(months)
    row = min(0.24, 5.5 / rows) if rows > 4 else 0.3
    cell = min(0.42, 2.9 / count)
    label, gap = 1.5 if "near" in heats[0].rows[0] else 0.95, 0.25
    panel = max(cell * count, 0.9)
    wide = label + len(heats) * (panel + gap)
    high = 0.3 + row * rows + 0.75 + 0.3
    figure = Figure(figsize=(wide, high), dpi=DPI)
    for i, heat in enumerate(heats):
        place = ((label + i * (panel + gap)) / wide, 1.05 / high, panel / wide, row * rows / high)
        axes = figure.add_axes(place)
        colour = np.asarray(colormaps["cividis"](np.nan_to_num(heat.share_RM)))[..., :3]
        colour[~np.isfinite(heat.share_RM)] = to_rgb(VERMILLION)
        axes.imshow(colour, aspect="auto", interpolation="nearest")
        axes.set_title(heat.sensor, fontsize=9, color=INK, loc="left", pad=4)
        every = range(0, count, max(1, -(-count * 2 // LABELLED)))
        axes.set_xticks(list(every), [str(months[m]) for m in every], rotation=90)
        names = heat.rows if i == 0 and row >= 0.1 else ()
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(labelsize=7.5, colors=QUIET, length=2)
        axes.set_xticks(np.arange(-0.5, count), minor=True)
        axes.set_yticks(np.arange(-0.5, rows), minor=True)
        axes.tick_params(which="minor", length=0)
        if rows * count <= 3000:
            axes.grid(which="minor", color="white", linewidth=0.4)
        axes.spines[:].set_visible(False)
    _scale(figure, label, missing=any(np.isnan(h.share_RM).any() for h in heats))
    return to_png(figure)


def _scale(figure: Figure, left: float, *, missing: bool) -> None:
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((left / wide, 0.3 / high, 1.3 / wide, 0.1 / high))
    axes.imshow(np.linspace(0, 1, 64)[None], cmap="cividis", aspect="auto")
    axes.set_yticks([])
    axes.set_xticks([0, 31.5, 63], ["0 %", "50 %", "100 %"])
    axes.tick_params(labelsize=7.5, colors=QUIET, length=2)
    axes.set_title("share of pixels with data", fontsize=7.5, color=QUIET, loc="left", pad=2)
    axes.spines[:].set(color=QUIET, linewidth=0.5)
    if missing:
        figure.legend(
            handles=[Patch(fc=VERMILLION, ec=QUIET, lw=0.5, label="not processed")],
            loc="lower left", bbox_to_anchor=((left + 1.5) / wide, 0.16 / high), frameon=False,
            fontsize=7.5, labelcolor=QUIET,
        )  # fmt: skip
