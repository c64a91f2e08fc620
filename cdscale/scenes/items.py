"""What items say: one item in the form that the rest of cdscale reads, or why it cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlparse

import shapely
from shapely.geometry import shape

from cdscale.spec.profile import Access, BandProfile, CollectionProfile, OffsetRule
from cdscale.spec.scene import Asset, Scene

Json = Mapping[str, Any]


class Unusable(Exception):
    """An item that cannot be read; its text is the reason."""


def name_of(item: Json) -> str:
    """Id of an item."""
    return str(item.get("id") or "without id")


def collection_of(item: Json) -> str:
    """Id of the collection that an item says it belongs to."""
    return str(item.get("collection") or "")


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
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
        # Items are not trusted to keep to the standard's types, and one of them ends no search.
        raise Unusable("it is not a STAC item: a field has another type than STAC's") from None


def _harmonise(item: Json, profile: CollectionProfile, *, local: bool) -> Scene:
    properties = item.get("properties") or {}
    for key, values in profile.require.items():
        if key in properties and str(properties[key]) not in values:
            raise Unusable(f"{key} is {properties[key]}, not {' or '.join(values)}")
    start, end = _times(properties)
    assets = item.get("assets") or {}
    bands = {
        name: _asset(assets[there[0]], band, properties, profile, local=local)
        for name, band in profile.bands.items()
        if (there := [key for key in band.assets if key in assets])
    }
    mask = None
    if profile.mask is not None:
        found = [key for key in profile.mask.assets if key in assets]
        if not found:
            raise Unusable(f"it has no mask asset ({' or '.join(profile.mask.assets)})")
        plain = BandProfile(assets=(found[0],), nodata=profile.mask.nodata[0])
        mask = _asset(assets[found[0]], plain, properties, profile, local=local, offset=0.0)
    orbit = (properties.get("sat:relative_orbit"), properties.get("sat:orbit_state"))
    cloud = properties.get("eo:cloud_cover")
    return Scene(
        id=name_of(item),
        collection=collection_of(item),
        sensor=profile.sensor,
        unit=profile.unit,
        start=start,
        end=end,
        platform=str(properties.get("platform") or ""),
        orbit=" ".join(str(part) for part in orbit if part is not None),
        baseline=str(properties.get("s2:processing_baseline") or ""),
        cloud_cover=_number(cloud) if isinstance(cloud, int | float) else None,
        footprint=_footprint(item),
        assets=bands,
        mask=mask,
        mask_clear=profile.mask.clear if profile.mask else (),
        mask_nodata=profile.mask.nodata if profile.mask else (),
        mask_saturated=profile.mask.saturated if profile.mask else (),
        mask_dark=profile.mask.dark if profile.mask else (),
        mask_dilate_px=profile.mask.dilate_px if profile.mask else 0,
        access=Access() if local else profile.access,
        simulated=bool(properties.get("cdscale:simulated")),
    )


def _times(properties: Json) -> tuple[datetime, datetime]:
    """Start and end; equal where the item has one moment only."""
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    moment = properties.get("datetime")
    pair = (start, end) if start and end else (moment, moment)
    try:
        first, last = (datetime.fromisoformat(str(text)) for text in pair)
    except ValueError:
        raise Unusable(f"its time does not read: {pair[0]!r}") from None
    first, last = (t if t.tzinfo else t.replace(tzinfo=UTC) for t in (first, last))
    if last < first:
        raise Unusable(f"it ends ({last}) before it starts ({first})")
    return first, last


def _footprint(item: Json) -> str:
    try:
        polygon = shapely.make_valid(shape(item["geometry"]))
    except (LookupError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError):
        raise Unusable("its footprint does not read") from None
    west, south, east, north = polygon.bounds if not polygon.is_empty else (0.0, 99.0, 0.0, 99.0)
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise Unusable("its footprint is not in degrees")
    return str(shapely.to_wkt(polygon, rounding_precision=9))


def _asset(
    asset: Json,
    band: BandProfile,
    properties: Json,
    profile: CollectionProfile,
    *,
    local: bool,
    offset: float | None = None,
) -> Asset:
    href = _checked_href(str(asset.get("href", "")), profile.hosts, local=local)
    transform = asset.get("proj:transform") or properties.get("proj:transform")
    size = asset.get("proj:shape") or properties.get("proj:shape")
    own = _first_band(asset)
    nodata = own.get("nodata", asset.get("nodata", band.nodata))
    return Asset(
        href=href,
        crs=_crs(asset) or _crs(properties),
        transform=tuple(float(v) for v in transform[:6]) if transform else None,
        shape=(int(size[0]), int(size[1])) if size else None,
        scale=band.scale,
        offset=resolve_offset(asset, band, properties, profile) if offset is None else offset,
        # "nan" is no data already.
        nodata=None if nodata is None or isinstance(nodata, str) else _number(nodata),
    )


def _number(value: Any) -> float | None:
    """A number; None for NaN and infinity, which JSON does not have and a job could not keep."""
    number = float(value)
    return number if math.isfinite(number) else None


def _first_band(asset: Json) -> Json:
    bands = asset.get("raster:bands") or asset.get("bands") or [{}]
    return bands[0] if isinstance(bands, list) and isinstance(bands[0], dict) else {}


def resolve_offset(
    asset: Json, band: BandProfile, properties: Json, profile: CollectionProfile
) -> float:
    """Radiometric offset of one asset, by the first rule of the profile that fits it."""
    own = _first_band(asset)
    told = own.get("offset", own.get("raster:offset", asset.get("raster:offset")))
    for rule in profile.offsets:
        if _fits(rule, properties, told):
            return float(told or 0) if rule.offset == "asset" else float(rule.offset)
    return band.offset


def _fits(rule: OffsetRule, properties: Json, told: object) -> bool:
    if rule.when_asset_offset and told is None:
        return False
    if not rule.when_property:
        return True
    value = properties.get(rule.when_property)
    if value is None:
        return False
    if rule.equals is not None and value != rule.equals:
        return False
    return rule.at_least is None or str(value) >= rule.at_least


def _crs(where: Json) -> str:
    """EPSG code from STAC 1.0 (``proj:epsg``) or 1.1 (``proj:code``)."""
    code = where.get("proj:epsg") or str(where.get("proj:code") or "").removeprefix("EPSG:")
    return f"EPSG:{code}" if str(code).isdigit() else ""


def _checked_href(href: str, hosts: Iterable[str], *, local: bool) -> str:
    """The href, if it may be opened: catalogues are not trusted with what GDAL can reach."""
    try:
        scheme, host = urlparse(href).scheme, urlparse(href).hostname or ""
    except ValueError:
        raise Unusable("its asset's address does not read") from None
    if scheme == "https" and any(host == h or host.endswith("." + h) for h in hosts):
        return href
    if scheme in {"", "file"} and local and "/vsi" not in href and "<" not in href:
        return href.removeprefix("file://")
    raise Unusable(
        f"its asset lies where the profile does not allow it: {href.partition('?')[0][:80]}"
    )
