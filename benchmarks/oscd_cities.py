"""The whole road over real OSCD cities, scored against their labels.

    python -m benchmarks.oscd_cities OUT [CITY ...] [--card CARD]

For each city: catalogue to cube to change map by ``examples/oscd.yaml``, then the class map,
nearest neighbour, on the label's own grid, against the label. The label and the class map are
compared wherever the map has data. Without a city, all fourteen that have labels.

The shipped weights have seen these cities; ``--card`` takes others that have not, such as those of
the fold of ``benchmarks.oscd_rows`` that held a city out.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
import rasterio.warp
import rioxarray  # noqa: F401  registers .rio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import Resampling, reproject

from cdscale import models
from cdscale.cli import run_job
from cdscale.spec.run import RunSpec, load_run
from cdscale.store import open_dataset

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("CDSCALE_DATA", ROOT.parent / "shared" / "data")) / "oscd"
IMAGES = DATA / "Onera Satellite Change Detection dataset - Images"
LABELS = DATA / "Onera Satellite Change Detection dataset - Train Labels"
SHIPPED = "change-s1s2-oscd"


class Counts(NamedTuple):
    """Pixels of a comparison."""

    hits: int
    false: int
    missed: int

    @property
    def figures(self) -> dict[str, float]:
        """Precision, recall and F1."""
        found, there = self.hits + self.false, self.hits + self.missed
        return {
            "precision": round(self.hits / max(found, 1), 3),
            "recall": round(self.hits / max(there, 1), 3),
            "f1": round(2 * self.hits / max(found + there, 1), 3),
        }


def spec_of(city: str, out: Path, card: str = SHIPPED) -> RunSpec:
    """The run of a city: its polygon, its two months, mapped by a model."""
    dates = (IMAGES / city / "dates.txt").read_text().split()[1::2]
    period = ",".join(f"{date[:4]}-{date[4:6]}" for date in dates)
    area = str(IMAGES / city / f"{city}.geojson")
    changes = {
        "area": area,
        "period": period,
        "output": str(out / city),
        "models": {"change": {"card": card}},
    }
    return load_run(ROOT / "examples" / "oscd.yaml", changes)


class OnLabel(NamedTuple):
    """The class map of a city on the grid of its label."""

    mapped_YX: NDArray[np.uint8]
    truth_YX: NDArray[np.bool_]
    transform: rasterio.Affine
    crs: str


def mapped_onto(city: str, store: Path, month: str) -> OnLabel:
    """The change map of a month near a city, nearest neighbour, and the label."""
    with rasterio.open(IMAGES / city / "imgs_1_rect" / "B02.tif") as grid:
        transform, crs = grid.transform, grid.crs
    with warnings.catch_warnings():
        # The pixels of a label are those of B02, which it does not say.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(LABELS / city / "cm" / f"{city}-cm.tif") as file:
            truth_YX = file.read(1) == 2
    rows, columns = truth_YX.shape
    with open_dataset(store) as dataset:
        into = CRS.from_user_input(str(dataset.rio.crs))
        edges = rasterio.transform.array_bounds(rows, columns, transform)
        west, south, east, north = rasterio.warp.transform_bounds(crs, into, *edges)
        # The store may reach over a continent.
        near = dataset.change.sel(x=slice(west - 50, east + 50), y=slice(north + 50, south - 50))
        found = near.sel(month=month).squeeze("month", drop=True).load()
        source = found.rio.transform(recalc=True)
    mapped_YX = np.full(truth_YX.shape, 255, np.uint8)
    reproject(
        found.values,
        mapped_YX,
        src_transform=source,
        src_crs=into,
        src_nodata=255,
        dst_transform=transform,
        dst_crs=crs,
        dst_nodata=255,
        resampling=Resampling.nearest,
    )
    return OnLabel(mapped_YX, truth_YX, transform, crs.to_string())


def compare(found: OnLabel) -> Counts:
    """A change map against its label, wherever the map has data."""
    seen_YX, changed_YX = found.mapped_YX != 255, found.mapped_YX == 1
    return Counts(
        int((changed_YX & found.truth_YX & seen_YX).sum()),
        int((changed_YX & ~found.truth_YX & seen_YX).sum()),
        int((~changed_YX & found.truth_YX & seen_YX).sum()),
    )


def main() -> None:
    """Run and score the cities that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("cities", nargs="*")
    parser.add_argument("--card", default=SHIPPED, help="name of a model, or a .card.yaml file")
    options = parser.parse_intermixed_args()
    cities = options.cities or sorted(p.name for p in LABELS.iterdir() if p.is_dir())
    card = models.load_card(options.card)
    print(f"model {card.name} {card.version}, split: {card.training.split}")
    total = Counts(0, 0, 0)
    for city in cities:
        if run_job(spec_of(city, options.out, options.card), "local"):
            raise SystemExit(f"{city}: the run is not complete")
        later = str(spec_of(city, options.out, options.card).period.last)
        counts = compare(mapped_onto(city, options.out / city / "change.zarr", later))
        total = Counts(*(a + b for a, b in zip(total, counts, strict=True)))
        print(json.dumps({"city": city, **counts.figures}), flush=True)
    print(json.dumps({"city": "pooled", **total.figures}))


if __name__ == "__main__":
    main()
