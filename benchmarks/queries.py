"""``python -m benchmarks.queries OUT.json``: how long answers take, and what they fetch.

A store of one map (probability, made of smooth noise: no place on Earth) on the default layout,
tiles of 2048 in chunks of 512, for 60 months:

- a pixel's series, from a process that has just imported what it needs, and again and again at
  random places; beside zarr-python and xarray on the same store; where the time goes;
- the same pixels from a second layout, chunked along time (60 months of 64 by 64 pixels): what it
  gains, takes on disk, and costs to keep: the next month rewrites it;
- windows of 256 by 256 pixels over 12 months at random: requests for each shard, bytes over those
  of the chunks that a window touches; beside zarr-python;
- an area as large as a tile, on one tile and across four, over 12 months: the same.

The system's cache is warm. Ways take turns; medians; the processor's time beside the clock's, which
on a shared machine is others' time, too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from shapely.geometry import box
from zarr.codecs import BloscCodec, Crc32cCodec

from benchmarks.layout import Counted as CountedByZarr
from cdscale.grid import Grid, Tile, Window, to_lon_lat
from cdscale.months import Months
from cdscale.query import Spot, Wanted, Zones, point
from cdscale.query import statistics as of_zones
from cdscale.spec.cube import CubeSpec
from cdscale.spec.product import urban_variables
from cdscale.store import Counted, Source, create, fetch_of, open_source

COLD = """
import json, sys, time
from pathlib import Path
began, cpu = time.perf_counter(), time.process_time()
from cdscale.query import Spot, Wanted, point
from cdscale.store import open_source
imported, cpu_then = time.perf_counter(), time.process_time()
wanted = Wanted(variables=("probability",))
found = point(open_source(Path(sys.argv[1])), Spot(float(sys.argv[2]), float(sys.argv[3])), wanted)
done, cpu_done = time.perf_counter(), time.process_time()
print(json.dumps({"import_s": imported - began, "import_cpu_s": cpu_then - cpu,
                  "answer_s": done - imported, "answer_cpu_s": cpu_done - cpu_then,
                  "months": len(found["months"])}))
"""


def layout(tiles: int, months: str) -> CubeSpec:
    """Some tiles by as many, one map."""
    return CubeSpec(
        product="urban",
        title="made of noise: no place on Earth",
        grid=Grid.preset("europe"),
        window=Window(200, 200, tiles, tiles),
        months=Months.parse(months),
        variables=urban_variables()[:1],
        chunk_px=512,
    )


def fill(path: Path, spec: CubeSpec) -> None:
    """Every tile and month: patches that keep their place, with a little noise of each month."""
    store, random = create(path, spec), np.random.default_rng(0)
    px = spec.grid.tile_px
    smooth = gaussian_filter(random.normal(size=(px, px)).astype(np.float32), 8)
    smooth = (smooth - smooth.min()) / np.ptp(smooth) * 250
    window = spec.window
    noises = [random.normal(0, 4, smooth.shape).astype(np.float32) for _ in range(3)]
    for number, month in enumerate(spec.months):
        # Rolled by another step each month: packs as noise made anew would.
        noise = np.roll(noises[number % 3], 37 * number, axis=(0, 1))
        values = np.clip(smooth + noise, 0, 250).astype(np.uint8)
        for iy, ix in itertools.product(range(window.ny), range(window.nx)):
            store.write(Tile(window.ix + ix, window.iy + iy), month, {"probability": values})
    store.publish(spec.months)


def timed(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of each way, by the clock and by the processor, after one turn."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            if turn:
                took[name].append(spent)
    return {
        name: {
            "ms": 1e3 * statistics.median(wall for wall, _ in found),
            "cpu_ms": 1e3 * statistics.median(cpu for _, cpu in found),
        }
        for name, found in took.items()
    }


def spots(spec: CubeSpec) -> Any:
    """Pixels at random, without end: row and column."""
    random = np.random.default_rng(2)
    while True:
        yield tuple(int(v) for v in random.integers(0, spec.shape[0], 2))


def pixel(path: Path, rounds: int) -> dict[str, Any]:
    """A pixel's series."""
    spec = open_source(path).spec
    corner = spec.window.geobox(spec.grid).boundingbox
    lon, lat = to_lon_lat(corner.left + 7005, corner.top - 9005, spec.grid.crs)
    command = [sys.executable, "-c", COLD, str(path), str(lon), str(lat)]
    cold = [json.loads(subprocess.check_output(command)) for _ in range(3)]
    places, wanted = spots(spec), Wanted(variables=("probability",))

    def ask() -> None:
        row, column = next(places)
        spot = Spot(corner.left + 10 * column + 5, corner.top - 10 * row - 5, spec.grid.crs)
        point(open_source(path), spot, wanted)

    source = open_source(path)
    array: Any = zarr.open_group(path, mode="r")["probability"]
    dataset = xr.open_zarr(path, chunks=None)
    months = np.arange(len(spec.months))

    def read() -> None:
        row, column = next(places)
        source.read("probability", [months, np.array([row]), np.array([column])])

    def by_zarr() -> None:
        row, column = next(places)
        array[:, row, column]

    def by_xarray() -> None:
        row, column = next(places)
        dataset["probability"].isel(y=row, x=column).load()

    ways = {
        "query point, store opened anew": ask,
        "of it the values": read,
        "of it the published months": source.published,
        "zarr-python, array held open": by_zarr,
        "xarray.open_zarr, dataset held open": by_xarray,
    }
    return {
        "months": len(spec.months),
        "cold_process": {k: statistics.median(c[k] for c in cold) for k in cold[0]},
        "warm": timed(ways, rounds) | {"unpacking alone": unpacking(source, rounds)},
    }


def unpacking(source: Source, rounds: int) -> dict[str, float]:
    """Checksum and unpacking of one chunk of each month, of bytes in memory."""
    layout_, months = source.layout("probability"), range(len(source.spec.months))
    packed = []
    for month in months:
        data = _file(source, f"probability/c/{month}/0/0").whole()
        start, size = layout_.table(data[-layout_.index_bytes :])[0, 1, 1].tolist()
        packed.append(data[start : start + size])
    return timed({"": lambda: [layout_.decoded(one) for one in packed]}, rounds)[""]


def _file(source: Source, key: str) -> Any:
    return source.fetch.open(key)


def along_time(path: Path, other: Path, rounds: int) -> dict[str, Any]:
    """A second layout of the same values, in chunks of all months."""
    array: Any = zarr.open_group(path, mode="r")["probability"]
    months, rows, columns = array.shape
    values = array[:]
    second: Any = zarr.create_array(
        other,
        shape=values.shape,
        shards=(months, rows, columns),
        chunks=(months, 64, 64),
        dtype=values.dtype,
        compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()],
        fill_value=255,
    )
    began = time.process_time()
    second[:] = values
    wrote = time.process_time() - began
    random = np.random.default_rng(3)

    def ask() -> None:
        row, column = (int(v) for v in random.integers(0, rows, 2))
        second[:, row, column]

    sizes = [sum(f.stat().st_size for f in p.rglob("c/**/*") if f.is_file())
             for p in (path / "probability", other)]  # fmt: skip
    counted = CountedByZarr(other)
    zarr.open_array(counted, mode="r+")[:, 5, 5]
    return {
        "series by zarr-python": timed({"": ask}, rounds)[""],
        "requests": counted.requests,
        "kilobytes_fetched": counted.fetched / 1e3,
        "megabytes": {"by month": sizes[0] / 1e6, "along time": sizes[1] / 1e6},
        "written_for_one_more_month_megabytes": {
            "by month": sizes[0] / 1e6 / months,
            "along time": sizes[1] / 1e6 * (months + 1) / months,
        },
        "cpu_s_to_write_all": wrote,
    }


def needed(source: Source, months: int, rows: NDArray[Any], columns: NDArray[Any]) -> int:
    """Bytes of the inner chunks that a window touches."""
    found, layout_ = 0, source.layout("probability")
    chunks = {(int(r), int(c)) for r in np.unique(rows // 512) for c in np.unique(columns // 512)}
    for month, shard in itertools.product(range(months), {(r // 4, c // 4) for r, c in chunks}):
        file = _file(source, "/".join(map(str, ("probability/c", month, *shard))))
        table = layout_.table(file.tail(layout_.index_bytes))
        inside = [(r % 4, c % 4) for r, c in chunks if (r // 4, c // 4) == shard]
        found += sum(int(table[0, r, c, 1]) for r, c in inside)
    return found


def windows(path: Path, number: int, months: int) -> dict[str, Any]:
    """Random windows of 256 pixels."""
    plain, counted = open_source(path), Counted(fetch_of(path))
    source = open_source(path, counted)
    by_zarr = CountedByZarr(path)
    array: Any = zarr.open_group(by_zarr, mode="r+")["probability"]
    random = np.random.default_rng(4)
    totals = dict.fromkeys(("shards", "needed", "requests", "fetched"), 0)
    by_zarr.requests = by_zarr.fetched = 0
    took: list[tuple[float, float]] = []
    for _ in range(number):
        y, x = (int(v) for v in random.integers(0, source.spec.shape[0] - 256, 2))
        rows, columns = np.arange(y, y + 256), np.arange(x, x + 256)
        began = time.process_time()
        with counted.fresh():
            mine = source.read("probability", [np.arange(months), rows, columns])
            totals["shards"] += len(counted.keys)
            totals["requests"] += counted.requests
            totals["fetched"] += counted.fetched
        between = time.process_time()
        theirs = array[:months, y : y + 256, x : x + 256]
        took.append((between - began, time.process_time() - between))
        if not np.array_equal(mine, theirs):
            raise RuntimeError("the two ways differ")
        totals["needed"] += needed(plain, months, rows, columns)
    return {
        "windows": number,
        "months": months,
        "requests_a_shard": totals["requests"] / totals["shards"],
        "fetched_over_needed": totals["fetched"] / totals["needed"],
        "cpu_ms": 1e3 * statistics.median(mine for mine, _ in took),
        "zarr-python": {
            "requests_a_shard": by_zarr.requests / totals["shards"],
            "fetched_over_needed": by_zarr.fetched / totals["needed"],
            "cpu_ms": 1e3 * statistics.median(theirs for _, theirs in took),
        },
    }


def areas(path: Path, months: int) -> dict[str, Any]:
    """An area as large as a tile: on one, and across four."""
    plain, counted = open_source(path), Counted(fetch_of(path))
    source, spec = open_source(path, counted), open_source(path).spec
    corner, side = spec.window.geobox(spec.grid).boundingbox, spec.grid.tile_m
    wanted = Wanted(frozenset(list(spec.months)[:months]), ("probability",))
    found = {}
    for name, offset in (("on one tile", 0), ("across four tiles", 777)):
        west, north = corner.left + 10 * offset, corner.top - 10 * offset
        polygon = Zones.of(box(west, north - side, west + side, north), spec.grid.crs)
        wall, cpu = time.perf_counter(), time.process_time()
        with counted.fresh():
            of_zones(source, polygon, wanted)
            shards = [key for key in counted.keys if not key.startswith("published")]
            at = np.arange(offset, offset + spec.grid.tile_px)
            found[name] = {
                "fetched_over_needed": counted.fetched / needed(plain, months, at, at),
                "requests_a_shard": (counted.requests - len(spec.months)) / len(shards),
                "s": time.perf_counter() - wall,
                "cpu_s": time.process_time() - cpu,
            }
    return found


def main() -> None:
    """Make the stores, ask, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--windows", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        one, four = Path(scratch) / "one.zarr", Path(scratch) / "four.zarr"
        fill(one, layout(1, "2017-01..2021-12"))
        fill(four, layout(2, "2021-01..2021-12"))
        answers = {
            "pixel": pixel(one, options.rounds),
            "along_time": along_time(one, Path(scratch) / "time.zarr", options.rounds),
            "windows": windows(four, options.windows, 12),
            "areas": areas(four, 12),
        }
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, zarr {zarr.__version__}",
        "command": f"python -m benchmarks.queries {options.out} --rounds {options.rounds}",
        "load": os.getloadavg(),
        **answers,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
