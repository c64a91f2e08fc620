"""Pairs of images that Metric-CD can read piece by piece, and how pieces become one map.

A pixel counts as absent when any band of either date is not finite there.

Shape suffixes: B band, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cdscale.kernels.images import check_pair

Floats = NDArray[np.float32]
Booleans = NDArray[np.bool_]
Images = tuple[NDArray[Any], NDArray[Any]]
"""Both dates of a window, (B, Y, X) each; real numbers, not finite where absent."""


@dataclass(frozen=True)
class Window:
    """A rectangle of a scene, in pixels."""

    row: int
    column: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        rows = slice(self.row, self.row + self.height)
        return rows, slice(self.column, self.column + self.width)


class Scene(Protocol):
    """Two co-registered images of one place, of which windows can be read. No label."""

    @property
    def bands(self) -> int:
        """Of each date."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    def read(self, window: Window) -> Images:
        """Both dates of a window that lies inside."""


@dataclass(frozen=True, eq=False)
class ArrayScene:
    """Two images in memory, (B, Y, X) of one shape.

    Raises
    ------
    ModelError
        When they are not of one shape, or hold no real numbers.
    """

    before_BYX: NDArray[Any]
    after_BYX: NDArray[Any]

    def __post_init__(self) -> None:
        check_pair(self.before_BYX, self.after_BYX, "Metric-CD: a pair of images")

    @property
    def bands(self) -> int:
        """Of each date."""
        return int(self.before_BYX.shape[0])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.before_BYX.shape[1])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.before_BYX.shape[2])

    def read(self, window: Window) -> Images:
        """Both dates of a window that lies inside."""
        rows, columns = window.slices
        return self.before_BYX[:, rows, columns], self.after_BYX[:, rows, columns]


def seen(before_BYX: NDArray[Any], after_BYX: NDArray[Any]) -> Booleans:
    """Pixels (Y, X) that both dates show in all bands."""
    return np.asarray(np.isfinite(before_BYX).all(axis=0) & np.isfinite(after_BYX).all(axis=0))


def pieces(scene: Scene, side: int) -> Iterator[Window]:
    """Windows that cover a scene without overlap, ``side`` pixels or less a side."""
    for row in range(0, scene.height, side):
        for column in range(0, scene.width, side):
            height, width = min(side, scene.height - row), min(side, scene.width - column)
            yield Window(row, column, height, width)


def tiles(scene: Scene, side: int, overlap: int) -> list[Window]:
    """Windows of one size that cover a scene and overlap by ``overlap`` pixels or more.

    A scene of no more than ``side`` a side is one tile. No tile is cut short at the far edges,
    where the windows are moved inward instead: each is an image of its own, and needs its size.
    """
    height, width = min(side, scene.height), min(side, scene.width)
    return [
        Window(row, column, height, width)
        for row in _starts(scene.height, height, overlap)
        for column in _starts(scene.width, width, overlap)
    ]


class Blend:
    """One map from overlapping tiles: their mean, weighted by the distance to a tile's border.

    Holds eight bytes for every pixel of the scene.
    """

    def __init__(self, scene: Scene) -> None:
        self._sum_YX = np.zeros((scene.height, scene.width), np.float32)
        self._weight_YX = np.zeros((scene.height, scene.width), np.float32)

    def add(self, window: Window, values_YX: Floats, overlap: int) -> None:
        """Lay a tile down; where it is NaN it says nothing."""
        there_YX = np.isfinite(values_YX)
        ramp_YX = np.outer(_ramp(window.height, overlap), _ramp(window.width, overlap))
        weight_YX = np.where(there_YX, ramp_YX, 0).astype(np.float32)
        self._sum_YX[window.slices] += weight_YX * np.where(there_YX, values_YX, 0)
        self._weight_YX[window.slices] += weight_YX

    def mean(self) -> Floats:
        """The map (Y, X), NaN where no tile said anything."""
        there_YX = self._weight_YX > 0
        mean_YX = np.full(there_YX.shape, np.nan, np.float32)
        np.divide(self._sum_YX, self._weight_YX, out=mean_YX, where=there_YX)
        return mean_YX


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """First pixels of the tiles along one axis, evenly spread."""
    if length <= side:
        return [0]
    count = -(-(length - overlap) // (side - overlap))
    return [round(index * (length - side) / (count - 1)) for index in range(count)]


def _ramp(length: int, overlap: int) -> NDArray[np.float64]:
    """Rises from either end over the overlap; never zero."""
    steps = np.arange(length)
    rise = np.minimum(np.minimum(steps, steps[::-1]) + 1, max(overlap, 1))
    return np.asarray(rise / max(overlap, 1), np.float64)
