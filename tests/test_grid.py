"""The lattice: tiles, areas, presets, and what GIS programs read of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shapely.geometry import box, mapping

from cdscale import grid as lattice
from cdscale.errors import SpecError
from cdscale.grid import (
    ACROSS,
    LON_LAT,
    PRESETS,
    Area,
    Bounds,
    Grid,
    Tile,
    Window,
    choose_preset,
    covered,
    crs_attributes,
    cut_at_antimeridian,
    project,
    to_lon_lat,
)

EUROPE = Grid.preset("europe")
SQUARE = [[4.0, 50.0], [5.0, 50.0], [5.0, 51.0], [4.0, 51.0], [4.0, 50.0]]
PLACES = {  # in the middle of each preset
    "europe": (10.0, 50.0), "north-america": (-98.0, 39.0), "south-america": (-60.0, -15.0),
    "africa": (20.0, 5.0), "australia": (134.0, -25.0), "asia": (100.0, 35.0),
    "world": (-150.0, -20.0),
}  # fmt: skip


def outside(tile: Tile, grid: Grid) -> Any:
    return grid.geobox(tile).extent.geom


@st.composite
def areas(draw: st.DrawFn) -> Area:
    """Triangles somewhere in Europe, from some hundred metres to some degrees."""
    west, south = draw(st.floats(-5, 25)), draw(st.floats(38, 58))
    size = draw(st.floats(0.001, 2.0))
    angles = sorted(draw(st.tuples(*[st.floats(0, 6.28)] * 3)))
    ring = [(west + size * math.cos(a), south + size * math.sin(a)) for a in angles]
    polygon = shapely.Polygon(ring)
    if not polygon.is_valid or polygon.area < 1e-7:
        polygon = box(west, south, west + size, south + size)
    return Area(polygon)


# ---------------------------------------------------------------------------------------- tiles


@given(st.integers(0, 99_999), st.integers(0, 99_999))
def test_a_tile_reads_back_what_it_prints(ix: int, iy: int) -> None:
    assert Tile.parse(str(Tile(ix, iy))) == Tile(ix, iy)


@pytest.mark.parametrize("text", ["", "x1y2", "x0001y0002 ", "y0001x0002", "x-001y0002", "x0001"])
def test_what_is_no_tile_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="not a tile.*x0123y0045"):
        Tile.parse(text)


def test_neighbours_are_nine_and_hold_the_tile() -> None:
    around = list(Tile(5, 7).neighbours())
    assert len(set(around)) == 9
    assert all(abs(t.ix - 5) <= 1 and abs(t.iy - 7) <= 1 for t in around)


@given(areas(), st.sampled_from([64, 256, 1024]))
def test_tiles_cover_the_area_and_each_shares_ground_with_it(area: Area, tile_px: int) -> None:
    grid = Grid.preset("europe", resolution=40, tile_px=tile_px)
    polygon = area.to_crs(grid.crs)
    tiles = grid.tiles(area)
    cells = [outside(tile, grid) for tile in tiles]
    missed = polygon.difference(shapely.union_all(cells)).area
    assert missed <= 1e-6 * polygon.area
    assert all(polygon.intersects(cell) and not polygon.touches(cell) for cell in cells)
    assert list(tiles) == sorted(tiles, key=lambda t: (t.iy, t.ix))
    assert len(set(tiles)) == len(tiles)


@given(st.integers(0, 399), st.integers(0, 399), st.integers(0, 2047), st.integers(0, 2047))
def test_a_pixel_centre_lies_in_one_tile(ix: int, iy: int, row: int, column: int) -> None:
    x, y = EUROPE.geobox(Tile(ix, iy)).affine * (column + 0.5, row + 0.5)
    point = shapely.Point(x, y)
    near = [t for t in Tile(ix, iy).neighbours() if outside(t, EUROPE).contains(point)]
    assert near == [Tile(ix, iy)]


@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from(list(PRESETS)))
def test_neighbouring_tiles_abut(ix: int, iy: int, name: str) -> None:
    grid = Grid.preset(name)
    here = grid.geobox(Tile(ix, iy)).boundingbox
    east = grid.geobox(Tile(ix + 1, iy)).boundingbox
    south = grid.geobox(Tile(ix, iy + 1)).boundingbox
    assert (here.right, here.top, here.bottom) == (east.left, east.top, east.bottom)
    assert (here.bottom, here.left, here.right) == (south.top, south.left, south.right)
    assert grid.geobox(Tile(ix, iy)).shape == (2048, 2048)


@pytest.mark.parametrize("name", list(PRESETS))
def test_grids_of_other_tile_sizes_and_extents_share_their_pixels(name: str) -> None:
    """Two runs made years apart: every extent is a whole number of default tiles from zero."""
    for edge in PRESETS[name].extent:
        assert edge % 204_800 == 0
    big, small = Grid.preset(name, tile_px=2048), Grid.preset(name, tile_px=512)
    whole = big.geobox(Tile(3, 4))
    part = small.geobox(Tile(3 * 4 + 1, 4 * 4 + 2))
    assert part.affine * (0, 0) == whole.affine * (512, 1024)


def test_an_area_that_ends_on_a_tile_edge_does_not_take_the_next_tile() -> None:
    grid = Grid.preset("world", resolution=100, tile_px=64)
    cell = grid.geobox(Tile(2000, 1000)).boundingbox
    west, south = to_lon_lat(cell.left, cell.bottom, grid.crs)
    east, north = to_lon_lat(cell.right, cell.top, grid.crs)
    inset = 1e-6  # degrees; a decimetre
    inner = Area.from_bounds(Bounds(west + inset, south + inset, east - inset, north - inset))
    assert grid.tiles(inner) == (Tile(2000, 1000),)
    wider = Area.from_bounds(Bounds(west - 1e-5, south + inset, east - inset, north - inset))
    assert grid.tiles(wider) == (Tile(1999, 1000), Tile(2000, 1000))


def test_an_area_with_a_hole_leaves_out_the_tiles_inside_the_hole() -> None:
    grid = Grid.preset("europe", tile_px=256)
    ring = box(4, 50, 5, 51).difference(box(4.2, 50.2, 4.8, 50.8))
    hole = set(grid.tiles(Area(box(4.3, 50.3, 4.7, 50.7))))
    assert hole
    assert hole.isdisjoint(grid.tiles(Area(ring)))


@pytest.mark.parametrize(
    "bounds", [Bounds(-75, 40, -74, 41), Bounds(10, -34, 18, -30), Bounds(-180, -90, 180, 90)]
)
def test_an_area_outside_the_grid_is_refused(bounds: Bounds) -> None:
    with pytest.raises(SpecError, match=r"outside the grid europe \(EPSG:3035\).*another grid"):
        EUROPE.tiles(Area.from_bounds(bounds))


def test_an_area_of_too_many_tiles_is_refused_before_they_are_counted_out() -> None:
    grid = Grid.preset("europe", resolution=1e-9, tile_px=64)
    with pytest.raises(SpecError, match="too many tiles for one run; expected at most 20,000,000"):
        grid.tiles(Area.from_bounds(Bounds(12.0, 51.0, 12.1, 51.1)))


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(SpecError, match="unknown grid; expected one of europe.*got 'mars'"):
        Grid.preset("mars")


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 5), st.integers(1, 5))
def test_slices_of_a_window_partition_its_arrays(ix: int, iy: int, nx: int, ny: int) -> None:
    grid = Grid.preset("europe", tile_px=64)
    window = Window(ix, iy, nx, ny)
    tiles = [Tile(ix + i, iy + j) for j in range(ny) for i in range(nx)]
    assert grid.window(tiles) == window
    geobox = window.geobox(grid)
    hits = np.zeros(geobox.shape, int)
    for tile in tiles:
        rows, columns = window.slices(grid, tile)
        hits[rows, columns] += 1
        corner = geobox.affine * (columns.start, rows.start)
        assert corner == grid.geobox(tile).affine * (0, 0)
    assert (hits == 1).all()
    for tile in (Tile(ix - 1, iy), Tile(ix + nx, iy), Tile(ix, iy + ny)):
        assert tile not in window
        with pytest.raises(SpecError, match="not part of the store"):
            window.slices(grid, tile)


def test_a_grid_knows_its_tiles() -> None:
    last = int(8_192_000 / 20_480) - 1
    assert Tile(0, 0) in EUROPE
    assert Tile(last, last) in EUROPE
    assert Tile(last + 1, 0) not in EUROPE
    assert Tile(0, -1) not in EUROPE


# ----------------------------------------------------------------------------------- equal areas


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_tile_covers_its_square_metres_on_the_ellipsoid(name: str) -> None:
    """Every projection is equal-area: a tile is as large on the ground as its pixels say.

    Within a millionth on WGS 84; within a hundred-thousandth in South America, whose projection
    stands on the slightly larger ellipsoid of 1967.
    """
    tolerance = 1e-5 if name == "south-america" else 1e-6
    grid = Grid.preset(name)
    x, y = project(*PLACES[name], grid.crs)
    middle = Tile(
        int((x - grid.extent.west) // grid.tile_m), int((grid.extent.north - y) // grid.tile_m)
    )
    for tile in (middle, Tile(middle.ix + 40, middle.iy - 40), Tile(middle.ix - 40, middle.iy)):
        assert tile in grid
        outline = shapely.segmentize(outside(tile, grid), grid.tile_m / 64)
        ring = [to_lon_lat(px, py, grid.crs) for px, py in shapely.get_coordinates(outline)]
        lons, lats = zip(*ring, strict=True)
        area = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(lons, lats)[0]
        assert abs(area) == pytest.approx(grid.tile_m**2, rel=tolerance)


@pytest.mark.parametrize("name", list(PRESETS))
def test_points_go_there_and_back_within_a_centimetre(name: str) -> None:
    lon, lat = PLACES[name]
    there = project(lon, lat, PRESETS[name].crs)
    assert to_lon_lat(*there, PRESETS[name].crs) == pytest.approx((lon, lat), abs=1e-7)


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_holds_the_part_of_the_world_that_it_is_meant_for(name: str) -> None:
    """Whatever ``auto`` sends to a preset, its lattice takes."""
    Grid.preset(name, tile_px=20_480).tiles(Area.from_bounds(PRESETS[name].lon_lat))
    if name in ACROSS:
        west, south, east, north = ACROSS[name]
        both = [box(west, south, 180, north), box(-180, south, east - 360, north)]
        Grid.preset(name, tile_px=20_480).tiles(Area(shapely.union_all(both)))


# ---------------------------------------------------------------------------------------- areas


def test_every_form_of_geojson_is_read() -> None:
    polygon = {"type": "Polygon", "coordinates": [SQUARE]}
    feature = {"type": "Feature", "properties": {}, "geometry": polygon}
    other = {"type": "Polygon", "coordinates": [[[x + 2, y] for x, y in SQUARE]]}
    forms: list[tuple[Any, float]] = [
        (polygon, 1),
        (feature, 1),
        ({"type": "MultiPolygon", "coordinates": [[SQUARE]]}, 1),
        ({"type": "FeatureCollection", "features": [feature, {**feature, "geometry": other}]}, 2),
        ({"type": "FeatureCollection", "features": [feature, feature]}, 1),
        ({"type": "GeometryCollection", "geometries": [polygon, other]}, 2),
        # Points and lines beside a polygon hold no area.
        ({"type": "GeometryCollection", "geometries": [
            polygon, {"type": "Point", "coordinates": [0, 0]}]}, 1),
        ({"type": "Polygon", "coordinates": [[[x, y, 77.0] for x, y in SQUARE]]}, 1),
    ]  # fmt: skip
    for data, size in forms:
        area = Area.from_geojson(data, where="it")
        assert area.geometry.area == pytest.approx(size)
        assert Area.from_geojson(area.geojson, where="again").geometry.equals(area.geometry)
        EUROPE.tiles(area)


def test_a_self_crossing_polygon_keeps_both_of_its_parts() -> None:
    bow = [[4, 50], [5, 51], [5, 50], [4, 51], [4, 50]]
    area = Area.from_geojson({"type": "Polygon", "coordinates": [bow]}, where="it")
    assert area.geometry.is_valid
    assert area.geometry.area == pytest.approx(0.5)


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    "data",
    [
        None, 5, "text", [], {}, {"type": ["Polygon"]}, {"type": "Circle"}, {"type": "Polygon"},
        {"type": "Polygon", "coordinates": None}, {"type": "Polygon", "coordinates": 5},
        {"type": "Polygon", "coordinates": "text"}, {"type": "Polygon", "coordinates": {"a": 1}},
        {"type": "Polygon", "coordinates": []}, {"type": "Polygon", "coordinates": [[]]},
        {"type": "Polygon", "coordinates": [[[0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, "b"], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, None], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, NAN], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [INF, 1], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1, 5], [0, 0]]]},
        {"type": "MultiPolygon", "coordinates": [[SQUARE], 5]},
        {"type": "Point", "coordinates": [4, 50]},
        {"type": "LineString", "coordinates": [[4, 50], [5, 51]]},
        {"type": "Feature"}, {"type": "Feature", "geometry": None},
        {"type": "FeatureCollection"}, {"type": "FeatureCollection", "features": None},
        {"type": "FeatureCollection", "features": []},
        {"type": "FeatureCollection", "features": [None]},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": None}]},
        {"type": "GeometryCollection", "geometries": None},
    ],
)  # fmt: skip
def test_hostile_geojson_is_refused_by_name(data: Any) -> None:
    with pytest.raises(SpecError, match=r"^aoi\.geojson "):
        Area.from_geojson(data, where="aoi.geojson")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "coordinates", "features", "geometry"]), inner)
    ),
    max_leaves=12,
)


@given(st.sampled_from(["Polygon", "MultiPolygon", "Feature", "FeatureCollection"]), json_values)
def test_any_json_is_an_area_or_a_refusal(kind: str, value: Any) -> None:
    for key in ("coordinates", "geometry", "features"):
        try:
            area = Area.from_geojson({"type": kind, key: value}, where="it")
        except SpecError:
            continue
        assert area.geometry.area > 0


def test_projected_coordinates_are_told_apart_from_degrees() -> None:
    ring = [[x * 100_000, y * 100_000] for x, y in SQUARE]
    with pytest.raises(SpecError, match="not in degrees.*EPSG:4326.*reproject"):
        Area.from_geojson({"type": "Polygon", "coordinates": [ring]}, where="it")


@pytest.mark.parametrize(
    "bounds",
    [(170, -10, -170, 10), (4, 51, 5, 50), (4, 50, 4, 51), (NAN, 0, 1, 1), (0, 0, INF, 1)],
)
def test_a_box_turned_round_is_refused_and_not_turned_inside_out(
    bounds: tuple[float, float, float, float],
) -> None:
    with pytest.raises(SpecError, match="bounding box"):
        Area.from_bounds(Bounds(*bounds))


def test_a_polygon_that_touches_the_antimeridian_but_for_rounding_is_read() -> None:
    area = Area.from_bounds(Bounds(170, 50, 180.00000000000014, 51))
    assert area.bounds.east == 180
    with pytest.raises(SpecError, match="not in degrees"):
        Area.from_bounds(Bounds(170, 50, 180.1, 51))


def test_long_edges_bend_with_the_projection() -> None:
    """The northern edge of a wide box is a parallel, which EPSG:3035 curves by kilometres."""
    wide = Area.from_bounds(Bounds(-5, 45, 25, 50))
    _, top = project(10, 50, "EPSG:3035")
    corner = project(-5, 50, "EPSG:3035")[1]
    assert corner - top > 50_000
    assert wide.to_crs("EPSG:3035").covers(shapely.Point(*project(10, 49.999, "EPSG:3035")))
    assert not wide.to_crs("EPSG:3035").covers(shapely.Point(*project(10, 50.01, "EPSG:3035")))


def test_covered_pixels_are_those_whose_centre_lies_inside() -> None:
    grid = Grid.preset("europe", tile_px=64)
    x, y = project(4.4, 50.8, grid.crs)
    tile = Tile(int(x // grid.tile_m), int((grid.extent.north - y) // grid.tile_m))
    geobox = grid.geobox(tile)
    middle = geobox.extent.centroid.points[0]
    disc = shapely.Point(middle).buffer(200, quad_segs=64)
    area = Area(lattice.reproject(disc, grid.crs, LON_LAT, resolution=1))
    rows, columns = np.mgrid[:64, :64] + 0.5
    xs, ys = geobox.affine * (columns, rows)
    distance = np.hypot(xs - middle[0], ys - middle[1])
    got = covered(area, geobox)
    assert got[distance < 199].all()
    assert not got[distance > 201].any()


@pytest.mark.parametrize("name", list(PRESETS))
def test_an_area_far_larger_or_elsewhere_covers_all_or_nothing(name: str) -> None:
    """Projected as a whole, the globe turns inside out."""
    grid = Grid.preset(name, tile_px=64)
    x, y = project(*PLACES[name], grid.crs)
    tile = Tile(
        int((x - grid.extent.west) // grid.tile_m), int((grid.extent.north - y) // grid.tile_m)
    )
    geobox = grid.geobox(tile)
    assert covered(Area(box(-180, -90, 180, 90)), geobox).all()
    lon, lat = PLACES[name]
    assert covered(Area(box(lon - 20, lat - 15, lon + 20, lat + 15)), geobox).all()
    assert not covered(Area(box(-lon - 1, -lat - 1, -lon + 1, -lat + 1)), geobox).any()
    two = shapely.union_all([box(lon - 1, lat - 1, lon + 1, lat + 1), box(179, 0, 180, 1)])
    assert covered(Area(two), geobox).all()


# -------------------------------------------------------------------------------------- presets

CITIES = {
    "abudhabi": (54.6, 24.4, "africa"), "aguasclaras": (-48.0, -15.8, "south-america"),
    "beihai": (109.1, 21.5, "asia"), "beirut": (35.5, 33.9, "europe"),
    "bercy": (2.4, 48.8, "europe"), "bordeaux": (-0.6, 44.8, "europe"),
    "brasilia": (-47.9, -15.8, "south-america"), "chongqing": (106.6, 29.6, "asia"),
    "cupertino": (-122.0, 37.3, "north-america"), "dubai": (55.2, 25.1, "africa"),
    "hongkong": (114.1, 22.4, "asia"), "lasvegas": (-115.1, 36.1, "north-america"),
    "milano": (9.2, 45.5, "europe"), "montpellier": (3.9, 43.6, "europe"),
    "mumbai": (72.9, 19.1, "asia"), "nantes": (-1.6, 47.2, "europe"),
    "norcia": (13.1, 42.8, "europe"), "paris": (2.3, 48.9, "europe"),
    "pisa": (10.4, 43.7, "europe"), "rennes": (-1.7, 48.1, "europe"),
    "rio": (-43.2, -22.9, "south-america"), "saclay_e": (2.2, 48.7, "europe"),
    "saclay_w": (2.1, 48.7, "europe"), "valencia": (-0.4, 39.5, "europe"),
}  # fmt: skip


@pytest.mark.parametrize("city", CITIES)
def test_each_city_gets_the_grid_of_its_part_of_the_world(city: str) -> None:
    """Arabia lies on the grid of Africa, which bends it far less than that of Asia."""
    lon, lat, expected = CITIES[city]
    area = Area.from_bounds(Bounds(lon - 0.05, lat - 0.05, lon + 0.05, lat + 0.05))
    assert choose_preset(area) == expected
    assert Grid.preset(expected).tiles(area)


def test_what_lies_in_no_continent_gets_the_grid_of_the_world() -> None:
    assert choose_preset(Area.from_bounds(Bounds(-20, 30, 60, 60))) == "world"
    assert choose_preset(Area.from_bounds(Bounds(-151, -21, -150, -20))) == "world"


@pytest.mark.realdata
def test_real_countries_are_tiled_on_the_grid_that_auto_chooses(data_root: Path) -> None:
    path = data_root / "vectors" / "naturalearth_countries_110m.geojson"
    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    chosen = {}
    for feature in features:
        area = Area.from_geojson(feature, where="a country")
        name = choose_preset(area)
        if area.bounds.south < PRESETS["world"].lon_lat.south:
            continue  # Antarctica
        chosen[next(iter(feature["properties"].values()))] = name
        assert Grid.preset(name, tile_px=8192).tiles(area)
    assert {"europe", "africa", "asia", "south-america", "australia"} <= set(chosen.values())


# -------------------------------------------------------------------------------- CF attributes


@pytest.mark.parametrize("name", list(PRESETS))
def test_cf_attributes_say_the_crs_and_the_transform(name: str) -> None:
    grid = Grid.preset(name)
    geobox = grid.geobox(Tile(12, 34))
    attributes = crs_attributes(geobox)
    expected = pyproj.CRS(grid.crs)
    assert pyproj.CRS(attributes["spatial_ref"]) == expected
    without_wkt = {k: v for k, v in attributes.items() if k not in {"crs_wkt", "spatial_ref"}}
    again = pyproj.CRS.from_cf(without_wkt)
    change = pyproj.Transformer.from_crs(again, expected, always_xy=True)
    x, y = project(*PLACES[name], grid.crs)
    assert change.transform(x, y) == pytest.approx((x, y), abs=1e-3)
    numbers = [float(number) for number in attributes["GeoTransform"].split()]
    assert tuple(numbers) == geobox.affine.to_gdal()
    assert "standard_parallel" not in attributes or isinstance(
        attributes["standard_parallel"], float | list
    )


def test_the_footprint_of_a_tile_is_its_outline_in_degrees() -> None:
    tile = Tile(190, 245)
    footprint = EUROPE.footprint(tile)
    back = lattice.reproject(footprint, LON_LAT, EUROPE.crs, resolution=1)
    square = outside(tile, EUROPE)
    assert back.symmetric_difference(square).area < 1e-4 * square.area
    assert mapping(footprint)["type"] == "Polygon"


# --------------------------------------------------------------------------------- antimeridian

ROUND_THE_POLE = "EPSG:3571"
"""Equal-area around the North Pole: the antimeridian is a line like any other in it."""
CHUKOTKA = Area(shapely.MultiPolygon([box(177, 65, 180, 67), box(-180, 65, -176, 67)]))


def true_area(degrees: Any) -> float:
    """Square metres of polygons in degrees, each part by itself."""
    parts = shapely.get_parts(degrees)
    bent = [lattice.reproject(p, LON_LAT, ROUND_THE_POLE, resolution=0.02) for p in parts]
    return float(sum(part.area for part in bent))


def on_the_ground(degrees: Any) -> Any:
    """An outline with degrees of longitude as long as those of latitude: near a pole few metres."""
    _, south, _, north = degrees.bounds
    shrink = math.cos(math.radians((south + north) / 2))
    return shapely.transform(degrees.boundary, lambda xy: xy * (shrink, 1))


@settings(max_examples=30)
@example(ix=191, iy=8, size=2048)
@given(ix=st.integers(0, 200), iy=st.integers(0, 200), size=st.sampled_from([64, 640, 2048]))
@pytest.mark.parametrize("name", ["europe", "EPSG:32601", "asia"])
def test_footprints_of_many_tiles_are_those_of_each(name: str, ix: int, iy: int, size: int) -> None:
    grid = Grid.preset(name, tile_px=size)
    nx, ny = grid._count
    tiles = [Tile((ix + 7 * i) % nx, (iy + 5 * i) % ny) for i in range(4)]
    for tile, found in zip(tiles, grid.footprints(tiles), strict=True):
        both = on_the_ground(found), on_the_ground(grid.footprint(tile))
        assert shapely.hausdorff_distance(*both, densify=0.1) < 1e-4  # degrees: ten metres


@given(
    st.floats(176, 184), st.floats(60, 71), st.sampled_from(["asia", "EPSG:32660", "EPSG:32601"])
)
def test_the_footprint_of_a_tile_holds_across_the_antimeridian(
    lon: float, lat: float, name: str
) -> None:
    grid = Grid.preset(name)
    x, y = project((lon + 180) % 360 - 180, lat, grid.crs)
    tile = Tile(
        int((x - grid.extent.west) // grid.tile_m), int((grid.extent.north - y) // grid.tile_m)
    )
    footprint = grid.footprint(tile)
    assert footprint.is_valid
    west, _, east, _ = footprint.bounds
    assert west >= -180
    assert east <= 180
    # UTM stretches by a thousandth and more towards the edge of a zone and beyond.
    assert true_area(footprint) == pytest.approx(
        grid.tile_m**2, rel=1e-3 if name == "asia" else 0.02
    )
    assert footprint.buffer(1e-6).contains(shapely.Point((lon + 180) % 360 - 180, lat))


def test_an_area_across_the_antimeridian_is_covered_once_by_its_tiles() -> None:
    grid = Grid.preset("asia", resolution=200, tile_px=256)
    tiles = grid.tiles(CHUKOTKA)
    pixels = sum(int(covered(CHUKOTKA, grid.geobox(tile)).sum()) for tile in tiles)
    assert pixels * grid.resolution**2 == pytest.approx(true_area(CHUKOTKA.geometry), rel=2e-3)
    union = shapely.union_all([grid.footprint(tile) for tile in tiles])
    assert union.buffer(1e-6).contains(CHUKOTKA.geometry)
    assert union.area < 10 * CHUKOTKA.geometry.area
    window = grid.window(tiles)
    assert window.nx * grid.tile_m < 500_000


@pytest.mark.parametrize(
    ("polygon", "expected"),
    [
        # Corners on either side, in both directions of rotation, or counted on beyond 180.
        ([(179, 65), (-179, 65), (-179, 66), (179, 66)], 2),
        ([(179, 65), (179, 66), (-179, 66), (-179, 65)], 2),
        ([(179, 65), (181, 65), (181, 66), (179, 66)], 2),
        ([(-181, 65), (-179, 65), (-179, 66), (-181, 66)], 2),
        # On the line and not across it.
        ([(179, 65), (180, 65), (180, 66), (179, 66)], 1),
        ([(179, 65), (-180, 65), (-180, 66), (179, 66)], 1),
        ([(180, 65), (-179, 65), (-179, 66), (180, 66)], 1),
        ([(2, 50), (4, 50), (4, 51), (2, 51)], 2),
        # Around the pole, in both directions.
        ([(0, 80), (90, 80), (180, 80), (-90, 80)], 3600),
        ([(0, 80), (-90, 80), (180, 80), (90, 80)], 3600),
        # Across itself: both wings count.
        ([(2, 50), (4, 52), (4, 50), (2, 52)], 2),
    ],
)
def test_polygons_are_cut_at_the_antimeridian(
    polygon: list[tuple[float, float]], expected: float
) -> None:
    cut = cut_at_antimeridian(shapely.Polygon(polygon))
    assert cut.is_valid
    assert cut.area == pytest.approx(expected, rel=1e-3)
    assert -180 <= cut.bounds[0] <= cut.bounds[2] <= 180


def test_a_preset_is_chosen_beyond_the_antimeridian() -> None:
    assert choose_preset(CHUKOTKA) == "asia"
    assert choose_preset(Area(box(-172, 65, -171, 66))) == "asia"
    assert choose_preset(Area(box(-169, 65, -168, 66))) == "north-america"
    assert (
        choose_preset(
            Area(shapely.MultiPolygon([box(179, -18, 180, -17), box(-180, -18, -179, -17)]))
        )
        == "world"
    )
