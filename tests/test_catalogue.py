"""Finding items: every kind of API and catalogue, and what goes wrong with them on the way."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import shapely
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from shapely.geometry import mapping, shape

from cdscale.errors import CatalogueError
from cdscale.months import Months
from cdscale.scenes import areas, search, web
from cdscale.scenes.catalogue import UNUSABLE, api_items, static_items
from cdscale.spec.run import RunSpec, SearchLimits, read_area
from tests.fake_api import FEATURES, SEARCH, FakeApi, serving

ONE, TWO = "sentinel-2-l2a", "sentinel-1-rtc"
PROFILES = {
    ONE: "planetary-computer-sentinel-2-l2a",
    TWO: "planetary-computer-sentinel-1-rtc",
}
AREA = shapely.box(2, 48, 6, 51)


def item(name: str, place: Any, start: datetime, **fields: Any) -> dict[str, Any]:
    hours = fields.pop("hours", 0)
    times: dict[str, str | None] = {"datetime": start.isoformat()}
    if hours:
        end = start + timedelta(hours=hours)
        times = {"datetime": None, "start_datetime": times["datetime"],
                 "end_datetime": end.isoformat()}  # fmt: skip
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "collection": ONE,
        "geometry": mapping(place), "properties": times, "assets": {}, **fields,
    }  # fmt: skip


def many(count: int, months: str = "2020-01..2020-06") -> list[dict[str, Any]]:
    """Items spread over the area and the months."""
    members = Months.parse(months).members
    items = []
    for i in range(count):
        west, south = 2 + i * 7 % 37 / 10, 48 + i * 5 % 29 / 10
        start = members[i % len(members)].start + timedelta(hours=i % 600)
        items.append(item(f"i{i}", shapely.box(west, south, west + 0.5, south + 0.5), start))
    return items


def spec_of(catalogue: str | Path, **changes: Any) -> RunSpec:
    spec = {
        "name": "test",
        "catalogue": str(catalogue),
        "collections": {ONE: PROFILES[ONE]},
        "area": read_area([2, 48, 6, 51], Path()),
        "period": "2020-01..2020-06",
        "output": "nowhere",
        **changes,
    }
    return RunSpec.check(spec, where="test")


def found(api: FakeApi, area: Any = AREA, **changes: Any) -> list[str]:
    items = api_items(spec_of(changes.pop("url", api.url), **changes), area)
    return [str(one["id"]) for one in items]


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with serving(FakeApi(items=many(60), collections=(ONE, TWO))) as running:
        yield running


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would have been waited for before retries."""
    waited: list[float] = []
    monkeypatch.setattr(web, "pause", waited.append)
    return waited


ALL = sorted(f"i{i}" for i in range(60))

# ------------------------------------------------------------------------ nothing is lost, whatever


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[dict[str, Any]], Any]:
    """Items and an area, anywhere; some of both on the antimeridian."""
    middle = draw(st.sampled_from([-180.0, 0.0, 10.0, 179.0, 180.0]))
    degrees = st.floats(0.01, 3).map(lambda v: round(v, 3))

    def box() -> Any:
        west = middle + draw(st.floats(-3, 3).map(lambda v: round(v, 2)))
        south = draw(st.floats(-4, 4).map(lambda v: round(v, 2)))
        return shapely.box(west, south, west + draw(degrees), south + draw(degrees))

    items = []
    for number in range(draw(st.integers(0, 12))):
        start = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(
            hours=draw(st.integers(-100, 24 * 200))
        )
        place = shapely.MultiPolygon(wrapped(box()))
        hours = draw(st.sampled_from([0, 0, 1, 1000]))
        items.append(item(f"i{number}", place, start, hours=hours))
    outline = shapely.union_all([box() for _ in range(draw(st.integers(1, 3)))])
    return items, shapely.MultiPolygon(wrapped(outline))


def wrapped(place: Any) -> list[Any]:
    """Polygons of a place that may reach over the antimeridian, each on its own side."""
    sides = [shapely.box(west, -90, west + 360, 90) for west in (-540, -180, 180)]
    parts = []
    for side, shift in zip(sides, (360, 0, -360), strict=True):
        part = shapely.affinity.translate(place.intersection(side), xoff=shift)
        parts += [p for p in shapely.get_parts(part) if p.geom_type == "Polygon" and p.area > 1e-9]
    return parts


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    world=worlds(),
    period=st.sampled_from(["2020-02", "2020-01..2020-06", "2020-01..2020-03,2020-05,2020-06"]),
    limits=st.builds(SearchLimits, page=st.integers(1, 5), items=st.integers(1, 6)),
    odd=st.fixed_dictionaries({
        "tells": st.sampled_from(["numberMatched", "context", "numMatched", ""]),
        "miscounts": st.sampled_from([0, 0, 3, -2]),
        "polygons": st.booleans(),
        "conforms": st.sampled_from([(SEARCH,), (FEATURES,), (SEARCH, FEATURES)]),
        "methods": st.sampled_from([("GET",), ("POST",), ("GET", "POST")]),
        "answers_post": st.booleans(),
        "largest_page": st.integers(1, 6),
        "deepest": st.sampled_from([3, 4, 10**9]),
        "deep_status": st.sampled_from([400, 404, 0]),
        "largest_area": st.sampled_from([1.0, 1e9]),
        "next_by": st.sampled_from(["merge", "body", "get"]),
        "gaps": st.booleans(),
    }),
)  # fmt: skip
def test_every_item_of_the_area_and_time_comes_once(
    world: tuple[list[dict[str, Any]], Any], period: str, limits: SearchLimits, odd: dict[str, Any]
) -> None:
    """Whatever the API can and cannot do; expected by brute force over the items."""
    items, area = world
    crowded = max_in_one_place(items, area, period)
    if crowded > 2:
        odd = {**odd, "deepest": 10**9}  # what lies in one place and month cannot be cut apart
    # Nor are limits below what lies there sensible: each piece would be cut to the last.
    limits = limits.model_copy(update={"items": max(limits.items, crowded)})
    if odd["miscounts"] or not odd["tells"]:
        odd = {**odd, "deep_status": 400}  # an end that nothing tells from the true one
    with serving(FakeApi(items=items, collections=(ONE,), **odd)) as running:
        got = found(running, area, period=period, search=limits.model_dump())
        assert len(got) == len(set(got))
        assert expected(items, area, period) <= set(got)
        assert len(running.asked) <= limits.requests


def expected(items: list[dict[str, Any]], area: Any, period: str) -> set[str]:
    months = Months.parse(period)
    return {
        one["id"]
        for one in items
        if area.intersects(shape(one["geometry"]))
        and any(month.overlaps(*times(one)) for month in months)
    }


def times(one: dict[str, Any]) -> tuple[datetime, datetime]:
    said = one["properties"]
    start = datetime.fromisoformat(said.get("start_datetime") or said["datetime"])
    return start, datetime.fromisoformat(said.get("end_datetime") or said["datetime"])


def max_in_one_place(items: list[dict[str, Any]], area: Any, period: str) -> int:
    """A bound on the items of one month."""
    return max(len(expected(items, area, str(month))) for month in Months.parse(period))


def test_a_search_asks_once_for_each_run_of_months(api: FakeApi) -> None:
    assert sorted(found(api, period="2020-01..2020-02,2020-05")) == sorted(
        one["id"] for one in api.items if times(one)[0].month in {1, 2, 5}
    )
    assert [said["datetime"] for said in api.searches] == [
        "2019-12-31T23:59:00Z/2020-03-01T00:01:00Z",
        "2020-04-30T23:59:00Z/2020-06-01T00:01:00Z",
    ]
    first = api.searches[0]
    assert (first["collections"], first["limit"]) == ([ONE], 250)
    asked = shape(first["intersects"])
    assert asked.covers(AREA)
    assert asked.area < AREA.area * 1.001
    # The landing page, the collection, and the two searches.
    assert [path for _, path, _ in api.asked] == ["/", f"/collections/{ONE}", "/search", "/search"]


def test_a_search_asks_for_what_the_windows_reach(api: FakeApi) -> None:
    got = found(api, period="2020-03,2020-06", cube={"window_months": 2})
    assert sorted(got) == sorted(
        one["id"] for one in api.items if times(one)[0].month in {2, 3, 5, 6}
    )
    assert len(api.searches) == 2


def test_a_scene_over_midnight_is_found_in_both_months(api: FakeApi) -> None:
    """Also where the catalogue goes by one moment of it."""
    span = {
        "datetime": "2020-03-01T00:00:05+00:00",
        "start_datetime": "2020-02-29T23:59:50+00:00",
        "end_datetime": "2020-03-01T00:00:20+00:00",
    }
    api.items = [item("late", AREA, datetime(2020, 3, 1, tzinfo=UTC), properties=span)]
    for api.by_moment in (False, True):
        assert found(api, period="2020-02") == found(api, period="2020-03") == ["late"]


def test_a_query_for_more_than_is_allowed_is_cut_in_time_and_then_in_space(api: FakeApi) -> None:
    assert sorted(found(api, search={"items": 12, "page": 11})) == ALL
    spans = [
        round((datetime.fromisoformat(b) - datetime.fromisoformat(a)) / timedelta(days=1))
        for a, b in (said["datetime"].split("/") for said in api.searches)
    ]
    assert spans[0] == 182
    assert set(spans) == {182, 91, 46, 23}
    assert len({str(said["intersects"]) for said in api.searches}) == 1
    api.asked.clear()
    assert len(found(api, search={"items": 4, "page": 3}, period="2020-03")) == 10
    areas_asked = [shape(said["intersects"]).area for said in api.searches]
    assert max(areas_asked) / min(areas_asked) > 3


@pytest.mark.parametrize("status", [400, 404, 500, 0])
def test_a_catalogue_that_will_not_page_deep_is_asked_in_pieces(api: FakeApi, status: int) -> None:
    """0: it says nothing, and ends before all that it counted has come."""
    api.deepest, api.deep_status = 20, status
    assert sorted(found(api, search={"page": 10})) == ALL


def test_a_silent_end_is_noticed_wherever_the_items_lie(api: FakeApi) -> None:
    """Half a query may bring nothing new, and yet there is more."""
    api.items = sorted(api.items, key=lambda one: times(one)[0])
    api.deepest, api.deep_status = 20, 0
    assert sorted(found(api, search={"page": 10}, period="2020-01..2021-12")) == ALL


def test_pages_that_shift_while_they_are_read_lose_nothing(api: FakeApi) -> None:
    """An item that slips from one page to the next is seen twice, and another one never."""
    for tells in ("numberMatched", ""):
        api.shifts, api.tells = True, tells
        assert sorted(found(api, search={"page": 10})) == ALL


def test_too_large_an_area_is_asked_in_pieces(api: FakeApi) -> None:
    api.largest_area = 1.5
    assert sorted(found(api)) == ALL


@pytest.mark.parametrize("wrong", [7, -7])
def test_a_wrong_count_costs_little_and_loses_nothing(api: FakeApi, wrong: int) -> None:
    api.miscounts = wrong
    assert sorted(found(api)) == ALL
    assert len(api.searches) <= 3


def test_an_area_across_the_antimeridian_is_asked_for_on_each_side(api: FakeApi) -> None:
    spots = {
        "west": shapely.box(179.2, -17, 179.3, -16),
        "east": shapely.box(-179.3, -17, -179, -16),
        "far": shapely.box(0, -17, 1, -16),
    }
    api.items = [item(n, b, datetime(2020, 2, 2, tzinfo=UTC)) for n, b in spots.items()]
    split = shapely.MultiPolygon([
        shapely.box(178.5, -18, 180, -15), shapely.box(-180, -18, -178.5, -15)
    ])  # fmt: skip
    for area in (split, shapely.box(178.5, -18, 181.5, -15), shapely.box(-181.5, -18, -178.5, -15)):
        for polygons in (True, False):
            api.polygons = polygons
            assert sorted(found(api, area)) == ["east", "west"]
    for said in api.searches:
        west, _, east, _ = (
            shape(said["intersects"]).bounds if "intersects" in said else said["bbox"]
        )
        assert east - west < 2


# ------------------------------------------------------------------------------------------ areas

POINTS = st.lists(
    st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=3, max_size=60, unique=True
)


@given(POINTS, st.integers(5, 60))
def test_a_simple_area_covers_the_area(points: list[tuple[float, float]], vertices: int) -> None:
    area = shapely.union_all([shapely.Point(p).buffer(0.3) for p in points])
    got = areas.simple(area, vertices)
    assert got.is_valid
    assert shapely.get_num_coordinates(got) <= vertices
    assert got.covers(area)


def test_a_simple_area_is_not_much_larger_than_the_area() -> None:
    """A long country from corner to corner is not asked for as its bounding box."""
    line = shapely.LineString([(0, 0), (3, 5), (4, 9), (12, 14)]).buffer(0.2)
    coast = line.union(
        shapely.union_all([shapely.Point(i / 50, i / 70) for i in range(400)]).buffer(0.05)
    )
    assert shapely.get_num_coordinates(coast) > 200
    assert areas.simple(coast, 200).area < 1.3 * coast.area
    assert areas.simple(coast, 50).area < 2 * coast.area


@given(POINTS)
def test_quarters_cover_the_area(points: list[tuple[float, float]]) -> None:
    area = shapely.union_all([shapely.Point(p).buffer(0.3) for p in points])
    got = areas.quarters(area)
    assert 2 <= len(got) <= 4
    assert shapely.union_all(got).buffer(areas.MARGIN).covers(area)
    assert all(part.area < area.area for part in got)


def test_a_small_area_is_not_cut() -> None:
    assert areas.quarters(shapely.box(2, 50, 2.05, 50.05)) == ()


# ---------------------------------------------------------------------------------------- retries

FAULTS = [408, 429, 500, 502, 503, 504, "html", "cut", "short", "drop", (429, "3"), (503, "0.5"),
          (429, "no number")]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("request_number", [0, 1, 2, 4])
def test_what_passes_is_tried_again(
    api: FakeApi, fault: Any, request_number: int, pauses: list[float]
) -> None:
    """On the landing page, a collection, the first and the third page of items."""
    api.faults = [None] * request_number + [fault] * 3
    assert sorted(found(api, search={"page": 20})) == ALL
    assert len(api.asked) == 2 + 3 + 3
    assert len(pauses) == 3
    wish = float(fault[1]) if isinstance(fault, tuple) and fault[1][0].isdigit() else 0
    for number, pause in enumerate(pauses):
        assert wish <= pause <= wish + web.FIRST_PAUSE * 2**number


def test_a_retry_after_may_be_a_date_and_is_not_heeded_for_ever(
    api: FakeApi, pauses: list[float]
) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    api.faults = [(429, soon), (429, past), (429, "86400"), (503, "9" * 400)]
    assert sorted(found(api)) == ALL
    assert 25 < pauses[0] < 32
    assert pauses[1] <= 2
    assert all(web.LONGEST_WISH <= pause < web.LONGEST_WISH + 9 for pause in pauses[2:])


def test_pauses_are_drawn_from_a_range_that_doubles(
    monkeypatch: pytest.MonkeyPatch, api: FakeApi
) -> None:
    ranges: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        ranges.append((low, high))
        return low

    monkeypatch.setattr(random, "uniform", draw)
    api.faults = [503] * 8
    found(api, search={"tries": 9})
    assert ranges == [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (0, 32), (0, 60), (0, 60)]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (503, "status 503"),
        ("html", "an HTML page with status 200"),
        ("cut", "no JSON with status 200"),
        ("short", "an answer that ends early"),
        ("drop", "no connection"),
        ((429, "1"), "status 429"),
    ],
)
def test_after_the_last_try_the_error_says_what_came(api: FakeApi, fault: Any, said: str) -> None:
    api.faults = [None, None, *[fault] * 20]
    with pytest.raises(CatalogueError, match=f"does not answer as a STAC API; got {said}"):
        found(api, search={"tries": 4})
    assert len(api.asked) == 2 + 4


def test_a_slow_search_is_asked_in_pieces(api: FakeApi) -> None:
    api.faults = [None, None, *[504] * 4]
    assert sorted(found(api, search={"tries": 2})) == ALL
    api.asked.clear()
    api.faults = [None, None, *[504] * 100]
    with pytest.raises(CatalogueError, match="status 504"):
        found(api, search={"tries": 2})
    assert len(api.asked) <= 2 + 2 * 4


@pytest.mark.parametrize(("name", "value"), [("TIMEOUT", (1, 0.1)), ("LONGEST_ANSWER", -1.0)])
def test_an_answer_that_does_not_come_in_time_is_tried_again(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    monkeypatch.setattr(web, name, value)
    api.faults = [None, None, *["stall"] * 100] if name == "TIMEOUT" else []
    with pytest.raises(CatalogueError, match="no answer in time|does not end"):
        found(api, search={"tries": 2})
    if name == "TIMEOUT":
        api.faults = ["stall", None, None]
        assert sorted(found(api)) == ALL


def test_an_answer_without_measure_is_not_read(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "LARGEST_ANSWER", 5000)
    with pytest.raises(CatalogueError, match="more than 5000 bytes"):
        found(api)


def test_nobody_there_is_a_plain_error() -> None:
    with pytest.raises(CatalogueError, match="127.0.0.1:9/stac does not answer.*no connection"):
        found(FakeApi(), url="http://127.0.0.1:9/stac")


# ------------------------------------------------------------------------------------- the budget


@pytest.mark.parametrize("budget", range(1, 9))
def test_the_budget_is_a_hard_stop(api: FakeApi, budget: int) -> None:
    api.faults = [None, 503, "drop", "html"]
    said = rf"stopped after {budget} requests.*at most {budget} \(search.requests"
    with pytest.raises(CatalogueError, match=said):
        found(api, search={"requests": budget, "page": 5})
    assert len(api.asked) == budget


def test_redirects_are_requests_too(api: FakeApi) -> None:
    api.faults = [f"{api.url}/", f"{api.url}/"]
    with pytest.raises(CatalogueError, match="stopped after 2 requests"):
        found(api, search={"requests": 2})
    assert len(api.asked) == 2
    api.faults = [f"{api.url}/"] * 50
    with pytest.raises(CatalogueError, match="cannot be asked .TooManyRedirects"):
        found(api)


def test_a_redirected_search_keeps_what_it_asks_for(api: FakeApi) -> None:
    """A POST that is followed as a GET without a body would return every item there is."""
    api.items += many(5, "1999-01")
    api.faults = [None, None, f"{api.url}/elsewhere"]
    assert sorted(found(api)) == ALL
    assert [method for method, path, _ in api.asked if path == "/search"] == ["POST", "GET"]


# -------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "does not answer as a STAC API; got status 400"),
        (401, "needs credentials.*netrc"),
        (403, "needs credentials.*netrc"),
        (404, "does not answer as a STAC API; got status 404.*Check the address"),
        (410, "status 410"),
        (501, "status 501"),
    ],
)
def test_what_will_not_change_is_not_tried_again(
    api: FakeApi, status: int, said: str, pauses: list[float]
) -> None:
    api.faults = [status]
    with pytest.raises(CatalogueError, match=said):
        found(api)
    assert len(api.asked) == 1
    api.asked.clear()
    api.faults = [None, None, *[status] * 3]
    with pytest.raises(CatalogueError, match=said):
        found(api)
    assert len(api.asked) <= 2 + 3  # by POST, by box, and by GET at most
    assert pauses == []


@pytest.mark.parametrize("answer", [[], 5, {}, {"type": "Feature"}, {"code": "busy"}])
def test_an_address_of_something_else_is_said_to_be_so(api: FakeApi, answer: Any) -> None:
    api.static["/"] = answer
    with pytest.raises(CatalogueError, match="not a STAC catalogue|not answer as a STAC API"):
        found(api)


def test_numbers_that_json_does_not_have_are_read(api: FakeApi) -> None:
    api.items = [item("nan", AREA, datetime(2020, 1, 5, tzinfo=UTC), assets={"a": {"nodata": 0.0}})]
    api.items[0]["assets"]["a"]["nodata"] = float("nan")
    assert found(api) == ["nan"]


@pytest.mark.parametrize("answer", [{}, {"features": None}, {"type": "Catalog"}, [1]])
def test_an_answer_that_is_no_page_is_an_error(api: FakeApi, answer: Any) -> None:
    api.static["/search"] = answer
    with pytest.raises(CatalogueError, match="does not answer as a STAC API; got JSON"):
        found(api)


def test_a_collection_that_is_not_there_is_named_with_those_that_are(api: FakeApi) -> None:
    api.collections = (TWO, "landsat")
    with pytest.raises(CatalogueError, match=f"no collection {ONE}.*one of landsat, {TWO}"):
        found(api)
    assert api.searches == []


def test_an_api_that_does_not_list_collections_is_searched(api: FakeApi) -> None:
    api.lists = False
    assert sorted(found(api)) == ALL


def test_items_of_collections_not_asked_for_are_left_out(api: FakeApi) -> None:
    api.items = [
        item("other", AREA, datetime(2020, 1, 5, tzinfo=UTC)),
        item("none", AREA, datetime(2020, 1, 5, tzinfo=UTC), collection=None),
    ]
    api.static["/search"] = {"features": [{**api.items[0], "collection": "x"}, api.items[1], 7]}
    got = list(api_items(spec_of(api.url), AREA))
    assert [(one["id"], one["collection"]) for one in got] == [("none", ONE), ("number 3", ONE)]
    assert got[1][UNUSABLE] == "it is not a STAC item"
    both = list(api_items(spec_of(api.url, collections=PROFILES), AREA))
    assert both[0][UNUSABLE] == "it does not say which collection it belongs to"


# ------------------------------------------------------------------------------- endless catalogues


@pytest.mark.parametrize("tells", ["numberMatched", ""])
@pytest.mark.parametrize("circle", ["link", "pages", "empty"])
def test_a_catalogue_that_pages_for_ever_comes_to_an_end(
    api: FakeApi, circle: str, tells: str
) -> None:
    """Pieces that fit one page are whole, unless nothing says so and the pages go on."""
    api.circle, api.tells = circle, tells
    search = {"page": 10, "requests": 100}
    if (circle, tells) == ("pages", ""):
        with pytest.raises(CatalogueError, match="pages in a circle"):
            found(api, search=search)
    else:
        assert sorted(found(api, search=search)) == ALL
    if circle == "empty":
        assert len(api.asked) <= 2 + 6 + 5


@pytest.mark.parametrize("tells", ["numberMatched", ""])
@pytest.mark.parametrize("circle", ["link", "pages"])
def test_what_cannot_be_had_from_a_circle_is_an_error(
    api: FakeApi, circle: str, tells: str
) -> None:
    """More than a page in one place and month."""
    when = datetime(2020, 3, 3, tzinfo=UTC)
    api.items = [item(f"i{i}", shapely.Point(3, 50).buffer(0.01), when) for i in range(9)]
    api.circle, api.tells = circle, tells
    with pytest.raises(CatalogueError, match="pages in a circle"):
        found(api, search={"page": 4, "requests": 200})


def test_a_circle_at_the_end_does_no_harm_where_all_has_come(api: FakeApi) -> None:
    api.circle = "link"
    assert sorted(found(api, search={"page": 30})) == ALL


# ---------------------------------------------------------------------------------------- secrets


def test_keys_go_to_the_catalogue_and_nowhere_else(
    api: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    api.key = "s3cr3t+/key"
    url = api.url.replace("//", "//tom:pa%40ssword@") + "/?key=s3cr3t%2B%2Fkey"
    caplog.set_level(logging.DEBUG)
    assert sorted(found(api, url=url, search={"page": 20})) == ALL
    assert {headers.get("Authorization", "")[:6] for headers in api.headers} == {"Basic "}
    with serving(FakeApi(static={"/search": {"features": []}})) as other:
        api.static["/search"] = {
            "features": [],
            "links": [{"rel": "next", "href": f"{other.url}/search"}],
        }
        assert found(api, url=url) == []
        assert "Authorization" not in other.headers[0]
        assert other.asked[0][2] == {}
        del api.static["/search"]
        for fault in (403, 404, 503, "drop", f"{other.url}/x?key=s3cr3t%2B%2Fkey"):
            api.faults = [None, None, *[fault] * 9]
            with pytest.raises(CatalogueError) as caught:
                found(api, url=url)
            assert_secret(str(caught.value))
    api.faults, api.key = [], "another"
    with pytest.raises(CatalogueError, match="needs credentials") as caught:
        found(api, url=url)
    assert_secret(str(caught.value))
    with pytest.raises(CatalogueError) as caught:
        found(api, url="http://tom:pa%40ssword@127.0.0.1:9/?key=s3cr3t%2B%2Fkey")
    assert_secret(str(caught.value))
    assert "search" in caplog.text
    assert_secret(caplog.text)


def test_user_and_password_may_stand_in_the_netrc(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login tom password secret")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert sorted(found(api)) == ALL
    assert {headers.get("Authorization") for headers in api.headers} == {"Basic dG9tOnNlY3JldA=="}


@pytest.mark.parametrize("said", ["Basic dG9tOnNlY3JldA==", "bearer abc.def-GHI_jkl"])
def test_a_server_that_shows_what_it_was_asked_gives_no_key_away(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    answer = 400, {"detail": f"bad request with {said}, sorry"}
    monkeypatch.setattr(FakeApi, "answer", lambda *_: answer)
    with pytest.raises(CatalogueError, match=r"bad request with \w+ \*\*\*, sorry") as caught:
        found(api)
    assert said.split()[1] not in str(caught.value)


@pytest.mark.parametrize("url", ["https://[broken", "http://host:port", "https://tom:SECRET@[x"])
def test_an_address_that_does_not_read_is_said_to_be_so(url: str) -> None:
    with pytest.raises(CatalogueError, match="address does not read") as caught:
        found(FakeApi(), url=f"{url}?key=SECRET")
    assert "SECRET" not in str(caught.value)


def assert_secret(text: str) -> None:
    for part in ("s3cr3t", "pa%40ssword", "pa@ssword"):
        assert part not in text


@pytest.mark.parametrize(
    "href", ["file:///etc/passwd", "/etc/passwd", "http://127.0.0.2/x", "ftp://x/y"]
)
def test_links_of_a_server_lead_to_servers_only(api: FakeApi, href: str) -> None:
    link = {"rel": "child", "href": href}
    api.static["/"] = {"type": "Catalog", "links": [link]}
    with pytest.raises(CatalogueError, match="cannot read .*(leads elsewhere|status 404)"):
        found(api)


# ------------------------------------------------------------------------------- static catalogues


def written(folder: Path, items: list[dict[str, Any]]) -> Path:
    """A static catalogue with each item in a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in items:
        (folder / f"{one['id']}.json").write_text(json.dumps(one))
    links = [{"rel": "item", "href": f"./{one['id']}.json"} for one in items]
    root = folder / "catalog.json"
    root.write_text(json.dumps({"type": "Collection", "id": ONE, "links": links}))
    return root


def tree(items: list[dict[str, Any]]) -> dict[str, Any]:
    """The same as a server has it."""
    places = {f"/c/{one['id']}.json": one for one in items}
    links = [{"rel": "item", "href": f".{path[2:]}"} for path in places]
    top = {"type": "Catalog", "links": [{"rel": "child", "href": "c/collection.json"}]}
    return {
        "/catalog.json": top,
        "/c/collection.json": {"type": "Collection", "id": ONE, "links": links},
        **places,
    }


def test_damaged_and_missing_items_are_set_aside_by_name(tmp_path: Path) -> None:
    root = written(tmp_path, many(12))
    (tmp_path / "i3.json").unlink()
    (tmp_path / "i4.json").write_text('{"type": "Feature", "id"')
    (tmp_path / "i5.json").write_text("[]")
    (tmp_path / "i6.json").write_text('{"type": "Catalog", "id": "i6"}')
    (tmp_path / "i7.json").write_bytes(b"\xff\xfe\x00")
    got = {str(one["id"]): one.get(UNUSABLE) for one in static_items(spec_of(root))}
    assert sorted(got) == sorted(f"i{i}" for i in range(12))
    bad = {name: str(reason) for name, reason in got.items() if reason}
    assert sorted(bad) == ["i3", "i4", "i5", "i6", "i7"]
    assert "i3.json cannot be read: No such file" in bad["i3"]
    assert "i4.json cannot be read: it is not JSON" in bad["i4"]
    assert "not STAC" in bad["i5"]
    assert bad["i6"] == "it is not a STAC item"
    table_error = pytest.raises(CatalogueError, match="12 items cannot be used")
    with table_error:  # the others lack their assets
        search(spec_of(root))


@pytest.mark.parametrize("child", [None, "{", "[]"])
def test_a_part_of_a_catalogue_that_is_gone_is_an_error(tmp_path: Path, child: str | None) -> None:
    """It may stand for thousands of items."""
    if child is not None:
        (tmp_path / "part.json").write_text(child)
    link = {"rel": "child", "href": "part.json"}
    (tmp_path / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": [link]}))
    with pytest.raises(CatalogueError, match="cannot read .*part.json"):
        list(static_items(spec_of(tmp_path)))


def test_a_static_catalogue_on_a_server_is_walked(api: FakeApi) -> None:
    items = many(12)
    items[0]["assets"] = {"B02": {"href": "../data/B02.tif"}}
    api.static = tree(items)
    url = f"{api.url}/catalog.json"
    api.faults = [503, "html", None, "drop", "cut", (429, "1")]
    got = {str(one["id"]): one for one in api_items(spec_of(url), AREA)}
    assert sorted(got) == sorted(one["id"] for one in items)
    assert got["i0"]["assets"]["B02"]["href"] == f"{api.url}/data/B02.tif"
    assert len(api.asked) == 14 + 5
    del api.static["/c/i5.json"]
    (aside,) = (o for o in api_items(spec_of(url), AREA) if UNUSABLE in o)
    assert aside["id"] == "i5"
    assert "status 404" in aside[UNUSABLE]
    api.faults = [None] * 5 + [503] * 50
    with pytest.raises(CatalogueError, match="does not answer"):
        found(api, url=url)
    api.faults = []
    with pytest.raises(CatalogueError, match="stopped after 5 requests"):
        found(api, url=url, search={"requests": 5})


def test_a_catalogue_on_disk_may_link_to_servers(api: FakeApi, tmp_path: Path) -> None:
    api.static = tree(many(12))
    child = {"rel": "child", "href": f"{api.url}/c/collection.json"}
    (tmp_path / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": [child]}))
    for catalogue in (str(tmp_path), (tmp_path / "catalog.json").as_uri()):
        got = [one["id"] for one in static_items(spec_of(catalogue))]
        assert sorted(map(str, got)) == sorted(f"i{i}" for i in range(12))


@pytest.mark.parametrize(
    ("own", "href", "absolute"),
    [
        (None, "B02.tif", "{here}/B02.tif"),
        (None, "./a/B02.tif", "{here}/a/B02.tif"),
        (None, "https://x.example/B02.tif", "https://x.example/B02.tif"),
        (None, "s3://bucket/B02.tif", "s3://bucket/B02.tif"),
        ("https://x.example/s/one.json", "B02.tif", "https://x.example/s/B02.tif"),
        ("https://x.example/s/one.json", "../B02.tif", "https://x.example/B02.tif"),
        ("sub/one.json", "B02.tif", "{here}/sub/B02.tif"),
        ("/far/one.json", "B02.tif", "/far/B02.tif"),
        ("https://[broken", "B02.tif", "B02.tif"),
    ],
)
def test_bare_addresses_are_relative_to_where_the_item_lay(
    tmp_path: Path, own: str | None, href: str, absolute: str
) -> None:
    one = item("a", AREA, datetime(2020, 1, 5, tzinfo=UTC), assets={"B02": {"href": href}})
    one["links"] = [{"rel": "self", "href": own}] if own else []
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [one]}))
    (got,) = static_items(spec_of(path))
    assert got["assets"]["B02"]["href"] == absolute.format(here=tmp_path)


def test_what_is_no_item_in_a_collection_of_items_is_listed(tmp_path: Path) -> None:
    good = many(2)
    nameless = {k: v for k, v in good[1].items() if k != "collection"}
    features = [good[0], None, "x", nameless, {**good[1], "collection": TWO}]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    got = [(str(one["id"]), one.get(UNUSABLE)) for one in static_items(spec_of(path))]
    assert got == [
        ("i0", None),
        ("number 2", "it is not a STAC item"),
        ("number 3", "it is not a STAC item"),
        ("i1", "it does not say which collection it belongs to"),
    ]


def test_each_part_of_a_catalogue_is_read_once(api: FakeApi) -> None:
    """Also where a collection lies below another one, and links run in a circle."""
    items = many(3)
    api.static = tree(items)
    api.static["/c/collection.json"]["links"] += [
        {"rel": "child", "href": "../catalog.json"},
        {"rel": "child", "href": "year.json"},
        {"rel": "item", "href": "i0.json"},
    ]
    api.static["/c/year.json"] = {
        "type": "Collection", "id": TWO,
        "links": [{"rel": "item", "href": "i1.json"}, {"rel": "child", "href": "collection.json"}],
    }  # fmt: skip
    url = f"{api.url}/catalog.json"
    assert sorted(found(api, url=url, collections=PROFILES)) == ["i0", "i1", "i2"]
    assert len(api.asked) == len({path for _, path, _ in api.asked}) == 3 + 3


def test_collections_that_all_lead_to_each_other_are_read_once(tmp_path: Path) -> None:
    """Not once for each of the forty thousand ways through eight of them."""
    names = [f"c{number}" for number in range(8)]
    (one,) = many(1)
    (tmp_path / "one.json").write_text(json.dumps({**one, "collection": "c0"}))
    children = [{"rel": "child", "href": f"{name}.json"} for name in names]
    for name in names:
        links = [*children, {"rel": "item", "href": "one.json"}]
        part = {"type": "Collection", "id": name, "links": links}
        (tmp_path / f"{name}.json").write_text(json.dumps(part))
    spec = spec_of(tmp_path / "c3.json", collections={"c0": PROFILES[ONE]})
    before = time.process_time()
    assert [item["id"] for item in static_items(spec)] == ["i0"]
    assert time.process_time() - before < 1


def test_catalogues_of_before_stac_10_do_not_say_what_they_are(tmp_path: Path) -> None:
    root = written(tmp_path, many(3))
    for path in [root, *root.parent.glob("**/collection.json")]:
        part = json.loads(path.read_text())
        kind = part.pop("type")
        part["stac_version"] = "0.9.0"
        if kind == "Collection":
            part |= {"license": "various", "extent": {}}
        path.write_text(json.dumps(part))
    assert sorted(item["id"] for item in static_items(spec_of(root))) == ["i0", "i1", "i2"]


def test_items_that_all_lack_a_collection_are_of_the_one_asked_for(tmp_path: Path) -> None:
    features = [{k: v for k, v in one.items() if k != "collection"} for one in many(2)]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert [one["collection"] for one in static_items(spec_of(path))] == [ONE, ONE]
    with pytest.raises(CatalogueError, match="has no collection"):
        list(static_items(spec_of(path, collections=PROFILES)))


@given(st.binary(max_size=40))
@example(b"[" * 100_000)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_place_of_a_catalogue_are_a_plain_error(content: bytes) -> None:
    with serving(FakeApi()) as running:
        running.static["/"] = content
        with pytest.raises(CatalogueError):
            found(running, search={"tries": 1})


def test_nothing_is_asked_before_the_first_item_is_wanted(api: FakeApi) -> None:
    with contextlib.closing(api_items(spec_of(api.url), AREA)) as items:  # type: ignore[type-var]
        assert api.asked == []
        next(items)
        assert len(api.searches) == 1
