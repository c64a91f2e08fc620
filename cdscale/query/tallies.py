"""What the pixels of a zone add up to: square kilometres of each code, or a mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cdscale.query.values import date, is_date, is_fill, masks_of
from cdscale.spec.cube import Variable

NO_DATA = frozenset(
    {
        "outside", "unobserved", "no_data", "no_scene", "read_failed", "cloud",
        "no_optical_before", "no_optical_after",
    }
)  # fmt: skip
"""Codes of pixels of which a map says nothing."""
Pixels = NDArray[Any]
Shares = NDArray[np.float64]


class Tally(Protocol):
    """Takes pixels with the share of each that counts, and tells what they come to."""

    def add(self, values: Pixels, shares: Shares) -> None:
        """Take some pixels."""

    def lines(self, km2: float) -> Iterator[Line]:
        """What they come to, of pixels of some square kilometres."""

    @property
    def missing(self) -> float:
        """Pixels without data."""


@dataclass(frozen=True)
class Line:
    """One line of an answer."""

    km2: float
    """With data, or of the class."""
    label: str = ""
    """Class, date or flag; empty for a number."""
    mean: float | None = None


@dataclass
class Classes:
    """Pixels of each code, or of each date."""

    variable: Variable
    found: dict[int, float] = field(default_factory=dict)

    def add(self, values: Pixels, shares: Shares) -> None:
        """Take some pixels."""
        for code, pixels in counted(values, shares):
            self.found[code] = self.found.get(code, 0.0) + pixels

    def lines(self, km2: float) -> Iterator[Line]:
        """Every code that has a meaning, in the order of the variable; of dates those there are."""
        if is_date(self.variable):
            days = sorted(code for code in self.found if code != self.variable.fill)
            for day in days:
                yield Line(self.found[day] * km2, date(self.variable, day))
            return
        for code, name in self.variable.meanings.items():
            yield Line(self.found.get(code, 0.0) * km2, name)
        foreign = self._foreign
        if foreign:
            yield Line(foreign * km2, "no_data")

    @property
    def _foreign(self) -> float:
        return sum(n for code, n in self.found.items() if code not in self.variable.meanings)

    @property
    def missing(self) -> float:
        """Pixels whose code says that there are no data; a pixel without a date lacks nothing."""
        if is_date(self.variable):
            return 0.0
        names = self.variable.meanings
        silent = (n for code, n in self.found.items() if names.get(code) in NO_DATA)
        return sum(silent) + self._foreign


TRANSITION = "transition"
"""What states and classes say together, where a store has them: a variable of answers alone."""
PARTS = ("state", "from_class", "to_class")


@dataclass
class Transitions:
    """Pixels of each state, from one class to another."""

    parts: tuple[Variable, ...]
    """Those of :data:`PARTS`."""
    found: dict[int, float] = field(default_factory=dict)
    missing: float = 0.0

    @staticmethod
    def codes(state: Pixels, before: Pixels, after: Pixels) -> Pixels:
        """The three in one number."""
        return (state.astype(np.int32) << 16) | (before.astype(np.int32) << 8) | after

    def add(self, values: Pixels, shares: Shares) -> None:
        """Take some pixels."""
        for code, pixels in counted(values, shares):
            self.found[code] = self.found.get(code, 0.0) + pixels
            name = self.parts[0].meanings.get(code >> 16)
            self.missing += pixels if name is None or name in NO_DATA else 0.0

    def lines(self, km2: float) -> Iterator[Line]:
        """Every combination that there is, as ``confirmed: open_land to built_up``."""
        names = [part.meanings for part in self.parts]
        for code in sorted(self.found):
            state, before, after = (
                name.get(code >> shift & 255, "no_data")
                for name, shift in zip(names, (16, 8, 0), strict=True)
            )
            yield Line(self.found[code] * km2, f"{state}: {before} to {after}")


@dataclass
class Flags:
    """Pixels that have each of the flags that may stand side by side."""

    variable: Variable
    found: dict[int, float] = field(default_factory=dict)
    missing: float = 0.0

    def add(self, values: Pixels, shares: Shares) -> None:
        """Take some pixels."""
        for bits, pixels in counted(values, shares):
            for mask in masks_of(self.variable):
                if bits & mask:
                    self.found[mask] = self.found.get(mask, 0.0) + pixels

    def lines(self, km2: float) -> Iterator[Line]:
        """Every flag."""
        for mask, name in masks_of(self.variable).items():
            yield Line(self.found.get(mask, 0.0) * km2, name)


@dataclass
class Mean:
    """The mean of a number, each pixel with the share of it that counts."""

    variable: Variable
    total: float = 0.0
    pixels: float = 0.0
    missing: float = 0.0

    def add(self, values: Pixels, shares: Shares) -> None:
        """Take some pixels."""
        there = ~is_fill(self.variable, values)
        if values.dtype.kind == "f":
            there &= np.isfinite(values)
        weights = np.where(there, shares, 0.0)
        with_data = float(weights.sum())
        self.total += float(np.where(there, values, 0).astype(np.float64) @ weights)
        self.pixels += with_data
        self.missing += float(shares.sum()) - with_data

    def lines(self, km2: float) -> Iterator[Line]:
        """The mean in its unit."""
        scale = 1.0 if self.variable.scale is None else self.variable.scale
        mean = scale * self.total / self.pixels if self.pixels > 0 else None
        yield Line(self.pixels * km2, mean=mean)


def tally_of(variable: Variable) -> Tally:
    """What pixels of a variable are added up by."""
    if masks_of(variable):
        return Flags(variable)
    if variable.meanings or is_date(variable):
        return Classes(variable)
    return Mean(variable)


def counted(values: Pixels, shares: Shares) -> Iterator[tuple[int, float]]:
    """How many pixels each integer has."""
    if values.dtype == np.uint8:
        pixels = np.bincount(values, weights=shares, minlength=256)
        yield from ((int(code), float(pixels[code])) for code in np.flatnonzero(pixels))
        return
    codes, number = np.unique(values, return_inverse=True)
    pixels = np.bincount(number, weights=shares)
    yield from ((int(code), float(n)) for code, n in zip(codes, pixels, strict=True))
