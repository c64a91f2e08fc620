"""The three products, ``cube``, ``urban`` and ``change``: names, types, scales, no-data values.

Nothing else in cdscale writes these down.
"""

from __future__ import annotations

import math
from enum import IntEnum, IntFlag
from typing import Any

from cdscale.months import Months
from cdscale.spec.card import ModelCard
from cdscale.spec.cube import (
    ChangeFlag,
    ChangeQuality,
    ChangeState,
    CubeSpec,
    LandClass,
    SensorQuality,
    UrbanQuality,
    Variable,
)
from cdscale.spec.run import RunSpec

SIMULATED_SCENES = "Made from SIMULATED scenes: not a place on Earth."
SIMULATED_WEIGHTS = (
    "Mapped with weights trained on SIMULATED scenes only, forced onto real ones: unproven."
)


def _flags(codes: type[IntEnum]) -> dict[str, Any]:
    """CF attributes that name the codes of a variable."""
    return {
        "flag_values": [int(code) for code in codes],
        "flag_meanings": " ".join(code.name for code in codes),
    }


def _codes(name: str, codes: type[IntEnum], long_name: str) -> Variable:
    return Variable(
        name=name, dtype="uint8", fill=0, attrs={"long_name": long_name, **_flags(codes)}
    )


def _count(name: str, long_name: str) -> Variable:
    return Variable(name=name, dtype="uint8", fill=0, attrs={"long_name": long_name, "units": "1"})


def _bits(name: str, flags: type[IntFlag], long_name: str) -> Variable:
    masks = {
        "flag_masks": [int(flag) for flag in flags],
        "flag_meanings": " ".join(str(flag.name) for flag in flags),
    }
    return Variable(name=name, dtype="uint8", fill=0, attrs={"long_name": long_name, **masks})


def _month(name: str, long_name: str) -> Variable:
    days = {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"}
    return Variable(name=name, dtype="int32", fill=-1, attrs={"long_name": long_name, **days})


def _probability(long_name: str, name: str = "probability") -> Variable:
    return Variable(
        name=name,
        dtype="uint8",
        fill=255,
        scale=0.004,
        attrs={"long_name": long_name, "units": "1"},
    )


def cube_variables(s2_bands: tuple[str, ...], s1_bands: tuple[str, ...]) -> tuple[Variable, ...]:
    """Variables of ``cube.zarr``: monthly composites and what stands behind every pixel."""
    return (
        Variable(
            name="s2",
            dtype="int16",
            fill=-32768,
            bands=s2_bands,
            scale=0.0001,
            attrs={"long_name": "Sentinel-2 reflectance of the month", "units": "1"},
        ),
        Variable(
            name="s1",
            dtype="float32",
            fill=math.nan,
            bands=s1_bands,
            attrs={"long_name": "Sentinel-1 mean backscatter, linear power", "units": "1"},
        ),
        _codes("s2_quality", SensorQuality, "why a pixel holds optical data, or does not"),
        _codes("s1_quality", SensorQuality, "why a pixel holds radar data, or does not"),
        _count("s2_scenes", "optical passes that cover the pixel"),
        _count("s2_clear", "optical passes that show the pixel clear"),
        _count("s1_scenes", "radar passes that cover the pixel"),
        Variable(
            name="s2_date",
            dtype="uint16",
            fill=65535,
            attrs={
                "long_name": "day on which the optical value was seen",
                "comment": "of a median, the middle one of the days with a clear observation",
                "units": "days since 1970-01-01",
                "calendar": "proleptic_gregorian",
            },
        ),
    )


def urban_variables() -> tuple[Variable, ...]:
    """Variables of ``urban.zarr``."""
    return (
        _probability("probability that the pixel is built up"),
        _codes("quality", UrbanQuality, "sensors behind the pixel"),
    )


def change_variables(card: ModelCard | None, *, series: bool) -> tuple[Variable, ...]:
    """Variables of ``change.zarr``: what the pair network says, and what the urban series says.

    Parameters
    ----------
    card : ModelCard, optional
        Of the pair network, where there is one.
    series : bool
        Whether there is an urban network: every month then has a state.
    """
    variables: tuple[Variable, ...] = ()
    if card is not None:
        classes = {int(code): name for code, name in sorted(card.classes.items())}
        variables += (
            _probability("probability of change since the reference month"),
            Variable(
                name="change",
                dtype="uint8",
                fill=255,
                attrs={
                    "long_name": "class of change since the reference month",
                    "flag_values": list(classes),
                    "flag_meanings": " ".join(n.replace(" ", "_") for n in classes.values()),
                },
            ),
            _codes("quality", ChangeQuality, "sensors behind the pixel"),
        )
    if card is not None and series:
        said = "first day of the month in which the pixel became built up"
        variables += (_month("change_month", f"{said}, looking back at the whole series"),)
    return (*variables, *state_variables()) if series else variables


def state_variables() -> tuple[Variable, ...]:
    """Variables of ``change.zarr`` that hold where each pixel stands; see docs/changes.md.

    The last four are for the month after: with them a series is taken up at any month.
    """
    return (
        _codes("state", ChangeState, "state of change"),
        _codes("from_class", LandClass, "what the pixel was before it changed"),
        _codes("to_class", LandClass, "what the pixel became"),
        _month("first_month", "first day of the first month that shows the change"),
        _month("confirmed_month", "first day of the month in which the change was confirmed"),
        _month("last_month", "first day of the last month that supports the change"),
        _probability("how sure the change is: 1 - 2 ** -evidence", "confidence"),
        _count("support", "observations that support the change"),
        _bits("flags", ChangeFlag, "what else is to be known of the month"),
        Variable(
            name="evidence",
            dtype="uint8",
            fill=0,
            scale=0.05,
            attrs={"long_name": "evidence for the change, in sure observations", "units": "1"},
        ),
        _count("against", "observations against the change, one after the other"),
        _count("gap", "months since the last observation"),
        _probability("probability that the pixel was built up before any change", "level"),
    )


def cube_layout(spec: RunSpec, *, simulated: bool) -> CubeSpec:
    """Layout of ``cube.zarr``."""
    attrs, window = _origin(simulated=simulated), spec.cube.window_months
    if window > 1:
        attrs["compositing_window_months"] = window
    return CubeSpec(
        product="cube",
        title=f"{spec.name}: monthly Sentinel-1 and Sentinel-2 composites",
        grid=spec.lattice,
        window=spec.window(),
        months=spec.period,
        variables=cube_variables(spec.cube.s2_bands, spec.cube.s1_bands),
        chunk_px=spec.grid.chunk,
        attrs=attrs,
    )


def urban_layout(spec: RunSpec, card: ModelCard, *, simulated: bool) -> CubeSpec:
    """Layout of ``urban.zarr``."""
    return CubeSpec(
        product="urban",
        title=f"{spec.name}: monthly urban probability",
        grid=spec.lattice,
        window=spec.window(),
        months=spec.period,
        variables=urban_variables(),
        chunk_px=spec.grid.chunk,
        attrs={**_origin(simulated=simulated, cards=(card,)), "urban_threshold": card.threshold},
    )


def change_layout(
    spec: RunSpec, card: ModelCard | None, urban: ModelCard | None, *, simulated: bool
) -> CubeSpec:
    """Layout of ``change.zarr``: every month of a series; else the later one of each pair."""
    pairs = spec.pairs() if card is not None else {}
    cards = tuple(c for c in (card, urban) if c is not None)
    attrs = _origin(simulated=simulated, cards=cards)
    if card is not None:
        attrs["change_threshold"] = card.threshold
    if urban is not None:
        # States build on those of the months before: another first month is another store.
        attrs |= {"series_begins": str(spec.period.first), "urban_threshold": urban.threshold}
    return CubeSpec(
        product="change",
        title=f"{spec.name}: change between months",
        grid=spec.lattice,
        window=spec.window(),
        months=spec.period if urban is not None else Months.of(pairs),
        variables=change_variables(card, series=urban is not None),
        chunk_px=spec.grid.chunk,
        attrs=attrs,
        reference={str(month): str(earlier) for month, earlier in sorted(pairs.items())},
    )


def _origin(*, simulated: bool, cards: tuple[ModelCard, ...] = ()) -> dict[str, Any]:
    """Attributes that say what a product rests on."""
    comments = [SIMULATED_SCENES] if simulated else []
    if not simulated and any(card.training.simulated for card in cards):
        comments.append(SIMULATED_WEIGHTS)
    attrs: dict[str, Any] = {"comment": " ".join(comments)} if comments else {}
    if cards:
        attrs["models"] = {card.name: card.weights_sha256 for card in cards}
    return attrs
