"""What a store says of zones, month by month, with the exact share of every pixel.

A tile at a time, a month at a time: memory does not grow with the area, nor with the months. Square
kilometres are those of the grid's pixels, which on an equal-area grid are all of one size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from cdscale.errors import SpecError, explain
from cdscale.grid import Tile
from cdscale.months import Month
from cdscale.query.coverage import Coverage, cover, on_grid, share_outside
from cdscale.query.spots import extent
from cdscale.query.tallies import PARTS, TRANSITION, Line, Tally, Transitions, tally_of
from cdscale.query.wanted import ALL, Subject, Wanted, subject
from cdscale.query.zones import Zone, Zones
from cdscale.spec.cube import CubeSpec, Variable
from cdscale.store import Source

MOST_CELLS = 16 * 2**20
"""Pixels of zones on one tile that are held at once; of zones over zones a tile is read again."""
MOST_BYTES = 512 * 2**20
"""Of the months that are read side by side."""
INSIDE = 1e-4
"""Share of a zone outside the store that is not worth a word: outlines of stores are bent coarsely,
and zones often end where stores do."""
Key = tuple[Month, str, str]
"""Month, variable, band."""


@dataclass(frozen=True)
class ZoneStatistics:
    """What a store says of one zone."""

    zone: Zone
    km2: float
    """Of the zone inside the store."""
    outside: float
    """Share of the zone outside the store, 0 to 1."""
    pixel_km2: float
    tallies: dict[Key, Tally] = field(default_factory=dict)

    def lines(self, key: Key) -> list[Line]:
        """What one variable comes to in a month."""
        return list(self.tallies[key].lines(self.pixel_km2))

    def missing(self, key: Key) -> float:
        """Share of the zone inside the store of which a variable says nothing."""
        pixels = self.km2 / self.pixel_km2
        return min(1.0, self.tallies[key].missing / pixels) if pixels else 1.0


@dataclass(frozen=True)
class Statistics:
    """What a store says of zones."""

    about: Subject
    zones: tuple[ZoneStatistics, ...]
    notes: tuple[str, ...]
    """Zones that lie partly or wholly outside, and whatever else a reader has to know."""


def statistics(source: Source, zones: Zones, wanted: Wanted = ALL) -> Statistics:
    """Square kilometres and means of each zone, month and variable.

    Parameters
    ----------
    source : Source
        A store.
    zones : Zones
        Where.
    wanted : Wanted
        Which months and variables.

    Raises
    ------
    SpecError
        When no zone has area in the store, or it has not what is wanted.
    StoreError
        When the store is damaged.
    """
    about = subject(source, wanted)
    spec = source.spec
    geobox = spec.window.geobox(spec.grid)
    flat = [on_grid(zone.geometry, zones.crs, geobox) for zone in zones.members]
    pixel_km2 = (spec.grid.resolution / 1000) ** 2
    outside = [share_outside(zone.geometry, zones.crs, geobox) for zone in zones.members]
    tallies: list[dict[Key, Tally]] = [{} for _ in flat]
    pixels = [0.0] * len(flat)
    for tile, group in _tiles(spec, flat):
        for number, coverage in group.items():
            pixels[number] += coverage.pixels
        _read(source, about, tile, group, tallies)
    if not any(pixels):
        raise SpecError(
            explain(
                f"the area has no pixel in {source.place}",
                expected=f"an area that meets {extent(spec)}",
                got=", ".join(f"{v:.4f}" for v in zones.bounds_lon_lat) + " (degrees)",
                do="Longitude or easting comes first.",
            )
        )
    found = tuple(
        ZoneStatistics(zone, n * pixel_km2, out if n else 1.0, pixel_km2, tally)
        for zone, n, out, tally in zip(zones.members, pixels, outside, tallies, strict=True)
    )
    return Statistics(about, found, (*zones.notes, *_notes(found)))


def _notes(found: tuple[ZoneStatistics, ...]) -> Iterator[str]:
    away = [z.zone.name for z in found if not z.km2]
    partly = [z for z in found if z.km2 and z.outside > INSIDE]
    if away:
        yield f"{len(away)} outside the store: {_few(away)}"
    if partly:
        told = [f"{z.zone.name} ({z.outside:.1%} of it)" for z in partly]
        yield f"{len(partly)} partly outside the store: {_few(told)}"


def _few(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")


Group = dict[int, Coverage]
"""Zones by their number, and what each covers of a tile."""


def _tiles(spec: CubeSpec, flat: list[BaseGeometry]) -> Iterator[tuple[Tile, Group]]:
    """Tiles that zones meet, with as many zones at a time as memory is meant for."""
    bounds = [polygon.bounds if not polygon.is_empty else None for polygon in flat]
    window = spec.window
    for iy in range(window.iy, window.iy + window.ny):
        for ix in range(window.ix, window.ix + window.nx):
            tile = Tile(ix, iy)
            geobox = spec.grid.geobox(tile)
            box = geobox.boundingbox
            group: Group = {}
            cells = 0
            for number, span in enumerate(bounds):
                if span is None or not (
                    span[0] < box.right
                    and box.left < span[2]
                    and span[1] < box.top
                    and box.bottom < span[3]
                ):
                    continue
                coverage = cover(flat[number], geobox)
                if coverage is None:
                    continue
                if group and cells + len(coverage.cells) > MOST_CELLS:
                    yield tile, group
                    group, cells = {}, 0
                group[number] = coverage
                cells += len(coverage.cells)
            if group:
                yield tile, group


def _read(
    source: Source, about: Subject, tile: Tile, group: Group, tallies: list[dict[Key, Tally]]
) -> None:
    """Add the pixels of some zones on a tile, month by month."""
    rows = slice(
        min(c.rows.start for c in group.values()), max(c.rows.stop for c in group.values())
    )
    columns = slice(
        min(c.columns.start for c in group.values()), max(c.columns.stop for c in group.values())
    )
    size = (rows.stop - rows.start) * (columns.stop - columns.start)
    month_bytes = size * sum(v.itemsize for v in about.variables)
    lanes = max(1, min(source.fetch.at_once, MOST_BYTES // max(1, month_bytes)))
    places = {number: _places(c, rows, columns) for number, c in group.items()}

    def blocks(month: Month) -> dict[str, NDArray[Any]]:
        return {v.name: _block(source, v, tile, month, (rows, columns)) for v in about.variables}

    with ThreadPoolExecutor(lanes) as pool:
        for first in range(0, len(about.months), lanes):
            months = about.months[first : first + lanes]
            for month, read in zip(months, pool.map(blocks, months), strict=True):
                for number, at in places.items():
                    shares = group[number].shares
                    for key, new, block in _layers(about, month, read):
                        tally = tallies[number].get(key) or tallies[number].setdefault(key, new())
                        tally.add(block.ravel()[at], shares)


def _layers(
    about: Subject, month: Month, read: dict[str, NDArray[Any]]
) -> Iterator[tuple[Key, Callable[[], Tally], NDArray[Any]]]:
    """Every variable of a month, band by band where it has bands; what it is added up by."""
    for v in about.variables:
        for i, band in enumerate(v.bands or ("",)):
            block = read[v.name][i] if v.bands else read[v.name]
            yield (month, v.name, band), partial(tally_of, v), block
    parts = tuple(v for name in PARTS for v in about.variables if v.name == name)
    if len(parts) == len(PARTS):
        codes = Transitions.codes(*(read[name] for name in PARTS))
        yield (month, TRANSITION, ""), partial(Transitions, parts), codes


def _block(
    source: Source, v: Variable, tile: Tile, month: Month, part: tuple[slice, slice]
) -> NDArray[Any]:
    """Part of a tile and month of one variable: (y, x), or (band, y, x)."""
    region = source.spec.region(tile, month)
    y, x = (
        np.arange(region[axis].start + span.start, region[axis].start + span.stop)
        for axis, span in zip(("y", "x"), part, strict=True)
    )
    bands = [np.arange(len(v.bands))] if v.bands else []
    block: NDArray[Any] = source.read(v.name, [np.array([region["month"].start]), *bands, y, x])[0]
    return block


def _places(coverage: Coverage, rows: slice, columns: slice) -> NDArray[np.int64]:
    """Where the pixels of a zone lie in a block that holds its rectangle."""
    width = coverage.columns.stop - coverage.columns.start
    y, x = np.divmod(coverage.cells, width)
    y += coverage.rows.start - rows.start
    x += coverage.columns.start - columns.start
    return np.asarray(y * (columns.stop - columns.start) + x)
