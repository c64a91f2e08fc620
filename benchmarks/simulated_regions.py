"""Training regions for the urban network: simulated, composed by the pipeline, labelled by truth.

    python -m benchmarks.simulated_regions OUT --seeds 101 102 103 --size 256

Each seed is another place. The scenes go through the same ``compose`` stage as any run, so that the
network learns from cubes as they are, holes and all. OUT/region-SEED.npz then holds
``s1_TPYX`` (linear power), ``s2_TBYX`` (reflectance), ``seen_TYX`` and ``label_TYX``
(built-up fraction of at least one half), T months; these are what ``cdscale.learn.urban`` reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cdscale import plan, progress, run, simulate
from cdscale.grid import Area
from cdscale.spec.cube import SensorQuality
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec
from cdscale.spec.task import Receipt, Stage
from cdscale.stages import perform
from cdscale.store import Ledger, open_dataset

BANDS = ("B04", "B03", "B02", "B08")


def spec_of(folder: Path, region: simulate.Region) -> RunSpec:
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
            "cube": {"s2_bands": BANDS},
            "output": str(folder / "run"),
        },
        where=f"region {region.seed}",
    )


def compose_here(job: Job) -> list[Receipt]:
    """Every compose task that is left, in this process."""
    agenda = progress.Progress(job, Ledger(job.ledger_folder)).agenda(Stage.COMPOSE)
    return [perform(task, job, mark) for task, mark in agenda.ready.items()]


def make(folder: Path, region: simulate.Region) -> Path:
    """One region's arrays as an .npz file."""
    target = folder / f"region-{region.seed}.npz"
    if target.exists():
        return target
    place = folder / f"region-{region.seed}"
    simulate.write(region, place / "catalogue")
    job = plan.freeze(spec_of(place, region))
    with run.prepared(job):
        compose_here(job)
    with open_dataset(job.store_path(Stage.COMPOSE)) as cube:
        truth = simulate.truth(region, job.spec.window().geobox(job.spec.lattice))
        np.savez(
            target,
            s1_TPYX=cube.s1.values.astype(np.float32),
            s2_TBYX=cube.s2.values.astype(np.float32),
            seen_TYX=cube.s2_quality.values == SensorQuality.valid,
            label_TYX=truth.built_up_fraction.values >= 0.5,
        )
    return target


def main() -> None:
    """Make the regions that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    for seed in options.seeds:
        print(make(options.out, simulate.Region(seed=seed, size_px=options.size)), flush=True)


if __name__ == "__main__":
    main()
