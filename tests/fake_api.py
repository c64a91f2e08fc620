"""A small STAC API in a thread of the test, right by construction, and as odd as it is told to be.

It tests each item against each query by brute force. ``requests`` releases the interpreter's lock
while it waits, so that a thread is enough (GDAL does not: see ``cdscale.testing.FaultServer``).
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import shapely
from shapely.geometry import shape

SEARCH = "https://api.stacspec.org/v1.0.0/item-search"
FEATURES = "https://api.stacspec.org/v1.0.0/ogcapi-features"


@dataclass
class FakeApi:
    """What the API has and how it behaves; tests change it while it runs."""

    items: list[dict[str, Any]] = field(default_factory=list)
    collections: tuple[str, ...] = ()
    conforms: tuple[str, ...] = (SEARCH, FEATURES)
    methods: tuple[str, ...] = ("POST", "GET")
    """Of the links to its search."""
    answers_post: bool = True
    polygons: bool = True
    largest_area: float = 1e9
    """Square degrees of a query."""
    largest_page: int = 10_000
    deepest: int = 10**9
    """Items into an answer where paging is refused."""
    deep_status: int = 400
    """0: the answer ends there as if there were no more."""
    tells: str = "numberMatched"
    """Where it says how many items match; empty: nowhere."""
    miscounts: int = 0
    next_by: str = "merge"
    """How a POST's next link says what to ask for: ``merge``, ``body``, or ``get``."""
    circle: str = ""
    """``link``: the second page leads to itself. ``pages``: ever new links, the same first page.
    ``empty``: ever new links to empty pages, after all items."""
    gaps: bool = False
    """Whether empty pages lie between the others."""
    by_moment: bool = False
    """Whether it searches by ``datetime`` alone, not by start and end."""
    shifts: bool = False
    """Whether pages after the first begin one item too early, as where one was added meanwhile."""
    lists: bool = True
    """Whether it has ``/collections``."""
    key: str = ""
    """What ``key=`` in the query has to be."""
    faults: list[Any] = field(default_factory=list)
    """For each of the next requests: None, a status, a pair of status and Retry-After, ``html``,
    ``cut``, ``short``, ``drop``, ``stall``, or the address that a redirect leads to."""
    static: dict[str, Any] = field(default_factory=dict)
    """Path to JSON that is served as it is."""
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    """Method, path and query or body of each request."""
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def searches(self) -> list[dict[str, Any]]:
        """Queries and bodies of what was asked of the search or the items of a collection."""
        return [said for _, path, said in self.asked if path.endswith(("/search", "/items"))]

    # ------------------------------------------------------------------------------------ answers

    def answer(self, method: str, path: str, said: dict[str, Any]) -> tuple[int, Any]:
        if path in self.static:
            return 200, self.static[path]
        if self.key and said.pop("key", "") != self.key:
            return 403, {"description": f"not the key: {said}"}
        if path in {"", "/"}:
            return 200, self.landing()
        if path == "/collections" and self.lists:
            return 200, {"collections": [{"id": name} for name in self.collections], "links": []}
        kind, _, name = path.strip("/").partition("/")
        if kind == "collections" and name in self.collections and self.lists:
            return 200, {"type": "Collection", "id": name}
        if path == "/search" and SEARCH in self.conforms:
            if method == "POST" and not self.answers_post:
                return 405, {"description": "GET only"}
            return self.page(method, path, said)
        if kind == "collections" and name.endswith("/items"):
            return self.page(method, path, {**said, "collections": [name.removesuffix("/items")]})
        return 404, {"description": "no such page"}

    def landing(self) -> dict[str, Any]:
        links = [
            {"rel": "search", "href": f"{self.url}/search", "method": method,
             "type": "application/geo+json"}
            for method in self.methods if SEARCH in self.conforms
        ]  # fmt: skip
        links.append({"rel": "data", "href": f"{self.url}/collections"})
        return {
            "type": "Catalog", "id": "fake", "stac_version": "1.0.0", "description": "fake",
            "conformsTo": list(self.conforms), "links": links,
        }  # fmt: skip

    def page(self, method: str, path: str, said: dict[str, Any]) -> tuple[int, Any]:
        if "intersects" in said and not self.polygons:
            return 400, {"description": "unknown parameter intersects"}
        area = area_of(said)
        if area.area > self.largest_area:
            return 400, {"description": "the area is too large"}
        token = str(said.get("token", 0))
        start, size = int(token.rstrip("g")), min(int(said["limit"]), self.largest_page)
        found = [item for item in self.items if meets(item, said, area, self.by_moment)]
        count = len(found) + self.miscounts
        if start >= self.deepest:
            if self.deep_status:
                return self.deep_status, {"description": "result window is too large"}
            found = found[:start]
        first = start - 1 if self.shifts and start else start
        features = found[first : first + size]
        follows: Any = start + size
        more = follows < len(found)
        if self.gaps and start and not token.endswith("g"):
            features, follows, more = [], f"{start}g", True
        if self.circle == "link" and start:
            follows, more = start, True
        if self.circle == "pages":
            features, more = found[:size], bool(found)
        if self.circle == "empty":
            more = True
        page: dict[str, Any] = {"type": "FeatureCollection", "features": features, "links": []}
        if more:
            page["links"] = [self.link(method, path, said, follows)]
        if self.tells == "context":
            page["context"] = {"matched": count, "returned": len(features)}
        elif self.tells:
            page[self.tells] = count
        return 200, page

    def link(self, method: str, path: str, said: dict[str, Any], token: Any) -> dict[str, Any]:
        here = f"{self.url}{path}"
        body = {**said, "token": token}
        if method == "POST" and self.next_by == "merge":
            return {"rel": "next", "href": here, "method": "POST", "merge": True,
                    "body": {"token": token}}  # fmt: skip
        if method == "POST" and self.next_by == "body":
            return {"rel": "next", "href": here, "method": "POST", "body": body}
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in body.items()}
        return {"rel": "next", "href": f"{path}?{urlencode(texts)}"}


def area_of(said: dict[str, Any]) -> Any:
    if "intersects" in said:
        return shape(said["intersects"])
    return shapely.box(*said["bbox"])


def meets(item: Any, said: dict[str, Any], area: Any, by_moment: bool = False) -> bool:
    """Whether an item meets a query, by STAC's rules; what is no item meets all."""
    if not isinstance(item, dict) or "geometry" not in item:
        return True
    times = item["properties"]
    first, last = (
        datetime.fromisoformat((None if by_moment else times.get(name)) or times["datetime"])
        for name in ("start_datetime", "end_datetime")
    )
    start, stop = (datetime.fromisoformat(text) for text in said["datetime"].split("/"))
    return (
        item.get("collection") in {None, *said["collections"]}
        and first <= stop
        and last >= start
        and area.intersects(shape(item["geometry"]))
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    api: FakeApi

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        said: dict[str, Any] = {k: v[0] for k, v in parse_qs(parts.query).items()}
        for name in ("intersects", "bbox", "collections"):
            if name in said and said[name][:1] in "[{":
                said[name] = json.loads(said[name])
        if isinstance(said.get("bbox"), str):
            said["bbox"] = [float(v) for v in said["bbox"].split(",")]
        if isinstance(said.get("collections"), str):
            said["collections"] = said["collections"].split(",")
        self._serve("GET", parts.path, said)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        self._serve("POST", parts.path, {**body, **query})

    def _serve(self, method: str, path: str, said: dict[str, Any]) -> None:
        api = self.api
        api.asked.append((method, path, dict(said)))
        api.headers.append(dict(self.headers))
        fault = api.faults.pop(0) if api.faults else None
        if fault in {"drop", "stall"}:
            time.sleep(0.3 if fault == "stall" else 0)
            self.close_connection = True
            return
        headers: dict[str, str] = {}
        if isinstance(fault, int):
            status, body = fault, b"<html>failing</html>"
        elif isinstance(fault, tuple):
            status, body, headers = fault[0], b"{}", {"Retry-After": fault[1]}
        elif fault == "html":
            status, body = 200, b"<html>down for maintenance</html>"
        elif isinstance(fault, str) and fault.startswith("http"):
            status, body, headers = 302, b"", {"Location": fault}
        else:
            status, data = api.answer(method, path, said)
            body = data if isinstance(data, bytes) else json.dumps(data).encode()
            body = body[: len(body) // 2] if fault == "cut" else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "short":
            body, self.close_connection = body[: len(body) // 2], True
        self.wfile.write(body)


@contextlib.contextmanager
def serving(api: FakeApi) -> Iterator[FakeApi]:
    """The API on a free port of this machine, until the end of the block."""
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
