"""The gate for seams: maps ought not to jump where two tiles meet.

Along the edges between tiles the stored probability of the two pixels that face each other is
compared; so are pixels beside each other a little inside of both tiles. On a map without seams both
differ alike, since the land does not know of tiles. What the edges differ more is the seam. It
costs a strip of pixels on each side of some edges, and no network: it is done with every run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale.grid import Tile
from cdscale.months import Month
from cdscale.spec.base import Frozen
from cdscale.spec.cube import CubeSpec, Variable
from cdscale.store import Plane

VARIABLE = "probability"
REACH = 8
"""Pixels on each side of an edge that are looked at."""
EDGES = 64
"""Between tiles of one month, at most; spread evenly over all of them."""
EXCESS = 0.01
"""By so much, as a probability, edges may differ more than pixels inside, on average."""
RATIO = 1.5
"""And by so many times as much: on land with much detail both differ by more."""


class Seams(Frozen):
    """Differences between neighbouring pixels of one month, as probabilities."""

    month: str
    edges: int = 0
    """Between two tiles, looked at."""
    pixels: int = 0
    """Pairs of pixels across them that both say something."""
    across: float = 0.0
    """Mean difference across the edges."""
    inside: float = 0.0
    """Mean difference between neighbours up to eight pixels inside."""

    @property
    def excess(self) -> float:
        """How much more the edges differ."""
        return round(self.across - self.inside, 6)

    @property
    def passed(self) -> bool:
        """Whether nobody would see where the tiles are."""
        return self.excess <= EXCESS or self.across <= RATIO * self.inside


class Gate(Frozen):
    """What the months of a store say together: the one that shows its tiles most."""

    product: str
    verdict: str
    """``pass``, ``warn``, or ``none`` where no edge lies between two tiles with data."""
    months: int
    pixels: int
    worst: Seams | None
    largest_excess: float = EXCESS
    largest_ratio: float = RATIO


def gate(product: str, found: Iterable[Seams]) -> Gate:
    """Judge the months of a store."""
    seen = [month for month in found if month.pixels]
    worst = max(seen, key=lambda m: (not m.passed, m.excess), default=None)
    verdict = "none" if worst is None else "pass" if worst.passed else "warn"
    pixels = sum(month.pixels for month in seen)
    return Gate(product=product, verdict=verdict, months=len(seen), pixels=pixels, worst=worst)


def measure(path: Path, spec: CubeSpec, month: Month, tiles: Iterable[Tile]) -> Seams:
    """Differences across some of the edges between tiles of a month, and inside of them.

    Parameters
    ----------
    path, spec
        The store.
    month : Month
        Which.
    tiles : iterable of Tile
        Those that have been mapped.

    Raises
    ------
    StoreError
        When a shard is damaged.
    """
    if VARIABLE not in {v.name for v in spec.variables}:
        return Seams(month=str(month))
    variable, plane = spec.variable(VARIABLE), Plane(path, spec)
    total = np.zeros((2 * REACH - 1, 2))
    edges = 0
    for rows, columns in _chosen(spec, tiles):
        strip_YX = plane.one(VARIABLE, month, rows, columns)
        across = strip_YX if columns.stop - columns.start == 2 * REACH else strip_YX.T
        step = _differences(across, variable)
        total += step
        edges += bool(step[REACH - 1, 1])
    if not total[REACH - 1, 1]:
        return Seams(month=str(month))
    others = np.delete(total, REACH - 1, axis=0).sum(axis=0)
    return Seams(
        month=str(month),
        edges=edges,
        pixels=int(total[REACH - 1, 1]),
        across=round(float(total[REACH - 1, 0] / total[REACH - 1, 1]), 6),
        inside=round(float(others[0] / max(others[1], 1)), 6),
    )


def _differences(strip_NX: NDArray[Any], variable: Variable) -> NDArray[np.float64]:
    """Sum and number of the differences at each step across a strip, (steps, 2)."""
    values_NX = strip_NX.astype(np.float64) * (variable.scale or 1.0)
    values_NX[strip_NX == variable.fill] = np.nan
    step_NX = np.abs(np.diff(values_NX, axis=1))
    return np.stack([np.nansum(step_NX, axis=0), np.isfinite(step_NX).sum(axis=0)], axis=1)


def _chosen(spec: CubeSpec, tiles: Iterable[Tile]) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of strips across edges between tiles, as many as are looked at."""
    every = sorted(_strips(spec, frozenset(tiles)), key=lambda s: (s[0].start, s[1].start))
    return islice(every, 0, None, max(1, -(-len(every) // EDGES)))


def _strips(spec: CubeSpec, tiles: frozenset[Tile]) -> Iterator[tuple[slice, slice]]:
    for tile in tiles:
        rows, columns = spec.window.slices(spec.grid, tile)
        if Tile(tile.ix + 1, tile.iy) in tiles:
            yield rows, slice(columns.stop - REACH, columns.stop + REACH)
        if Tile(tile.ix, tile.iy + 1) in tiles:
            yield slice(rows.stop - REACH, rows.stop + REACH), columns
