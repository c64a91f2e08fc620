"""The search against a real STAC API with the real items, healthy and through a bad network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import mapping, shape

from cdscale import plan
from cdscale.errors import CatalogueError
from cdscale.months import Month, Months
from cdscale.scenes import search, web
from cdscale.scenes.catalogue import api_items
from cdscale.spec.profile import profile_names
from cdscale.spec.run import RunSpec, read_area
from cdscale.testing import Behaviour, Fault, FaultServer, mixed_faults
from tests import stac_api
from tests.fake_api import FakeApi, serving

pytestmark = pytest.mark.realdata

KINDS = {
    "astraea__sentinel2_l1c": "astraea-sentinel-2-l1c",
    "astraea__sentinel2_l2a": "astraea-sentinel-2-l2a",
    "cdse__sentinel-2-l2a": "cdse-sentinel-2-l2a",
    "earthsearch__sentinel-1-grd": "earth-search-sentinel-1-grd",
    "earthsearch__sentinel-2-c1-l2a": "earth-search-sentinel-2-c1-l2a",
    "earthsearch__sentinel-2-l1c": "earth-search-sentinel-2-l1c",
    "earthsearch__sentinel-2-l2a": "earth-search-sentinel-2-l2a",
    "pc_s2l2a_13TDE_2024jan-may": "planetary-computer-sentinel-2-l2a",
    "planetarycomputer__sentinel-1-rtc": "planetary-computer-sentinel-1-rtc",
    "planetarycomputer__sentinel-2-l2a": "planetary-computer-sentinel-2-l2a",
}
Items = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="session")
def items(data_root: Path) -> Items:
    """Real items by collection, each id once, as a catalogue has them."""
    every = stac_api.real_items(data_root / "stac-items")
    return {name: list({one["id"]: one for one in found}.values()) for name, found in every.items()}


@pytest.fixture(scope="session")
def address(items: Items) -> Iterator[str]:
    """Of an API that has them."""
    try:
        stac_api.check()
    except stac_api.Missing as reason:
        pytest.skip(str(reason))
    with stac_api.serve(items) as url:
        yield url


@pytest.fixture
def proxy(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """The API through a network that fails as it is told to; retries follow at once."""
    monkeypatch.setattr(web, "pause", lambda seconds: None)
    with FaultServer(upstream=address) as server:
        yield server


def spec_of(catalogue: str, collections: dict[str, str], **changes: Any) -> RunSpec:
    spec = {
        "name": "test",
        "catalogue": catalogue,
        "collections": collections,
        "area": read_area([3, 50, 3.01, 50.01], Path()),
        "period": "2015-01..2025-12",
        "grid": {"tile": 64, "chunk": 16},
        "cube": {"s2_bands": ["B02", "B03"]},
        "output": "nowhere",
        **changes,
    }
    return RunSpec.check(spec, where="test")


def interval(one: dict[str, Any]) -> tuple[datetime, datetime]:
    said = one["properties"]
    first = datetime.fromisoformat(said.get("start_datetime") or said["datetime"])
    return first, datetime.fromisoformat(said.get("end_datetime") or said["datetime"])


def place_of(one: dict[str, Any]) -> Any:
    """Where an item is; a part that holds nothing, as one of them has, is passed over."""
    geometry = one["geometry"]
    return shape({**geometry, "coordinates": [part for part in geometry["coordinates"] if part]})


def expected(items: Items, area: Any, months: Months, edge: timedelta) -> set[tuple[str, str]]:
    """Collection and id of what lies in an area and some months, within an edge of time."""
    return {
        (one["collection"], one["id"])
        for found in items.values()
        for one in found
        for first, last in [interval(one)]
        if area.intersects(place_of(one))
        and any(m.start - edge <= last and first < m.stop + edge for m in months)
    }


PLAIN = "planetary-computer-sentinel-2-l2a"

# --------------------------------------------------------------------------------- brute force


@settings(max_examples=8)
@given(
    west=st.floats(-180, 179),
    south=st.floats(-88, 80),
    size=st.floats(0.5, 60),
    start=st.integers(0, 100),
    count=st.integers(1, 40),
    page=st.sampled_from([3, 20, 250]),
    most=st.sampled_from([8, 30, 5000]),
)
def test_a_search_finds_what_brute_force_finds(
    items: Items, address: str, west: float, south: float, size: float, start: int, count: int,
    page: int, most: int,
) -> None:  # fmt: skip
    """Any box and months, small pages, cut in pieces or not."""
    area = shapely.box(west, south, min(west + size, 180), min(south + size, 90))
    check(items, address, area, Month(2016, 1) + start, count, {"page": page, "items": most})


@pytest.mark.parametrize("limits", [{}, {"page": 7}, {"page": 7, "items": 20}], ids=str)
def test_the_whole_world_is_found(items: Items, address: str, limits: dict[str, Any]) -> None:
    count = check(items, address, shapely.box(-180, -90, 180, 90), Month(2014, 1), 160, limits)
    assert sum(map(len, items.values())) == 204
    assert count == 204 - 5  # of one file, whose items are in metres


def test_what_lies_around_the_antimeridian_is_found(items: Items, address: str) -> None:
    sides = shapely.MultiPolygon([shapely.box(178, -85, 180, 0), shapely.box(-180, -85, -178, 0)])
    assert check(items, address, sides, Month(2014, 1), 160, {}) >= 5


def test_a_coast_of_a_thousand_corners_finds_no_less(items: Items, address: str) -> None:
    found = [shape(one["geometry"]) for one in items["planetarycomputer__sentinel-2-l2a"]]
    coast = shapely.union_all([g.centroid.buffer(1.3, quad_segs=64) for g in found])
    assert shapely.get_num_coordinates(coast) > 1000
    assert check(items, address, coast, Month(2014, 1), 160, {}) >= len(found)


def check(
    items: Items, address: str, area: Any, first: Month, count: int, limits: dict[str, Any]
) -> int:
    """All that lies there came, nothing came twice, and nothing from elsewhere in time."""
    months = Months.of(first + i for i in range(count))
    spec = spec_of(address, dict.fromkeys(items, PLAIN), period=str(months), search=limits)
    got = [(str(one["collection"]), str(one["id"])) for one in api_items(spec, area)]
    wanted = expected(items, area, months, timedelta(0))
    assert len(got) == len(set(got))
    assert wanted <= set(got)
    around = shapely.box(-180, -90, 180, 90)
    assert set(got) <= expected(items, around, months, timedelta(minutes=1, seconds=1))
    return len(wanted)


# --------------------------------------------------------------------------------- end to end


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_gives_the_table_of_the_same_items_in_a_file(
    items: Items, address: str, kind: str
) -> None:
    """Over the middle of each place that the items show; also where none of them can be used."""
    assert KINDS[kind] in profile_names()
    places = {}
    for one in items[kind]:
        middle = shape(one["geometry"]).representative_point()
        places[round(middle.x), round(middle.y)] = middle
    flat = {"type": "FeatureCollection", "features": items[kind]}
    with serving(FakeApi(static={"/items.json": flat})) as files:
        used = 0
        for middle in list(places.values())[:6]:
            area = read_area([middle.x, middle.y, middle.x + 1e-4, middle.y + 1e-4], Path())
            outcomes = [
                outcome(spec_of(where, {kind: KINDS[kind]}, area=area))
                for where in (address, f"{files.url}/items.json")
            ]
            assert outcomes[0] == outcomes[1]
            used += outcomes[0].startswith("{")
        # Refused as a whole: radar geometry. The rest shows its scenes.
        assert bool(used) == (kind != "earthsearch__sentinel-1-grd")


def outcome(spec: RunSpec) -> str:
    """The table as text, its asides in order; or the error."""
    try:
        table = search(spec)
    except CatalogueError as err:
        return str(err).replace(spec.catalogue, "CATALOGUE")
    said = json.loads(table.model_dump_json(exclude={"search"}))
    said["set_aside"].sort(key=lambda aside: (aside["id"], aside["reason"]))
    return json.dumps(said)


# --------------------------------------------------------------------------- through bad networks

SEVERAL = {kind: PLAIN for kind in KINDS if "sentinel-2-l2a" in kind or "pc_" in kind}
WORLD = shapely.box(-180, -90, 180, 90)


def ids_through(proxy: FaultServer, **limits: Any) -> list[str]:
    spec = spec_of(proxy.url, SEVERAL, search={"page": 10, "requests": 120, **limits})
    return sorted(str(one["id"]) for one in api_items(spec, WORLD))


def ids_of(items: Items) -> list[str]:
    return sorted(one["id"] for kind in SEVERAL for one in items[kind])


FAULTY = {
    "latency": Behaviour(latency=0.05),
    "429": Behaviour(faults=(Fault("429", rate=0.4),), seed=1),
    "429, Retry-After": Behaviour(faults=(Fault("429", rate=0.4, retry_after=7),), seed=2),
    "burst of 503": Behaviour(faults=(Fault("503", first=4),)),
    "burst of 500": Behaviour(faults=(Fault("500", first=4),)),
    "short bodies": Behaviour(faults=(Fault("short", rate=0.4),), seed=3),
    "cut bodies": Behaviour(faults=(Fault("cut", rate=0.4),), seed=4),
    "HTML": Behaviour(faults=(Fault("html", rate=0.4),), seed=5),
    "dropped": Behaviour(faults=(Fault("drop", rate=0.4),), seed=6),
    "everything": Behaviour(faults=mixed_faults(0.5), latency=0.01, seed=7),
}


@pytest.mark.parametrize("behaviour", FAULTY)
def test_a_bad_network_changes_nothing_but_the_number_of_requests(
    items: Items, proxy: FaultServer, behaviour: str
) -> None:
    assert ids_through(proxy) == ids_of(items)
    healthy = proxy.count
    proxy.clear()
    proxy.behave(FAULTY[behaviour])
    assert ids_through(proxy, tries=9) == ids_of(items)
    assert proxy.count <= 120
    assert (proxy.count > healthy) == (behaviour != "latency")


def test_the_proxy_sees_no_more_requests_than_the_budget(proxy: FaultServer) -> None:
    """Those of retries and of cut queries among them."""
    proxy.behave(Behaviour(faults=mixed_faults(0.5), seed=8))
    for budget in (1, 5, 23):
        proxy.clear()
        with pytest.raises(CatalogueError, match=f"stopped after {budget} requests"):
            ids_through(proxy, requests=budget, tries=9, items=15)
        assert proxy.count == budget


def test_a_second_run_asks_nothing(items: Items, proxy: FaultServer, tmp_path: Path) -> None:
    one = items["planetarycomputer__sentinel-2-l2a"][0]
    middle = shapely.box(*shape(one["geometry"]).representative_point().buffer(1e-4).bounds)
    spec = spec_of(proxy.url, SEVERAL, output=str(tmp_path), area=mapping(middle))
    first = plan.freeze(spec)
    assert one["id"] in {scene.id for scene in first.scenes.scenes}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "job.json").write_text(first.model_dump_json())
    proxy.clear()
    assert plan.freeze(spec).scenes == first.scenes
    assert proxy.count == 0
    assert plan.freeze(spec, refresh=True).scenes == first.scenes
    assert proxy.count > 0


# ----------------------------------------------------------------------------------- the fixture


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac_api, "NEEDED", ("psycopg_of_another_world",))
    with pytest.raises(stac_api.Missing, match="psycopg_of_another_world is not installed"):
        stac_api.check()
    monkeypatch.setattr(stac_api, "NEEDED", ())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))
    with pytest.raises(stac_api.Missing, match="PostgreSQL is not installed"):
        stac_api.check()
