"""Areas as searches need them: within the world, simple enough, and cut into quarters.

Whatever is done to an area, the outcome covers it: a search may find too much, never too little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import shapely
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

WORLD = shapely.box(-180, -90, 180, 90)
MARGIN = 1e-6
"""Degrees that are added around an area: more than rounding takes away."""
SMALLEST = 0.1
"""Degrees below which an area is not cut further: what lies there comes in any case."""


def in_world(area: BaseGeometry) -> tuple[BaseGeometry, ...]:
    """An area in pieces that do not reach over the antimeridian.

    Longitudes beyond 180 degrees are brought back, and an area on both sides of the antimeridian
    comes in two pieces: the bounding box of one would reach around the world.
    """
    pieces = []
    for turns in (-1, 0, 1):
        part = area.intersection(translate(WORLD, xoff=360 * turns))
        pieces.append(translate(part, xoff=-360 * turns))
    whole = _solid(shapely.union_all(pieces))
    west, _, east, _ = whole.bounds
    if east - west <= 180:
        return (whole,)
    halves = (shapely.box(-180, -90, 0, 90), shapely.box(0, -90, 180, 90))
    found = (_solid(whole.intersection(half)) for half in halves)
    return tuple(half for half in found if not half.is_empty)


def quarters(area: BaseGeometry) -> tuple[BaseGeometry, ...]:
    """The area within each quarter of its bounding box; none for one too small to be cut."""
    west, south, east, north = area.bounds
    if max(east - west, north - south) < SMALLEST:
        return ()
    x, y = (west + east) / 2, (south + north) / 2
    boxes = [shapely.box(*b) for b in (
        (west, south, x, y), (x, south, east, y), (west, y, x, north), (x, y, east, north),
    )]  # fmt: skip
    # What is left of a quarter where the area only touches it is also on its neighbour's edge.
    found = (_solid(area.intersection(box)) for box in boxes)
    return tuple(part for part in found if not part.is_empty)


def simple(area: BaseGeometry, vertices: int) -> BaseGeometry:
    """An area of at most so many vertices that covers this one, and not much more."""
    size = max(area.bounds[2] - area.bounds[0], area.bounds[3] - area.bounds[1])
    for candidate in _simpler(area, size):
        there = _solid(candidate.intersection(WORLD))
        if shapely.get_num_coordinates(there) <= vertices and there.covers(area):
            return there
    return box_of(area)


def box_of(area: BaseGeometry) -> BaseGeometry:
    """The bounding box."""
    west, south, east, north = area.bounds
    grown = shapely.box(west - MARGIN, south - MARGIN, east + MARGIN, north + MARGIN)
    return grown.intersection(WORLD)


def boxes_of(area: BaseGeometry, most: int) -> tuple[BaseGeometry, ...]:
    """Bounding boxes of the parts of an area; one for all where they are many."""
    parts = shapely.get_parts(area)
    return tuple(map(box_of, parts if len(parts) <= most else [area]))


def _simpler(area: BaseGeometry, size: float) -> Iterator[BaseGeometry]:
    yield area.buffer(MARGIN, join_style="mitre")
    for power in range(-10, 0):
        step = size * 2.0**power
        yield area.buffer(step, join_style="mitre").simplify(step / 2)
    yield area.convex_hull.buffer(MARGIN, join_style="mitre")


def _solid(area: BaseGeometry) -> BaseGeometry:
    """The polygons of an area, without the lines and points that cutting leaves."""
    if area.geom_type in {"Polygon", "MultiPolygon"} and math.isfinite(area.area):
        return area
    parts = [p for p in shapely.get_parts(area) if p.geom_type in {"Polygon", "MultiPolygon"}]
    return shapely.union_all(parts)
