"""Patches of change across tiles, events that keep their names, and their log."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

import cdscale
from cdscale.errors import SpecError, StoreError
from cdscale.export import event_log, patches
from cdscale.export.cut import Cut, cut
from cdscale.export.events import Event, Kind, When, current, revise
from cdscale.export.patches import Patch
from cdscale.grid import Area, Tile
from cdscale.months import Month, Months
from cdscale.spec.cube import CubeSpec, Variable
from cdscale.store import Store, create
from tests.regions import CORNER, GRID

MONTHS = Months.parse("2022-01..2022-04")
DAY = {str(m): int(m.to_numpy().astype("datetime64[D]").astype(int)) for m in MONTHS}
STATE_NAMES = "outside unobserved none provisional confirmed high_confidence reverted finished"
CLASS_NAMES = "unknown open_land built_up"


def coded(name: str, names: str) -> Variable:
    meanings = {"flag_values": list(range(len(names.split()))), "flag_meanings": names}
    return Variable(name=name, dtype="uint8", fill=0, attrs=meanings)


def months(name: str) -> Variable:
    return Variable(name=name, dtype="int32", fill=-1)


SERIES = (
    coded("state", STATE_NAMES),
    coded("from_class", CLASS_NAMES),
    coded("to_class", CLASS_NAMES),
    months("first_month"),
    months("confirmed_month"),
    months("last_month"),
    Variable(name="confidence", dtype="uint8", fill=255, scale=0.004),
    Variable(name="support", dtype="uint8", fill=0),
)
PAIR = (
    Variable(name="probability", dtype="uint8", fill=255, scale=0.004),
    Variable(
        name="change",
        dtype="uint8",
        fill=255,
        attrs={"flag_values": [0, 1], "flag_meanings": "no_change change"},
    ),
)


def a_spec(variables: tuple[Variable, ...] = SERIES, *, nx: int = 2, ny: int = 2) -> CubeSpec:
    return CubeSpec(
        product="change",
        title="made: change between months",
        grid=GRID.preset("europe", tile_px=16),
        window=GRID.window([CORNER, Tile(CORNER.ix + nx - 1, CORNER.iy + ny - 1)]),
        months=MONTHS,
        variables=variables,
        chunk_px=16,
        reference={str(m): "2021-01" for m in MONTHS} if variables is PAIR else {},
    )


def put(store: Store, month: str, changed_YX: np.ndarray, state: int = 4) -> None:
    """A month of the whole store in which these pixels have changed."""
    t = store.spec.months.index(Month.parse(month))
    group = zarr.open_group(store.path, mode="r+")
    values = {
        "state": (2, state), "from_class": (0, 1), "to_class": (0, 2),
        "first_month": (-1, DAY["2022-01"]), "confirmed_month": (-1, DAY["2022-02"]),
        "last_month": (-1, DAY[month]), "confidence": (0, 200), "support": (0, 3),
        "probability": (10, 200), "change": (0, 1),
    }  # fmt: skip
    for variable in store.spec.variables:
        no, yes = values[variable.name]
        group[variable.name][t] = np.where(changed_YX, yes, no)  # type: ignore[index]
    store.publish([Month.parse(month)])


def blank() -> np.ndarray:
    return np.zeros((32, 32), bool)


def square(top: int, left: int, side: int = 4) -> np.ndarray:
    made = blank()
    made[top : top + side, left : left + side] = True
    return made


# ------------------------------------------------------------------------------------- patches


@given(arrays.arrays(bool, (32, 32), elements=st.integers(0, 9).map(lambda n: n < 4)))
@settings(max_examples=10)
def test_patches_are_those_of_the_whole_map_however_it_is_cut(changed: np.ndarray) -> None:
    """In four tiles as in one: pixels, outlines, area."""
    found = {}
    for nx, px in ((2, 16), (1, 32)):
        spec = a_spec(nx=nx, ny=nx)
        spec = spec.model_copy(
            update={
                "grid": GRID.preset("europe", tile_px=px),
                "window": spec.window.__class__(6800, 7800, 2, 2)
                if nx == 2
                else spec.window.__class__(3400, 3900, 1, 1),
            }
        )
        found[nx] = patches.find(InMemory(spec, changed), MONTHS.first, 1)
    label, count = ndimage.label(changed, structure=np.ones((3, 3)))
    assert len(found[2]) == count
    sizes = sorted(np.bincount(label.ravel())[1:].tolist())
    assert sorted(p.pixels for p in found[2]) == sizes
    for one, other in zip(found[1], found[2], strict=True):
        assert (one.anchor, one.pixels) == (other.anchor, other.pixels)
        assert one.geometry.wkb == other.geometry.wkb
        assert one.geometry.is_valid
        assert one.geometry.area == pytest.approx(100 * one.pixels)


class InMemory(Cut):
    """A store that is an array: what reads is the same."""

    def __init__(self, spec: CubeSpec, changed: np.ndarray) -> None:
        w = spec.window
        tiles = tuple(Tile(w.ix + x, w.iy + y) for y in range(w.ny) for x in range(w.nx))
        super().__init__(Path(), spec, tuple(spec.months), tiles)
        object.__setattr__(self, "changed", changed)

    def holds(self, tile: Tile, month: Month) -> bool:
        return True

    def read(self, tile: Tile, month: Month, names: object = ()) -> dict[str, np.ndarray]:
        at = self.spec.window.slices(self.spec.grid, tile)
        state = np.where(self.changed[at], 4, 2).astype(np.uint8)  # type: ignore[attr-defined]
        return {
            v.name: state if v.name == "state" else np.full_like(state, 1).astype(v.dtype)
            for v in self.spec.variables
        }


def test_a_patch_says_what_its_pixels_say(tmp_path: Path) -> None:
    store = create(tmp_path / "change.zarr", a_spec())
    put(store, "2022-02", square(14, 13))  # over all four tiles
    group = zarr.open_group(store.path, mode="r+")
    group["first_month"][1, 15, 15] = DAY["2022-02"]  # type: ignore[index]
    group["confidence"][1, 14, 13] = 250  # type: ignore[index]
    group["state"][1, 14, 13:16] = 5  # type: ignore[index]
    (one,) = patches.find(cut(store.path), Month.parse("2022-02"), 5)
    assert one.pixels == 16
    assert len(one.tiles) == 4
    assert (one.state, one.from_class, one.to_class) == ("confirmed", "open_land", "built_up")
    assert (one.first_month, one.confirmed_month) == ("2022-01", "2022-02")
    assert one.last_month == "2022-02"
    assert one.confidence_max == pytest.approx(1.0)
    assert one.confidence_mean == pytest.approx((15 * 0.8 + 1) / 16, abs=1e-4)
    assert (one.support_mean, one.support_max) == (3, 3)
    west, north = GRID.extent.west + CORNER.ix * 160, GRID.extent.north - CORNER.iy * 160
    assert one.geometry.equals(shapely.box(west + 130, north - 180, west + 170, north - 140))
    assert patches.find(cut(store.path), Month.parse("2022-02"), 17) == []


# -------------------------------------------------------------------------------------- events


def a_patch(left: int, right: int, **changes: object) -> Patch:
    """A bar of pixels, of one row."""
    fields: dict[str, object] = {
        "geometry": shapely.normalize(shapely.box(10 * left, 0, 10 * right, 10)),
        "anchor": f"x{left:07d}y0000000", "tiles": ("x0000y0000",), "pixels": right - left,
        "state": "confirmed", "from_class": "open_land", "to_class": "built_up",
        "first_month": "2022-01", "confirmed_month": "2022-02", "last_month": "2022-02",
        "confidence_mean": 0.8, "confidence_max": 0.9, "support_mean": 3.0, "support_max": 4,
    }  # fmt: skip
    return Patch(**fields | changes)  # type: ignore[arg-type]


def follow(*publications: list[Patch]) -> list[Event]:
    rows: list[Event] = []
    for n, found in enumerate(publications, start=1):
        rows += revise(rows, found, When(f"2022-{n:02d}", n))
    return rows


def told(rows: list[Event]) -> list[tuple[str, int, str]]:
    return [(e.event_id[8:16], e.revision, str(e.kind)) for e in rows]


def test_an_event_grows_and_shrinks_under_one_name() -> None:
    rows = follow([a_patch(0, 4)], [a_patch(0, 6)], [a_patch(1, 4)])
    assert [(e.revision, e.kind) for e in rows] == [(1, "confirmed"), (2, "grown"), (3, "shrunk")]
    assert {e.event_id for e in rows} == {"2022-01-x0000000y0000000"}


def test_an_event_that_nothing_happened_to_is_no_row() -> None:
    surer = a_patch(0, 4, confidence_mean=0.9, support_max=9, last_month="2022-03")
    assert len(follow([a_patch(0, 4)], [surer])) == 1
    higher = a_patch(0, 4, state="high_confidence")
    assert [e.kind for e in follow([a_patch(0, 4)], [higher])] == ["confirmed", "updated"]


def test_of_events_that_merge_the_oldest_keeps_its_name() -> None:
    rows = follow([a_patch(5, 9)], [a_patch(0, 3), a_patch(5, 9)], [a_patch(0, 9)])
    old, new = "2022-01-x0000005y0000000", "2022-02-x0000000y0000000"
    last = current(rows)
    assert last[old].kind is Kind.GROWN
    assert (last[new].kind, last[new].merged_into) == (Kind.WITHDRAWN, old)
    assert last[new].patch.pixels == 3  # as it last stood


def test_of_an_event_that_splits_the_largest_part_keeps_its_name() -> None:
    rows = follow([a_patch(0, 9)], [a_patch(0, 3), a_patch(4, 9)])
    origin = "2022-01-x0000000y0000000"
    last = current(rows)
    assert (last[origin].kind, last[origin].patch.pixels) == (Kind.SHRUNK, 5)
    assert last["2022-02-x0000000y0000000"].split_from == origin


def test_an_event_that_is_gone_is_withdrawn_and_its_name_is_not_used_again() -> None:
    rows = follow([a_patch(0, 4)], [], [a_patch(0, 4)])
    assert [e.kind for e in rows] == ["confirmed", "withdrawn", "confirmed"]
    assert rows[1].merged_into is None
    again = revise(rows[:2], [a_patch(0, 4)], When("2022-01", 9))
    assert again[0].event_id == "2022-01-x0000000y0000000-2"


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=5),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_what_is_current_is_what_is_there(bars: list[list[tuple[int, int]]]) -> None:
    """Whatever came before: the events that stand are the patches of the last month."""
    publications = []
    for month in bars:
        row = np.zeros(40, bool)
        for left, width in month:
            row[left : left + width] = True
        label, count = ndimage.label(row)
        ends = [np.flatnonzero(label == n) for n in range(1, count + 1)]
        publications.append([a_patch(int(e[0]), int(e[-1]) + 1) for e in ends])
    rows = follow(*publications)
    standing = [e for e in current(rows).values() if not e.gone]
    assert sorted(e.patch.anchor for e in standing) == [p.anchor for p in publications[-1]]
    for event in current(rows):
        revisions = [e.revision for e in rows if e.event_id == event]
        assert revisions == list(range(1, len(revisions) + 1))
    assert revise(rows, publications[-1], When("2022-09", 9)) == []


# ----------------------------------------------------------------------------------------- log


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three months: a square, which grows while another comes, and the first is gone."""
    store = create(tmp_path / "change.zarr", a_spec())
    put(store, "2022-01", square(14, 13))
    put(store, "2022-02", square(14, 13, 6) | square(2, 25))
    put(store, "2022-03", square(2, 25))
    return store


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_log_follows_the_months_and_exporting_again_adds_nothing(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "events.parquet"
    log, new = event_log.update(path, cut(store.path, months=Months.parse("2022-01")), 5)
    assert (new, log.publication) == (1, 1)
    log, new = event_log.update(path, cut(store.path), 5)
    assert (new, log.publication) == (3, 2)
    assert [str(e.kind) for e in log.rows] == ["confirmed", "grown", "confirmed", "withdrawn"]
    assert [e.event_id for e in log.current] == ["2022-02-x0108825y0124802"]
    before = digest(path), path.stat().st_mtime_ns
    again, new = event_log.update(path, cut(store.path), 5)
    assert new == 0
    assert again == log == event_log.read(path)
    assert (digest(path), path.stat().st_mtime_ns) == before
    assert [e.month for e in log.since("2022-01")] == ["2022-02", "2022-02", "2022-03"]
    assert len(log.since("1")) == 3
    with pytest.raises(SpecError, match="month"):
        log.since("yesterday")


def test_a_month_that_is_published_anew_is_followed(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    event_log.update(path, cut(store.path), 5)
    put(store, "2022-03", square(2, 25, 5))
    log, new = event_log.update(path, cut(store.path), 5)
    assert new == 1
    assert (log.rows[-1].kind, log.rows[-1].month) == (Kind.GROWN, "2022-03")
    assert log.rows[-1].publication == 2


def test_a_log_opens_in_geopandas_and_in_gdal(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    log, _ = event_log.update(path, cut(store.path), 5)
    frame = geopandas.read_parquet(path)
    assert frame.crs.to_epsg() == 3035
    assert frame.kind.tolist() == ["confirmed", "grown", "confirmed", "withdrawn"]
    np.testing.assert_allclose(frame.geometry.area / 1e6, frame.area_km2)
    assert frame.geometry.is_valid.all()
    inside = geopandas.points_from_xy(frame.lon, frame.lat, crs=4326).to_crs(frame.crs)
    assert all(g.contains(p) for g, p in zip(frame.geometry, inside, strict=True))
    for name in ("now.gpkg", "now.geojson", "now.parquet"):
        event_log.write_table(log.current, log.about, tmp_path / name, overwrite=False)
    seen = pyogrio.read_dataframe(tmp_path / "now.gpkg")
    assert seen.crs.to_epsg() == 3035
    assert seen.event_id.tolist() == ["2022-02-x0108825y0124802"]
    degrees = pyogrio.read_dataframe(tmp_path / "now.geojson")
    assert degrees.crs.to_epsg() == 4326
    assert degrees.geometry[0].contains(shapely.Point(seen.lon[0], seen.lat[0]))
    with pytest.raises(SpecError, match="already"):
        event_log.write_table(log.current, log.about, tmp_path / "now.gpkg", overwrite=False)


def test_a_log_of_nothing_is_a_log(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    log, new = event_log.update(path, cut(store.path), 1000)
    assert (new, log.rows) == (0, ())
    assert len(geopandas.read_parquet(path)) == 0
    assert event_log.read(path) == log


def test_a_log_of_other_events_is_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    event_log.update(path, cut(store.path), 5)
    before = digest(path)
    with pytest.raises(SpecError, match="its mmu differs; expected 6; got 5"):
        event_log.update(path, cut(store.path), 6)
    west = Area(store.spec.grid.footprint(Tile(CORNER.ix, CORNER.iy)).buffer(-1e-4))
    with pytest.raises(SpecError, match="its area differs"):
        event_log.update(path, cut(store.path, area=west), 5)
    (tmp_path / "notes.parquet").write_text("mine")
    with pytest.raises(SpecError, match="no log of events"):
        event_log.update(tmp_path / "notes.parquet", cut(store.path), 5)
    assert digest(path) == before
    _, new = event_log.update(path, cut(store.path), 6, overwrite=True)
    assert new == 4


def test_an_export_that_dies_leaves_the_old_log(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.parquet"
    event_log.update(path, cut(store.path, months=Months.parse("2022-01")), 5)
    before = digest(path)

    def dies(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        event_log.update(path, cut(store.path), 5)
    assert digest(path) == before
    assert [p.name for p in tmp_path.iterdir() if "parquet" in p.name] == ["events.parquet"]


def test_of_a_pair_network_each_month_is_a_comparison_of_its_own(tmp_path: Path) -> None:
    store = create(tmp_path / "change.zarr", a_spec(PAIR))
    put(store, "2022-01", square(0, 0))
    put(store, "2022-02", square(20, 20))
    log, new = event_log.update(tmp_path / "e.parquet", cut(store.path), 5)
    assert new == 2
    assert [(e.month, e.reference_month, str(e.kind)) for e in log.rows] == [
        ("2022-01", "2021-01", "confirmed"),
        ("2022-02", "2021-01", "confirmed"),
    ]
    assert log.rows[0].patch.state == "change"
    assert log.rows[0].patch.support_max is None
    assert event_log.update(tmp_path / "e.parquet", cut(store.path), 5)[1] == 0


def test_events_of_an_open_store(store: Store, tmp_path: Path) -> None:
    seen = cdscale.open(store.path)
    (one,) = seen.cd.events().itertuples()
    assert one.event_id == "2022-02-x0108825y0124802"
    assert one.area_km2 == pytest.approx(0.0016)
    assert len(cdscale.open(store.path, months="2022-01..2022-02").cd.events()) == 2
    log, _ = event_log.update(tmp_path / "events.parquet", cut(store.path), 5)
    kept = seen.cd.events(log=tmp_path / "events.parquet")
    assert kept.event_id.tolist() == [event.event_id for event in log.current]
    assert kept.crs.to_epsg() == 3035
    with pytest.raises(StoreError, match="in stores on disks"):
        event_log.follow("s3://bucket/change.zarr", MONTHS)


def test_a_cut_refuses_what_it_cannot_give(store: Store) -> None:
    with pytest.raises(SpecError, match="2022-04 is not published; expected months of 2022-01"):
        cut(store.path, months=Months.parse("2022-04"))
    assert cut(store.path, months=Months.parse("2022-04"), unpublished=True).months
    with pytest.raises(SpecError, match="no such months"):
        cut(store.path, months=Months.parse("2023-01"))
    with pytest.raises(SpecError, match="the area has no pixel in"):
        cut(store.path, area=Area(shapely.box(10, 50, 10.1, 50.1)))
    store.withdraw(MONTHS)
    with pytest.raises(SpecError, match="no month is published"):
        cut(store.path)
    with pytest.raises(StoreError, match="no Zarr store"):
        cut(store.path / "nothing")
