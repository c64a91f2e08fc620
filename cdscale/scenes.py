"""STAC search to ``SceneTable``: harmonised, and without duplicates.

Every item that is not used comes with a reason. The only module that talks to a catalogue.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import pystac
import pystac_client
import requests
import shapely
from pystac.utils import make_absolute_href
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from cdscale.errors import CatalogueError, explain
from cdscale.months import Month, Months
from cdscale.spec.base import fingerprint
from cdscale.spec.profile import BandProfile, CollectionProfile, OffsetRule
from cdscale.spec.run import RunSpec
from cdscale.spec.scene import Asset, Scene, SceneTable, SetAside

MAX_TRIES = 5
"""Of one request to a catalogue, with growing pauses."""
_MAX_VERTICES = 200
"""Of a polygon in a search; APIs refuse long ones."""

Json = Mapping[str, Any]


class _Unusable(Exception):
    """An item that cannot be read; its text is the reason."""


class _Found(NamedTuple):
    """A usable scene, what it observed, and how new its processing is."""

    scene: Scene
    observation: tuple[str, ...] | None
    version: tuple[str, ...]


def search_key(spec: RunSpec) -> str:
    """Fingerprint of everything that decides which scenes a run finds."""
    return fingerprint(
        {
            "catalogue": spec.catalogue,
            "profiles": {k: p.model_dump(mode="json") for k, p in spec.profiles.items()},
            "bands": [*spec.cube.s2_bands, *spec.cube.s1_bands],
            "period": str(spec.period),
            "tiles": [str(tile) for tile in spec.tiles()],
            "grid": [spec.lattice.crs, spec.lattice.tile_m],
            "max_cloud_cover": spec.cube.max_cloud_cover,
        }
    )


def search(spec: RunSpec) -> SceneTable:
    """Ask the catalogue once for everything that a run needs.

    Raises
    ------
    CatalogueError
        When the catalogue or a collection is not there, or no scene can be used.
    """
    grid = spec.lattice
    footprint = shapely.union_all([grid.footprint(tile) for tile in spec.tiles()])
    remote = "://" in spec.catalogue
    items = _api_items(spec, footprint) if remote else _static_items(spec)
    found: list[_Found] = []
    aside: list[SetAside] = []
    elsewhere: set[Month] = set()
    for item in items:
        try:
            one = _usable(item, spec, local=not remote)
        except _Unusable as reason:
            aside.append(SetAside(id=_name(item), collection=_of(item), reason=str(reason)))
            continue
        if not footprint.intersects(one.scene.polygon):
            continue
        if any(one.scene.serves(month) for month in spec.period):
            found.append(one)
        else:
            elsewhere.add(Month.of(one.scene.start))
    scenes, older = _newest_only(found)
    if not scenes:
        raise CatalogueError(_nothing_found(spec, aside, elsewhere))
    return SceneTable(search=search_key(spec), scenes=scenes, set_aside=(*aside, *older))


def _nothing_found(spec: RunSpec, aside: list[SetAside], elsewhere: set[Month]) -> str:
    collections = ", ".join(spec.collections)
    bounds = ", ".join(f"{v:.3f}" for v in spec.aoi.bounds)
    got = "none"
    if aside:
        got += f" ({len(aside)} items cannot be used, the first because {aside[0].reason})"
    do = "Check area, period and collections."
    if elsewhere:
        do = f"For this area the catalogue has scenes in {Months.of(elsewhere)}."
    return explain(
        f"the search found no scene in {spec.catalogue}",
        expected=f"scenes of {collections} over {bounds} in {spec.period}",
        got=got,
        do=do,
    )


# ------------------------------------------------------------------------------ where items are


def _static_items(spec: RunSpec) -> Iterator[Json]:
    """Every item of the wanted collections of a catalogue or item collection on disk."""
    path = Path(spec.catalogue)
    root = path / "catalog.json" if path.is_dir() else path
    data = _read_json(str(root))
    kind = data.get("type")
    if kind not in {"Catalog", "Collection", "FeatureCollection"}:
        raise CatalogueError(
            explain(
                f"{root} is not a STAC catalogue",
                expected="type Catalog, Collection or FeatureCollection",
                got=repr(kind),
            )
        )
    if kind == "FeatureCollection":
        features = data.get("features")
        items = [
            _absolute(item, str(root))
            for item in (features if isinstance(features, list) else [])
            if isinstance(item, dict)
        ]
        _collections_there(spec, {_of(item) for item in items})
    else:
        collections = dict(_collections(data, str(root)))
        _collections_there(spec, set(collections))
        items = [item for name in spec.collections for item in _items_below(*collections[name])]
    yield from (item for item in items if _of(item) in spec.collections)


def _collections(data: Json, href: str) -> Iterator[tuple[str, tuple[Json, str]]]:
    """Collections at and below a catalogue: id, content and place."""
    for part, place in _walk(data, href):
        if part.get("type") == "Collection":
            yield str(part.get("id")), (part, place)


def _items_below(data: Json, href: str) -> Iterator[Json]:
    for part, place in _walk(data, href):
        for link in _links(part, place, "item"):
            yield _absolute(_read_json(link), link)


def _walk(data: Json, href: str) -> Iterator[tuple[Json, str]]:
    """A catalogue and everything below it, each once even where links run in a circle."""
    seen, waiting = {href}, [(data, href)]
    while waiting:
        part, place = waiting.pop()
        yield part, place
        for child in _links(part, place, "child"):
            if child not in seen:
                seen.add(child)
                waiting.append((_read_json(child), child))


def _links(data: Json, href: str, rel: str) -> list[str]:
    links = data.get("links")
    return [
        str(make_absolute_href(str(link["href"]), href))
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict) and link.get("rel") == rel and link.get("href")
    ]


def _absolute(item: Json, href: str) -> Json:
    """The item, the hrefs of its assets no longer relative to where it lay."""
    assets = item.get("assets")
    if not isinstance(assets, dict):
        return item
    return {
        **item,
        "assets": {
            key: {**asset, "href": make_absolute_href(str(asset.get("href", "")), href)}
            for key, asset in assets.items()
            if isinstance(asset, dict)
        },
    }


def _read_json(href: str) -> dict[str, Any]:
    try:
        data = pystac.StacIO.default().read_json(href)
    except (OSError, ValueError, KeyError) as err:
        reason = getattr(err, "strerror", None) or "it is not JSON"
        raise CatalogueError(
            explain(f"cannot read {href}: {reason}", do="Check the catalogue's path.")
        ) from None
    if not isinstance(data, dict):
        raise CatalogueError(explain(f"{href} is not STAC", expected="a JSON object"))
    return data


def _api_items(spec: RunSpec, footprint: BaseGeometry) -> Iterator[Json]:
    """Items of a STAC API that meet the area, one search for each run of months."""
    if shapely.get_num_coordinates(footprint) > _MAX_VERTICES:
        footprint = shapely.box(*footprint.bounds)
    try:
        client = pystac_client.Client.open(
            spec.catalogue, stac_io=StacApiIO(max_retries=MAX_TRIES, timeout=60)
        )
        _collections_there(spec, {c.id for c in client.get_collections()})
        for part in str(spec.period).split(","):
            months = Months.parse(part)
            result = client.search(
                collections=list(spec.collections),
                intersects=dict(mapping(footprint)),
                datetime=(months.first.start, months.last.stop),
            )
            yield from result.items_as_dicts()
    except (APIError, requests.RequestException, pystac.STACError, OSError) as err:
        raise CatalogueError(
            explain(
                f"the catalogue {spec.catalogue} does not answer as a STAC API",
                got=f"{type(err).__name__}: {str(err)[:200]}",
                do="Check the address and the network, and run again.",
            )
        ) from None


def _collections_there(spec: RunSpec, known: set[str]) -> None:
    missing = [name for name in spec.collections if name not in known]
    if missing:
        raise CatalogueError(
            explain(
                f"{spec.catalogue} has no collection {', '.join(missing)}",
                expected=f"one of {', '.join(sorted(known)) or 'none'}",
                do="Name the catalogue's own collections in the spec.",
            )
        )


# ------------------------------------------------------------------------------ what items say


def _name(item: Json) -> str:
    return str(item.get("id") or "without id")


def _of(item: Json) -> str:
    return str(item.get("collection") or "")


def _usable(item: Json, spec: RunSpec, *, local: bool) -> _Found:
    """The item as a scene, or the reason why it cannot be one."""
    profile = spec.profiles[_of(item)]
    scene = harmonise(item, profile, local=local)
    wanted = spec.cube.s2_bands if scene.sensor == "s2" else spec.cube.s1_bands
    bands = {band: scene.assets[band] for band in wanted if band in scene.assets}
    missing = [band for band in wanted if band not in bands]
    # A network needs every optical band; radar with one polarisation is still radar.
    if not bands or (missing and scene.sensor == "s2"):
        raise _Unusable(f"it has no asset for {', '.join(missing)}")
    if scene.cloud_cover is not None and scene.cloud_cover > spec.cube.max_cloud_cover:
        raise _Unusable(f"cloud cover {scene.cloud_cover:g} % is over the spec's limit")
    properties = item["properties"]
    named = [properties.get(key) for key in profile.same_observation]
    observation = (
        (profile.name, *map(str, named)) if named and all(v is not None for v in named) else None
    )
    version = tuple(str(properties.get(key) or "") for key in profile.newest_by)
    return _Found(scene.model_copy(update={"assets": bands}), observation, version)


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
    _Unusable
        Naming what is missing or wrong.
    """
    try:
        return _harmonise(item, profile, local=local)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
        # Items are not trusted to keep to the standard's types, and one of them ends no search.
        raise _Unusable("it is not a STAC item: a field has another type than STAC's") from None


def _harmonise(item: Json, profile: CollectionProfile, *, local: bool) -> Scene:
    properties = item.get("properties") or {}
    for key, values in profile.require.items():
        if key in properties and str(properties[key]) not in values:
            raise _Unusable(f"{key} is {properties[key]}, not {' or '.join(values)}")
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
            raise _Unusable(f"it has no mask asset ({' or '.join(profile.mask.assets)})")
        plain = BandProfile(assets=(found[0],), nodata=profile.mask.nodata[0])
        mask = _asset(assets[found[0]], plain, properties, profile, local=local, offset=0.0)
    orbit = (properties.get("sat:relative_orbit"), properties.get("sat:orbit_state"))
    cloud = properties.get("eo:cloud_cover")
    return Scene(
        id=_name(item),
        collection=_of(item),
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
        mask_dilate_px=profile.mask.dilate_px if profile.mask else 0,
        signing="none" if local else profile.signing,
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
        raise _Unusable(f"its time does not read: {pair[0]!r}") from None
    first, last = (t if t.tzinfo else t.replace(tzinfo=UTC) for t in (first, last))
    if last < first:
        raise _Unusable(f"it ends ({last}) before it starts ({first})")
    return first, last


def _footprint(item: Json) -> str:
    try:
        polygon = shapely.make_valid(shape(item["geometry"]))
    except (LookupError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError):
        raise _Unusable("its footprint does not read") from None
    west, south, east, north = polygon.bounds if not polygon.is_empty else (0.0, 99.0, 0.0, 99.0)
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise _Unusable("its footprint is not in degrees")
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
        epsg=_epsg(asset) or _epsg(properties),
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


def _epsg(where: Json) -> int | None:
    """EPSG code from STAC 1.0 (``proj:epsg``) or 1.1 (``proj:code``)."""
    code = where.get("proj:epsg") or str(where.get("proj:code") or "").removeprefix("EPSG:")
    return int(code) if str(code).isdigit() else None


def _checked_href(href: str, hosts: Iterable[str], *, local: bool) -> str:
    """The href, if it may be opened: catalogues are not trusted with what GDAL can reach."""
    try:
        scheme, host = urlparse(href).scheme, urlparse(href).hostname or ""
    except ValueError:
        raise _Unusable("its asset's address does not read") from None
    if scheme == "https" and any(host == h or host.endswith("." + h) for h in hosts):
        return href
    if scheme in {"", "file"} and local and "/vsi" not in href and "<" not in href:
        return href.removeprefix("file://")
    raise _Unusable(
        f"its asset lies where the profile does not allow it: {href.partition('?')[0][:80]}"
    )


def _newest_only(found: list[_Found]) -> tuple[tuple[Scene, ...], tuple[SetAside, ...]]:
    """Of the items of one observation, the newest processing; the others with the reason."""
    found = sorted(found, key=lambda f: (f.scene.sensor, f.scene.start, f.version, f.scene.id))
    newest = {f.observation: f.scene.id for f in found if f.observation is not None}
    kept: dict[tuple[str, str], Scene] = {}
    older: list[SetAside] = []
    for scene, observation, _ in found:
        if observation is None or newest[observation] == scene.id:
            kept[scene.collection, scene.id] = scene
        else:
            reason = f"the same observation came newer processed as {newest[observation]}"
            older.append(SetAside(id=scene.id, collection=scene.collection, reason=reason))
    return tuple(kept.values()), tuple(older)
