"""Training regions for the urban network: simulated, composed by the pipeline, labelled by truth.

    python -m benchmarks.simulated_regions ROOT --train 101 102 103 --val 110 --test 112 --size 256

Each seed is another place. The scenes go through the same ``compose`` stage as any run, so that the
network learns from cubes as they are, holes and all. ROOT is then a data set in the layout of
``spacenet7`` that says of itself that it was made up: `cdscale train urban-s1s2-sim --data ROOT`
reads it. Its sites are called region-SEED; a pixel is labelled as built up where half of it or more
is; backscatter is kept from -30 to 5 dB, beyond the range of the published files.

Shape suffixes: T month, B band, P polarisation, Y row, X column.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cdscale import plan, progress, run, simulate
from cdscale.grid import Area, GeoBox
from cdscale.learn.data.spacenet7 import BANDS, METADATA
from cdscale.months import Month
from cdscale.spec.cube import SensorQuality
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec
from cdscale.spec.task import Receipt, Stage
from cdscale.stages import perform
from cdscale.store import Ledger, open_dataset
from cdscale.testing.miniatures.painting import picture, sign

DECIBEL = (-30.0, 5.0)
"""What 0 and 1 stand for in the files of radar."""

SEEDS = {"train": tuple(range(101, 110)), "val": (110, 111), "test": (112,)}
"""Of the regions that ``urban-s1s2-sim`` is trained on."""


def spec_of(
    folder: Path, region: simulate.Region, bands: Sequence[str] = ("B04", "B03", "B02", "B08")
) -> RunSpec:
    """A run that only composes, over the whole region."""
    return RunSpec.check(
        {
            "name": f"region-{region.seed}",
            "catalogue": str(folder / "catalogue"),
            "collections": {
                "sentinel-2-l2a": "planetary-computer-sentinel-2-l2a",
                "sentinel-1-rtc": "planetary-computer-sentinel-1-rtc",
            },
            "area": Area.from_geojson(region.area(), where="region").geojson,
            "period": str(region.months),
            "grid": {"preset": "europe", "tile": 256, "chunk": 128},
            "cube": {"s2_bands": bands},
            "output": str(folder / "run"),
        },
        where=f"region {region.seed}",
    )


def compose_here(job: Job) -> list[Receipt]:
    """Every compose task that is left, in this process."""
    agenda = progress.Progress(job, Ledger(job.ledger_folder)).agenda(Stage.COMPOSE)
    return [perform(task, job, mark) for task, mark in agenda.ready.items()]


def write_site(root: Path, work: Path, region: simulate.Region) -> list[dict[str, Any]]:
    """Compose a region, and write its months in the layout of SpaceNet7.

    Parameters
    ----------
    root : Path
        Of the data set.
    work : Path
        For catalogue and cube.
    region : Region
        Its seed names the site.

    Returns
    -------
    list of dict
        Entries of the metadata, one a month.
    """
    simulate.write(region, work / "catalogue")
    job = plan.freeze(spec_of(work, region, BANDS))
    with run.prepared(job):
        compose_here(job)
    box = job.spec.window().geobox(job.spec.lattice)
    truth = simulate.truth(region, box)
    with open_dataset(job.store_path(Stage.COMPOSE)) as cube:
        months = cube[["s1", "s2", "s2_quality"]].assign(built=truth.built_up_fraction)
        return store_site(root, f"region-{region.seed}", months, box)


def store_site(root: Path, site: str, months: xr.Dataset, box: GeoBox) -> list[dict[str, Any]]:
    """Write the months of a site as SpaceNet7 has them.

    Parameters
    ----------
    root : Path
        Of the data set.
    site : str
        Its name.
    months : Dataset
        ``s1`` (month, 2, y, x) in linear power, ``s2`` (month, 10, y, x) reflectance, NaN where
        absent, ``s2_quality`` and ``built``, the share that is built up, (month, y, x).
    box : GeoBox
        Its pixels.

    Returns
    -------
    list of dict
        Entries of the metadata, one a month.
    """
    low, high = DECIBEL
    at = {"crs": str(box.crs), "transform": box.affine, "compress": "deflate"}
    entries = []
    for number, stamp in enumerate(months.month.values):
        month, now = Month.parse(str(stamp)[:7]), months.isel(month=number)
        valid, power = now.s2_quality.values == SensorQuality.valid, now.s1.values
        planes = {
            "s1": ((10 * np.log10(np.maximum(power, 1e-10)) - low) / (high - low)).clip(0, 1),
            "buildings": np.where(now.built.values >= 0.5, now.built.values, 0)[None],
        }
        if valid.any():
            planes["s2"] = np.where(valid, now.s2.values.clip(0, 1), np.nan)
        for part, x_BYX in planes.items():
            name = f"{part}_{site}_{str(month).replace('-', '_')}.tif"
            picture(root / site / part / name, x_BYX.astype(np.float32), **at)
        entries.append(
            {"aoi_id": site, "year": month.year, "month": month.month, "s1": True}
            | {"s2": "s2" in planes, "buildings": True, "masked": False}
        )
    return entries


def write_regions(root: Path, seeds: Mapping[str, Sequence[int]], size: int) -> Path:
    """Write a whole data set.

    Parameters
    ----------
    root : Path
        What is there already of an interrupted call is kept.
    seeds : mapping of str to sequence of int
        Of the regions of ``train``, ``val`` and ``test``.
    size : int
        Pixels along a side.

    Returns
    -------
    Path
        The root.
    """
    places = {split: [f"region-{seed}" for seed in own] for split, own in seeds.items()}
    sign(root, "spacenet7", 0, places, s1_db=DECIBEL)
    table = root / METADATA
    known = json.loads(table.read_text("utf-8")) if table.exists() else {}
    for seed in (seed for own in seeds.values() for seed in own):
        if f"region-{seed}" in known:
            continue
        region = simulate.Region(seed=seed, size_px=size)
        work = root.with_name(f"{root.name}-work") / f"region-{seed}"
        known[f"region-{seed}"] = write_site(root, work, region)
        table.write_text(json.dumps(known, indent=1), encoding="utf-8")
        print(root / f"region-{seed}", flush=True)
    return root


def main() -> None:
    """Make the regions that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    for split, seeds in SEEDS.items():
        parser.add_argument(f"--{split}", type=int, nargs="*", default=seeds)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    write_regions(options.root, {split: getattr(options, split) for split in SEEDS}, options.size)


if __name__ == "__main__":
    main()
