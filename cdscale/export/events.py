"""Change events: patches that keep their names from month to month, and what becomes of them.

An event is a patch of change that is followed. Patches of a new month are matched to the events as
they last stood by the area that they share. An event goes on as the patch that shares most with it;
where several events want one patch, the oldest has it, and each of the others takes the next patch
that it shares area with and that nobody has, or is withdrawn as merged into the oldest. A patch
that no event goes on as is a new event; where it shares area with one, it was split from it.

Whatever happens to an event is a row: nothing is written over. What does not change its outline,
state, classes or months of change is no row; that confidence and support rise from month to month
is not news.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count

import numpy as np
import shapely
from numpy.typing import NDArray

from cdscale.export.patches import Patch
from cdscale.months import Month


class Kind(StrEnum):
    """What happened to an event."""

    CONFIRMED = "confirmed"
    """It is new."""
    GROWN = "grown"
    SHRUNK = "shrunk"
    UPDATED = "updated"
    """Its state, classes or months are others, or its outline is, at the same size."""
    WITHDRAWN = "withdrawn"
    """It is no longer there, or is part of another."""


@dataclass(frozen=True)
class Event:
    """One revision of an event."""

    event_id: str
    revision: int
    """Of this event, from 1 on."""
    publication: int
    """Which addition to the log it came with, from 1 on."""
    kind: Kind
    month: str
    """Month of the product that says so."""
    reference_month: str | None
    """What it is compared with, where a pair network says so."""
    patch: Patch
    merged_into: str | None = None
    split_from: str | None = None
    scenes: tuple[str, ...] = ()
    """Scenes behind the months from the first that shows it to the last that supports it."""

    @property
    def gone(self) -> bool:
        """Whether there is no more to come of it."""
        return self.kind is Kind.WITHDRAWN


@dataclass(frozen=True)
class When:
    """A month as the rows of it say it."""

    month: str
    publication: int
    reference_month: str | None = None


def current(rows: Iterable[Event]) -> dict[str, Event]:
    """The last revision of each event, withdrawn ones included, the oldest event first."""
    last: dict[str, Event] = {}
    for row in rows:
        last[row.event_id] = row
    return last


def revise(rows: Iterable[Event], patches: list[Patch], when: When) -> list[Event]:
    """What a month adds to what is known.

    Parameters
    ----------
    rows : iterable of Event
        Every row so far, in order.
    patches : list of Patch
        Of the month.
    when : When
        The month. Of a pair network only events of the same month are matched: each pair is a
        comparison of its own.

    Returns
    -------
    list of Event
        Empty where nothing has happened.
    """
    last = current(rows)
    paired = when.reference_month is not None
    old = [e for e in last.values() if not e.gone and (not paired or e.month == when.month)]
    shared = _shared(old, patches)
    heirs, origins = _matched(shared)
    added = []
    for n, event in enumerate(old):
        row = _continued(event, n, heirs, patches, when)
        if row is None:
            into = _absorber(n, old, heirs, shared)
            row = replace(
                event, kind=Kind.WITHDRAWN, revision=event.revision + 1, month=when.month,
                publication=when.publication, merged_into=into, split_from=None,
            )  # fmt: skip
        if row is not event:
            added.append(row)
    taken = set(heirs.values())
    names = set(last)
    for p, patch in enumerate(patches):
        if p not in taken:
            name = _name(patch, when, names)
            names.add(name)
            origin = old[origins[p]].event_id if p in origins else None
            added.append(
                Event(
                    name, 1, when.publication, Kind.CONFIRMED, when.month, when.reference_month,
                    patch, split_from=origin,
                )
            )  # fmt: skip
    return added


def _name(patch: Patch, when: When, known: set[str]) -> str:
    """Where and when it was first seen: the same however the log came about."""
    plain = f"{when.month}-{patch.anchor}"
    if plain not in known:
        return plain
    return next(name for n in count(2) if (name := f"{plain}-{n}") not in known)


def _shared(old: list[Event], patches: list[Patch]) -> dict[tuple[int, int], float]:
    """Area that events and patches share, where they share any: event, patch -> square metres."""
    if not old or not patches:
        return {}
    before: NDArray[np.object_] = np.array([e.patch.geometry for e in old], object)
    after: NDArray[np.object_] = np.array([p.geometry for p in patches], object)
    events, found = shapely.STRtree(after).query(before, predicate="intersects")
    area = shapely.area(shapely.intersection(before[events], after[found]))
    triples = zip(events.tolist(), found.tolist(), area.tolist(), strict=True)
    return {(e, p): a for e, p, a in triples if a > 0}


def _matched(
    shared: dict[tuple[int, int], float],
) -> tuple[dict[int, int], dict[int, int]]:
    """Patch that each event goes on as; and the event that each patch shares most with."""
    wishes: dict[int, list[int]] = {}
    origins: dict[int, int] = {}
    for e, p in sorted(shared, key=lambda pair: (-shared[pair], pair)):
        wishes.setdefault(e, []).append(p)
        origins.setdefault(p, e)
    heirs: dict[int, int] = {}
    taken: set[int] = set()
    # First what each wants most, the oldest first; then the others have what is left.
    for depth in (1, None):
        for e in sorted(set(wishes) - set(heirs)):
            free = [p for p in wishes[e][:depth] if p not in taken]
            if free:
                heirs[e] = free[0]
                taken.add(free[0])
    return heirs, origins


def _absorber(
    n: int, old: list[Event], heirs: dict[int, int], shared: dict[tuple[int, int], float]
) -> str | None:
    """The event that took the patch that a withdrawn one shared most with."""
    mine = sorted(((-a, p) for (e, p), a in shared.items() if e == n))
    owners = {p: e for e, p in heirs.items()}
    return next((old[owners[p]].event_id for _, p in mine if p in owners), None)


def _continued(
    event: Event, n: int, heirs: dict[int, int], patches: list[Patch], when: When
) -> Event | None:
    """The next revision of an event, itself where nothing has happened, None where it is gone."""
    if n not in heirs:
        return None
    before, after = event.patch, patches[heirs[n]]
    same = before.geometry.wkb == after.geometry.wkb
    if same and _said(before) == _said(after):
        return event
    kind = Kind.UPDATED
    if after.pixels != before.pixels:
        kind = Kind.GROWN if after.pixels > before.pixels else Kind.SHRUNK
    return Event(
        event.event_id, event.revision + 1, when.publication, kind, when.month,
        when.reference_month, after,
    )  # fmt: skip


def _said(patch: Patch) -> tuple[object, ...]:
    """What of a patch is news when it changes, beside its outline."""
    return (
        patch.state,
        patch.from_class,
        patch.to_class,
        patch.first_month,
        patch.confirmed_month,
    )


def since(rows: Iterable[Event], mark: Month | int) -> list[Event]:
    """Rows of later months, or of later publications, than one."""
    if isinstance(mark, int):
        return [row for row in rows if row.publication > mark]
    return [row for row in rows if Month.parse(row.month) > mark]
