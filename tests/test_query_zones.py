"""Zones of any vector file, and their statistics beside an independent computation."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pyogrio.raw
import pytest
import shapely
from numpy.typing import NDArray
from shapely.geometry import box, mapping, shape

from cdscale.accuracy import Choice, draw, estimate, read_sample, write_sample
from cdscale.accuracy.sample import design_path
from cdscale.errors import SpecError
from cdscale.grid import LON_LAT, Area, Grid, Window, reproject, to_lon_lat
from cdscale.months import Month, Months
from cdscale.query import Wanted, Zones, statistics
from cdscale.query.accessor import open as cdscale_open
from cdscale.query.tallies import PARTS, Transitions
from cdscale.query.zonal import ZoneStatistics
from cdscale.spec.cube import ChangeQuality, ChangeState, CubeSpec, Variable
from cdscale.spec.product import change_variables
from cdscale.store import Store, create, open_source
from tests.commands import OK, Cli, refused
from tests.regions import a_card, blank

GRID = Grid.preset("europe", tile_px=128)
WINDOW = Window(3400, 3900, 2, 1)
SPEC = CubeSpec(
    product="change",
    title="made",
    grid=GRID,
    window=WINDOW,
    months=Months.parse("2020-01..2020-02"),
    variables=change_variables(a_card("change"), series=True),
    chunk_px=64,
)
WEST, NORTH = 3400 * 1280.0, GRID.extent.north - 3900 * 1280.0
JANUARY, FEBRUARY = SPEC.months.members


def made_store(path: Path, spec: CubeSpec, *, seed: int = 0) -> Path:
    """Every tile and month of random classes, probabilities and dates."""
    store = create(path, spec)
    random, px = np.random.default_rng(seed), spec.grid.tile_px
    for month in spec.months:
        for tile in spec.grid.tiles(_whole(spec)):
            if tile not in spec.window:
                continue
            blocks = blank(spec)
            drawn = {
                "probability": random.integers(0, 251, (px, px)),
                "change": random.choice([0, 1, 255], (px, px)),
                "quality": random.choice([int(c) for c in ChangeQuality][:4], (px, px)),
                "change_month": random.choice([-1, 18262], (px, px)),
                "flags": random.integers(0, 4, (px, px)),
                "state": random.choice([int(c) for c in ChangeState], (px, px)),
                "to_class": random.choice([0, 2], (px, px)),
            }
            for name in blocks.keys() & drawn.keys():
                blocks[name] = drawn[name].astype(blocks[name].dtype)
            store.write(tile, month, blocks)
    store.publish(list(spec.months)[:1])
    return path


def _whole(spec: CubeSpec) -> Area:
    extent = spec.window.geobox(spec.grid).extent.geom.buffer(-1)
    return Area(reproject(extent, spec.grid.crs, LON_LAT, resolution=100.0))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_store(tmp_path_factory.mktemp("zones") / "change.zarr", SPEC)


def metres(left: float, top: float, right: float, bottom: float) -> Any:
    """A box in pixels from the north-west corner of the store."""
    return box(WEST + 10 * left, NORTH - 10 * bottom, WEST + 10 * right, NORTH - 10 * top)


def cut(polygon: Any, spec: CubeSpec) -> NDArray[np.float64]:
    """Square metres of each pixel inside a polygon: its square cut with the polygon, one by one."""
    corner, step = spec.window.geobox(spec.grid).boundingbox, spec.grid.resolution
    rows, columns = np.indices(spec.shape)
    left, top = corner.left + columns * step, corner.top - rows * step
    cells = shapely.box(left, top - step, left + step, top)
    shapely.prepare(polygon)
    inside = shapely.contains_properly(polygon, cells)
    edge = shapely.intersects(polygon, cells) & ~inside
    areas = np.where(inside, step**2, 0.0)
    areas[edge] = shapely.area(shapely.intersection(cells[edge], polygon))
    return areas


def by_value(areas_YX: NDArray[np.float64], values_YX: NDArray[Any]) -> dict[int, float]:
    return {int(v): float(areas_YX[values_YX == v].sum()) for v in np.unique(values_YX)}


def stored(path: Path, name: str, month: int) -> NDArray[Any]:
    source = open_source(path)
    rows, columns = source.spec.shape
    block: NDArray[Any] = source.read(
        name, [np.array([month]), np.arange(rows), np.arange(columns)]
    )[0]
    return block


def only(path: Path, polygon: Any, crs: str = GRID.crs, **wanted: Any) -> ZoneStatistics:
    (zone,) = statistics(open_source(path), Zones.of(polygon, crs), Wanted(**wanted)).zones
    return zone


# ---------------------------------------------------------------------------------------- shares


@pytest.mark.parametrize(
    "polygon",
    [
        shapely.Point(WEST + 1270, NORTH - 640).buffer(433.3),
        metres(100.25, 10.5, 140.125, 90.75),
        metres(0, 0, 256, 128),
        shapely.union(metres(3.3, 3.3, 4.1, 90), metres(200, 70.7, 250.2, 71.1)),
        metres(20, 20, 100, 100).difference(metres(30.5, 30.5, 60.25, 99)),
    ],
    ids=["disc", "box", "all", "slivers", "hole"],
)
def test_square_kilometres_are_those_of_pixels_cut_one_by_one(store: Path, polygon: Any) -> None:
    zone = only(store, polygon)
    assert zone.km2 == pytest.approx(polygon.area / 1e6, rel=1e-8)
    assert zone.outside == pytest.approx(0, abs=1e-6)
    squares = cut(polygon, SPEC)
    for name in ("change", "quality", "change_month", "state"):
        expected = by_value(squares, stored(store, name, 0))
        lines = {x.label: x.km2 for x in zone.lines((JANUARY, name, ""))}
        v = SPEC.variable(name)
        codes = v.meanings or {18262: "2020-01"}
        for code, label in codes.items():
            assert lines[label] == pytest.approx(expected.get(code, 0) / 1e6, rel=1e-7, abs=1e-10)
    areas = by_value(squares, stored(store, "probability", 0))
    (line,) = zone.lines((JANUARY, "probability", ""))
    mean = 0.004 * sum(v * a for v, a in areas.items()) / sum(areas.values())
    assert line.mean == pytest.approx(mean, rel=1e-7)


def test_flags_stand_side_by_side(store: Path) -> None:
    polygon = metres(10, 10, 30, 30)
    areas = by_value(cut(polygon, SPEC), stored(store, "flags", 0))
    lines = {x.label: x.km2 for x in only(store, polygon).lines((JANUARY, "flags", ""))}
    assert lines["no_observation"] == pytest.approx((areas[1] + areas[3]) / 1e6)
    assert lines["optical_reconstructed"] == pytest.approx((areas[2] + areas[3]) / 1e6)
    assert lines["radar_missing"] == 0


def test_states_and_classes_of_a_store_are_told_together(store: Path) -> None:
    polygon = metres(10, 10, 30, 30)
    zone = only(store, polygon)
    state, after = stored(store, "state", 0), stored(store, "to_class", 0)
    areas = by_value(cut(polygon, SPEC), 10 * state.astype(int) + after)
    key = JANUARY, "transition", ""
    lines = {x.label: x.km2 for x in zone.lines(key)}
    confirmed = areas[10 * ChangeState.confirmed + 2] / 1e6
    assert lines["confirmed: unknown to built_up"] == pytest.approx(confirmed)
    silent = sum(areas.get(10 * code + to, 0) for code in (0, 1) for to in (0, 2))
    assert zone.missing(key) == pytest.approx(silent / polygon.area)
    assert zone.missing((JANUARY, "state", "")) == zone.missing(key)


def test_states_and_classes_are_told_together() -> None:
    classes = "unknown open_land urban"
    names = dict.fromkeys(PARTS, classes) | {"state": "outside none confirmed"}
    parts = tuple(
        Variable(
            name=part,
            dtype="uint8",
            fill=0,
            attrs={"flag_values": [0, 1, 2], "flag_meanings": names[part]},
        )
        for part in PARTS
    )
    tally = Transitions(parts)
    state, before, after = np.array([[0, 1, 2, 2, 2], [0, 0, 1, 1, 0], [0, 0, 2, 2, 0]], np.uint8)
    tally.add(Transitions.codes(state, before, after), np.array([1, 0.5, 1, 0.25, 2]))
    assert {x.label: x.km2 for x in tally.lines(1.0)} == {
        "outside: unknown to unknown": 1.0,
        "none: unknown to unknown": 0.5,
        "confirmed: open_land to urban": 1.25,
        "confirmed: unknown to unknown": 2.0,
    }
    assert tally.missing == 1.0


def test_many_zones_over_one_tile_are_read_in_parts(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"z{i}", metres(i, i, 100 + i, 100 + i)) for i in range(5)]
    zones = Zones("name", GRID.crs, tuple(Zones.of(g, GRID.crs).members[0] for _, g in rows))
    whole = statistics(open_source(store), zones)
    monkeypatch.setattr("cdscale.query.zonal.MOST_CELLS", 15_000)
    parts = statistics(open_source(store), zones)
    for one, other in zip(whole.zones, parts.zones, strict=True):
        assert one.km2 == other.km2
        assert all(one.lines(key) == other.lines(key) for key in one.tallies)


# ----------------------------------------------------------------------------------------- files


def write(path: Path, rows: list[tuple[Any, Any]], crs: str | None = LON_LAT) -> Path:
    """A vector file of named geometries, by its ending."""
    if crs is None:
        warnings.filterwarnings("ignore", "'crs' was not provided")
    names = np.array([name for name, _ in rows], object)
    wkb = np.array([None if g is None else shapely.to_wkb(g) for _, g in rows], object)
    pyogrio.raw.write(
        str(path), wkb, [names], ["name"], layer="zones", geometry_type="Unknown", crs=crs,
        driver={".gpkg": "GPKG", ".geojson": "GeoJSON"}[path.suffix],
    )  # fmt: skip
    return path


def degrees(polygon: Any) -> Any:
    return reproject(polygon, GRID.crs, LON_LAT, resolution=20.0)


def test_a_zone_is_the_same_whatever_its_file(store: Path, tmp_path: Path) -> None:
    polygon = metres(40, 20, 160, 100)
    utm = reproject(polygon, GRID.crs, "EPSG:32632", resolution=20.0)
    files = [
        write(tmp_path / "a.geojson", [("one", degrees(polygon))]),
        write(tmp_path / "b.gpkg", [("one", utm)], "EPSG:32632"),
        write(tmp_path / "c.gpkg", [("one", degrees(polygon))]),
        write(tmp_path / "d.gpkg", [("one", polygon)], GRID.crs),
    ]
    for file in files:
        zones = Zones.read(file, by="name")
        (zone,) = statistics(open_source(store), zones).zones
        assert (zone.zone.name, zones.notes) == ("one", ())
        assert zone.km2 == pytest.approx(polygon.area / 1e6, rel=2e-6), file


def test_polygons_of_one_name_are_one_zone(tmp_path: Path) -> None:
    one, other = metres(0, 0, 20, 20), metres(10, 0, 30, 20)
    rows = [("a", one), ("b", one), ("a", other), (None, one)]
    file = write(tmp_path / "a.gpkg", rows, GRID.crs)
    zones = Zones.read(file, by="name")
    assert {z.name: z.geometry.area for z in zones.members} == {
        "a": 60_000,
        "b": 40_000,
        "": 40_000,
    }
    assert Zones.read(file).members[0].geometry.area == 60_000


def test_rings_that_cross_are_mended_and_it_is_said(tmp_path: Path) -> None:
    bow = shapely.Polygon([(9.0, 45.0), (9.1, 45.1), (9.1, 45.0), (9.0, 45.1)])
    rows = [("bow", bow), ("gone", None), ("whole", box(9, 45, 9.1, 45.1))]
    zones = Zones.read(write(tmp_path / "a.geojson", rows), by="name")
    assert [z.name for z in zones.members] == ["bow", "whole"]
    assert zones.members[0].geometry.is_valid
    assert zones.notes == ("1 mended, their rings cross: bow", "1 empty, left out: gone")


def test_an_outline_across_the_antimeridian_is_cut() -> None:
    jumping = shapely.Polygon([(179, 60), (-179, 60), (-179, 61), (179, 61)])
    beyond = box(179, 60, 181, 61)
    for polygon in (jumping, beyond):
        (zone,) = Zones.of(polygon).members
        assert zone.geometry.area == pytest.approx(2)
        assert zone.geometry.bounds[0] == -180
    world = box(-180, -85, 180, 85)
    assert Zones.of(world).members[0].geometry.equals(world)


@pytest.mark.parametrize(
    ("rows", "crs", "said"),
    [
        ([("a", shapely.Point(9, 45))], LON_LAT, "expected a polygon; got Point"),
        ([("a", box(4e6, 2e6, 5e6, 3e6))], LON_LAT, "is not in degrees"),
        ([("a", None)], LON_LAT, "has no polygon"),
        ([], LON_LAT, "is empty; expected at least one polygon"),
        ([("a", box(9, 45, 10, 46))], None, "does not say its CRS"),
    ],
    ids=["point", "metres", "null", "empty", "no crs"],
)
def test_what_is_no_zone_is_refused(
    tmp_path: Path, rows: list[Any], crs: str | None, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        Zones.read(write(tmp_path / "a.gpkg", rows, crs), by="name")


def test_a_missing_field_and_a_missing_file_are_said(tmp_path: Path) -> None:
    file = write(tmp_path / "a.gpkg", [("a", box(9, 45, 10, 46))])
    with pytest.raises(SpecError, match="has no field 'nome'; expected one of name"):
        Zones.read(file, by="nome")
    with pytest.raises(SpecError, match="says another CRS"):
        Zones.read(file, crs="EPSG:3035")
    with pytest.raises(SpecError, match="cannot read"):
        Zones.read(tmp_path / "none.gpkg")
    (tmp_path / "empty.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(SpecError, match="is empty"):
        Zones.read(tmp_path / "empty.geojson", by="name")
    (tmp_path / "text.geojson").write_text("words")
    with pytest.raises(SpecError, match="does not read; expected polygons"):
        Zones.read(tmp_path / "text.geojson")


# ----------------------------------------------------------------------------------- the command


@pytest.fixture
def polygons(tmp_path: Path) -> Path:
    """A zone inside, one half outside, one far away."""
    rows = [
        ("inside", degrees(metres(10, 10, 50, 50))),
        ("half", degrees(metres(-20, 0, 20, 40))),
        ("away", box(2, 48, 2.1, 48.1)),
    ]
    return write(tmp_path / "zones.geojson", rows)


def test_stats_tell_zones_months_and_classes(cdscale: Cli, store: Path, polygons: Path) -> None:
    told = cdscale("stats", store, polygons, "--by", "name", "--variable", "change")
    assert told.code == OK
    assert "note: 1 outside the store: away" in told.err
    assert "note: 1 partly outside the store: half (50.0% of it)" in told.err
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert {(r["name"], r["month"], r["class"]) for r in rows} == {
        (zone, "2020-01", name)
        for zone in ("inside", "half")
        for name in ("no_change", "change", "no_data")
    }
    for zone, km2 in (("inside", 0.16), ("half", 0.08)):
        of_zone = [r for r in rows if r["name"] == zone]
        assert sum(float(r["km2"]) for r in of_zone) == pytest.approx(km2, rel=1e-5)
        missing = {r["missing_share"] for r in of_zone}
        gone = next(float(r["km2"]) for r in of_zone if r["class"] == "no_data")
        assert [float(m) for m in missing] == [pytest.approx(gone / km2, abs=1e-5)]


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_every_format_holds_the_same(
    cdscale: Cli, store: Path, polygons: Path, tmp_path: Path, form: str
) -> None:
    out = tmp_path / f"table.{form}"
    told = cdscale("stats", store, polygons, "--by", "name", "--unpublished", "--out", out)
    assert (told.code, "3 zones, 2 months" in told.out) == (OK, True)
    read: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "csv": lambda: list(csv.DictReader(io.StringIO(out.read_text()))),
        "json": lambda: json.loads(out.read_text()),
        "parquet": lambda: pq.read_table(out).to_pylist(),
    }
    rows = read[form]()
    assert {r["month"] for r in rows} == {"2020-01", "2020-02"}
    assert sum(float(r["km2"]) for r in rows if r["variable"] == "quality") == pytest.approx(
        2 * (0.16 + 0.08), rel=1e-5
    )
    assert {r["name"] for r in rows} == {"inside", "half"}


def test_wrong_questions(cdscale: Cli, store: Path, polygons: Path, tmp_path: Path) -> None:
    by = ("--by", "name")
    refused(cdscale("stats", store, polygons, "--by", "quarter"), "has no field 'quarter'")
    refused(cdscale("stats", store, polygons, *by, "--months", "2020-02"), "is not published")
    refused(cdscale("stats", store, polygons, *by, "--months", "2021-02"), "does not have these")
    refused(cdscale("stats", store, polygons, *by, "--variable", "s2"), "no variable s2")
    refused(cdscale("stats", store, polygons, *by, "--format", "xls"), "csv, json, parquet")
    refused(cdscale("stats", store, polygons, *by, "--format", "parquet"), "--out FILE")
    refused(cdscale("stats", store, polygons, *by, "--out", tmp_path), "a file; got a folder")
    refused(cdscale("stats", store, polygons, *by, "--out", store / "a.csv"), "lies in a store")
    away = write(tmp_path / "away.geojson", [("a", box(2, 48, 2.1, 48.1))])
    refused(cdscale("stats", store, away, *by), "the area has no pixel in", "degrees")


def test_the_table_does_not_replace_the_polygons(
    cdscale: Cli, store: Path, polygons: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.gpkg"
    own.write_bytes(before := polygons.read_bytes())
    told = cdscale("stats", store, own, "--by", "name", "--unpublished", "--out", own)
    refused(told, "would replace the polygons")
    assert own.read_bytes() == before


def test_a_file_of_several_layers_is_refused_and_a_table_beside_one_is_none(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "zones.gpkg", [("a", box(3, 50, 4, 51))])
    names = np.array(["a style"], object)
    no_place: dict[str, Any] = {"geometry_type": None, "crs": None, "append": True}
    pyogrio.raw.write(str(path), None, [names], ["name"], layer="layer_styles", **no_place)
    assert [zone.name for zone in Zones.read(path, by="name").members] == ["a"]
    place = np.array([shapely.to_wkb(box(4, 50, 5, 51))], object)
    further: dict[str, Any] = {"geometry_type": "Polygon", "crs": LON_LAT, "append": True}
    pyogrio.raw.write(str(path), place, [names], ["name"], layer="more", **further)
    with pytest.raises(SpecError, match="has several layers; expected one; got zones, more"):
        Zones.read(path, by="name")


def test_a_ring_that_is_not_closed_is_refused_by_name(tmp_path: Path) -> None:
    good = box(3, 50, 4, 51).__geo_interface__
    bad = {"type": "Polygon", "coordinates": [[[3, 50], [4, 50], [4, 51], [3, 51]]]}
    path = tmp_path / "open.geojson"
    features = [
        {"type": "Feature", "properties": {"name": name}, "geometry": geometry}
        for name, geometry in (("good", good), ("bad", bad))
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.raises(SpecError, match="'bad' has an outline that does not read; expected rings"):
        Zones.read(path, by="name")


# ------------------------------------------------------------------------------------ the ground


@pytest.fixture(scope="module")
def sample(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of January's change; every fifth point was something else."""
    path = tmp_path_factory.mktemp("sample") / "sample.csv"
    design = draw(Store(store, SPEC), "change", JANUARY, Choice(size=400, least=100))
    write_sample(design, path)
    other = dict(zip(design.mapped_km2, reversed(design.mapped_km2), strict=True))
    lines = [f"{p.id},{p.mapped if p.id % 5 else other[p.mapped]}" for p in design.points]
    path.write_text("\n".join(["id,reference", *lines]))
    return path


def test_the_ground_of_a_zone_comes_from_the_points_in_it(
    cdscale: Cli, store: Path, sample: Path, tmp_path: Path
) -> None:
    rows = [
        ("all", metres(0, 0, 256, 128)),
        ("west", metres(0, 0, 128, 128)),
        ("small", metres(5, 5, 20, 20)),
    ]
    file = write(tmp_path / "zones.gpkg", rows, GRID.crs)
    asked = ("stats", store, file, "--by", "name", "--unpublished", "--variable", "change")
    told = cdscale(*asked, "--sample", sample, "--format", "json")
    assert "note: 1 without an estimate from sample.csv" in told.err
    assert told.err.rstrip().endswith("fewer than 10 interpreted points lie there: small")
    table = {(r["name"], r["month"], r["class"]): r for r in json.loads(told.out)}
    design, seen = read_sample(sample)
    whole = estimate(design.counts(seen), design.mapped_km2)
    for name, area in zip(whole.classes, whole.area_km2, strict=True):
        row = table["all", "2020-01", name]
        ends = [row["ground_km2"], row["ground_low"], row["ground_high"]]
        expected = [area.value, area.value - area.interval, area.value + area.interval]
        assert ends == pytest.approx(expected, rel=1e-6)
        west = table["west", "2020-01", name]
        assert west["ground_low"] < west["ground_km2"] < west["ground_high"]
        assert (west["ground_high"] - west["ground_low"]) / west["ground_km2"] > (
            1.2 * 2 * area.interval / area.value
        )
    nothing = [r for r in table.values() if r["name"] == "small" or r["month"] == "2020-02"]
    assert {r["ground_km2"] for r in nothing} == {None}
    by_hand = cdscale_open(store, unpublished=True)[["change"]]
    own = by_hand.cd.area(rows[1][1], crs=GRID.crs, sample=sample)
    assert own.ground_km2.dropna().sum() == pytest.approx(
        sum(table["west", "2020-01", name]["ground_km2"] for name in whole.classes)
    )
    assert "ground_km2" not in by_hand.cd.area(rows[1][1], crs=GRID.crs)


def test_a_sample_of_something_else_is_refused(
    cdscale: Cli, store: Path, polygons: Path, sample: Path, tmp_path: Path
) -> None:
    asked = ("stats", store, polygons, "--by", "name", "--sample")
    refused(cdscale(*asked, sample, "--variable", "quality"), "got change of 2020-01")
    other = tmp_path / "other.csv"
    other.write_text(sample.read_text())
    design = design_path(sample).read_text()
    design_path(other).write_text(design.replace('"made"', '"another"'))
    refused(cdscale(*asked, other), "is of another map; expected made")
    refused(cdscale(*asked, tmp_path / "none.csv"), "none.design.json")


# --------------------------------------------------------------------------------------- Milan


@pytest.mark.realdata
def test_the_quarters_of_milan(data_root: Path, tmp_path: Path) -> None:
    """Quarters over part of OSCD's scene: each as cut pixel by pixel, all as the union."""
    file = data_root / "vectors" / "milan_quarters.geojson"
    grid = Grid.preset("europe", tile_px=256)
    tile = next(iter(grid.tiles(Area(box(9.1835, 45.4635, 9.184, 45.464)))))
    spec = SPEC.model_copy(
        update={
            "grid": grid,
            "window": Window(tile.ix, tile.iy, 1, 1),
            "months": Months.parse("2020-01"),
            "variables": tuple(v for v in SPEC.variables if v.name in {"quality", "change"}),
            "chunk_px": 128,
        }
    )
    path = made_store(tmp_path / "change.zarr", spec, seed=3)
    features = json.loads(file.read_text())["features"]
    field = next(iter(features[0]["properties"]))
    zones = Zones.read(file, by=field)
    found = statistics(open_source(path), zones)
    inside = [z for z in found.zones if z.km2]
    assert len(inside) >= 4
    values = stored(path, "quality", 0)
    outline = spec.window.geobox(grid).extent.geom
    key = (Month(2020, 1), "quality", "")
    for zone in inside:
        flat = reproject(zone.zone.geometry, LON_LAT, grid.crs, resolution=0.0002)
        expected = by_value(cut(flat, spec), values)
        # Of some quarters only a sliver lies on the tile.
        own_m2 = flat.intersection(outline).area
        assert zone.km2 * 1e6 == pytest.approx(own_m2, abs=1e-6 * flat.area)
        for code, line in zip(ChangeQuality, zone.lines(key), strict=True):
            own = expected.get(int(code), 0)
            assert line.km2 * 1e6 == pytest.approx(own, abs=1e-6 * flat.area)
    union = shapely.union_all([shape(mapping(z.zone.geometry)) for z in found.zones])
    (whole,) = statistics(open_source(path), Zones.of(union)).zones
    # Neighbours overlap by some square metres, as they are drawn: that is counted twice.
    every = [reproject(z.zone.geometry, LON_LAT, grid.crs, resolution=0.0002) for z in inside]
    there = [shapely.intersection(one, outline) for one in every]
    twice = sum(shapely.area(there)) - shapely.union_all(there).area
    assert sum(z.km2 for z in inside) - twice / 1e6 == pytest.approx(whole.km2, rel=1e-6)


def test_degrees_are_longitude_first() -> None:
    assert to_lon_lat(WEST, NORTH, GRID.crs)[0] < to_lon_lat(WEST, NORTH, GRID.crs)[1]
