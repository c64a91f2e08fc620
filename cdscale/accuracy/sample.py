"""A sample on disk: points for interpreters, and beside them what they shall not see.

``sample.csv`` or ``sample.gpkg`` has the points and an empty column for what the interpreter sees.
``sample.design.json`` has what the map says of each point and the area of each class: an
interpreter who knows what the map says is led by it.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

from cdscale.errors import SpecError, explain
from cdscale.spec.base import Frozen

COLUMNS = ("id", "lon", "lat", "x", "y", "reference", "note")


class Point(Frozen):
    """The centre of a pixel: longitude and latitude, and in metres of the map's grid."""

    id: int
    lon: float
    lat: float
    x: float
    y: float
    mapped: str
    """What the map says there."""


class Design(Frozen):
    """A stratified sample before anybody has interpreted it."""

    map: str
    variable: str
    month: str
    crs: str
    seed: int
    mapped_km2: dict[str, float]
    """Area of each class on the map; classes without a pixel are left out."""
    classes: tuple[str, ...] = ()
    """What the ground may be: every class of the variable. Designs of before have none, and mean
    those of the map."""
    points: tuple[Point, ...]

    def counts(self, seen: dict[int, str]) -> dict[tuple[str, str], int]:
        """Points of each map class and reference class, of those that were interpreted."""
        pairs = ((p.mapped, seen[p.id]) for p in self.points if p.id in seen)
        return dict(Counter(pairs))


def design_path(sample: Path) -> Path:
    """Where the design of a sample stands."""
    return sample.with_name(f"{sample.stem}.design.json")


def write_sample(design: Design, path: Path) -> None:
    """Points for interpreters, and the design beside them.

    Raises
    ------
    SpecError
        When the file's ending is neither ``.csv`` nor ``.gpkg``, or there is a file already: it may
        hold what somebody interpreted.
    """
    if path.suffix not in {".csv", ".gpkg"}:
        raise SpecError(explain(f"sample {path}", expected="a .csv or .gpkg file"))
    if path.exists() or design_path(path).exists():
        raise SpecError(
            explain(
                f"there is a sample at {path}, or its design",
                do="Name another file: what was interpreted is not written over.",
            )
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gpkg":
        _write_gpkg(design, path)
    else:
        with _whole(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for p in design.points:
                writer.writerow([p.id, f"{p.lon:.7f}", f"{p.lat:.7f}", p.x, p.y, "", ""])
        os.replace(_whole(path), path)
    # Last: a sample without its design says that the command did not come to its end.
    _whole(design_path(path)).write_text(design.model_dump_json(indent=1) + "\n", encoding="utf-8")
    os.replace(_whole(design_path(path)), design_path(path))


def read_sample(path: Path) -> tuple[Design, dict[int, str]]:
    """A design, and what interpreters wrote beside its points; points left empty are left out.

    Raises
    ------
    SpecError
        When a file is missing or does not read, or a point is not of the design, or twice there.
    """
    design = _read_design(design_path(path))
    rows = _read_gpkg(path) if path.suffix == ".gpkg" else _read_csv(path)
    known = {p.id for p in design.points}
    seen: dict[int, str] = {}
    given: set[int] = set()
    for number, reference in rows:
        if number not in known or number in given:
            what = "is not of the design" if number not in known else "is there twice"
            raise SpecError(explain(f"{path}: point {number} {what}"))
        given.add(number)
        if reference:
            seen[number] = reference
    return design, seen


def _whole(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _read_design(path: Path) -> Design:
    try:
        return Design.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise SpecError(
            explain(
                f"{path} does not read",
                expected="the design that `cdscale accuracy design` wrote beside the sample",
                got=str(err).splitlines()[0][:160],
            )
        ) from None


def _read_csv(path: Path) -> list[tuple[int, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            names = table.fieldnames or ()
            if not {"id", "reference"} <= set(names):
                raise ValueError(f"columns {', '.join(names)}")
            return [(int(row["id"]), (row["reference"] or "").strip()) for row in table]
    except (OSError, ValueError, csv.Error) as err:
        raise SpecError(
            explain(
                f"{path} does not read",
                expected="the sample with its columns id and reference, comma-separated",
                got=str(err)[:160],
            )
        ) from None


def _write_gpkg(design: Design, path: Path) -> None:
    import numpy as np
    import pyogrio.raw
    import shapely

    geometry = shapely.to_wkb(shapely.points([(p.x, p.y) for p in design.points]))
    lon = np.array([p.lon for p in design.points])
    lat = np.array([p.lat for p in design.points])
    numbers = np.array([p.id for p in design.points], np.int64)
    empty = np.array([""] * len(numbers), object)
    pyogrio.raw.write(
        str(path), geometry, [numbers, lon, lat, empty, empty],
        ["id", "lon", "lat", "reference", "note"], layer="sample", driver="GPKG",
        geometry_type="Point", crs=design.crs,
    )  # fmt: skip


def _read_gpkg(path: Path) -> list[tuple[int, str]]:
    import pyogrio.errors
    import pyogrio.raw

    try:
        meta, _, _, columns = pyogrio.raw.read(
            str(path), columns=["id", "reference"], read_geometry=False
        )
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as err:
        raise SpecError(
            explain(f"{path} does not read", expected="a GeoPackage", got=str(err)[:160])
        ) from None
    found = dict(zip(meta["fields"], columns, strict=True))
    if found.keys() != {"id", "reference"}:
        raise SpecError(explain(f"{path}", expected="fields id and reference", got=list(found)))
    return [
        (int(number), str(text or "").strip())
        for number, text in zip(found["id"], found["reference"], strict=True)
    ]
