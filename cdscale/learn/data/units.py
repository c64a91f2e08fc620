"""Stored numbers become physical values and class codes: one rule for each published form.

An image rule takes the :class:`~cdscale.learn.data.files.Raw` of one file and gives (B, Y, X)
float32, NaN where there is nothing; a label rule takes those of all files of a label and gives
(Y, X) uint8, 255 where nothing is known. Rules are plain functions and frozen values, so that a
sample can be sent to a loading process.

Shape suffixes: B band, Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdscale.errors import ReadError, explain
from cdscale.learn.data.files import Codes, Floats, Raw, WrongCodes
from cdscale.learn.labels import IGNORED as IGNORED

REFLECTANCE_ONE = 10_000.0
"""DN of reflectance 1."""

SPACENET7_DB = (-25.0, 0.0)
"""Backscatter in dB that SpaceNet7's S1 files map to 0 and 1."""

DS_UNET_DB = (-25.0, 5.0)
"""Backscatter in dB that the DS_UNet copy of OSCD's S1 maps to 0 and 1."""

_SLACK = 0.01


# --------------------------------------------------------------------------------------- images


def reflectance(raw: Raw) -> Floats:
    """DN / 10000. A DN of 0 is a value: the published sets use it for dark pixels too."""
    return raw.floats() / np.float32(REFLECTANCE_ONE)


def unit_reflectance(raw: Raw) -> Floats:
    """Reflectance stored as such and clamped to [0, 1] (SpaceNet7's S2)."""
    return _between_0_and_1(raw)


@dataclass(frozen=True)
class UnitPower:
    """SpaceNet7's S1: [0, 1] back to a range of dB and to linear power.

    0 is -25 dB, the floor below which scenes were masked: dark water, mostly, and kept as such.
    """

    db: tuple[float, float] = SPACENET7_DB

    def __call__(self, raw: Raw) -> Floats:
        """Linear power (B, Y, X)."""
        low, high = self.db
        return _power(low + (high - low) * _between_0_and_1(raw))


def power(raw: Raw) -> Floats:
    """Backscatter in dB, scaled as the file says, to linear power (Ebel et al.'s OSCD companion).

    Where all polarisations are exactly 0 dB the warp had no source: that is no backscatter.
    """
    decibel = raw.floats()
    decibel[:, (raw.values_BYX == 0).all(axis=0)] = np.nan
    return _power(decibel)


def ds_unet_power(raw: Raw) -> Floats:
    """OSCD's S1 as S. Hafner et al. laid it out, to linear power.

    Integers are dB with the scale of the file (dB x 100); floats are the first publication's
    [0, 1] for [-25, 5] dB, in which 0 means that no look was above -25 dB.
    """
    if np.issubdtype(raw.values_BYX.dtype, np.integer):
        return _power(raw.floats())
    mapped = _between_0_and_1(raw)
    mapped[mapped == 0] = np.nan
    low, high = DS_UNET_DB
    return _power(low + (high - low) * mapped)


def brightness(raw: Raw) -> Floats:
    """8-bit colours as 0..1."""
    if raw.values_BYX.dtype != np.uint8:
        raise ReadError(
            explain(f"{raw.path}: not 8-bit colours", expected="uint8", got=raw.values_BYX.dtype),
            permanent=True,
        )
    return raw.floats() / np.float32(255)


def _power(decibel: Floats) -> Floats:
    linear: Floats = np.power(np.float32(10), decibel / np.float32(10))
    return linear


def _between_0_and_1(raw: Raw) -> Floats:
    values = raw.floats()
    known = values[np.isfinite(values)]
    if known.size and (known.min() < -_SLACK or known.max() > 1 + _SLACK):
        raise ReadError(
            explain(
                f"{raw.path}: numbers of another unit",
                expected="values in [0, 1], as published",
                got=f"{known.min():g} to {known.max():g}",
                do="Take the file from the official source.",
            ),
            permanent=True,
        )
    # Infinities too are nothing.
    values[~np.isfinite(values)] = np.nan
    clamped: Floats = np.clip(values, 0, 1)
    return clamped


# --------------------------------------------------------------------------------------- labels


@dataclass(frozen=True)
class Table:
    """Class codes by stored code; any other stored code is an error."""

    codes: tuple[tuple[int, int], ...]

    def __call__(self, raws: tuple[Raw, ...]) -> Codes:
        """Codes of the one band of the one file."""
        raw = raws[0]
        plane = raw.values_BYX[0]
        found: Codes = np.full(plane.shape, IGNORED, np.uint8)
        known = np.zeros(plane.shape, bool)
        for stored, code in self.codes:
            here = plane == stored
            found[here] = code
            known |= here
        if not known.all():
            _refuse(raw, plane[~known], [stored for stored, _ in self.codes])
        return found


@dataclass(frozen=True)
class Bright:
    """A picture of the change, light for change (or dark, QuickBird's): 8 bits cut in half.

    Anti-aliased borders have greys between, of which the nearer of black and white counts.
    """

    dark: bool = False

    def __call__(self, raws: tuple[Raw, ...]) -> Codes:
        """1 = change, 0 = no change, from the first band (an index goes through its palette)."""
        raw = raws[0]
        plane = raw.values_BYX[0]
        if raw.palette is not None:
            plane = np.asarray(raw.palette, np.uint8)[plane]
        found: Codes = ((plane > 127) != self.dark).astype(np.uint8)
        return found


def present(raws: tuple[Raw, ...]) -> Codes:
    """1 where a fraction is above 0 (SpaceNet7's buildings), 255 where it is not a number."""
    values = raws[0].floats()[0]
    found: Codes = (values > 0).astype(np.uint8)
    found[~np.isfinite(values)] = IGNORED
    return found


def one_hot(raws: tuple[Raw, ...]) -> Codes:
    """DynamicEarthNet's monthly land cover: band i == 255 marks class i (from 0).

    The seventh band (snow and ice) is ignored, as the reference has it, and so are the few pixels
    that no band marks (which the reference takes for class 0). Where bands overlap, the last wins.
    """
    raw = raws[0]
    stray = (raw.values_BYX != 0) & (raw.values_BYX != 255)
    if stray.any():
        _refuse(raw, raw.values_BYX[stray], [0, 255])
    found: Codes = np.full(raw.values_BYX.shape[1:], IGNORED, np.uint8)
    for code, plane in enumerate(raw.values_BYX[:6]):
        found[plane == 255] = code
    found[raw.values_BYX[6] == 255] = IGNORED
    return found


def rebuilt_change(raws: tuple[Raw, ...]) -> Codes:
    """Release 2021's change label from release 2022's land cover of two months, older first.

    Class of the newer month + 1 where the class differs, else 0; 255 where either is unknown.
    """
    older, newer = one_hot(raws[:1]), one_hot(raws[1:])
    found = np.where(newer != older, newer + 1, 0).astype(np.uint8)
    found[(older == IGNORED) | (newer == IGNORED)] = IGNORED
    return found


def _refuse(raw: Raw, strange: NDArray[np.generic], known: list[int]) -> None:
    got = ", ".join(str(value) for value in np.unique(strange)[:5])
    raise WrongCodes(
        explain(
            f"{raw.path}: unknown codes in {strange.size} pixels",
            expected=f"only {', '.join(str(code) for code in known)}",
            got=got,
            do="Take the label from the official source.",
        ),
        permanent=True,
    )
