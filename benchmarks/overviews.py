"""``python -m benchmarks.overviews WORK OUT.json``: what overviews cost, and who pays.

A month of a store of change on the default layout, 4 by 4 tiles of 2048 pixels, with the 13
variables of a series: patches of random values, no place on Earth. Its overviews are made in this
process, and by one worker and two of a cluster on this machine. Of each way the seconds of the
clock, and those of the processor in this process and in the workers; every file must be the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cdscale import mosaic
from cdscale.cluster import connect
from cdscale.cluster.errands import each
from cdscale.grid import Grid, Tile, Window
from cdscale.months import Month, Months
from cdscale.spec.cube import CubeSpec
from cdscale.spec.product import state_variables
from cdscale.spec.run import Workers
from cdscale.store import Store, create, read_spec

PATCH_PX = 16
"""Along a side of a patch of one value: what compresses as maps do, roughly."""


def made(path: Path, tiles: int, tile_px: int) -> Store:
    """The store, its month published, without overviews."""
    spec = CubeSpec(
        product="change",
        title="made of random patches: no place on Earth",
        grid=Grid.preset("europe", tile_px=tile_px),
        window=Window(200, 200, tiles, tiles),
        months=Months.parse("2022-04"),
        variables=state_variables(),
        chunk_px=tile_px // 4,
    )
    rng, store = np.random.default_rng(5), create(path, spec)
    side = tile_px // PATCH_PX
    for tile in tiles_of(spec):
        patches = (rng.integers(0, 8, (side, side)).astype(v.dtype) for v in spec.variables)
        whole = (np.kron(patch, np.ones((PATCH_PX, PATCH_PX), patch.dtype)) for patch in patches)
        names = (v.name for v in spec.variables)
        store.write(tile, spec.months.first, dict(zip(names, whole, strict=True)))
    store.publish(spec.months)
    return store


def tiles_of(spec: CubeSpec) -> tuple[Tile, ...]:
    """Every tile of a store."""
    w = spec.window
    return tuple(Tile(w.ix + x, w.iy + y) for y in range(w.ny) for x in range(w.nx))


@contextmanager
def way(workers: int) -> Iterator[tuple[mosaic.Each, Any]]:
    """Who makes shards, and what tells the processor's seconds of the workers so far."""
    if not workers:
        yield mosaic.here, lambda: 0.0
        return
    with connect("local", Workers(count=workers, memory="3GiB")) as place:
        # What workers import at their first task is no part of it.
        place.client.run(_imported)
        yield (
            partial(each, place),
            lambda: sum(place.client.run(time.process_time).values()),
        )


def _imported() -> None:
    import cdscale.mosaic  # noqa: F401


def always_the_same(tile: Tile, month: Month) -> str:
    """What the pixels of a tile were: nothing is ever made again."""
    return f"{tile} {month}"


def timed(original: Store, path: Path, workers: int) -> dict[str, Any]:
    """Make all overviews of a copy of a store."""
    shutil.copytree(original.path, path)
    store = Store(path, read_spec(path))
    spec = store.spec
    records = path.with_suffix(".records")
    step = mosaic.Step(store, tiles_of(spec), always_the_same, records)
    with way(workers) as (all_of, spent):
        before, own, began = spent(), time.process_time(), time.perf_counter()
        built = step.run(spec.months, all_of)
        seconds = time.perf_counter() - began
        own, there = time.process_time() - own, spent() - before
    return {
        "workers": workers,
        "shards": built.shards,
        "seconds": round(seconds, 2),
        "driver_cpu_s": round(own, 2),
        "workers_cpu_s": round(there, 2),
        "sum": whole_sum(path),
    }


def whole_sum(folder: Path) -> str:
    """Of every file below a folder, and its name."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(str(path.relative_to(folder)).encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def main() -> None:
    """Make the store, and its overviews by every way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("results", type=Path, nargs="?", help="figures are kept here")
    parser.add_argument("--tiles", type=int, default=4, help="along a side of the store")
    parser.add_argument("--tile", type=int, default=2048, help="pixels along a side of a tile")
    options = parser.parse_args()
    original = made(options.work / "change.zarr", options.tiles, options.tile)
    ways = []
    for workers in (0, 1, 2):
        path = options.work / f"by-{workers}.zarr"
        ways.append(timed(original, path, workers))
        shutil.rmtree(path)
        print(json.dumps(ways[-1]), flush=True)
    if len({one["sum"] for one in ways}) > 1:
        raise SystemExit("the ways do not make the same files")
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "command": "python -m benchmarks.overviews WORK OUT.json",
        "load": os.getloadavg(),
        "tiles": options.tiles**2,
        "tile_px": options.tile,
        "variables": len(original.spec.variables),
        "ways": ways,
    }
    if options.results:
        options.results.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
