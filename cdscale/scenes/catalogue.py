"""Where items are: a STAC API, or a static catalogue or item collection, on disk or on a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pystac.utils import make_absolute_href
from shapely.geometry.base import BaseGeometry

from cdscale.errors import CatalogueError, explain
from cdscale.scenes.answers import no_collection, refusal, silence
from cdscale.scenes.api import ApiSearch, is_api
from cdscale.scenes.items import Json, collection_of, name_of
from cdscale.scenes.web import Refused, Unanswered, Web
from cdscale.spec.run import RunSpec, public

UNUSABLE = "cdscale:unusable"
"""Field of what stands for an item that did not come: the reason."""

Read = Callable[[str], dict[str, Any]]
"""What gives the JSON object at an address; it raises ``_Unreadable``."""


class _Unreadable(Exception):
    """Something that is not there, or damaged; its text is the reason."""


def on_disk(catalogue: str) -> bool:
    """Whether a catalogue lies on this machine, so that its assets may too."""
    return "://" not in catalogue or catalogue.startswith("file://")


def items_of(spec: RunSpec, footprint: BaseGeometry) -> Iterator[Json]:
    """Every item of the wanted collections that may meet an area in degrees.

    One that cannot be read comes as its id, its collection and the reason, under ``UNUSABLE``.

    Raises
    ------
    CatalogueError
        When the catalogue, a part of it or a collection is not there, or it does not serve.
    """
    return static_items(spec) if on_disk(spec.catalogue) else api_items(spec, footprint)


def static_items(spec: RunSpec) -> Iterator[Json]:
    """Items of a catalogue or item collection on disk; its links may lead to servers."""
    path = Path(_path(spec.catalogue))
    root = str(path / "catalog.json" if path.is_dir() else path)
    web = Web("", spec.search)

    def read(address: str) -> dict[str, Any]:
        return _read_file(_path(address)) if on_disk(address) else _read_web(web, address)

    try:
        yield from _items(spec, _read_root(read, root), root, read)
    finally:
        web.close()


def api_items(spec: RunSpec, footprint: BaseGeometry) -> Iterator[Json]:
    """Items of a catalogue on a server: of a STAC API by a search, of a static one by its links."""
    web = Web(spec.catalogue, spec.search)
    try:
        landing = web.get(web.name)
        if is_api(landing):
            api = ApiSearch(web, landing, spec)
            api.check_collections()
            only = next(iter(spec.collections)) if len(spec.collections) == 1 else ""
            for number, item in enumerate(api.items(footprint)):
                yield from _checked(item, web.name, spec, collection=only, number=number)
        else:
            yield from _items(spec, landing, web.name, lambda link: _read_web(web, link))
    except Refused as err:
        raise refusal(web.name, err) from None
    except Unanswered as err:
        raise silence(web.name, err) from None
    finally:
        web.close()


# ------------------------------------------------------------------------------ static catalogues


def _items(spec: RunSpec, data: dict[str, Any], root: str, read: Read) -> Iterator[Json]:
    """Items of the wanted collections of what stands at a root."""
    kind = _type(data)
    if kind == "FeatureCollection":
        features = data.get("features")
        every = features if isinstance(features, list) else []
        known = {collection_of(item) for item in every if isinstance(item, dict)}
        # An item need not name a collection: where none does, it is the one that is asked for.
        only = next(iter(spec.collections)) if known == {""} and len(spec.collections) == 1 else ""
        _collections_there(spec, root, (known | {only}) - {""})
        for number, item in enumerate(every):
            yield from _checked(item, root, spec, collection=only, number=number)
    elif kind in {"Catalog", "Collection"}:
        known, places = _places(data, root, read)
        _collections_there(spec, root, known)
        for place, above in places.items():
            if any(name in spec.collections for name in above):
                yield from _linked(place, above[-1], spec, read)
    else:
        raise CatalogueError(
            explain(
                f"{public(root)} is not a STAC catalogue",
                expected="type Catalog, Collection or FeatureCollection",
                got=repr(kind),
            )
        )


def _places(
    data: dict[str, Any], root: str, read: Read
) -> tuple[set[str], dict[str, tuple[str, ...]]]:
    """Collections of a catalogue, and the place of each item with the collections above it.

    Every part of the catalogue is read once, even where links run in a circle; its links are
    followed again only where it turns out to lie below a further collection.
    """
    collections: set[str] = set()
    items: dict[str, tuple[str, ...]] = {}
    below: dict[str, set[str]] = {}
    parts = {root: data}
    waiting: list[tuple[str, tuple[str, ...]]] = [(root, ())]
    while waiting:
        place, above = waiting.pop()
        if place not in parts:
            try:
                parts[place] = read(place)
            except _Unreadable as reason:
                raise _gone(place, str(reason)) from None
        part = parts[place]
        name = str(part.get("id")) if _type(part) == "Collection" else ""
        if name:
            collections.add(name)
            above = (*(other for other in above if other != name), name)
        if place in below and below[place].issuperset(above):
            continue
        below.setdefault(place, set()).update(above)
        for item in _links(part, place, "item"):
            there = items.get(item, ())
            items[item] = (*there, *(name for name in above if name not in there))
        waiting += [(child, above) for child in reversed(_links(part, place, "child"))]
    return collections, items


def _type(data: dict[str, Any]) -> Any:
    """What something is; before STAC 1.0 catalogues and collections did not say it."""
    told = data.get("type")
    if told is None and "stac_version" in data and isinstance(data.get("links"), list):
        return "Collection" if {"extent", "license"} <= data.keys() else "Catalog"
    return told


def _linked(place: str, collection: str, spec: RunSpec, read: Read) -> Iterator[Json]:
    """The item at a place, or what stands for it."""
    try:
        item = read(place)
    except _Unreadable as reason:
        name = Path(urlsplit(place).path if "://" in place else place).stem
        reason_ = f"its file {public(place)} cannot be read: {reason}"
        yield {"id": name, "collection": collection, UNUSABLE: reason_}
        return
    yield from _checked(item, place, spec, collection=collection, own_place=True)


def _checked(
    item: Any,
    place: str,
    spec: RunSpec,
    *,
    collection: str = "",
    number: int = 0,
    own_place: bool = False,
) -> Iterator[Json]:
    """The item if it is of a wanted collection, its addresses absolute; or what stands for it."""
    if not isinstance(item, dict) or item.get("type", "Feature") != "Feature":
        name = name_of(item) if isinstance(item, dict) else f"number {number + 1}"
        yield {"id": name, "collection": collection, UNUSABLE: "it is not a STAC item"}
        return
    if not collection_of(item):
        if not collection:
            reason = "it does not say which collection it belongs to"
            yield {"id": name_of(item), "collection": "", UNUSABLE: reason}
            return
        item = {**item, "collection": collection}
    if collection_of(item) in spec.collections:
        base = place if own_place else _base(item, place)
        yield _absolute({k: v for k, v in item.items() if k != UNUSABLE}, base)


def _base(item: Json, place: str) -> str:
    """What relative addresses in an item of a collection of items are relative to.

    Its own address if it names one: items are often copied together from where they lay.
    """
    return next(iter(_links(item, place, "self")), place)


def _absolute(item: Json, base: str) -> Json:
    """The item, the hrefs of its assets no longer relative to where it lay."""
    assets = item.get("assets")
    if not isinstance(assets, dict):
        return item
    return {
        **item,
        "assets": {
            key: {**asset, "href": _joined(asset["href"], base)} if _addressed(asset) else asset
            for key, asset in assets.items()
            if isinstance(asset, dict)
        },
    }


def _addressed(asset: Json) -> bool:
    # Joined to the item's place, an address that is not there would become that place.
    return isinstance(asset.get("href"), str) and bool(asset["href"])


def _links(data: Json, place: str, rel: str) -> list[str]:
    links = data.get("links")
    return [
        _joined(link["href"], place)
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict)
        and link.get("rel") == rel
        and isinstance(link.get("href"), str)
        and link["href"]
    ]


def _joined(href: str, base: str) -> str:
    try:
        return str(make_absolute_href(href, base))
    except ValueError:
        return href  # No address at all: whoever opens it says so.


# ---------------------------------------------------------------------------------------- reading


def _read_root(read: Read, root: str) -> dict[str, Any]:
    try:
        return read(root)
    except _Unreadable as reason:
        raise _gone(root, str(reason)) from None


def _gone(place: str, reason: str) -> CatalogueError:
    return CatalogueError(
        explain(f"cannot read {public(place)}: {reason}", do="Check the catalogue's path.")
    )


def _read_file(path: str) -> dict[str, Any]:
    try:
        data = json.loads(Path(path).read_bytes())
    except OSError as err:
        raise _Unreadable(err.strerror or type(err).__name__) from None
    except (ValueError, RecursionError):
        raise _Unreadable("it is not JSON") from None
    if not isinstance(data, dict):
        raise _Unreadable("it is not STAC, which is a JSON object")
    return data


def _read_web(web: Web, address: str) -> dict[str, Any]:
    """A part of a static catalogue on a server.

    What will not come is unreadable. A server that fails is another matter: it would make a whole
    catalogue unreadable, and the next search finds it well again.
    """
    try:
        return web.get(address)
    except Refused as err:
        if err.status in {401, 403}:
            raise refusal(address, err) from None
        raise _Unreadable(err.said) from None
    except Unanswered as err:
        if err.status == 200:
            raise _Unreadable(err.said) from None
        raise silence(address, err) from None


def _path(address: str) -> str:
    """A path, from a path or an address of a file."""
    return unquote(urlsplit(address).path) if address.startswith("file:") else address


def _collections_there(spec: RunSpec, root: str, known: set[str]) -> None:
    missing = [name for name in spec.collections if name not in known]
    if missing:
        raise no_collection(root, missing, known)
