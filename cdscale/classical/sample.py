"""A bounded sample of the pixels of a mosaic that does not depend on how the mosaic is cut.

Each pixel has a number drawn from its place alone; the pixels with the smallest numbers are the
sample. It is found in one pass, merges, and is uniform over the image.

Shape suffixes: N pixel, C channel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cdscale.classical.blocks import Floats

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)


def draw(row_N: NDArray[np.int64], column_N: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A number for each place, as good as random: splitmix64 (S. Vigna) of row and column.

    Distinct for distinct places while both lie within plus or minus 2**31.
    """
    place = (row_N.astype(np.uint64) << np.uint64(32)) ^ (
        column_N.astype(np.uint64) & np.uint64(0xFFFFFFFF)
    )
    number = place + _GOLDEN
    for shift, factor in _MIX:
        number = (number ^ (number >> shift)) * factor
    return np.asarray(number ^ (number >> np.uint64(31)))


class Sample:
    """At most so many pixels of an image, in an order of their own.

    Parameters
    ----------
    size : int
        Largest number of pixels kept; an image that has no more is kept whole.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._numbers: list[NDArray[np.uint64]] = []
        self._values: list[Floats] = []
        self._held = 0

    def add(self, values_NC: Floats, row_N: NDArray[np.int64], column_N: NDArray[np.int64]) -> None:
        """Offer pixels, with their rows and columns in the image."""
        self._numbers.append(draw(row_N, column_N))
        self._values.append(values_NC)
        self._held += len(values_NC)
        if self._held > 2 * self.size:
            self._settle()

    def values(self) -> Floats:
        """The sample, (N, C), by its numbers."""
        self._settle()
        return self._values[0]

    def _settle(self) -> None:
        """Keep the smallest numbers, in order."""
        numbers, values = np.concatenate(self._numbers), np.concatenate(self._values)
        first = np.argsort(numbers, kind="stable")[: self.size]
        self._numbers, self._values = [numbers[first]], [values[first]]
        self._held = len(first)
