"""``CubeSpec``: what one store holds, before a byte of it exists; and the codes in its pixels."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer

from cdscale.grid import Grid, Tile, Window
from cdscale.months import Month, Months
from cdscale.spec.base import Frozen, fingerprint

MonthsText = Annotated[
    Months,
    BeforeValidator(lambda value: Months.parse(value) if isinstance(value, str) else value),
    PlainSerializer(str, return_type=str),
]
"""Months that read and write themselves as text in YAML and JSON."""

Fill = Annotated[
    float | int,
    PlainSerializer(lambda value: "NaN" if value != value else value, when_used="json"),
]
"""A fill value; NaN is text in JSON, which has no such number, and equals itself there."""


class SensorQuality(IntEnum):
    """Why a pixel of the cube holds a value of one sensor, or does not."""

    outside = 0
    """The tile was never composed."""
    no_scene = 1
    """No scene of the month covers the pixel."""
    read_failed = 2
    """A scene that would or might have decided it could not be read. A value that stands there all
    the same comes from the other scenes of the month, and may change when the task is retried."""
    cloud = 3
    """Every scene that covers it shows cloud, shadow or a defect there."""
    valid = 4
    saturated = 5
    """A scene shows it free of cloud, but saturated or defective, and no other shows it at all."""


class UrbanQuality(IntEnum):
    """Which sensors stand behind a pixel of the urban map."""

    outside = 0
    no_data = 1
    """Neither sensor saw the pixel in the month."""
    both_sensors = 2
    optical_reconstructed = 3
    """Radar alone: the optical features were reconstructed from it."""
    radar_missing = 4
    """Optical alone."""


class ChangeQuality(IntEnum):
    """Which sensors stand behind a pixel of the change map."""

    outside = 0
    no_optical_before = 1
    no_optical_after = 2
    both_sensors = 3
    radar_missing = 4
    """Optical of both months; radar of at least one is missing."""
    radar_only = 5
    """Radar of both months, optical of one at most, and a network that is made for that."""


class LandClass(IntEnum):
    """What a pixel of the ground is, as far as the urban series tells."""

    unknown = 0
    open_land = 1
    built_up = 2


class ChangeState(IntEnum):
    """Where a pixel stands in the series of months; see docs/changes.md."""

    outside = 0
    unobserved = 1
    """No month so far had a probability."""
    none = 2
    """Nothing has changed."""
    provisional = 3
    """Something may have changed."""
    confirmed = 4
    high_confidence = 5
    reverted = 6
    """It had changed, and no longer looks like it."""
    finished = 7
    """It changed, and has been what it became for long."""


class ChangeFlag(IntFlag):
    """What else is to be known of a pixel and month of the series."""

    no_observation = 1
    """Nothing was seen: the state is that of the month before."""
    optical_reconstructed = 2
    radar_missing = 4
    pair_network_agrees = 8
    """The pair network calls the pixel changed between two months around its first month."""


class Variable(Frozen):
    """One array of a store: (month, y, x), or (month, band, y, x) where it has bands."""

    name: str
    dtype: str
    fill: Fill
    bands: tuple[str, ...] = ()
    scale: float | None = None
    attrs: dict[str, Any] = Field(default_factory=dict)

    @property
    def band_dim(self) -> str:
        """Name of the band axis."""
        return f"{self.name}_band"

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return ("month", self.band_dim, "y", "x") if self.bands else ("month", "y", "x")

    @property
    def meanings(self) -> dict[int, str]:
        """What each code means, of a variable of codes; else empty."""
        if "flag_values" not in self.attrs:
            return {}
        names = self.attrs["flag_meanings"].split()
        return dict(zip(self.attrs["flag_values"], names, strict=True))

    @property
    def itemsize(self) -> int:
        """Bytes of a pixel and month."""
        return int(np.dtype(self.dtype).itemsize) * max(1, len(self.bands))


class CubeSpec(Frozen):
    """The layout of one store: grid, months, variables, chunks. One shard is a tile and a month."""

    product: str
    title: str
    grid: Grid
    window: Window
    months: MonthsText
    variables: tuple[Variable, ...]
    chunk_px: int
    attrs: dict[str, Any] = Field(default_factory=dict)
    reference: dict[str, str] = Field(default_factory=dict)
    """For maps that compare: the earlier month of each month."""

    @property
    def digest(self) -> str:
        """Fingerprint by which a store knows its spec again."""
        return fingerprint(self)

    @property
    def structure(self) -> str:
        """Fingerprint of all but the months: a store may gain some, and stays the same store."""
        return fingerprint(self.model_dump(mode="json", exclude={"months", "reference"}))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the arrays."""
        return self.window.ny * self.grid.tile_px, self.window.nx * self.grid.tile_px

    def variable(self, name: str) -> Variable:
        """A variable by name; ``KeyError`` where there is none."""
        return {v.name: v for v in self.variables}[name]

    def region(self, tile: Tile, month: Month) -> dict[str, slice]:
        """The one place where a tile and a month become array indices."""
        t = self.months.index(month)
        y, x = self.window.slices(self.grid, tile)
        return {"month": slice(t, t + 1), "y": y, "x": x}

    def shard_shape(self, variable: Variable) -> tuple[int, ...]:
        """Shape of a tile and a month of one variable."""
        bands = (len(variable.bands),) if variable.bands else ()
        return (1, *bands, self.grid.tile_px, self.grid.tile_px)

    @property
    def shard_bytes(self) -> int:
        """Bytes of a tile and a month, all variables, before compression."""
        return self.grid.tile_px**2 * sum(v.itemsize for v in self.variables)
