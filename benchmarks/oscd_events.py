"""Change events of real OSCD cities against their labels, object by object.

    python -m benchmarks.oscd_events OUT [CITY ...] [--card CARD] [--mmu PIXELS]

The cities of a continent lie on one grid and are mapped by one run, as one pair of months: a
composite draws on as many months (``cube.window_months``) as hold the earlier, or the later, scenes
of all of them. Of each run: catalogue to cube to change map, overviews, seams, and the log of
events (``cdscale export geoparquet``).

An event and a patch of the label, both of at least ``--mmu`` pixels and connected over edges and
corners, are the same object where their intersection over union is 0.25 or more; each has one
partner at most, the best first. Labels are cut to where the map has data, events to the extent of
the label. Beside them stand the figures of the pixels, as in ``benchmarks.oscd_cities``.

The score itself has a ceiling, since labels lie on other grids: the label of Rennes in place of the
map, through grid, events and back, has 89 of 92 objects and 2 more, and 0.978 of F1 by pixels.

The shipped weights were trained on these cities: the figures say how events fare on known ground,
not on new cities. ``--card`` takes networks that have not seen them.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import shapely
from distributed import LocalCluster
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.features import shapes
from scipy import ndimage
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from benchmarks.oscd_cities import IMAGES, LABELS, ROOT, SHIPPED, Counts, compare, mapped_onto
from cdscale import models
from cdscale.cli import run_job
from cdscale.export import event_log
from cdscale.export.cut import cut
from cdscale.export.events import Event
from cdscale.grid import Area, choose_preset, reproject
from cdscale.months import Month, Months
from cdscale.mosaic import gates
from cdscale.spec.base import read_yaml
from cdscale.spec.run import RunSpec, load_run

IOU = 0.25
NONE = Counts(0, 0, 0)


@dataclass(frozen=True)
class Continent:
    """Cities of one continental grid, which one run maps."""

    preset: str
    cities: tuple[str, ...]

    @property
    def window(self) -> int:
        """Months that hold the scenes of one side of all pairs."""
        return 1 + max(max(side) - min(side) for side in self._sides)

    @property
    def pair(self) -> tuple[Month, Month]:
        """The two months, as late as need be for the windows not to share a scene's month."""
        earlier, later = map(max, self._sides)
        if earlier >= min(self._sides[1]):
            raise SystemExit(f"{self.preset}: earlier and later scenes do not lie apart")
        return earlier, max(later, earlier + self.window)

    @property
    def _sides(self) -> tuple[tuple[Month, ...], tuple[Month, ...]]:
        pairs = [pair_of(city) for city in self.cities]
        return tuple(before for before, _ in pairs), tuple(after for _, after in pairs)

    def spec(self, out: Path, card: str) -> RunSpec:
        """The run."""
        area = Area(shapely.union_all([area_of(city).geometry for city in self.cities])).geojson
        pair = ",".join(map(str, self.pair))
        changes = {
            "name": self.preset,
            "area": area,
            "period": pair,
            "grid": {"preset": self.preset, "tile": 512, "chunk": 256},
            "cube": {"s1_bands": ["vv"], "window_months": self.window},
            "models": {"change": {"card": card, "pairs": [pair]}},
            "output": str(out / self.preset),
        }
        return load_run(ROOT / "examples" / "oscd.yaml", changes)


def area_of(city: str) -> Area:
    """Outline of a city."""
    path = IMAGES / city / f"{city}.geojson"
    return Area.from_geojson(read_yaml(path), where=city)


def pair_of(city: str) -> tuple[Month, Month]:
    """Months of its two images."""
    dates = (IMAGES / city / "dates.txt").read_text().split()[1::2]
    before, after = (Month.parse(f"{date[:4]}-{date[4:6]}") for date in dates)
    return before, after


def continents_of(cities: list[str]) -> list[Continent]:
    """A run for each continent that has some of the cities."""
    cities_of: dict[str, list[str]] = {}
    for city in cities:
        cities_of.setdefault(choose_preset(area_of(city)), []).append(city)
    return [Continent(preset, tuple(here)) for preset, here in sorted(cities_of.items())]


def label_patches(
    truth_YX: NDArray[np.bool_], transform: rasterio.Affine, mmu: int
) -> list[BaseGeometry]:
    """Connected patches of a label, as polygons on its grid."""
    label_YX, count = ndimage.label(truth_YX, structure=np.ones((3, 3)))
    sizes = np.bincount(label_YX.ravel(), minlength=count + 1)
    parts: dict[int, list[BaseGeometry]] = {}
    kept_YX = (label_YX > 0) & (sizes[label_YX] >= mmu)
    for plain, number in shapes(label_YX.astype(np.int32), mask=kept_YX, transform=transform):
        parts.setdefault(int(number), []).append(shape(plain))
    return [shapely.union_all(part) for part in parts.values()]


def matched(found: list[BaseGeometry], there: list[BaseGeometry]) -> int:
    """Objects that are the same in both, each with one partner at most."""
    if not found or not there:
        return 0
    a, b = np.array(found, object), np.array(there, object)
    left, right = shapely.STRtree(b).query(a, predicate="intersects")
    common = shapely.area(shapely.intersection(a[left], b[right]))
    iou = common / (shapely.area(a[left]) + shapely.area(b[right]) - common)
    used_a: set[int] = set()
    used_b: set[int] = set()
    for n in np.argsort(-iou):
        if iou[n] >= IOU and left[n] not in used_a and right[n] not in used_b:
            used_a.add(int(left[n]))
            used_b.add(int(right[n]))
    return len(used_a)


def touched(found: list[BaseGeometry], there: list[BaseGeometry]) -> tuple[int, int]:
    """How many of either meet any of the other."""
    if not found or not there:
        return 0, 0
    left, right = shapely.STRtree(there).query(found, predicate="intersects")
    return len(np.unique(left)), len(np.unique(right))


@dataclass(frozen=True)
class Score:
    """A city, or several, against the label."""

    pixels: Counts = NONE
    objects: Counts = NONE
    touching: int = 0
    """Events that meet an object of the label anywhere."""
    touched: int = 0
    """Objects of the label that an event meets anywhere."""

    def __add__(self, other: Score) -> Score:
        pixels, objects = (
            Counts(*(a + b for a, b in zip(mine, yours, strict=True)))
            for mine, yours in ((self.pixels, other.pixels), (self.objects, other.objects))
        )
        return Score(pixels, objects, self.touching + other.touching, self.touched + other.touched)

    def row(self, city: str) -> str:
        """As a line of JSON."""
        events = self.objects.hits + self.objects.false
        there = self.objects.hits + self.objects.missed
        return json.dumps(
            {
                "city": city,
                "pixels": self.pixels.figures,
                "objects": self.objects.figures,
                "events": events,
                "events that meet an object": round(self.touching / max(events, 1), 3),
                "objects of the label": there,
                "objects that an event meets": round(self.touched / max(there, 1), 3),
                "counts": {"pixels": self.pixels, "objects": self.objects},
            }
        )


def score(city: str, store: Path, month: str, events: list[Event], mmu: int) -> Score:
    """Pixels and objects of a city against its label."""
    map_ = mapped_onto(city, store, month)
    truth_YX = map_.truth_YX & (map_.mapped_YX != 255)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        there = label_patches(truth_YX, map_.transform, mmu)
    rows, columns = truth_YX.shape
    west, north = map_.transform * (0, 0)
    east, south = map_.transform * (columns, rows)
    extent = shapely.box(west, south, east, north)
    crs = cut(store).spec.grid.crs
    step = 1000 if "32" in map_.crs else 0.01
    here = reproject(extent, map_.crs, crs, resolution=step)
    found = []
    for event in events:
        if event.month == month and event.patch.geometry.intersects(here):
            outline = shapely.make_valid(
                reproject(event.patch.geometry, crs, map_.crs, resolution=1000)
            )
            part = shapely.intersection(outline, extent)
            if part.area > 0.5 * outline.area:
                found.append(part)
    hits = matched(found, there)
    objects = Counts(hits, len(found) - hits, len(there) - hits)
    return Score(compare(map_), objects, *touched(found, there))


def main() -> None:
    """Run and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("cities", nargs="*")
    parser.add_argument("--card", default=SHIPPED, help="name of a model, or a .card.yaml file")
    parser.add_argument("--mmu", type=int, default=5)
    options = parser.parse_intermixed_args()
    cities = options.cities or sorted(p.name for p in LABELS.iterdir() if p.is_dir())
    card = models.load_card(options.card)
    print(f"model {card.name} {card.version}, split: {card.training.split}")
    # One worker for all runs, in this process: networks are loaded once.
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        work_off(options, continents_of(cities), cluster.scheduler_address)


def work_off(options: argparse.Namespace, continents: list[Continent], cluster: str) -> None:
    """Run after run, each scored when it is done."""
    pooled = Score()
    for one in continents:
        month, begun = str(one.pair[1]), time.perf_counter()
        spec = one.spec(options.out, options.card)
        if run_job(spec, cluster):
            raise SystemExit(f"{one.preset}: the run is not complete")
        store = options.out / one.preset / "change.zarr"
        part = cut(store, months=Months.parse(month))
        log, _ = event_log.update(options.out / one.preset / event_log.NAME, part, options.mmu)
        seams = gates(options.out / one.preset)["change"]
        told = {
            "run": one.preset,
            "cities": one.cities,
            "months": [str(m) for m in one.pair],
            "window": one.window,
            "seams": seams.model_dump(mode="json"),
            "seconds": round(time.perf_counter() - begun),
        }
        print(json.dumps(told), flush=True)
        for city in one.cities:
            against = score(city, store, month, log.current, options.mmu)
            pooled += against
            print(against.row(city), flush=True)
    print(pooled.row("pooled"))


if __name__ == "__main__":
    main()
