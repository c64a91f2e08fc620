"""One search of a STAC API: asked in pieces where it must be, with nothing lost between them.

A query covers a time and an area. Where the catalogue has more for it than one query may return,
will not page so deep, or answers wrongly, the query is cut: its time in halves down to a month,
then its area in quarters, then the month in halves. Pieces overlap in what they return, and an
item is taken once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urljoin

from pystac_client import ItemSearch
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from cdscale.months import Months
from cdscale.scenes.answers import (
    Cut,
    circle,
    conforms,
    links,
    matched,
    no_collection,
    objects,
    pages,
    refusal,
    silence,
)
from cdscale.scenes.areas import boxes_of, in_world, quarters, simple
from cdscale.scenes.web import Refused, Unanswered, Web
from cdscale.spec.run import RunSpec

VERTICES = {"POST": 200, "GET": 50}
"""Of a polygon in a search, at most: APIs refuse long ones, and addresses have an end."""
MOST_BOXES = 16
"""Parts of an area that are asked for by a box each, where polygons are not understood."""
EDGE = timedelta(minutes=1)
"""Added at both ends of the time asked for. A scene belongs to every month that it reaches into,
but several catalogues search by one moment of it, which may lie in the next month."""
MONTH, SHORTEST = timedelta(days=31), timedelta(days=1)
"""Times below which a query is cut in its area, and not cut further."""
BARREN_PAGES = 5
"""Pages in a row with nothing new after which no further one is asked for."""
SLOW_CUTS = 3
"""Times in a row that a query is cut because the catalogue is too slow for it."""

_TOO_LARGE = re.compile(r"too (large|big|many|long|deep|complex)|exceed|area|extent|window", re.I)
_POLYGON_STATUSES = {400, 413, 414, 422, 501}
_METHOD_STATUSES = {301, 302, 303, 307, 308, 405, 501}


@dataclass(frozen=True)
class _Query:
    """What is asked for: a time, and an area in degrees."""

    start: datetime
    stop: datetime
    area: BaseGeometry

    def parts(self) -> tuple[_Query, ...]:
        """The same in pieces; none where it cannot be cut."""
        span = self.stop - self.start
        areas = () if span > MONTH else quarters(self.area)
        if areas:
            return tuple(_Query(self.start, self.stop, area) for area in areas)
        if span <= SHORTEST:
            return ()
        middle = self.start + span / 2
        return _Query(self.start, middle, self.area), _Query(middle, self.stop, self.area)

    @property
    def time(self) -> tuple[datetime, datetime]:
        return self.start - EDGE, self.stop + EDGE


def is_api(landing: dict[str, Any]) -> bool:
    """Whether what stands at a catalogue's address is a STAC API."""
    return landing.get("type") in {"Catalog", None} and bool(
        links(landing, "search") or conforms(landing, "item-search", "ogcapi-features")
    )


class ApiSearch:
    """A STAC API, and what has been found in it.

    Parameters
    ----------
    web : Web
        What it is asked through.
    landing : dict
        The landing page.
    spec : RunSpec
        What is searched for.
    """

    def __init__(self, web: Web, landing: dict[str, Any], spec: RunSpec) -> None:
        self._web, self._spec = web, spec
        base = web.name if web.name.endswith("/") else web.name + "/"
        search = links(landing, "search")
        data = links(landing, "data")
        self._collections = urljoin(base, data[0]["href"] if data else "collections")
        self._search = ""
        """Address for searches; without one, the items of each collection are asked for."""
        self._method = "GET"
        if search or conforms(landing, "item-search"):
            post = [link for link in search if str(link.get("method", "")).upper() == "POST"]
            chosen = (post or search or [{"href": "search"}])[0]
            self._search = urljoin(base, chosen["href"])
            self._method = "POST" if post else "GET"
        self._polygons = bool(self._search)
        self._seen: set[tuple[str, str]] = set()
        self._most = 0
        """Items that one query has given so far, at most."""
        self._miscounts = False
        """Whether it says that there is more where next to nothing can be: its counts are wrong."""

    # ------------------------------------------------------------------------------ what there is

    def check_collections(self) -> None:
        """Refuse collections that the catalogue does not have, as far as it tells.

        Raises
        ------
        CatalogueError
            Naming those that are missing and those that there are.
        """
        missing = [name for name in self._spec.collections if not self._has(name)]
        if not missing:
            return
        try:
            listed = list(pages(self._web, self._collections))
        except (Refused, Unanswered, Cut):
            return  # It does not list collections: the search will tell.
        known = {str(c.get("id")) for page in listed for c in objects(page.get("collections"))}
        missing = [name for name in missing if name not in known]
        if missing:
            raise no_collection(self._web.name, missing, known)

    def _has(self, name: str) -> bool:
        try:
            self._web.get(f"{self._collections.rstrip('/')}/{quote(name, safe='')}")
        except Refused as err:
            if err.status not in {400, 404, 405, 410, 422, 501}:
                raise
            return False
        return True

    # ---------------------------------------------------------------------------------- searching

    def items(self, footprint: BaseGeometry) -> Iterator[Any]:
        """Every item of the spec's collections that meets an area in degrees, once.

        Raises
        ------
        Refused, Unanswered
            When the catalogue does not serve.
        CatalogueError
            When it cannot be searched through, or the budget of requests is spent.
        """
        for months in runs(self._spec.drawn_on):
            for area in in_world(footprint):
                whole = _Query(months.first.start, months.last.stop, area)
                yield from self._visit(whole)

    def _visit(self, query: _Query, *, slow: int = 0) -> Iterator[Any]:
        """New items of a query, cut as often as it takes."""
        try:
            yield from self._answers(query)
            return
        except Cut as cut:
            parts = query.parts()
            self._miscounts = self._miscounts or (cut.why == "doubt" and not parts)
            if cut.error and (not parts or slow >= SLOW_CUTS):
                raise cut.error from None
            slow = slow + 1 if cut.why == "slow" else 0
        for part in parts:
            yield from self._visit(part, slow=slow)

    def _answers(self, query: _Query) -> Iterator[Any]:
        """New items of one query.

        Raises
        ------
        Cut
            When it returns too much, or goes wrong in a way that less might not.
        """
        polygons, method = self._polygons, self._method
        for search in self._searches(query):
            try:
                yield from self._follow(search, whole=not query.parts())
            except Refused as err:
                # Some know no polygons, or no POST: what they refuse at the door is asked again
                # in the simpler way, now and from here on.
                if method == "POST" and err.status in _METHOD_STATUSES:
                    self._method = "GET"
                elif polygons and err.status in _POLYGON_STATUSES:
                    self._polygons = False
                elif err.status in {400, 413, 414, 422} and _TOO_LARGE.search(err.said):
                    raise Cut("large", refusal(self._web.name, err)) from None
                else:
                    raise
                yield from self._answers(query)
                return
            except Unanswered as err:
                if not err.slow:
                    raise
                raise Cut("slow", silence(self._web.name, err)) from None

    def _searches(self, query: _Query) -> Iterator[ItemSearch]:
        limit = self._spec.search.page
        if self._polygons:
            area = simple(query.area, VERTICES[self._method])
            yield ItemSearch(
                self._search,
                method=self._method,
                stac_io=self._web,
                limit=limit,
                collections=list(self._spec.collections),
                intersects=dict(mapping(area)),
                datetime=query.time,
            )
            return
        for box in boxes_of(query.area, MOST_BOXES):
            for address, method, collections in self._places():
                yield ItemSearch(
                    address,
                    method=method,
                    stac_io=self._web,
                    limit=limit,
                    collections=collections,
                    bbox=list(box.bounds),
                    datetime=query.time,
                )

    def _places(self) -> Iterator[tuple[str, str, list[str] | None]]:
        """Where to ask with a box: address, method, collections."""
        names = list(self._spec.collections)
        if self._search:
            yield self._search, self._method, names
            return
        for name in names:
            yield f"{self._collections.rstrip('/')}/{quote(name, safe='')}/items", "GET", None

    def _follow(self, search: ItemSearch, *, whole: bool) -> Iterator[Any]:
        """New items of one search, page by page.

        ``whole`` says that it cannot be cut, so that it is followed however long it is.
        """
        answer = _Answer()
        asked = search.get_parameters()
        for page in pages(self._web, search.url, search.method or "GET", asked):
            features = page.get("features")
            if not isinstance(features, list):
                raise Refused(HTTPStatus.OK, "JSON that is no page of items")
            keys = [_key(item) for item in features]
            answer.add(keys, matched(page))
            for key, item in zip(keys, features, strict=True):
                if key not in self._seen:
                    self._seen.add(key)
                    yield item
            told = 0 if self._miscounts else answer.told or 0
            many = max(told, len(answer.keys)) > self._spec.search.items
            if many and links(page, "next") and not whole:
                raise Cut("many")
            if answer.barren >= BARREN_PAGES:
                break
        if answer.whole:
            return
        if answer.barren >= BARREN_PAGES and answer.repeats:
            raise Cut("broken", circle(self._web.name))
        # Fewer than it should be: a limit on what one query gives, or a wrong count. Where another
        # query gave more, it is no limit. Pages that came twice may stand where others should.
        most, self._most = self._most, max(self._most, len(answer.keys))
        if answer.repeats or (len(answer.keys) >= most and not self._miscounts):
            raise Cut("doubt")


@dataclass
class _Answer:
    """What the pages of one answer have held so far."""

    keys: set[tuple[str, str]] = field(default_factory=set)
    told: int | None = None
    """How many the catalogue says there are."""
    barren: int = 0
    """Pages without anything new since the last one with something."""
    repeats: bool = False
    """Whether a page held what an earlier one had."""

    def add(self, keys: list[tuple[str, str]], told: int | None) -> None:
        self.told = told if self.told is None else self.told
        self.repeats = self.repeats or not self.keys.isdisjoint(keys)
        self.barren = 0 if set(keys) - self.keys else self.barren + 1
        self.keys.update(keys)

    @property
    def whole(self) -> bool:
        """Whether nothing speaks against it that all has come."""
        return not self.repeats if self.told is None else len(self.keys) >= self.told


def _key(item: Any) -> tuple[str, str]:
    """What an item is known by; its whole text where it has no name."""
    fields = item if isinstance(item, dict) else {}
    name, collection = fields.get("id"), fields.get("collection")
    try:
        return (str(collection), str(name)) if name else ("", json.dumps(item, sort_keys=True))
    except RecursionError:
        return "", "nested too deeply"


def runs(months: Months) -> tuple[Months, ...]:
    """Months in groups that follow on each other."""
    return tuple(Months.parse(part) for part in str(months).split(","))
