"""What an item says of its acquisition, in its properties or in ESA's names of products.

Catalogues put the same facts under many names, and old or sparse ones only into the name of the
product. That grammar is ESA's and not a catalogue's, so it stands here and not in the profiles::

    S2A_MSIL2A_20200302T102021_N0214_R065_T32TMT_20200302T140838        product
    S2A_OPER_MSI_L2A_TL_MPS__20200302T140838_A024515_T32TMT_N02.14      granule
    S2A_OPER_MSI_L2A_DS_MPS__20200302T140838_S20200302T102554_N02.14    datastrip
    GS2A_20200302T102021_024515_N02.14                                  datatake
    S2A_32TMT_20200302_0_L2A, S2A_T13TDE_20240402T174230_L2A            Earth Search
    S1A_IW_GRDH_1SDV_20240419T045749_20240419T045814_053498_067DF2_AF19 product
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

Json = Mapping[str, Any]

_NAMES = (
    "s2:product_uri", "sentinel:product_id", "s1:product_identifier", "s2:tile_id",
    "s2:granule_id", "title",
)  # fmt: skip
_BASELINES = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
_DATATAKES = ("s2:datatake_id", "eopf:datatake_id", "s1:datatake_id")
_DATASTRIPS = ("s2:datastrip_id", "eopf:datastrip_id")
_GENERATED = ("s2:generation_time", "processing:datetime", "s1:processing_datetime")
_CATALOGUED = ("updated", "created", "published")

_STAMP = r"(\d{8}T\d{6})"
_TILE = r"(\d{1,2})([C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])"
_IN_NAME = {
    "platform": re.compile(r"^G?S([12])([A-D])_"),
    "baseline": re.compile(r"_N(\d\d)\.?(\d\d)(?=_|\.SAFE|$)"),
    "tile": re.compile(rf"(?:^S2[A-D]_|_T){_TILE}(?=_|\.SAFE|$)"),
    "level": re.compile(r"_(?:MSI_?)?(L[12][AC])(?=_|\.SAFE|$)"),
    "datatake": re.compile(rf"^G?S2[A-D]_(?:MSIL[12][AC]_)?{_STAMP}_"),
    "orbit": re.compile(r"_A(\d{6})_"),
    "strip": re.compile(rf"_DS_.*_S{_STAMP}_|^S2[A-D]_T\w{{5}}_{_STAMP}_L[12][AC]"),
    "made": re.compile(rf"^S2[A-D]_MSIL[12][AC]_{_STAMP}_.*_{_STAMP}(?=\.SAFE|$)"),
    "radar": re.compile(r"^S1[A-D]_\w\w_\w{4}_\w{4}_\d{8}T\d{6}_\d{8}T\d{6}_\d{6}_([0-9A-F]{6})"),
    "relative": re.compile(r"_R(\d{3})_"),
}
_PLATFORM = re.compile(r"(?:sentinel|s)[-_ ]?([12])[-_ ]?([a-d])", re.IGNORECASE)
_VERSION = re.compile(r"N?(\d{1,2})(?:\.(\d{1,2})|(\d\d))|(0?\d)")
_LEAP_SECOND = re.compile(r"(?<=:\d\d):60(?!\d)")


class Said(NamedTuple):
    """The facts of one item by which scenes are told apart; empty where it does not say."""

    platform: str
    """``sentinel-2a``."""
    level: str
    """``L2A``; of Sentinel-2 only."""
    tile: str
    """MGRS tile, ``09VXK``."""
    datatake: str
    """``S2A_20200302T102021`` or ``S1A_067DF2``: whatever processed it, and of one satellite."""
    sensed: datetime | None
    """Start of a Sentinel-2 datatake; its tiles are seen within the hour after."""
    strip: str
    """Start of a Sentinel-2 datastrip: one tile has at most one granule of each."""
    baseline: str
    """``05.10``."""
    generated: str
    """When it was processed: text that sorts."""
    catalogued: str
    """When the item was last changed: text that sorts."""
    relative_orbit: str


def said(item: Json) -> Said:
    """Read what an item says of its acquisition."""
    properties = item.get("properties") or {}
    names = tuple(_names(item, properties))
    platform = _platform(properties, names)
    return Said(
        platform=platform,
        level=_found("level", names),
        tile=_tile(properties, names),
        datatake=_datatake(properties, names, platform),
        sensed=moment(_found("datatake", (*_texts(properties, _DATATAKES), *names))),
        strip=_found("strip", (*_texts(properties, _DATASTRIPS), *names)),
        baseline=_baseline(properties, names),
        generated=_newest(properties, _GENERATED) or _sortable(_made(names)),
        catalogued=_newest(properties, _CATALOGUED),
        relative_orbit=_found("relative", names).lstrip("0"),
    )


def moment(text: object) -> datetime | None:
    """A time as catalogues write it, UTC where they name no zone; None where it is none."""
    try:
        # RFC 3339 allows small letters and leap seconds; Python's reader knows neither.
        time = datetime.fromisoformat(_LEAP_SECOND.sub(":59", str(text).strip().upper()))
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _names(item: Json, properties: Json) -> Iterator[str]:
    yield from _texts(properties, _NAMES)
    several = properties.get("sentinel:product_ids")
    if isinstance(several, list):
        yield from (name for name in several if isinstance(name, str))
    yield str(item.get("id") or "")


def _texts(properties: Json, keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(properties[key]) for key in keys if properties.get(key) is not None)


def _found(what: str, names: tuple[str, ...]) -> str:
    """What a pattern holds in the first name that it fits, its groups run together."""
    matches = (match for name in names if (match := _IN_NAME[what].search(name)))
    return next(("".join(part or "" for part in match.groups()) for match in matches), "")


def _platform(properties: Json, names: tuple[str, ...]) -> str:
    text = str(properties.get("platform") or "")
    match = _PLATFORM.fullmatch(text)
    code = match[1] + match[2].lower() if match else _found("platform", names).lower()
    return f"sentinel-{code}" if code else text.lower()


def _tile(properties: Json, names: tuple[str, ...]) -> str:
    grid = str(properties.get("grid:code") or "")
    told = [
        str(properties.get("s2:mgrs_tile") or ""),
        grid.removeprefix("MGRS-"),
        str(properties.get("sentinel:mgrs") or ""),
        *(
            "".join(str(properties.get(f"{scheme}:{part}") or "") for part in parts)
            for scheme in ("mgrs", "sentinel")
            for parts in [("utm_zone", "latitude_band", "grid_square")]
        ),
    ]
    for text in told:
        if match := re.fullmatch(rf"T?{_TILE}", text):
            return match[1].zfill(2) + match[2]
    name = _found("tile", names)
    return name.zfill(5) if name else ""


def _datatake(properties: Json, names: tuple[str, ...], platform: str) -> str:
    satellite = "S" + platform.removeprefix("sentinel-").upper()
    given = _texts(properties, _DATATAKES)
    if platform.startswith("sentinel-1"):
        numbers = (f"{int(text):06X}" for text in given if text.isdecimal() and len(text) < 9)
        number = next(numbers, "") or _found("radar", names)
    else:
        orbit = _found("orbit", names)
        number = _found("datatake", (*given, *names)) or (f"A{orbit}" if orbit else "")
    return f"{satellite}_{number}" if number else ""


def _baseline(properties: Json, names: tuple[str, ...]) -> str:
    for text in _texts(properties, _BASELINES):
        if match := _VERSION.fullmatch(text):
            # A number in JSON loses its last zeros: 5.1 is 05.10, and 4 is 04.00.
            minor = match[3] or (match[2] or "").ljust(2, "0")
            return f"{(match[1] or match[4]).zfill(2)}.{minor}"
    name = _found("baseline", names)
    return f"{name[:2]}.{name[2:]}" if name else ""


def _made(names: tuple[str, ...]) -> str:
    """The stamp at the end of a product's name: when it was made."""
    return _found("made", names)[-15:]


def _newest(properties: Json, keys: tuple[str, ...]) -> str:
    return next((text for key in keys if (text := _sortable(properties.get(key)))), "")


def _sortable(text: object) -> str:
    time = moment(text) if text else None
    return time.isoformat(timespec="microseconds") if time else ""
