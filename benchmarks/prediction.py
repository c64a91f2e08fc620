"""A month of a cube through a network: cdscale beside what else does the same work.

    python -m benchmarks.prediction WORK [--size 2048] [--rounds 3] [--way WAY ...] [--out OUT.json]

WORK gets a simulated region, composed to a cube of one month, and the same month as a GeoTIFF.
Every way maps it with ``urban-s1s2-sim`` in windows of 512 pixels and their halo, and writes the
probability, packed in a byte, to Zarr, on as many threads as there are cores:

``bare``       the forward pass alone, inputs normalised and in memory, nothing written
``cdscale``    a run's map tasks on workers of one thread, as a local cluster has them: halos,
               quality, checksums, read back, receipts
``run``        the same with all that a run has around it: stores laid out, months published, and
               overviews of every level, which no other way makes
``predict``    ``cdscale.predict`` to a Zarr store
``dask``       ``dask.array.map_overlap`` over the cube as xarray opens it, to Zarr
``xbatcher``   a ``BatchGenerator`` with overlap over the padded cube, one window after another
``torchgeo``   a ``GridGeoSampler`` over the GeoTIFF, padded, with its ``DataLoader``

The plain ways are what a careful user of the library writes: the same windows and normalisation, so
that all say the same of every pixel, which is checked. Each runs in processes of its own, the ways
taking turns; median of the rounds, imports, loading of the weights and one pass of the network
excluded. Ways whose library is not installed are left out and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import shapely
import xarray as xr
from numpy.typing import NDArray

from cdscale import plan, run, simulate
from cdscale.grid import Area, Grid, reproject
from cdscale.kernels import pack_probability
from cdscale.models import load, load_card
from cdscale.months import Months
from cdscale.progress import Progress
from cdscale.spec.job import LARGEST_CORE, Job
from cdscale.spec.run import RunSpec
from cdscale.spec.task import Stage
from cdscale.stages import perform
from cdscale.store import Ledger, open_dataset

MODEL = "urban-s1s2-sim"
CARD = load_card(MODEL)
CORE, HALO = LARGEST_CORE, CARD.halo
SIDE = CORE + 2 * HALO
THREADS = os.cpu_count() or 1
QUANTUM = 1
"""Of the packed probability: windows of other places round otherwise."""

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Ground:
    """What all ways work on."""

    work: Path
    job: Job

    @property
    def cube(self) -> xr.Dataset:
        """The cube, lazily."""
        return open_dataset(self.job.store_path(Stage.COMPOSE))

    @property
    def tiff(self) -> Path:
        """The month as a GeoTIFF: four bands of reflectance, two of power, padded by the halo."""
        return self.work / "month" / "month.tif"

    def planes(self) -> xr.DataArray:
        """The month as the network's bands, (band, y, x), float32, NaN where nothing is."""
        month = self.cube.isel(month=0)
        s2 = month["s2"].sel(s2_band=list(CARD.s2_bands)).rename(s2_band="band")
        s1 = month["s1"].sel(s1_band=list(CARD.s1_bands)).rename(s1_band="band")
        both = xr.concat([s2.astype(np.float32), s1.astype(np.float32)], dim="band")
        return both.drop_vars("spatial_ref", errors="ignore")


def region_of(size: int) -> simulate.Region:
    """One simulated month, a tile larger than what is mapped: its corner is on no tile of ours."""
    return simulate.Region(seed=7, size_px=size + CORE, months=Months.parse("2021-08"))


def spec_of(work: Path, size: int) -> RunSpec:
    """A month composed and mapped over whole tiles that the region fills."""
    region, lattice = region_of(size), Grid.preset("europe", tile_px=CORE)
    around = Area.from_geojson(region.area(), where="region").to_crs(lattice.crs)
    inside = [
        box.buffer(-20 * lattice.resolution)
        for tile in lattice.tiles(Area.from_geojson(region.area(), where="region"))
        if around.buffer(lattice.resolution).contains(box := lattice.geobox(tile).extent.geom)
    ]
    place = reproject(shapely.union_all(inside).envelope, lattice.crs, "EPSG:4326", resolution=1e3)
    return RunSpec.check(
        {
            "name": "prediction",
            "catalogue": str(work / "catalogue"),
            "collections": {
                "sentinel-2-l2a": "planetary-computer-sentinel-2-l2a",
                "sentinel-1-rtc": "planetary-computer-sentinel-1-rtc",
            },
            "area": shapely.geometry.mapping(place),
            "period": str(region.months),
            "grid": {"preset": "europe", "tile": CORE, "chunk": CORE // 2},
            "cube": {"s2_bands": CARD.s2_bands},
            "models": {"urban": {"card": MODEL}},
            "output": str(work / "run"),
        },
        where="prediction",
    )


def ground(work: Path, size: int) -> Ground:
    """Make what is not there yet."""
    if not (work / "catalogue").exists():
        part = work / "catalogue.part"
        shutil.rmtree(part, ignore_errors=True)
        simulate.write(region_of(size), part)
        part.rename(work / "catalogue")
    job = plan.freeze(spec_of(work, size))
    made = Ground(work, job)
    with run.prepared(job):
        agenda = Progress(job, Ledger(job.ledger_folder)).agenda(Stage.COMPOSE)
        for task, mark in agenda.ready.items():
            perform(task, job, mark)
    if not made.tiff.exists():
        write_tiff(made)
    return made


def write_tiff(ground: Ground) -> None:
    """The month for torchgeo, which reads files."""
    import rasterio

    planes = padded(ground.planes().values)
    box = ground.job.spec.window().geobox(ground.job.spec.lattice)
    ground.tiff.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff", "dtype": "float32", "count": len(planes), "height": planes.shape[1],
        "width": planes.shape[2], "crs": str(box.crs), "nodata": float("nan"), "tiled": True,
        "blockxsize": 256, "blockysize": 256, "compress": "deflate",
        "transform": box.affine * box.affine.translation(-HALO, -HALO),
    }  # fmt: skip
    part = ground.tiff.with_suffix(".part.tif")
    with rasterio.open(part, "w", **profile) as file:
        file.write(planes)
    part.rename(ground.tiff)


def padded(planes_CYX: Floats) -> Floats:
    """With a halo of nothing."""
    around = ((0, 0), (HALO, HALO), (HALO, HALO))
    wide: Floats = np.pad(planes_CYX, around, constant_values=np.nan)
    return wide


@cache
def network() -> Any:
    """The network, once a process."""
    return load(CARD)


def probability(planes_NCYX: Floats) -> Floats:
    """What a plain function says of windows (N, C, Y, X): (N, Y, X), NaN without a sensor."""
    import torch

    from cdscale.models.inputs import absent, s1_input, s2_input

    bands = len(CARD.s2_bands)
    both = torch.from_numpy(planes_NCYX)
    s2, s1 = both[:, :bands], both[:, bands:]
    with torch.inference_mode():
        inputs = s1_input(s1, CARD.normalisation), s2_input(s2, CARD.normalisation)
        said = network()(*inputs, ~absent(s2))[:, 0].sigmoid().numpy()
    seen = np.isfinite(planes_NCYX[:, :bands]).all(axis=1)
    seen |= np.isfinite(planes_NCYX[:, bands:]).all(axis=1)
    answer: Floats = np.where(seen, said, np.float32(np.nan))
    return answer


def inner(window_YX: NDArray[Any]) -> NDArray[Any]:
    """A window without its halo."""
    return window_YX[..., HALO:-HALO, HALO:-HALO]


def corners(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Of the windows' cores."""
    for top in range(0, shape[0], CORE):
        for left in range(0, shape[1], CORE):
            yield top, left


def to_zarr(packed_YX: Any, path: Path) -> None:
    """Write a map as a plain user does."""
    chunk = {"y": 256, "x": 256}
    found = xr.Dataset({"probability": (("y", "x"), packed_YX)})
    encoding = {"probability": {"chunks": tuple(chunk.values())}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.to_zarr(path, mode="w", zarr_format=3, consolidated=False, encoding=encoding)


# ---------------------------------------------------------------------------------------- ways


@contextmanager
def bare(ground: Ground, out: Path) -> Iterator[Callable[[], None]]:
    """The forward pass alone."""
    import torch

    from cdscale.models.inputs import absent, s1_input, s2_input

    planes = padded(ground.planes().values)
    bands, inputs = len(CARD.s2_bands), []
    shape = (planes.shape[1] - 2 * HALO, planes.shape[2] - 2 * HALO)
    for top, left in corners(shape):
        window = torch.from_numpy(planes[None, :, top : top + SIDE, left : left + SIDE].copy())
        s1 = s1_input(window[:, bands:], CARD.normalisation)
        s2 = s2_input(window[:, :bands], CARD.normalisation)
        inputs.append((s1, s2, ~absent(window[:, :bands])))
    net = network()

    def go() -> None:
        with torch.inference_mode():
            for one in inputs:
                net(*one)

    del out
    yield go


def spec_at(ground: Ground, out: Path) -> Job:
    """The run with its cube, and nothing mapped yet, in another folder."""
    job = ground.job.model_copy(
        update={"spec": ground.job.spec.model_copy(update={"output": str(out)})}
    )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    shutil.copytree(ground.job.store_path(Stage.COMPOSE), job.store_path(Stage.COMPOSE))
    shutil.copytree(ground.job.ledger_folder, job.ledger_folder)
    return job


def warmed_up(threads: int = 1) -> None:
    """Load the network in a process that will map, and have it say something once."""
    import torch

    torch.set_num_threads(threads)
    probability(np.zeros((1, len(CARD.s2_bands) + len(CARD.s1_bands), 256, 256), np.float32))


@contextmanager
def workers(ground: Ground) -> Iterator[ProcessPoolExecutor]:
    """As many as there are cores, of one thread each, each of which has done a task elsewhere."""
    tasks = ground.job.tasks(Stage.MAP)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(THREADS, context, warmed_up) as pool:
        # Who sleeps takes no second one: all are there, and each gets its own.
        list(pool.map(time.sleep, [1.0] * THREADS))
        first = [pool.submit(perform, task, ground.job, "first") for task in tasks[:THREADS]]
        for each in first:
            each.result()
        yield pool


def mapped(job: Job, pool: ProcessPoolExecutor) -> None:
    """The map tasks of a run whose stores are laid out."""
    agenda = Progress(job, Ledger(job.ledger_folder)).agenda(Stage.MAP)
    for each in [pool.submit(perform, task, job, mark) for task, mark in agenda.ready.items()]:
        each.result()


@contextmanager
def cdscale_tasks(ground: Ground, out: Path) -> Iterator[Callable[[], None]]:
    """The map tasks of a run."""
    job = spec_at(ground, out)
    with run.prepared(job), workers(ground) as pool:
        yield lambda: mapped(job, pool)


@contextmanager
def cdscale_run(ground: Ground, out: Path) -> Iterator[Callable[[], None]]:
    """What a run with a cube has left to do, but for starting its workers."""
    job = spec_at(ground, out)

    def go() -> None:
        with run.prepared(job):
            mapped(job, pool)

    with workers(ground) as pool:
        yield go


@contextmanager
def lazily(ground: Ground, out: Path) -> Iterator[Callable[[], None]]:
    """``cdscale.predict``."""
    import cdscale

    network()
    cube = ground.cube

    def go() -> None:
        maps = cdscale.predict(cube, MODEL)
        packed = maps["probability"][0].data.map_blocks(pack_probability, dtype=np.uint8)
        to_zarr(packed, out)

    yield go


@contextmanager
def by_dask(ground: Ground, out: Path) -> Iterator[Callable[[], None]]:
    """``dask.array.map_overlap``."""
    import dask.array as da

    network()
    planes = ground.planes()

    def one(block_CYX: Floats) -> Floats:
        return probability(np.ascontiguousarray(block_CYX)[None])

    def go() -> None:
        whole = da.rechunk(planes.data, (-1, CORE, CORE))
        wide = [tuple(side + 2 * HALO for side in sides) for sides in whole.chunks[1:]]
        said = da.map_overlap(
            one, whole, depth=(0, HALO, HALO), boundary=np.nan, dtype=np.float32,
            chunks=((1,), *wide), meta=np.empty((0, 0, 0), np.float32),
        )[0]  # fmt: skip
        to_zarr(said.map_blocks(pack_probability, dtype=np.uint8), out)

    yield go


@contextmanager
def by_xbatcher(ground: Ground, out: Path) -> Iterator[Callable[[], None]]:
    """``xbatcher.BatchGenerator``."""
    import xbatcher

    network()
    planes = ground.planes()

    def go() -> None:
        wide = planes.pad(y=HALO, x=HALO, constant_values=np.nan)
        found = np.empty(planes.shape[1:], np.uint8)
        windows = xbatcher.BatchGenerator(
            wide, {"y": SIDE, "x": SIDE}, input_overlap={"y": 2 * HALO, "x": 2 * HALO}
        )
        for (top, left), window in zip(corners(found.shape), windows, strict=True):
            said = probability(np.ascontiguousarray(window.values)[None])
            found[top : top + CORE, left : left + CORE] = pack_probability(inner(said[0]))
        to_zarr(found, out)

    yield go


@contextmanager
def by_torchgeo(ground: Ground, out: Path) -> Iterator[Callable[[], None]]:
    """``torchgeo.samplers.GridGeoSampler``."""
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    network()

    class Month(RasterDataset):  # type: ignore[misc]
        filename_glob = "month.tif"

    box = ground.job.spec.window().geobox(ground.job.spec.lattice)
    west, north = box.boundingbox.left - HALO * 10, box.boundingbox.top + HALO * 10

    def go() -> None:
        data = Month(str(ground.tiff.parent))
        sampler = GridGeoSampler(data, size=SIDE, stride=CORE)
        found = np.empty((int(box.shape[0]), int(box.shape[1])), np.uint8)
        loader: Any = DataLoader(data, sampler=sampler, collate_fn=stack_samples)
        for (x, y, _), sample in zip(sampler, loader, strict=True):
            said = probability(sample["image"].numpy())
            left, top = round((x.start - west) / 10), round((north - y.stop) / 10)
            place = found[top : top + CORE, left : left + CORE]
            place[:] = pack_probability(inner(said[0]))[: place.shape[0], : place.shape[1]]
        to_zarr(found, out)

    yield go


WAYS: dict[str, Callable[[Ground, Path], AbstractContextManager[Callable[[], None]]]] = {
    "bare": bare,
    "cdscale": cdscale_tasks,
    "run": cdscale_run,
    "predict": lazily,
    "dask": by_dask,
    "xbatcher": by_xbatcher,
    "torchgeo": by_torchgeo,
}
PEERS = {"dask", "xbatcher", "torchgeo"}
"""Ways that are not ours."""
THREADED = {"dask"}
"""Ways that run windows side by side in threads; the others but ``cdscale`` and ``run``, which have
processes, give a window all threads."""


def available(way: str) -> bool:
    """Whether the library of a way is here."""
    return way not in {"xbatcher", "torchgeo"} or importlib.util.find_spec(way) is not None


# -------------------------------------------------------------------------------------- measuring


def once(way: str, work: Path, size: int) -> dict[str, float]:
    """Seconds and memory of one way, in this process and those that it starts for it."""
    import dask

    warmed_up(1 if way in THREADED else THREADS)
    made, out = ground(work, size), work / "out" / way
    with dask.config.set(scheduler="threads", num_workers=THREADS), WAYS[way](made, out) as go:
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        wall, cpu = time.perf_counter(), busy(processes)
        go()
        return {
            "wall": time.perf_counter() - wall,
            "cpu": busy(processes) - cpu,
            "peak_mb": sum(peak_mb(process.pid) for process in processes),
        }


def busy(processes: list[psutil.Process]) -> float:
    """Seconds that processors have spent on processes."""
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


def peak_mb(pid: int) -> float:
    """Most memory that a process has held; ``getrusage`` would say that of its parent, too."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def measured(way: str, work: Path, size: int) -> dict[str, float]:
    """One way, once, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(once, way, work, size).result()


def written(way: str, work: Path) -> Bytes:
    """The map that a way wrote."""
    path = work / "out" / way
    if way in {"cdscale", "run"}:
        path = path / "urban.zarr"
    found = xr.open_zarr(path, consolidated=False, mask_and_scale=False)["probability"]
    values: Bytes = found.values
    return values.reshape(values.shape[-2:])


def agree(ways: list[str], work: Path) -> dict[str, float]:
    """Share of pixels in which a map is more than one step from that of the run.

    Raises
    ------
    SystemExit
        When it is more than one in ten thousand: then the work was not the same.
    """
    first = written("cdscale", work).astype(np.int16)
    told = {}
    for way in ways:
        other = written(way, work).astype(np.int16)
        told[way] = float((np.abs(other - first) > QUANTUM).mean())
        if told[way] > 1e-4:
            raise SystemExit(f"{way} says something else in {told[way]:.4%} of pixels")
    return told


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    ways = [way for way in options.way if available(way)]
    for way in sorted(set(options.way) - set(ways)):
        print(f"{way} is not installed: left out")
    made = ground(options.work, options.size)
    rounds = [
        {way: measured(way, options.work, options.size) for way in ways}
        for _ in range(options.rounds)
    ]
    pixels = int(np.prod(made.job.spec.window().geobox(made.job.spec.lattice).shape))
    agree([way for way in ways if way not in {"bare", "cdscale"}], options.work)
    told = {
        way: {key: median(one[way][key] for one in rounds) for key in ("wall", "cpu", "peak_mb")}
        for way in ways
    }
    print(
        "| way | wall s | Mpx/s | of the bare pass | CPU s | peak MB |\n|---|---|---|---|---|---|"
    )
    for way, one in told.items():
        ratio = median(r["bare"]["wall"] / r[way]["wall"] for r in rounds) if "bare" in ways else 0
        print(
            f"| {way} | {one['wall']:.2f} | {pixels / one['wall'] / 1e6:.3f} | {ratio:.2f} "
            f"| {one['cpu']:.2f} | {one['peak_mb']:.0f} |"
        )
    if options.out:
        options.out.write_text(json.dumps({"pixels": pixels, "rounds": rounds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
