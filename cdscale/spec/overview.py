"""How a product looks from farther away: levels of half the resolution, and a rule per variable.

Four pixels become one. A probability is the mean of those that have one; a code the commonest of
those that are not outside; the pair network's change is kept wherever one of the four has it, with
the earliest of their months. Of the months' states the one that matters most leads, and every other
variable of the series comes from the pixel that leads: state, dates and classes stay those of one
place.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from cdscale.spec.cube import CubeSpec, Variable

PRODUCTS = frozenset({"urban", "change"})
"""Products that people look at as maps; a cube has no overviews."""
STATE, CONFIDENCE = "state", "confidence"
RANK = (0, 1, 2, 4, 6, 7, 3, 5)
"""Of each code of a state: outside, unobserved, none, reverted, provisional, finished, confirmed,
high confidence, in ascending order of rank."""


class Rule(StrEnum):
    """What one pixel keeps of four."""

    MEAN = "mean"
    MODE = "mode"
    MAX = "max"
    MIN = "min"
    LEADER = "leader"
    """The value of the pixel whose state has the highest rank; of several the most confident."""


RULES = {
    "probability": Rule.MEAN,
    "quality": Rule.MODE,
    "change": Rule.MAX,
    "change_month": Rule.MIN,
}
CELL_METHODS = {
    Rule.MEAN: "area: mean",
    Rule.MODE: "area: mode",
    Rule.MAX: "area: maximum",
    Rule.MIN: "area: minimum",
}


def rule_of(variable: Variable) -> Rule:
    """The rule of a variable of a product that has overviews."""
    return RULES.get(variable.name, Rule.LEADER)


class Level(NamedTuple):
    """One overview of a store."""

    number: int
    """Its name in the store; each step halves the resolution."""
    rows: int
    columns: int
    shard_px: int
    """Along a side of what is written at once."""

    @property
    def factor(self) -> int:
        """Pixels of the store along a side of one of its own."""
        return 1 << self.number

    @property
    def name(self) -> str:
        """Of the group that holds it."""
        return str(self.number)


def levels_of(spec: CubeSpec) -> tuple[Level, ...]:
    """Overviews of a store, down to one that fits into an inner chunk; none where it has none."""
    if spec.product not in PRODUCTS:
        return ()
    levels: list[Level] = []
    rows, columns = spec.shape
    factor = 1
    while max(rows, columns) // factor > spec.chunk_px and spec.grid.tile_px % (2 * factor) == 0:
        factor *= 2
        y, x = rows // factor, columns // factor
        # No larger than it needs to be: a region of one tile has no shard of four.
        shard = min(spec.grid.tile_px, -(-max(y, x) // spec.chunk_px) * spec.chunk_px)
        levels.append(Level(len(levels) + 1, y, x, shard))
    return tuple(levels)


MULTISCALES, PROJ, SPATIAL = (
    {
        "schema_url": f"https://raw.githubusercontent.com/zarr-conventions/{repository}"
        "/refs/tags/v0.1/schema.json",
        "spec_url": f"https://github.com/zarr-conventions/{repository}/blob/v0.1/README.md",
        "uuid": uuid,
        "name": repository,
        "description": description,
    }
    for repository, uuid, description in (
        (
            "multiscales",
            "d35379db-88df-4056-af3a-620245f8e347",
            "Multiscale layout of zarr datasets",
        ),
        (
            "proj",
            "f17cb550-5864-4468-aeb7-f3180cfb622f",
            "Coordinate reference system information for geospatial data",
        ),
        ("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
    )
)
"""The conventions of GeoZarr that a store keeps to, as they want to be declared."""


def spatial_attributes(spec: CubeSpec, factor: int = 1) -> dict[str, Any]:
    """Where the pixels of a store, or of one of its overviews, lie: ``spatial:`` of GeoZarr."""
    geobox = spec.window.geobox(spec.grid)
    box = geobox.boundingbox
    step = spec.grid.resolution * factor
    return {
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": [side // factor for side in spec.shape],
        "spatial:transform": [step, 0.0, box.left, 0.0, -step, box.top],
        "spatial:bbox": [box.left, box.bottom, box.right, box.top],
        "spatial:registration": "pixel",
    }


def geozarr_attributes(spec: CubeSpec) -> dict[str, Any]:
    """Attributes of a store's group: CRS, place, and its overviews where it has some."""
    levels = levels_of(spec)
    attrs: dict[str, Any] = {
        "zarr_conventions": [*([MULTISCALES] if levels else []), PROJ, SPATIAL],
        "proj:code": spec.grid.crs,
        **spatial_attributes(spec),
    }
    if levels:
        first = {"asset": ".", "transform": {"scale": [1.0, 1.0], "translation": [0.0, 0.0]}}
        attrs["multiscales"] = {"layout": [first, *(_entry(spec, level) for level in levels)]}
    return attrs


def _entry(spec: CubeSpec, level: Level) -> dict[str, Any]:
    place = spatial_attributes(spec, level.factor)
    return {
        "asset": level.name,
        "derived_from": "." if level.number == 1 else str(level.number - 1),
        "transform": {"scale": [2.0, 2.0], "translation": [0.0, 0.0]},
        "resampling_method": "by variable: mean, mode, max, min, leader",
        "spatial:shape": place["spatial:shape"],
        "spatial:transform": place["spatial:transform"],
    }


def level_attributes(spec: CubeSpec, level: Level) -> dict[str, Any]:
    """Attributes of the group of an overview, beside those that it shares with its store."""
    return {
        "zarr_conventions": [PROJ, SPATIAL],
        "proj:code": spec.grid.crs,
        **spatial_attributes(spec, level.factor),
        "title": f"{spec.title}, 1 of {level.factor} x {level.factor} pixels",
        "reductions": {v.name: str(rule_of(v)) for v in spec.variables},
    }


def array_attributes(variable: Variable) -> dict[str, Any]:
    """What is said of a variable in an overview beside what is said of it in the store."""
    rule = rule_of(variable)
    if rule is Rule.LEADER and variable.name != STATE:
        return {"comment": f"of the pixel whose {STATE} leads"}
    return {"cell_methods": CELL_METHODS.get(rule, CELL_METHODS[Rule.MAX])}
