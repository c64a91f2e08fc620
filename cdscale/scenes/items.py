"""What items say: one item in the form that the rest of cdscale reads, or why it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from cdscale.scenes.assets import AssetReader, Observed
from cdscale.scenes.names import Json as Json
from cdscale.scenes.names import Said, moment, said
from cdscale.scenes.places import footprint_of, misplaced
from cdscale.scenes.unusable import Unusable as Unusable
from cdscale.scenes.unusable import plain
from cdscale.spec.profile import Access, CollectionProfile
from cdscale.spec.scene import Scene, SetAside

_Value = TypeVar("_Value")

FIRST_SENTINEL = datetime(2014, 4, 3, tzinfo=UTC)
LONGEST_DATATAKE = timedelta(hours=1)
"""A tile is seen this long at most after its datatake began."""
ROUNDING = timedelta(minutes=1)
"""Names of datatakes and times of items are not rounded alike."""
_MISTYPED = (
    AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What reading a field of another type than STAC's, or one nested without end, raises."""


def name_of(item: Json) -> str:
    """Id of an item."""
    return plain(item.get("id") or "without id")


def collection_of(item: Json) -> str:
    """Id of the collection that an item says it belongs to."""
    return plain(item.get("collection") or "")


def harmonise(item: Json, profile: CollectionProfile, *, local: bool) -> Scene:
    """One item in the form that the rest of cdscale reads.

    Parameters
    ----------
    item : mapping
        A STAC item, version 1.0 or 1.1, the hrefs of its assets absolute.
    profile : CollectionProfile
        How its collection is read.
    local : bool
        Whether the catalogue lies on disk, so that assets may too.

    Raises
    ------
    Unusable
        Naming what is missing or wrong.
    """
    try:
        return _harmonise(item, profile, local=local)
    except _MISTYPED:
        # Items are not trusted to keep to the standard's types, and one of them ends no search.
        raise Unusable("it is not a STAC item: a field has another type than STAC's") from None


def set_aside(item: Json, reason: str) -> SetAside:
    """An item that is not used, with as much of its time and place as reads."""
    span = _if_readable(lambda: _times(item.get("properties") or {}, said(item)))
    footprint = _if_readable(lambda: footprint_of(item))
    return SetAside(
        id=name_of(item),
        collection=collection_of(item),
        reason=plain(reason),
        start=span[0] if span else None,
        end=span[1] if span else None,
        footprint=footprint or "",
    )


def _if_readable(read: Callable[[], _Value]) -> _Value | None:
    try:
        return read()
    except (Unusable, *_MISTYPED):
        return None


def _harmonise(item: Json, profile: CollectionProfile, *, local: bool) -> Scene:
    properties = item.get("properties") or {}
    _refuse(properties, profile)
    facts = said(item)
    start, end = _times(properties, facts)
    read = AssetReader(item.get("assets") or {}, Observed(properties, facts, start), profile, local)
    bands, mask, cloud = read.bands(), read.mask(), read.cloud()
    everything = [*bands.values(), *(asset for asset in (mask, cloud) if asset)]
    remote = any("://" in asset.href for asset in everything)
    footprint = footprint_of(item)
    if misplaced(everything[0], footprint):
        raise Unusable("its projection and its footprint lie in different places")
    masking = profile.mask
    return Scene(
        id=name_of(item),
        collection=collection_of(item),
        sensor=profile.sensor,
        unit=profile.unit,
        start=start,
        end=end,
        platform=facts.platform,
        orbit=_orbit(properties, facts),
        datatake=facts.datatake,
        baseline=facts.baseline,
        cloud_cover=_cloud_cover(properties),
        footprint=footprint,
        assets=bands,
        mask=mask,
        mask_clear=masking.clear if masking else (),
        mask_nodata=masking.nodata if masking else (),
        mask_saturated=masking.saturated if masking else (),
        mask_dark=masking.dark if masking else (),
        mask_dilate_px=masking.dilate_px if masking else 0,
        cloud=cloud,
        access=profile.access if remote else Access(),
        simulated=bool(properties.get("cdscale:simulated")),
    )


def _refuse(properties: Json, profile: CollectionProfile) -> None:
    """Raise for what need not be looked at further."""
    if profile.refuse:
        raise Unusable(profile.refuse)
    if properties.get("deprecated") is True:
        raise Unusable("its catalogue calls it deprecated")
    for key, values in profile.require.items():
        if key in properties and str(properties[key]) not in values:
            raise Unusable(f"{key} is {plain(properties[key], 40)}, not {' or '.join(values)}")


def _times(properties: Json, facts: Said) -> tuple[datetime, datetime]:
    """Start and end; equal where the item has one moment only."""
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    single = properties.get("datetime")
    pair = (start, end) if start and end else (single, single)
    first, last = moment(pair[0]), moment(pair[1])
    if first is None or last is None:
        unread = pair[0] if first is None else pair[1]
        raise Unusable(f"its time does not read: {plain(repr(unread), 40)}")
    if last < first:
        raise Unusable(f"it ends ({last}) before it starts ({first})")
    # One catalogue gives the time of processing for the time of sensing.
    if facts.sensed and not -ROUNDING <= first - facts.sensed <= LONGEST_DATATAKE:
        first = last = facts.sensed
    if first < FIRST_SENTINEL:
        raise Unusable(f"it is of {first:%Y-%m-%d}, before the first Sentinel flew")
    return first, last


def _orbit(properties: Json, facts: Said) -> str:
    """Relative orbit and direction, like ``161 ascending``."""
    relative = properties.get("sat:relative_orbit")
    told = str(int(relative)) if relative is not None else facts.relative_orbit
    direction = plain(properties.get("sat:orbit_state") or "", 20).lower()
    return " ".join(part for part in (told, direction) if part)


def _cloud_cover(properties: Json) -> float | None:
    """Percent; None where the catalogue does not know, or knows that it is wrong."""
    told = properties.get("eo:cloud_cover")
    # Earth Search v0 writes 0 for scenes whose cloud cover it could not find out.
    unsure = properties.get("sentinel:valid_cloud_cover") is False and told == 0
    if unsure or isinstance(told, bool) or not isinstance(told, int | float):
        return None
    return float(told) if 0 <= told <= 100 else None
