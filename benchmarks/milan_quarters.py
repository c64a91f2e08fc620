"""Zonal statistics of Milan's quarters over a mapped scene, beside pixels cut one by one.

    python -m benchmarks.milan_quarters OUT [OUT.json]

The OSCD scene of Milan goes from its catalogue to a change map (``benchmarks.oscd_cities``), and
``cdscale stats`` is asked for every quarter of the city. The other way shares nothing with it but
the stored codes: corners are set every 0.0002 degrees along the edges and projected by pyproj, the
square of every pixel is cut with each quarter by GEOS, and what is cut is added up by code. Then
the sum over all quarters against one zone that is their union. Neighbours overlap by some square
metres as they are drawn, which a sum counts twice: how many is measured by GEOS, and taken off.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
import xarray as xr
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from benchmarks.oscd_cities import DATA, spec_of
from cdscale.cli import run_job

QUARTERS = DATA.parent / "vectors" / "milan_quarters.geojson"
FIELD = "name"
EVERY_DEG = 0.0002
"""Some 20 m; ``cdscale`` sets a corner every 100 m."""
CLASSES = {0: "no_change", 1: "urban_change", 255: "no_data"}
"""Codes of ``change`` as the store's attributes name them; its fill value says nothing."""
Table = dict[str, dict[str, float]]
"""Square metres by zone and class."""


class Pixels(NamedTuple):
    """The last month of the map, as plain xarray reads it, and where its pixels lie."""

    codes_YX: NDArray[np.uint8]
    left_X: NDArray[np.float64]
    top_Y: NDArray[np.float64]
    step: float
    crs: str

    @classmethod
    def of(cls, store: Path) -> Pixels:
        """Of ``change.zarr``."""
        with xr.open_zarr(store, mask_and_scale=False) as dataset:
            code_YX = dataset.change.values[-1]
            x, y = dataset.x.values, dataset.y.values
            step = float(x[1] - x[0])
            crs = str(dataset.spatial_ref.attrs["crs_wkt"])
        return cls(code_YX, x - step / 2, y + step / 2, step, crs)

    @property
    def outline(self) -> BaseGeometry:
        """Of all pixels."""
        bottom, right = self.top_Y[-1] - self.step, self.left_X[-1] + self.step
        return shapely.box(self.left_X[0], bottom, right, self.top_Y[0])


def flat(polygon: BaseGeometry, crs: str) -> BaseGeometry:
    """A polygon in degrees, in another CRS."""
    into = Transformer.from_crs("OGC:CRS84", crs, always_xy=True)

    def moved(lon_lat: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(into.transform(lon_lat[:, 0], lon_lat[:, 1]))

    return shapely.transform(shapely.segmentize(polygon, EVERY_DEG), moved)


def cut(polygon: BaseGeometry, pixels: Pixels) -> dict[str, float]:
    """Square metres of each class in a polygon: every pixel's square cut with it."""
    west, south, east, north = polygon.bounds
    step = pixels.step
    columns = np.flatnonzero((pixels.left_X < east) & (pixels.left_X + step > west))
    rows = np.flatnonzero((pixels.top_Y > south) & (pixels.top_Y - step < north))
    if not (len(rows) and len(columns)):
        return dict.fromkeys(CLASSES.values(), 0.0)
    top_YX, left_YX = np.meshgrid(pixels.top_Y[rows], pixels.left_X[columns], indexing="ij")
    squares_YX = shapely.box(left_YX, top_YX - step, left_YX + step, top_YX)
    shapely.prepare(polygon)
    inside_YX = shapely.contains_properly(polygon, squares_YX)
    edge_YX = shapely.intersects(polygon, squares_YX) & ~inside_YX
    m2_YX = np.where(inside_YX, step**2, 0.0)
    m2_YX[edge_YX] = shapely.area(shapely.intersection(squares_YX[edge_YX], polygon))
    codes_YX = pixels.codes_YX[np.ix_(rows, columns)]
    return {name: float(m2_YX[codes_YX == code].sum()) for code, name in CLASSES.items()}


def asked(store: Path, zones: Path) -> Table:
    """What ``cdscale stats`` says of the zones of a file."""
    command = [sys.executable, "-m", "cdscale", "stats", str(store), str(zones), "--by", FIELD]
    options = ["--variable", "change", "--format", "json"]
    told = subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout
    last = max(row["month"] for row in json.loads(told))
    rows = [row for row in json.loads(told) if row["month"] == last]
    return {
        zone: {row["class"]: 1e6 * row["km2"] for row in members}
        for zone, members in groupby(rows, key=lambda row: str(row[FIELD]))
    }


def quarters() -> Iterator[tuple[str, BaseGeometry]]:
    """Names and polygons, in degrees."""
    for feature in json.loads(QUARTERS.read_text(encoding="utf-8"))["features"]:
        yield feature["properties"][FIELD], shape(feature["geometry"])


def one_zone(polygons: Iterable[BaseGeometry], file: Path) -> Path:
    """A file with the union of polygons."""
    feature = {
        "type": "Feature",
        "properties": {FIELD: "all"},
        "geometry": mapping(shapely.union_all(list(polygons))),
    }
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    file.write_text(text, encoding="utf-8")
    return file


class Difference(NamedTuple):
    """Of one class in one quarter, between both ways."""

    of_quarter: float
    """As a share of the quarter's area, wherever it lies."""
    of_part: float
    """As a share of what of the quarter lies in the store, which may be a sliver."""
    m2: float
    quarter: str
    label: str


def differences(
    found: Table, every: dict[str, BaseGeometry], pixels: Pixels
) -> Iterator[Difference]:
    """Of every class in every quarter that meets the store."""
    for name, polygon in every.items():
        own, expected = found.get(name, {}), cut(polygon, pixels)
        part, whole = sum(expected.values()), float(polygon.area)
        for label in sorted(own.keys() | expected.keys()):
            off = abs(own.get(label, 0.0) - expected.get(label, 0.0))
            yield Difference(off / whole, off / part if part else off, off, name, label)


def compare(store: Path, out: Path) -> dict[str, Any]:
    """Both ways, quarter by quarter, and sums against the union."""
    pixels = Pixels.of(store)
    found = asked(store, QUARTERS)
    every = {name: flat(polygon, pixels.crs) for name, polygon in quarters()}
    apart = list(differences(found, every, pixels))
    there = [shapely.intersection(polygon, pixels.outline) for polygon in every.values()]
    twice = float(sum(shapely.area(there)) - shapely.union_all(there).area)
    union = one_zone((polygon for _, polygon in quarters()), out / "all.geojson")
    whole = sum(asked(store, union)["all"].values())
    total = sum(sum(own.values()) for own in found.values())
    inside = [own for own in found.values() if sum(own.values())]
    return {
        "quarters": len(every),
        "quarters_with_pixels": len(inside),
        "km2": round(total / 1e6, 6),
        "change_km2": round(sum(own["urban_change"] for own in inside) / 1e6, 6),
        "largest_of_a_quarter": max(apart)._asdict(),
        "largest_of_a_part": max(apart, key=lambda one: one.of_part)._asdict(),
        "union_km2": round(whole / 1e6, 9),
        "overlaps_m2": round(twice, 3),
        "sum_less_overlaps_against_union": abs(total - twice - whole) / whole,
        "sum_against_union": abs(total - whole) / whole,
    }


def main() -> None:
    """Map Milan, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("results", type=Path, nargs="?", help="figures are kept here")
    options = parser.parse_args()
    spec = spec_of("milano", options.out)
    if run_job(spec, "local"):
        raise SystemExit("the run is not complete")
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "command": "python -m benchmarks.milan_quarters OUT OUT.json",
        **compare(spec.folder / "change.zarr", options.out),
    }
    print(json.dumps(figures, indent=1))
    if options.results:
        options.results.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
