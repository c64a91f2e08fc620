"""Connected patches of changed pixels, whole across the borders of tiles.

Pixels that touch in an edge or a corner belong together. Tiles are labelled one by one in reading
order, and labels that meet at a border are joined, so that neither memory nor the result depends on
how the area is cut; what is kept is one outline and a few sums a patch, and the pixels along the
border between what has been labelled and what has not.

Shape suffixes: Y row, X column, N changed pixels of a tile, L its labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from scipy import ndimage
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from cdscale.errors import StoreError, explain
from cdscale.export.cut import Cut
from cdscale.grid import Tile
from cdscale.kernels import Bool
from cdscale.months import Month
from cdscale.spec.changes import ChangeRules
from cdscale.spec.cube import CubeSpec
from cdscale.spec.overview import RANK, STATE
from cdscale.store.overviews import Blocks

STATES = ("confirmed", "high_confidence", "finished")
"""States from which on a pixel counts as changed."""
MMU_PX = ChangeRules().mmu
"""Pixels of the smallest patch that becomes an event, where no run's spec says otherwise."""
NO_DAY = -1
CORNERS = np.ones((3, 3), bool)
"""Neighbours of a pixel: the eight around it."""


@dataclass(frozen=True)
class Patch:
    """A patch of change in one month."""

    geometry: BaseGeometry
    """Along the edges of pixels, in metres of the grid."""
    anchor: str
    """Its first pixel in reading order, counted from the corner of the grid."""
    tiles: tuple[str, ...]
    pixels: int
    state: str
    from_class: str | None
    to_class: str | None
    first_month: str | None
    """The first month that shows the change, of any pixel."""
    confirmed_month: str | None
    last_month: str | None
    """The last month that supports it, of any pixel."""
    confidence_mean: float
    confidence_max: float
    support_mean: float | None
    support_max: int | None


def find(cut: Cut, month: Month, mmu: int) -> list[Patch]:
    """Patches of a month, in the order of their first pixels.

    Parameters
    ----------
    cut : Cut
        What of which store.
    month : Month
        Which.
    mmu : int
        Pixels of a patch, at least.

    Raises
    ------
    StoreError
        When the store has no change, or a shard is damaged.
    """
    view = _View.of(cut)
    joined, borders = _Joined(), _Borders(cut.spec.grid.tile_px)
    for tile in sorted(cut.tiles, key=lambda t: (t.iy, t.ix)):
        if not cut.holds(tile, month):
            borders.skip(tile)
            continue
        blocks = cut.read(tile, month, view.names)
        label_YX, count = ndimage.label(view.changed(blocks), structure=CORNERS)
        first = joined.add(view.parts(tile, blocks, label_YX, count))
        for one, other in borders.meet(tile, np.where(label_YX > 0, label_YX + first - 1, -1)):
            joined.join(one, other)
    whole = (part for part in joined.whole() if part.pixels >= mmu)
    return sorted((view.patch(part) for part in whole), key=lambda patch: _place(patch.anchor))


def _place(anchor: str) -> tuple[int, int]:
    x, _, y = anchor[1:].partition("y")
    return int(y), int(x)


# ---------------------------------------------------------------------------------- one patch


@dataclass
class _Part:
    """What a tile knows of a patch, or several of them together."""

    shapes: list[BaseGeometry]
    tiles: list[str]
    anchor: tuple[int, int]
    pixels: int
    votes: dict[str, NDArray[np.int64]]
    """Pixels of each code of the variables of codes."""
    first: int
    confirmed: int
    last: int
    sure: tuple[float, float]
    """Sum and largest of the confidence."""
    support: tuple[int, int]

    def take(self, other: _Part) -> None:
        """Become the whole of both."""
        self.shapes += other.shapes
        self.tiles += other.tiles
        self.anchor = min(self.anchor, other.anchor)
        self.pixels += other.pixels
        self.votes = {name: votes + other.votes[name] for name, votes in self.votes.items()}
        self.first = _earlier(self.first, other.first)
        self.confirmed = _earlier(self.confirmed, other.confirmed)
        self.last = max(self.last, other.last)
        self.sure = (self.sure[0] + other.sure[0], max(self.sure[1], other.sure[1]))
        self.support = (self.support[0] + other.support[0], max(self.support[1], other.support[1]))


def _earlier(one: int, other: int) -> int:
    return max(one, other) if NO_DAY in (one, other) else min(one, other)


@dataclass
class _Joined:
    """Parts, and which of them are one."""

    parts: list[_Part] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)

    def add(self, parts: Iterable[_Part]) -> int:
        """Take in the parts of a tile; the number of the first."""
        first = len(self.parts)
        self.parts += parts
        self.parents += range(first, len(self.parts))
        return first

    def root(self, part: int) -> int:
        while self.parents[part] != part:
            self.parents[part] = self.parents[self.parents[part]]
            part = self.parents[part]
        return part

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        self.parents[high] = low

    def whole(self) -> Iterator[_Part]:
        """Every patch with all that belongs to it."""
        for number, part in enumerate(self.parts):
            root = self.root(number)
            if root != number:
                self.parts[root].take(part)
        yield from (part for n, part in enumerate(self.parts) if self.parents[n] == n)


@dataclass
class _Borders:
    """Labels along the edges of tiles that have been labelled, as far as others still meet them."""

    px: int
    south: dict[Tile, NDArray[np.int64]] = field(default_factory=dict)
    east: dict[Tile, NDArray[np.int64]] = field(default_factory=dict)

    def skip(self, tile: Tile) -> None:
        """A tile without change: what lay two rows above is no longer met."""
        self.south = {t: row for t, row in self.south.items() if t.iy >= tile.iy - 1}
        self.east = {t: column for t, column in self.east.items() if t.iy == tile.iy}

    def meet(self, tile: Tile, part_YX: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Pairs of parts that touch across the borders of a tile; -1 is no part."""
        self.skip(tile)
        none = np.full(self.px, -1, np.int64)
        above = [self.south.get(Tile(tile.ix + i, tile.iy - 1), none) for i in (-1, 0, 1)]
        north = np.concatenate([above[0][-1:], above[1], above[2][:1]])
        west = np.pad(self.east.get(Tile(tile.ix - 1, tile.iy), none), 1, constant_values=-1)
        self.south[tile] = part_YX[-1].copy()
        self.east[tile] = part_YX[:, -1].copy()
        pairs: set[tuple[int, int]] = set()
        for own, other in ((part_YX[0], north), (part_YX[:, 0], west)):
            for shift in range(3):
                near = other[shift : shift + self.px]
                both = (own >= 0) & (near >= 0)
                pairs.update(zip(own[both].tolist(), near[both].tolist(), strict=True))
        return sorted(pairs)


# ----------------------------------------------------------------------------------- one store


@dataclass(frozen=True)
class _View:
    """How a store says what has changed: by states of a series, or by a pair network's classes."""

    spec: CubeSpec
    names: tuple[str, ...]
    coded: tuple[str, ...]
    """Variables of codes that a patch takes a vote on."""
    sure: str
    codes: tuple[int, ...]
    """Codes of the first of them that are change."""

    @classmethod
    def of(cls, cut: Cut) -> _View:
        """What a store has.

        Raises
        ------
        StoreError
            When it has no change.
        """
        known = {v.name: v for v in cut.spec.variables}
        series = STATE in known
        wanted = (
            (STATE, "from_class", "to_class", "first_month", "confirmed_month", "last_month")
            if series
            else ("change", "change_month")
        )
        if not series and "change" not in known:
            raise StoreError(
                explain(
                    f"{cut.path} has no events", expected="change.zarr", got=f"{cut.spec.product}"
                )
            )
        sure = "confidence" if series else "probability"
        names = tuple(n for n in (*wanted, sure, "support") if n in known)
        meanings = known[wanted[0]].meanings
        codes = (
            tuple(code for code, name in meanings.items() if name in STATES)
            if series
            else tuple(code for code in meanings if code > 0)
        )
        coded = tuple(n for n in names if known[n].meanings)
        return cls(cut.spec, names, coded, sure, codes)

    @property
    def leading(self) -> str:
        """The variable that says what has changed."""
        return self.names[0]

    def changed(self, blocks: Blocks) -> Bool:
        """Pixels that have changed."""
        return np.isin(blocks[self.leading], self.codes)

    def parts(
        self, tile: Tile, blocks: Blocks, label_YX: NDArray[Any], count: int
    ) -> Iterator[_Part]:
        """The part of each label of a tile, in order."""
        if not count:
            return
        px = self.spec.grid.tile_px
        row_N, column_N = np.nonzero(label_YX)
        label_N = label_YX[row_N, column_N] - 1
        value_N = {name: blocks[name][row_N, column_N] for name in self.names}
        outlines = self._outlines(tile, label_YX, count)
        pixels_L = np.bincount(label_N, minlength=count)
        first_L = np.full(count, len(label_N), np.int64)
        np.minimum.at(first_L, label_N, np.arange(len(label_N)))
        votes = {
            name: np.bincount(label_N * 256 + value_N[name], minlength=count * 256).reshape(-1, 256)
            for name in self.coded
        }
        nothing = np.full(len(label_N), NO_DAY)
        begun = value_N.get("first_month", value_N.get("change_month", nothing))
        first_day_L = _least(begun, label_N, count)
        confirmed_L = _least(value_N.get("confirmed_month", nothing), label_N, count)
        last_L = _most(value_N.get("last_month", nothing), label_N, count)
        sure_N = self._sure(value_N[self.sure])
        support_N = value_N.get("support", np.zeros(len(label_N), np.uint8)).astype(np.int64)
        sums = np.bincount(label_N, sure_N, count), _most(sure_N, label_N, count)
        supports = np.bincount(label_N, support_N, count), _most(support_N, label_N, count)
        for n in range(count):
            at = first_L[n]
            yield _Part(
                shapes=outlines[n],
                tiles=[str(tile)],
                anchor=(tile.iy * px + int(row_N[at]), tile.ix * px + int(column_N[at])),
                pixels=int(pixels_L[n]),
                votes={name: vote[n].astype(np.int64) for name, vote in votes.items()},
                first=int(first_day_L[n]),
                confirmed=int(confirmed_L[n]),
                last=int(last_L[n]),
                sure=(float(sums[0][n]), float(sums[1][n])),
                support=(int(supports[0][n]), int(supports[1][n])),
            )

    def _outlines(self, tile: Tile, label_YX: NDArray[Any], count: int) -> list[list[BaseGeometry]]:
        """Polygons of each label, along the edges of its pixels."""
        found: list[list[BaseGeometry]] = [[] for _ in range(count)]
        affine = self.spec.grid.geobox(tile).affine
        label_YX = label_YX.astype(np.int32)
        # Only edges: pixels that touch in a corner are polygons that touch in a point.
        for plain, label in shapes(label_YX, mask=label_YX > 0, connectivity=4, transform=affine):
            found[int(label) - 1].append(shape(plain))
        return found

    def _sure(self, value_N: NDArray[Any]) -> NDArray[np.float64]:
        variable = self.spec.variable(self.sure)
        return np.where(value_N == variable.fill, 0, value_N) * (variable.scale or 1.0)

    def patch(self, part: _Part) -> Patch:
        """A patch as others see it."""
        geometry = shapely.union_all(part.shapes)
        # Points where tiles meet are none of its corners.
        geometry = shapely.normalize(shapely.simplify(geometry, 0))
        y, x = part.anchor
        counted = "support" in self.names
        return Patch(
            geometry=geometry,
            anchor=f"x{x:07d}y{y:07d}",
            tiles=tuple(sorted(set(part.tiles))),
            pixels=part.pixels,
            state=self._voted(self.leading, part) or "",
            from_class=self._voted("from_class", part),
            to_class=self._voted("to_class", part),
            first_month=_month(part.first),
            confirmed_month=_month(part.confirmed),
            last_month=_month(part.last),
            confidence_mean=round(part.sure[0] / part.pixels, 4),
            confidence_max=round(part.sure[1], 4),
            support_mean=round(part.support[0] / part.pixels, 2) if counted else None,
            support_max=part.support[1] if counted else None,
        )

    def _voted(self, name: str, part: _Part) -> str | None:
        """What most pixels are; of as many the state of higher rank, or the higher code."""
        if name not in part.votes:
            return None
        votes = part.votes[name]
        rank = {code: RANK[code] if name == STATE else code for code in range(len(RANK))}
        code = max(np.flatnonzero(votes).tolist(), key=lambda c: (votes[c], rank.get(c, c)))
        return self.spec.variable(name).meanings.get(code)


def _least(day_N: NDArray[Any], label_N: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The least that is not absent, of each label; absent where all are."""
    far = np.iinfo(np.int64).max
    least_L = np.full(count, far)
    np.minimum.at(least_L, label_N, np.where(day_N == NO_DAY, far, day_N))
    return np.where(least_L == far, NO_DAY, least_L)


def _most(value_N: NDArray[Any], label_N: NDArray[Any], count: int) -> NDArray[Any]:
    most_L = np.full(count, NO_DAY, value_N.dtype if value_N.dtype.kind == "f" else np.int64)
    np.maximum.at(most_L, label_N, value_N)
    return most_L


def _month(day: int) -> str | None:
    if day == NO_DAY:
        return None
    return str(np.datetime64(day, "D").astype("datetime64[M]"))
