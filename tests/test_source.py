"""Stores read without zarr, beside zarr; what it costs, counted; and from an S3 server."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import cdscale as package
from cdscale.errors import SpecError, StoreError
from cdscale.grid import Grid, Tile, Window
from cdscale.months import Months
from cdscale.query import Spot, Zones, explain, point, statistics
from cdscale.spec.cube import CubeSpec, Variable
from cdscale.spec.product import urban_variables
from cdscale.store import Counted, create, fetch_of, find, open_source
from cdscale.store.fetching import Span, merged
from cdscale.store.places import Remote

GRID = Grid.preset("europe", tile_px=256)
WINDOW = Window(1700, 1900, 2, 2)
BANDS = Variable(name="s2", dtype="int16", fill=-32768, bands=("B04", "B08"), scale=0.0001)
RADAR = Variable(name="s1", dtype="float32", fill=float("nan"), bands=("vv",))
SPEC = CubeSpec(
    product="urban",
    title="made",
    grid=GRID,
    window=WINDOW,
    months=Months.parse("2020-01..2020-06"),
    variables=(*urban_variables(), BANDS, RADAR),
    chunk_px=64,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles of noise over half a year; one is never written, some chunks are all fill."""
    path = tmp_path_factory.mktemp("source") / "urban.zarr"
    store = create(path, SPEC)
    random = np.random.default_rng(0)
    for month in SPEC.months:
        for tile in (Tile(1700, 1900), Tile(1701, 1900), Tile(1700, 1901)):
            blocks: dict[str, Any] = {
                "probability": random.integers(0, 251, (256, 256)).astype(np.uint8),
                "quality": random.integers(0, 5, (256, 256)).astype(np.uint8),
                "s2": random.integers(-100, 9000, (2, 256, 256)).astype(np.int16),
                "s1": random.gamma(2, 0.05, (1, 256, 256)).astype(np.float32),
            }
            blocks["probability"][:64, :128] = 255
            store.write(tile, month, blocks)
    store.publish(list(SPEC.months)[:5])
    return path


def axis(size: int) -> st.SearchStrategy[list[int]]:
    run = st.tuples(st.integers(0, size - 1), st.integers(1, size)).map(
        lambda t: list(range(t[0], min(size, t[0] + t[1])))
    )
    return st.one_of(run, st.lists(st.integers(0, size - 1), min_size=1, max_size=4))


@settings(max_examples=15)
@given(
    name=st.sampled_from(["probability", "quality", "s2", "s1"]),
    months=st.lists(st.integers(0, 5), min_size=1, max_size=2),
    rows=axis(512),
    columns=axis(512),
)
def test_it_reads_what_zarr_reads(
    made: Path, name: str, months: list[int], rows: list[int], columns: list[int]
) -> None:
    bands = [np.arange(len(SPEC.variable(name).bands))] if SPEC.variable(name).bands else []
    index = [np.array(months), *bands, np.array(rows), np.array(columns)]
    found = open_source(made).read(name, index)
    expected = zarr.open_group(made, mode="r")[name].oindex[tuple(index)]  # type: ignore[union-attr]
    np.testing.assert_array_equal(found, expected)


def test_published_months_are_those_of_the_store(made: Path) -> None:
    assert open_source(made).published() == SPEC.months.members[:5]


def test_a_pixel_costs_two_requests_a_shard(made: Path) -> None:
    counted = Counted(fetch_of(made))
    source = open_source(made, counted)
    with counted.fresh():
        source.read("quality", [np.arange(6), np.array([300]), np.array([200])])
        assert (counted.requests, len(counted.keys)) == (12, 6)


def test_windows_fetch_no_more_than_twice_what_they_need(made: Path) -> None:
    """Random windows over all months; needed are the chunks that a window touches."""
    counted = Counted(fetch_of(made))
    source = open_source(made, counted)
    random = np.random.default_rng(1)
    requests = shards = fetched = needed = 0
    chunk = 64 * 64  # noise does not pack; so much and a little more a chunk takes
    for _ in range(12):
        y, x = (int(v) for v in random.integers(0, 512 - 128, 2))
        with counted.fresh():
            rows, columns = np.arange(y, y + 128), np.arange(x, x + 128)
            source.read("quality", [np.arange(6), rows, columns])
            requests, shards = requests + counted.requests, shards + len(counted.keys)
            fetched += counted.fetched
        there = {(r // 64, c // 64) for r in rows for c in columns if r < 256 or c < 256}
        needed += 6 * chunk * len(there)
    assert requests <= 2 * shards
    assert fetched <= 2 * needed


def test_a_whole_tile_is_one_request_a_shard(made: Path) -> None:
    counted = Counted(fetch_of(made))
    source = open_source(made, counted)
    on_disk = sum((made / "quality" / "c" / str(t) / "0" / "1").stat().st_size for t in range(6))
    with counted.fresh():
        source.read("quality", [np.arange(6), np.arange(256), np.arange(256, 512)])
        assert (counted.requests, counted.fetched) == (6, on_disk)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1, max_size=8))
def test_merged_spans_hold_all_and_waste_little(steps: list[tuple[int, int]]) -> None:
    spans, at = [], 0
    for gap, size in steps:
        spans.append(Span(at + gap, at + gap + size))
        at += gap + size
    found = merged(spans)
    assert all(any(f.start <= s.start and s.stop <= f.stop for f in found) for s in spans)
    assert all(a.stop <= b.start for a, b in itertools.pairwise(found))
    wanted = sum(s.stop - s.start for s in spans)
    assert sum(f.stop - f.start for f in found) <= 4 * wanted


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_damage_is_seen(made: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "urban.zarr"
    spec = SPEC.model_copy(update={"months": Months.parse("2020-01")})
    store = create(path, spec)
    full = {v.name: np.ones(spec.shard_shape(v)[1:], v.dtype) for v in spec.variables}
    store.write(Tile(1700, 1900), spec.months.first, full)
    shard = path / "quality" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[10] ^= 1
    shard.write_bytes({"flip": bytes(data), "cut": bytes(data[:100]), "empty": b""}[damage])
    with pytest.raises(StoreError, match=r"is damaged: quality/c/0/0/0 does not read.*verify"):
        open_source(path).read("quality", [np.array([0]), np.arange(256), np.arange(256)])


def test_another_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "urban.zarr"
    create(path, SPEC)
    said = json.loads((path / "zarr.json").read_text())
    array = said["consolidated_metadata"]["metadata"]["quality"]
    array["codecs"][0]["configuration"]["chunk_shape"] = [1, 32, 32]
    (path / "zarr.json").write_text(json.dumps(said))
    with pytest.raises(StoreError, match="quality is not stored as cdscale stores it"):
        open_source(path).read("quality", [np.array([0])] * 3)


@pytest.mark.parametrize("text", ["gs://bucket/a.zarr", "s3://", "https://x/y.zarr"])
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="no place of a store; expected a folder, or s3://"):
        find(text)


# ------------------------------------------------------------------------------------------- S3


@pytest.fixture(scope="module")
def bucket(made: Path) -> Iterator[str]:
    """A bucket of a server on this machine that holds the store; credentials in the environment."""
    obstore = pytest.importorskip("obstore")
    pytest.importorskip("moto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    keys = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }
    before = dict(os.environ)
    os.environ.update(keys)
    try:
        _await(port)
        import urllib.request

        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/data", method="PUT")).close()
        client = obstore.store.S3Store("data", client_options={"allow_http": True})
        for file in made.rglob("*"):
            if file.is_file():
                key = f"runs/made/urban.zarr/{file.relative_to(made)}"
                obstore.put(client, key, file.read_bytes())
        yield "s3://data/runs/made/urban.zarr"
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.terminate()
        server.wait(10)


def _await(port: int) -> None:
    for _ in range(1200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the S3 server does not start")


def answers(store: str | Path) -> list[Any]:
    """What each kind of question says of a store, its own name left out."""
    source = open_source(find(store))
    box = source.spec.window.geobox(GRID).boundingbox
    spot = Spot.checked(box.left + 1234, box.top - 2345, GRID.crs)
    ring = [(100, 100), (3000, 200), (2900, 2500), (90, 2600), (100, 100)]
    corner = [[box.left + dx, box.top - dy] for dx, dy in ring]
    polygon = {"type": "Polygon", "coordinates": [corner]}
    dataset = package.open(store)
    found = statistics(source, Zones.of(_shape(polygon), GRID.crs))
    lines = [zone.lines(key) for zone in found.zones for key in zone.tallies]
    told = [point(source, spot), explain(source, spot)]
    for answer in told:
        assert answer.pop("store") == str(store)
    frame = dataset.cd.area(polygon, crs=GRID.crs)
    window = dataset["s2"].isel(month=slice(2, 4), x=slice(100, 300), y=[7, 5]).values
    return [told, lines, frame.to_csv(), np.nan_to_num(window, nan=-1).tolist()]


def _shape(polygon: dict[str, Any]) -> Any:
    from shapely.geometry import shape

    return shape(polygon)


def test_a_bucket_answers_as_a_disk_does(bucket: str, made: Path) -> None:
    assert answers(bucket) == answers(made)


def test_what_is_not_in_a_bucket_is_said(bucket: str) -> None:
    with pytest.raises(StoreError, match="there is no Zarr store at s3://data/none.zarr"):
        open_source(find("s3://data/none.zarr"))
    with pytest.raises(FileNotFoundError):
        (Remote("s3://data") / "none.json").read_text()
    assert str(Remote(bucket).parent) == "s3://data/runs/made"
