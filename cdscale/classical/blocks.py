"""Pairs of images, whole or cut into blocks, and the walk over their valid pixels.

A pixel counts as absent when any band of either date is NaN or infinite there: it enters no
statistic, and every map is NaN there.

Shape suffixes: B band, C channel of a difference image, Y row, X column, N valid pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale.errors import ModelError, explain
from cdscale.kernels.images import check_pair

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Image = NDArray[Any]
"""Real numbers of any kind: reflectance in float32 as well as 8-bit grey values."""

ROUNDING = 1e-12
"""Share of a scale below which float64 statistics cannot tell a value from none."""
_SLAB = 1 << 16
"""Pixels that are turned into float64 at a time."""


@dataclass(frozen=True, eq=False)
class Slab:
    """Some rows of a pair: which of their pixels are valid, and what these hold, as (N, B)."""

    valid_YX: Booleans
    before_NB: Doubles
    after_NB: Doubles


@dataclass(frozen=True, eq=False)
class Pair:
    """Two co-registered images of one place, or a block of them.

    Parameters
    ----------
    before_BYX, after_BYX : array of real numbers
        The dates, of one shape. NaN where absent.
    halo : int
        Pixels of context on every side that belong to the neighbours, NaN beyond the image.
    row, column : int
        Place of the first pixel inside the halo in the image that the block was cut from.

    Raises
    ------
    ModelError
        When the images are not of one shape (B, Y, X), hold no real numbers, or are all halo.
    """

    before_BYX: Image
    after_BYX: Image
    halo: int = 0
    row: int = 0
    column: int = 0

    def __post_init__(self) -> None:
        check_pair(self.before_BYX, self.after_BYX)
        shape = self.before_BYX.shape
        if self.halo < 0 or 2 * self.halo >= min(shape[1:]):
            room = f"a halo from 0 to {(min(shape[1:]) - 1) // 2} pixels"
            do = "Cut larger blocks."
            raise ModelError(explain(f"a block of {shape}", expected=room, got=self.halo, do=do))

    @property
    def bands(self) -> int:
        """Bands of each date."""
        return int(self.before_BYX.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns inside the halo."""
        _, rows, columns = self.before_BYX.shape
        return rows - 2 * self.halo, columns - 2 * self.halo

    @property
    def core(self) -> Pair:
        """The pair without its halo."""
        y, x = (slice(self.halo, self.halo + length) for length in self.shape)
        before, after = self.before_BYX[:, y, x], self.after_BYX[:, y, x]
        return Pair(before, after, row=self.row, column=self.column)

    @property
    def valid_YX(self) -> Booleans:
        """Pixels, halo included, that both dates show in all bands."""
        one, two = (np.isfinite(x).all(axis=0) for x in (self.before_BYX, self.after_BYX))
        return np.asarray(one & two)

    def slabs(self) -> Iterator[Slab]:
        """The pixels inside the halo, a few rows at a time."""
        core = self.core
        height, width = self.shape
        step = max(1, _SLAB // width)
        for first in range(0, height, step):
            rows = slice(first, min(first + step, height))
            part = Pair(core.before_BYX[:, rows], core.after_BYX[:, rows])
            valid = part.valid_YX
            before, after = (
                np.ascontiguousarray(image[:, valid].T, dtype=np.float64)
                for image in (part.before_BYX, part.after_BYX)
            )
            yield Slab(valid, before, after)


Blocks = Iterable[Pair]
"""The blocks of one image. Most fits go over them more than once: a list, or an object whose
``__iter__`` starts anew, not a generator."""


def check_repeatable(blocks: Blocks) -> None:
    """Refuse blocks that can be gone over only once.

    Raises
    ------
    ModelError
        When ``blocks`` is an iterator.
    """
    if iter(blocks) is blocks:
        raise ModelError(
            explain(
                "the blocks of an image",
                expected="what can be gone over more than once",
                got=f"a {type(blocks).__name__}",
                do="Pass a list, or an object whose __iter__ reads the blocks anew.",
            )
        )


def check_bands(block: Pair, bands: int) -> None:
    """Refuse a block of another image.

    Raises
    ------
    ModelError
        When it has not so many bands.
    """
    if block.bands != bands:
        where = f"the block at row {block.row}, column {block.column}: bands"
        do = "Give every block the same bands, in the same order."
        raise ModelError(explain(where, expected=bands, got=block.bands, do=do))


def alike(blocks: Blocks) -> Iterator[Pair]:
    """The blocks, while they have the bands of the first.

    Raises
    ------
    ModelError
        When one has others.
    """
    bands = 0
    for block in blocks:
        bands = bands or block.bands
        check_bands(block, bands)
        yield block


def only(blocks: Blocks, who: str) -> Pair:
    """The one block of an image that must not be cut.

    Raises
    ------
    ModelError
        When there is not exactly one.
    """
    found = list(blocks)
    if len(found) != 1:
        raise ModelError(
            explain(
                f"{who} needs the image whole",
                expected="one block",
                got=len(found),
                do="Run it pair by pair, or choose a method that takes blocks.",
            )
        )
    return found[0]


def cut(whole: Pair, side: int, halo: int = 0) -> list[Pair]:
    """Cut a pair into square blocks (smaller at the far edges) with context.

    Parameters
    ----------
    whole : Pair
        Without a halo.
    side : int
        Rows and columns of a block, halo not counted.
    halo : int
        Context on every side, NaN beyond the image.

    Raises
    ------
    ModelError
        When the pair has a halo already or the side is below 1.
    """
    if whole.halo or side < 1:
        got = f"a halo of {whole.halo} and a side of {side}"
        do = "Cut the whole image, into blocks of some hundred pixels."
        room = "no halo and a side from 1"
        raise ModelError(explain("cutting a pair", expected=room, got=got, do=do))
    height, width = whole.shape
    return [
        window(whole, slice(y, min(y + side, height)), slice(x, min(x + side, width)), halo)
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def window(whole: Pair, rows: slice, columns: slice, halo: int) -> Pair:
    """One block of a pair that has no halo, with context, NaN beyond the pair."""
    height, width = whole.shape
    y0, y1 = rows.start - halo, rows.stop + halo
    x0, x1 = columns.start - halo, columns.stop + halo
    inside = (slice(None), slice(max(y0, 0), y1), slice(max(x0, 0), x1))
    beyond = (
        (0, 0),
        (max(-y0, 0), max(y1 - height, 0)),
        (max(-x0, 0), max(x1 - width, 0)),
    )
    before, after = (_pad(image[inside], beyond) for image in (whole.before_BYX, whole.after_BYX))
    row, column = whole.row + rows.start, whole.column + columns.start
    return Pair(before, after, halo, row, column)


def per_pixel(pair: Pair, bands: int, change: Callable[[Doubles, Doubles], Doubles]) -> Floats:
    """Difference image of what looks at one pixel at a time.

    Parameters
    ----------
    pair : Pair
        Two dates.
    bands : int
        That it must have.
    change : callable
        From the values of both dates, (N, B) each, to (N, C); N may be 0.

    Returns
    -------
    array of float32, (C, Y, X)
        Of the pixels inside the halo; NaN where absent.

    Raises
    ------
    ModelError
        When the pair has other bands.
    """
    check_bands(pair, bands)
    parts = []
    for slab in pair.slabs():
        found_NC = change(slab.before_NB, slab.after_NB)
        part_CYX = np.full((found_NC.shape[1], *slab.valid_YX.shape), np.nan, np.float32)
        # What is beyond float32 is no score: numbers that no instrument gives.
        with np.errstate(over="ignore"):
            part_CYX[:, slab.valid_YX] = found_NC.T
        parts.append(part_CYX)
    return np.concatenate(parts, axis=1)


def beyond_rounding(difference_NC: Doubles, scale_C: Doubles | float) -> Doubles:
    """The absolute difference; 0 where it is rounding against the scale of what is compared.

    So that identical images differ nowhere, and no threshold is sought among the rounding.
    """
    absolute_NC = np.abs(difference_NC)
    return np.where(absolute_NC > ROUNDING * scale_C, absolute_NC, 0.0)


def _pad(image_BYX: Image, beyond: tuple[tuple[int, int], ...]) -> Image:
    """The image with NaN around it."""
    if not any(sum(sides) for sides in beyond):
        return image_BYX
    kind = image_BYX.dtype if image_BYX.dtype.kind == "f" else np.float64
    return np.pad(image_BYX.astype(kind), beyond, constant_values=np.nan)
