"""Where items are: a STAC API, or a catalogue or item collection on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pystac
import pystac_client
import requests
import shapely
from pystac.utils import make_absolute_href
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from cdscale.errors import CatalogueError, explain
from cdscale.months import Months
from cdscale.scenes.items import Json, collection_of
from cdscale.spec.run import RunSpec

MAX_TRIES = 5
"""Of one request to a catalogue, with growing pauses."""
_MAX_VERTICES = 200
"""Of a polygon in a search; APIs refuse long ones."""


def static_items(spec: RunSpec) -> Iterator[Json]:
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
        _collections_there(spec, {collection_of(item) for item in items})
    else:
        collections = dict(_collections(data, str(root)))
        _collections_there(spec, set(collections))
        items = [item for name in spec.collections for item in _items_below(*collections[name])]
    yield from (item for item in items if collection_of(item) in spec.collections)


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


def api_items(spec: RunSpec, footprint: BaseGeometry) -> Iterator[Json]:
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
