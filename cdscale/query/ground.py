"""Areas on the ground in zones, with 95 % intervals, from a sample that people interpreted.

An estimate for a whole map says nothing of one zone in it: maps are wrong in some places more than
in others. The points that fall into the zone do say something. Of each class of the map they are a
simple random sample of the pixels that the class has there, given how many fell there, so the zone
is estimated as the whole map is: by its own points, and its own mapped areas as weights (P.
Olofsson et al., Remote Sensing of Environment 148 (2014) 42-57, equations 8 to 11). Where too few
points of a class fell into a zone there is no estimate, and it is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from cdscale.accuracy import Design, Share, areas, estimate, read_sample
from cdscale.errors import SpecError, explain
from cdscale.months import Month
from cdscale.query.coverage import on_grid
from cdscale.query.zonal import Key, Statistics, ZoneStatistics
from cdscale.query.zones import Zone, Zones
from cdscale.store import Source

LEAST = 10
"""Interpreted points of each class of the map in a zone: of fewer that all agree the interval would
have no width."""


@dataclass(frozen=True)
class Ground:
    """Square kilometres of one class on the ground.

    A pixel that the zone only touches counts with its share; its point, with its centre.
    """

    km2: float
    low: float
    high: float
    """Ends of the 95 % interval, within the zone's area."""

    @classmethod
    def of(cls, share: Share, most: float) -> Ground:
        """Of an estimate in a zone of so many square kilometres."""
        low, high = share.value - share.interval, share.value + share.interval
        return cls(share.value, max(0.0, low), min(most, high))


@dataclass(frozen=True)
class Sampled:
    """What a sample says of zones: of one variable and month."""

    key: Key
    zones: dict[str, dict[str, Ground]]
    """By the name of the zone and the class; zones without an estimate are left out."""
    notes: tuple[str, ...]


def ground(source: Source, zones: Zones, found: Statistics, sample: Path) -> Sampled:
    """Areas of each zone on the ground.

    Parameters
    ----------
    source : Source
        The store that was mapped.
    zones : Zones
        Where.
    found : Statistics
        What the map says of them.
    sample : Path
        The interpreted points of ``cdscale accuracy design``, with their design beside them.

    Raises
    ------
    SpecError
        When the sample does not read, is of another map, or of a variable or month that was not
        asked for.
    """
    design, seen = read_sample(sample)
    _check(source, found, design, sample)
    # What no estimate can be made from for the whole map can be none for its zones.
    estimate(design.counts(seen), design.mapped_km2, design.classes)
    key = (Month.parse(design.month), design.variable, "")
    estimates, short = {}, []
    for zone, told in zip(zones.members, found.zones, strict=True):
        if not told.km2:
            continue
        own = _points_in(source, zones, zone, design)
        counts = design.counts({number: seen[number] for number in own if number in seen})
        of_zone = _of_zone(told, key, design, counts)
        if of_zone is None:
            short.append(zone.name)
        else:
            estimates[zone.name] = of_zone
    return Sampled(key, estimates, tuple(_notes(short, sample)))


def _of_zone(
    told: ZoneStatistics, key: Key, design: Design, counts: dict[tuple[str, str], int]
) -> dict[str, Ground] | None:
    """None where too few points of a class lie in the zone."""
    classes = tuple(dict.fromkeys((*design.mapped_km2, *design.classes)))
    mapped = {
        line.label: line.km2 for line in told.lines(key) if line.km2 > 0 and line.label in classes
    }
    points = Counter[str]()
    for (label, _), number in counts.items():
        points[label] += number
    if not mapped or any(points[label] < LEAST for label in mapped):
        return None
    whole = sum(mapped.values())
    shares = areas(counts, mapped, classes)
    return {name: Ground.of(share, whole) for name, share in shares.items()}


def _points_in(source: Source, zones: Zones, zone: Zone, design: Design) -> frozenset[int]:
    """Numbers of the points whose pixel has its centre in a zone."""
    spec = source.spec
    polygon = on_grid(zone.geometry, zones.crs, spec.window.geobox(spec.grid))
    shapely.prepare(polygon)
    x, y = (np.array([getattr(p, axis) for p in design.points]) for axis in ("x", "y"))
    inside = shapely.contains_xy(polygon, x, y)
    return frozenset(p.id for p, there in zip(design.points, inside, strict=True) if there)


def _check(source: Source, found: Statistics, design: Design, sample: Path) -> None:
    spec, about = source.spec, found.about
    if (design.map, design.crs) != (spec.title, spec.grid.crs):
        raise SpecError(
            explain(
                f"{sample} is of another map",
                expected=f"{spec.title}, {spec.grid.crs}",
                got=f"{design.map}, {design.crs}",
            )
        )
    names = [v.name for v in about.variables]
    if design.variable not in names or design.month not in map(str, about.months):
        raise SpecError(
            explain(
                f"{sample} says nothing of what is asked for",
                expected=f"{_few(names)} of {_few(map(str, about.months))}",
                got=f"{design.variable} of {design.month}",
                do="Ask for its variable and month, too.",
            )
        )


def _few(names: Iterable[str]) -> str:
    return ", ".join(names) or "(none)"


def _notes(short: list[str], sample: Path) -> Iterator[str]:
    if short:
        named = ", ".join(short[:5]) + (f" and {len(short) - 5} more" if short[5:] else "")
        yield (
            f"{len(short)} without an estimate from {sample.name}, since of a class that the map "
            f"has there fewer than {LEAST} interpreted points lie there: {named}"
        )
