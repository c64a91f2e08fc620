"""Ask for one area: means, and square kilometres of each class, month by month."""

from __future__ import annotations

from typing import Any

from cdscale.months import Month
from cdscale.query.tallies import TRANSITION, Mean
from cdscale.query.wanted import ALL, Wanted, head, month_head
from cdscale.query.zonal import ZoneStatistics, statistics
from cdscale.query.zones import Zones
from cdscale.spec.cube import Variable
from cdscale.store import Source

DIGITS = 9
"""Of square kilometres: a thousandth of a square metre."""


def area(source: Source, zones: Zones, wanted: Wanted = ALL) -> dict[str, Any]:
    """What a store says of an area, month by month.

    A pixel on the edge counts with the share of it that the area covers.

    Parameters
    ----------
    source : Source
        A store.
    zones : Zones
        One zone: the area.
    wanted : Wanted
        Which months and variables.

    Returns
    -------
    dict
        Plain data: square kilometres of the area in the store and the share of it that lies
        outside, which months are not published, and for each other month and variable the mean and
        the square kilometres that have a value, or for codes and dates the square kilometres of
        each, and the share that is missing.

    Raises
    ------
    SpecError
        When the area has no pixel in the store, or it has not what is wanted.
    StoreError
        When it is damaged.
    """
    found = statistics(source, zones, wanted)
    (zone,) = found.zones
    return {
        **head(source, found.about),
        "area_km2": round(zone.km2, DIGITS),
        "outside_share": round(zone.outside, 6),
        **({"notes": list(found.notes)} if found.notes else {}),
        "months": [
            month_head(source.spec, month)
            | {v.name: _of_variable(zone, month, v) for v in found.about.variables}
            | _together(zone, month)
            for month in found.about.months
        ],
    }


def _of_variable(zone: ZoneStatistics, month: Month, v: Variable) -> dict[str, Any]:
    """What one variable says in one month; by band where it has bands."""
    if v.bands:
        return {band: _told(zone, (month, v.name, band)) for band in v.bands}
    return _told(zone, (month, v.name, ""))


def _together(zone: ZoneStatistics, month: Month) -> dict[str, Any]:
    """States and classes together, where a store has them."""
    key = month, TRANSITION, ""
    return {TRANSITION: _told(zone, key)} if key in zone.tallies else {}


def _told(zone: ZoneStatistics, key: tuple[Month, str, str]) -> dict[str, Any]:
    lines, missing = zone.lines(key), round(zone.missing(key), 6)
    if isinstance(zone.tallies[key], Mean):
        (line,) = lines
        mean = None if line.mean is None else round(line.mean, 6)
        return {"mean": mean, "valid_km2": round(line.km2, DIGITS), "missing_share": missing}
    return {"km2": {x.label: round(x.km2, DIGITS) for x in lines}, "missing_share": missing}
