"""Small runs to test with: specs, jobs made by hand, hashes of folders.

Expensive things are made once a session, by the fixtures of ``conftest``.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from distributed import LocalCluster
from shapely.geometry import box, mapping

from cdscale.grid import LON_LAT, Grid, Tile, reproject, to_lon_lat
from cdscale.months import Months
from cdscale.plan import freeze
from cdscale.progress import Progress
from cdscale.run import prepared
from cdscale.simulate import Region
from cdscale.spec.card import ModelCard
from cdscale.spec.cube import CubeSpec
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec, load_run
from cdscale.spec.scene import Scene, SceneTable
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.stages import perform
from cdscale.store import Ledger, create, exists
from cdscale.testing import make_scene
from cdscale.testing.cards import a_card as a_card
from cdscale.testing.cards import write_card as write_card

PC = {
    "sentinel-2-l2a": "planetary-computer-sentinel-2-l2a",
    "sentinel-1-rtc": "planetary-computer-sentinel-1-rtc",
}
REGION = Region(seed=1, size_px=256, months=Months.parse("2022-03..2022-06"))
"""The simulated region that the runs are of: four tiles of 128 pixels."""
GRID = Grid.preset("europe", tile_px=64)
CORNER = Tile(6800, 7800)
"""North-west tile of areas made by hand, on tiles of 64 pixels."""


# ---------------------------------------------------------------------------------------- specs


def west_half() -> dict[str, Any]:
    """GeoJSON of the two western tiles of the region."""
    west, south, east, north = REGION.raster.bounds
    half = box(west, south, (west + east) / 2, north).buffer(-20, join_style="mitre")
    return dict(mapping(reproject(half, GRID.crs, LON_LAT, resolution=200)))


def plain_spec(catalogue: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Fields of a spec over half of the region: two tiles of 128 pixels, two months, few bands."""
    return {
        "name": "tiny",
        "catalogue": str(catalogue.parent),
        "collections": PC,
        "area": west_half(),
        "period": "2022-04..2022-05",
        "grid": {"preset": "europe", "tile": 128, "chunk": 64},
        "cube": {"s2_bands": ["B04", "B08"], "s1_bands": ["vv"], "max_cloud_cover": 70},
        "output": str(output),
        "workers": {"count": 2, "memory": "2GiB"},
    } | changes


def write_spec(path: Path, fields: dict[str, Any]) -> Path:
    """A spec's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")
    return path


@dataclass(frozen=True)
class SmallRun:
    """The run that tests begin, break off, repeat and compare with."""

    catalogue: Path
    models: dict[str, dict[str, str]]
    output: Path
    """Where it has been done once."""
    products: dict[str, str]
    """Sha256 of every file of its stores."""

    @classmethod
    def make(cls, catalogue: Path, models: dict[str, dict[str, str]], folder: Path) -> SmallRun:
        """Do it, task by task in the plan's order, in this process."""
        fields = plain_spec(catalogue, folder / "out", models=models)
        do_serially(freeze(load_run(write_spec(folder / "spec.yaml", fields))))
        return cls(catalogue, models, folder / "out", products(folder / "out"))

    def spec(self, folder: Path, **changes: Any) -> Path:
        """File of a spec for the same run in another folder, ``out`` under this one."""
        fields = plain_spec(self.catalogue, folder / "out", models=self.models)
        return write_spec(folder / "spec.yaml", fields | changes)

    def job(self, folder: Path, **changes: Any) -> Job:
        """The same run in another folder, frozen."""
        return freeze(load_run(self.spec(folder, **changes)))


def do_serially(job: Job, *, seed: int | None = None) -> None:
    """Do a run without a cluster; a seed shuffles the tasks of each stage."""
    with prepared(job):
        for stage in job.stages:
            for ready in rounds(job, stage):
                if seed is not None:
                    random.Random(seed).shuffle(ready)
                for task, mark in ready:
                    perform(task, job, mark)


def rounds(job: Job, stage: Stage) -> Iterator[list[tuple[Task, str]]]:
    """Tasks of a stage that can start, with their fingerprints, each once.

    Whoever asks for the next ones has done these; of a series they are a month at a time.
    """
    given: set[Task] = set()
    while True:
        every = Progress.of(job).agenda(stage).ready.items()
        ready = [(task, mark) for task, mark in every if task not in given]
        if not ready:
            return
        given.update(task for task, _ in ready)
        yield ready


# --------------------------------------------------------------------------------- made by hand


def box_of(nx: int, ny: int) -> dict[str, Any]:
    """GeoJSON of an area that touches just ``nx`` x ``ny`` tiles from :data:`CORNER` on."""
    west, north = CORNER.ix * GRID.tile_m, GRID.extent.north - CORNER.iy * GRID.tile_m
    corners = [
        (west + 100, north - 100),
        (west + nx * GRID.tile_m - 100, north - 100),
        (west + nx * GRID.tile_m - 100, north - ny * GRID.tile_m + 100),
        (west + 100, north - ny * GRID.tile_m + 100),
    ]
    ring = [list(to_lon_lat(x, y, GRID.crs)) for x, y in corners]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def made_spec(output: Path, *, nx: int = 2, ny: int = 1, **changes: Any) -> RunSpec:
    """A spec of a few tiles of 64 pixels whose catalogue is nowhere."""
    fields: dict[str, Any] = {
        "name": "made",
        "catalogue": "nowhere",
        "collections": PC,
        "area": box_of(nx, ny),
        "period": "2022-04..2022-05",
        "grid": {"preset": "europe", "tile": 64, "chunk": 32},
        "cube": {"s2_bands": ["B04", "B08"], "s1_bands": ["vv"]},
        "output": str(output),
        "workers": {"count": 1, "memory": "2GiB"},
    }
    return RunSpec.model_validate(fields | changes)


def made_scenes(period: str = "2022-04..2022-05") -> tuple[Scene, ...]:
    """One optical and one radar scene for each month, over everything."""
    scenes: list[Scene] = []
    for month in Months.parse(period):
        when = f"{month}-15T10:00:00+00:00"
        scenes.append(make_scene(f"s2-{month}", when=when, bands=("B04", "B08")))
        scenes.append(make_scene(f"s1-{month}", sensor="s1", when=when, bands=("vv",)))
    return tuple(scenes)


def made_job(
    output: Path,
    *,
    scenes: tuple[Scene, ...] | None = None,
    cards: dict[str, ModelCard] | None = None,
    **changes: Any,
) -> Job:
    """A job without catalogue and without files: its scenes lead nowhere."""
    spec = made_spec(output, **changes)
    every = scenes or made_scenes(str(spec.period))
    table = SceneTable(search="made", scenes=every, window=spec.cube.window_months)
    return Job(spec=spec, scenes=table, cards=cards or {})


def receipt_of(task: Task, fingerprint: str, **changes: Any) -> Receipt:
    """A receipt as if a task had been done."""
    sums = {"pixels": hashlib.sha256(str(task).encode()).hexdigest()}
    made = Receipt(task=str(task), fingerprint=fingerprint, checksums=sums, seconds=2.0)
    return made.model_copy(update=changes)


def blank(layout: CubeSpec) -> dict[str, Any]:
    """Blocks of a store in which nothing is known; to be filled in."""
    return {v.name: np.full(layout.shard_shape(v)[1:], v.fill, v.dtype) for v in layout.variables}


def lay_out(job: Job) -> None:
    """Empty stores where there are none: receipts count only beside what they tell of."""
    for stage in job.stages:
        if not exists(job.store_path(stage)):
            create(job.store_path(stage), job.layouts[stage])


def pretend(job: Job, *stages: Stage, **changes: Any) -> None:
    """Write the receipts of every task of some stages, as if they had been done."""
    lay_out(job)
    for stage in stages or job.stages:
        ledger = Ledger(job.ledger_folder)
        for ready in rounds(job, stage):
            for task, mark in ready:
                ledger.write(receipt_of(task, mark, **changes))


def thread_cluster(
    workers: int = 1, threads: int = 1, *, protocol: str = "tcp", security: Any = None
) -> LocalCluster:
    """A cluster inside this process, reached by its address: no process, no import."""
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=threads,
        processes=False,
        protocol=protocol,
        security=security,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
    )


# --------------------------------------------------------------------------------------- hashes


def hashes(folder: Path) -> dict[str, str]:
    """Sha256 of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def products(output: Path) -> dict[str, str]:
    """Sha256 of every file of every store of a run, hidden and half-written ones included."""
    found = hashes(output)
    return {name: sha for name, sha in found.items() if ".zarr" in name.partition("/")[0]}


def state_of(folder: Path) -> dict[str, tuple[int, str]]:
    """Modification time and sha256 of every file below a folder."""
    return {n: ((folder / n).stat().st_mtime_ns, s) for n, s in hashes(folder).items()}


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def descendants(pid: int) -> set[int]:
    """Every process that a process started, and those that these started."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                numbers = {int(n) for n in children.read_text(encoding="utf-8").split()}
            except OSError:
                continue
            waiting += numbers - found
            found |= numbers
    return found
