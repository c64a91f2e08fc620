"""Items that show the same observation: the newest processing stays, the others are set aside.

A catalogue has an observation twice when it was processed again, or listed under two ids. It has
two *halves* of it where the datatake was cut into datastrips within a tile: same satellite, tile
and datatake, and each half shows ground that the other does not. Ids, times and sequence numbers
do not tell the two cases apart; datastrips and footprints do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import shapely

from cdscale.scenes.names import Said
from cdscale.spec.scene import LONGEST_PASS, Scene, SetAside

LOST = 0.02
"""Share of a footprint that may stick out of newer ones before it counts as ground of its own:
outlines of the same granule differ by some thousandths between processings."""


class Found(NamedTuple):
    """A usable scene, and how it is told apart from others."""

    scene: Scene
    facts: Said
    observation: tuple[str, ...] | None
    """Equal for what may be the same observation; None is never merged."""
    version: tuple[str, ...]
    """Sorts by how new the processing is."""


def newest_only(found: Iterable[Found]) -> tuple[tuple[Scene, ...], tuple[SetAside, ...]]:
    """Of the items of one observation, the newest processing; the others with the reason.

    Parameters
    ----------
    found : iterable of Found
        Usable scenes in any order; one that came twice counts once.

    Returns
    -------
    tuple
        Scenes that are kept, by sensor and time, and what is set aside.
    """
    single: dict[tuple[str, str], Found] = {}
    for one in sorted(found, key=lambda f: (f.version, f.scene.id)):
        single[one.scene.collection, one.scene.id] = one
    kept: list[Scene] = []
    older: list[SetAside] = []
    for group in _observations(single.values()):
        newest: list[Found] = []
        for one in sorted(group, key=lambda f: (f.version, f.scene.id), reverse=True):
            shown = _shown_by(one, newest)
            if shown is None:
                newest.append(one)
            else:
                reason = f"the same observation came newer processed as {shown.id}"
                older.append(left_out(one.scene, reason))
        kept += [one.scene for one in newest]
    kept.sort(key=lambda s: (s.sensor, s.start, s.collection, s.id))
    older.sort(key=lambda s: (s.collection, s.id))
    return tuple(kept), tuple(older)


def _observations(found: Iterable[Found]) -> list[list[Found]]:
    """Scenes that may show the same observation: one key, and one pass of the satellite."""
    groups: dict[tuple[str, ...], list[list[Found]]] = {}
    for one in sorted(found, key=lambda f: (f.scene.start, f.scene.id)):
        alone = ("", one.scene.collection, one.scene.id)
        there = groups.setdefault(one.observation or alone, [])
        # The same tile is seen again an orbit later at the earliest, in a hundred minutes.
        if there and one.scene.start - there[-1][0].scene.start <= LONGEST_PASS:
            there[-1].append(one)
        else:
            there.append([one])
    return [group for series in groups.values() for group in series]


def _shown_by(one: Found, newer: list[Found]) -> Scene | None:
    """The newer scene that shows what this one does; None where it shows ground of its own."""
    for other in newer:
        if one.facts.strip and one.facts.strip == other.facts.strip:
            return other.scene
    polygon = one.scene.polygon
    together = shapely.union_all([other.scene.polygon for other in newer])
    if not newer or polygon.difference(together).area > LOST * polygon.area:
        return None
    return max(newer, key=lambda o: polygon.intersection(o.scene.polygon).area).scene


def left_out(scene: Scene, reason: str) -> SetAside:
    """A scene that can be read and is not used."""
    return SetAside(
        id=scene.id,
        collection=scene.collection,
        reason=reason,
        start=scene.start,
        end=scene.end,
        footprint=scene.footprint,
    )
