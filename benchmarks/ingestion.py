"""The same month of the same items on the same grid: cdscale, plain stackstac, plain odc-stac.

    python -m benchmarks.ingestion WORK [--size 1024] [--rounds 3] [--threads 2]

WORK receives a simulated month (two UTM zones, COGs on disk) and the Zarr stores. Every way makes
the same product: the median of the clear Sentinel-2 observations (ten bands, SCL 4 5 6 7 11), the
mean of Sentinel-1 in linear power over the passes of each orbit and then over the orbits, written
as whole Zarr chunks. The plain ways are what a careful user of the library writes: one lazy stack
of everything on the grid, bilinear for bands, nearest for SCL, chunks of a tile, the threaded
scheduler. Each way runs in a process of its own, the ways taking turns; wall time counts from the
first read, imports and cluster start excluded; the peak is that of the process.

``sentle`` is left out: it takes no catalogue of one's own (its providers are the Planetary Computer
and CDSE, by name), and expects whole granules of the MGRS.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
CLEAR = (4, 5, 6, 7, 11)
COLLECTIONS = {
    "sentinel-2-l2a": "planetary-computer-sentinel-2-l2a",
    "sentinel-1-rtc": "planetary-computer-sentinel-1-rtc",
}
LATENCIES = (0.0, 0.05, 0.2)
RESULTS = Path(__file__).parent / "results"


# ----------------------------------------------------------------------------------------- the ways


def spec_of(catalogue: Path, output: Path, options: dict[str, Any]) -> Any:
    """A run over the simulated region that only composes."""
    from cdscale.spec.run import RunSpec, read_area

    tile = options["tile"]
    return RunSpec.check(
        {
            "name": "ingestion",
            "catalogue": str(catalogue),
            "collections": options.get("collections", COLLECTIONS),
            "area": read_area("area.geojson", Path(options.get("home", catalogue))),
            "period": options["months"],
            "grid": {"preset": "europe", "tile": tile, "chunk": min(256, tile)},
            "cube": {"s2": options["method"], "s2_bands": BANDS},
            "reader": options["reader"],
            "output": str(output),
        },
        where="benchmark",
    )


def with_cdscale(catalogue: Path, output: Path, options: dict[str, Any]) -> dict[str, float]:
    """The compose stage of a run, its tasks on threads of this process."""
    from cdscale import plan, run
    from cdscale.progress import Progress
    from cdscale.spec.task import Stage
    from cdscale.stages import perform
    from cdscale.store import Ledger

    spec = spec_of(catalogue, output, options)
    started = time.perf_counter()
    job = plan.freeze(spec)
    limit = options.get("scenes")
    if limit:
        kept = [s for s in job.scenes.scenes if s.sensor == "s2"][:limit]
        job = job.model_copy(update={"scenes": job.scenes.model_copy(update={"scenes": (*kept,)})})
    with run.prepared(job):
        ready = Progress(job, Ledger(job.ledger_folder)).agenda(Stage.COMPOSE).ready
        # The job stays in this process, and each thread composes one tile.
        with ThreadPoolExecutor(options["threads"]) as pool:
            list(pool.map(lambda pair: perform(pair[0], job, pair[1]), ready.items()))
    seconds = time.perf_counter() - started
    planned = plan.task_memory(job, Stage.COMPOSE) * options["threads"] + plan.WORKER_BYTES
    return {"seconds": seconds, "tasks": float(len(ready)), "planned_mb": planned / 1e6}


def items_of(catalogue: Path) -> dict[str, list[Any]]:
    """The items as pystac has them, by collection."""
    import pystac

    found: dict[str, list[Any]] = {}
    for item in pystac.Catalog.from_file(str(catalogue / "catalog.json")).get_items(recursive=True):
        item.make_asset_hrefs_absolute()
        found.setdefault(str(item.collection_id), []).append(item)
    return {name: sorted(items, key=lambda i: i.datetime) for name, items in found.items()}


def composites(s2: Any, scl: Any, s1: Any, orbits: list[str]) -> tuple[Any, Any]:
    """Median of clear reflectance, and mean backscatter of the orbits' means, lazily."""
    import xarray as xr

    clear = scl.isin(CLEAR)
    reflectance = s2.where(clear & (s2 != 0)).chunk({"time": -1}).median("time", skipna=True)
    power = s1.where(s1 != -32768).assign_coords(orbit=("time", orbits))
    means = [
        power.isel(time=[i for i, o in enumerate(orbits) if o == orbit]).mean("time")
        for orbit in sorted(set(orbits))
    ]
    return reflectance, xr.concat(means, "orbit").mean("orbit")


def write(reflectance: Any, power: Any, output: Path, tile: int) -> None:
    """To Zarr, in the chunks of the tiles."""
    for name, values in (("s2", reflectance), ("s1", power)):
        plain = values.drop_vars([c for c in values.coords if c not in values.dims])
        plain.attrs = {}
        plain = plain.astype("float32").chunk({"y": tile, "x": tile})
        plain.to_dataset(name=name).to_zarr(output / f"{name}.zarr", mode="w", consolidated=False)


def with_stackstac(catalogue: Path, output: Path, options: dict[str, Any]) -> dict[str, float]:
    """One stack of everything, as stackstac's manual has it."""
    import dask
    import stackstac
    from rasterio.enums import Resampling

    box = spec_of(catalogue, output, options).window()
    grid = spec_of(catalogue, output, options).lattice
    bounds = tuple(box.geobox(grid).boundingbox)
    started = time.perf_counter()
    items = items_of(catalogue)

    def stack(collection: str, assets: list[str], how: Resampling, dtype: str) -> Any:
        dicts = []
        for item in items[collection]:
            plain = item.to_dict(transform_hrefs=False)
            # pystac speaks of proj:code; stackstac 0.5 knows proj:epsg alone.
            plain["properties"] = {**plain["properties"], "proj:epsg": item.ext.proj.epsg}
            dicts.append(plain)
        fill = np.dtype(dtype).type(0 if dtype != "float32" else np.nan)
        return stackstac.stack(
            dicts, assets=assets, epsg=3035, resolution=10, bounds=bounds, snap_bounds=False,
            dtype=np.dtype(dtype), fill_value=fill, rescale=False, resampling=how,
            chunksize=options["tile"], xy_coords="center",
        )  # fmt: skip

    orbits = [str(i.properties["sat:relative_orbit"]) for i in items["sentinel-1-rtc"]]
    s2 = stack("sentinel-2-l2a", list(BANDS), Resampling.bilinear, "float32")
    scl = stack("sentinel-2-l2a", ["SCL"], Resampling.nearest, "uint8").squeeze("band", drop=True)
    s1 = stack("sentinel-1-rtc", ["vv", "vh"], Resampling.bilinear, "float32")
    with dask.config.set(scheduler="threads", num_workers=options["threads"]):
        write(*composites(s2, scl, s1, orbits), output, options["tile"])
    return {"seconds": time.perf_counter() - started}


def with_odc(catalogue: Path, output: Path, options: dict[str, Any]) -> dict[str, float]:
    """One load of everything, as odc-stac's manual has it."""
    import dask
    import odc.stac

    spec = spec_of(catalogue, output, options)
    geobox = spec.window().geobox(spec.lattice)
    started = time.perf_counter()
    items = items_of(catalogue)
    chunks = {"x": options["tile"], "y": options["tile"]}

    def load(collection: str, bands: list[str], how: str, dtype: str, nodata: float) -> Any:
        return odc.stac.load(
            items[collection], bands=bands, geobox=geobox, resampling=how, dtype=dtype,
            nodata=nodata, chunks=chunks, groupby="id",
        )  # fmt: skip

    orbits = [str(i.properties["sat:relative_orbit"]) for i in items["sentinel-1-rtc"]]
    s2 = load("sentinel-2-l2a", list(BANDS), "bilinear", "float32", 0).to_dataarray("band")
    scl = load("sentinel-2-l2a", ["SCL"], "nearest", "uint8", 0)["SCL"]
    s1 = load("sentinel-1-rtc", ["vv", "vh"], "bilinear", "float32", -32768).to_dataarray("band")
    with dask.config.set(scheduler="threads", num_workers=options["threads"]):
        write(*composites(s2, scl, s1, orbits), output, options["tile"])
    return {"seconds": time.perf_counter() - started}


WAYS: dict[str, Callable[[Path, Path, dict[str, Any]], dict[str, float]]] = {
    "cdscale": with_cdscale,
    "stackstac": with_stackstac,
    "odc-stac": with_odc,
}


# -------------------------------------------------------------------------------------- measuring


def peak_mb() -> float:
    """Highest resident memory of this process so far.

    Not ``ru_maxrss``: that one begins with the peak of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024 / 1e6
    raise SystemExit("this system does not tell the peak memory of a process (VmHWM)")


def child(way: str, catalogue: Path, output: Path, options: dict[str, Any]) -> None:
    """One way in this process; prints what it took."""
    for module in ("cdscale.stages", "cdscale.plan", "cdscale.run", "stackstac", "odc.stac"):
        __import__(module)
    before = resource.getrusage(resource.RUSAGE_SELF)
    idle_mb = peak_mb()
    told = WAYS[way](catalogue, output, options)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    print(json.dumps({**told, "cpu": cpu, "peak_mb": peak_mb(), "idle_mb": idle_mb}))


def measure(way: str, catalogue: Path, work: Path, options: dict[str, Any]) -> dict[str, float]:
    """One way in a process of its own, nothing left of it from before."""
    output = work / f"out-{way}"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    asked = json.dumps({"way": way, "catalogue": str(catalogue), "output": str(output), **options})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.ingestion", "--child", asked],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def middle(runs: list[dict[str, float]]) -> dict[str, float]:
    """Median of each figure."""
    return {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}


def compare(catalogue: Path, work: Path, options: dict[str, Any], rounds: int) -> dict[str, Any]:
    """All ways in turn, and cdscale with its other reader and its default composite."""
    asked = {
        "cdscale": ("cdscale", options),
        "cdscale, odc reader": ("cdscale", {**options, "reader": "odc"}),
        "stackstac": ("stackstac", options),
        "odc-stac": ("odc-stac", options),
        "cdscale, least_cloudy": ("cdscale", {**options, "method": "least_cloudy"}),
        "cdscale, medoid": ("cdscale", {**options, "method": "medoid"}),
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in asked}
    for turn in range(rounds + 1):
        for name, (way, how) in asked.items():
            found = measure(way, catalogue, work, how)
            if turn:  # the first one fills the page cache
                runs[name].append(found)
    return {name: middle(found) for name, found in runs.items()}


def growth(work: Path, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds of cdscale, by scenes, by tiles and by months."""
    rows: list[dict[str, Any]] = []
    catalogue = simulated(work, 512, "2021-07..2021-10")
    small = {**options, "tile": 256, "months": "2021-07", "threads": 1}
    measure("cdscale", catalogue, work, small)
    for scenes in (1, 2, 4, 8):
        found = measure("cdscale", catalogue, work, {**small, "scenes": scenes})
        rows.append({"what": "scenes", "number": scenes, **found})
    for months in ("2021-07", "2021-07..2021-08", "2021-07..2021-10"):
        found = measure("cdscale", catalogue, work, {**small, "months": months})
        rows.append({"what": "tasks (months)", "number": int(found["tasks"]), **found})
    for tile in (512, 256, 128):
        found = measure("cdscale", catalogue, work, {**small, "tile": tile})
        rows.append({"what": f"tiles of {tile}", "number": int(found["tasks"]), **found})
    return rows


def latency(work: Path, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds of one tile whose files come over HTTP, by the latency of every request."""
    from cdscale.testing import Behaviour, FaultServer, write_served

    home = simulated(work, 512, "2021-07..2021-10")
    rows = []
    with FaultServer(home) as server:
        items = write_served(home, server.url, work / "served", COLLECTIONS)
        profiles = {name: str(items.parent / f"{name}.yaml") for name in COLLECTIONS}
        how = {**options, "tile": 512, "months": "2021-07", "threads": 1, "home": str(home)}
        for method in ("least_cloudy", "median"):
            asked = {**how, "collections": profiles, "method": method}
            for seconds in LATENCIES:
                server.behave(Behaviour(latency=seconds))
                server.clear()
                found = [measure("cdscale", items, work, asked) for _ in range(3)]
                count = server.count // 3
                row: dict[str, Any] = {"method": method, "latency": seconds, "requests": count}
                rows.append({**row, **middle(found)})
    return rows


def simulated(work: Path, size: int, months: str) -> Path:
    """A simulated region on disk, made once."""
    from cdscale import simulate
    from cdscale.months import Months

    folder = work / f"region-{size}-{months.replace('..', '-')}"
    if not (folder / "catalog.json").exists():
        region = simulate.Region(seed=7, size_px=size, months=Months.parse(months))
        simulate.write(region, folder)
    return folder


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--size", type=int, default=1024, help="pixels along a side of the region")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        how = json.loads(asked.child)
        child(how["way"], Path(how["catalogue"]), Path(how["output"]), how)
        return
    if asked.work is None:
        parser.error("WORK is missing: a folder for the simulated scenes and the stores")
    options = {
        "tile": asked.tile, "threads": asked.threads, "months": "2021-07", "method": "median",
        "reader": "stackstac",
    }  # fmt: skip
    catalogue = simulated(asked.work, asked.size, "2021-07")
    table = compare(catalogue, asked.work, options, asked.rounds)
    plain = min(table["stackstac"]["seconds"], table["odc-stac"]["seconds"])
    print(f"{'way':24}{'wall s':>8}{'ratio':>7}{'CPU s':>8}{'peak MB':>9}{'planned':>9}")
    for name, row in table.items():
        planned = f"{row['planned_mb']:9.0f}" if "planned_mb" in row else " " * 9
        print(
            f"{name:24}{row['seconds']:8.2f}{row['seconds'] / plain:7.2f}{row['cpu']:8.2f}"
            f"{row['peak_mb']:9.0f}{planned}"
        )
    rows = growth(asked.work, options)
    for row in rows:
        print(f"{row['what']:24}{row['number']:4}{row['seconds']:8.2f} s")
    waits = latency(asked.work, options)
    for row in waits:
        print(
            f"{row['method']:14} wait {row['latency'] * 1e3:4.0f} ms {row['requests']:4} requests"
            f"{row['seconds']:8.2f} s in {row['tasks']:.0f} tasks"
        )
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    record = {
        "date": now.date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "command": f"python -m benchmarks.ingestion WORK --size {asked.size} --tile {asked.tile} "
        f"--rounds {asked.rounds} --threads {asked.threads}",
        "ways": table,
        "growth": rows,
        "latency": waits,
    }
    target = RESULTS / f"ingestion-{now:%Y-%m-%d}.json"
    target.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
