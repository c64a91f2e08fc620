"""Samples that lie beside a run, as its report tells of them.

``cdscale accuracy design RUN/change.zarr --out RUN/accuracy/NAME.csv`` draws one; once people have
interpreted it, the report has the area of change with its interval, and how right the map is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from cdscale.accuracy import Share, estimate, read_sample
from cdscale.errors import CdscaleError
from cdscale.spec.base import Frozen
from cdscale.spec.job import Job

ENDING = ".design.json"
FOLDER = "accuracy"
"""In a run's folder, where samples are looked for, as well as beside its stores."""
MOST = 20
"""Samples that are read."""


class Figure(Frozen):
    """An estimate with half of its 95 % interval; None where the sample says nothing."""

    value: float | None
    interval: float | None

    @classmethod
    def of(cls, share: Share) -> Figure:
        """Of an estimate that may be NaN."""
        pair = (share.value, share.interval)
        value, interval = (None if math.isnan(v) else round(v, 6) for v in pair)
        return cls(value=value, interval=interval)


class ClassEstimate(Frozen):
    """One class of the map."""

    name: str
    mapped_km2: float
    area_km2: Figure
    users: Figure
    producers: Figure


class Sampled(Frozen):
    """What one sample says of a map of this run."""

    file: str
    """Relative to the run's folder."""
    variable: str
    month: str
    points: int
    left: int
    """Points that nobody has interpreted yet."""
    overall: Figure | None
    classes: tuple[ClassEstimate, ...]
    problem: str
    """Why there is no estimate; empty: there is one."""


def samples_of(job: Job) -> tuple[Sampled, ...]:
    """Samples of the maps of a run that lie in its folder, by month."""
    found = (_sampled(job, path) for path in _designs(job.spec.folder))
    return tuple(sorted((s for s in found if s is not None), key=lambda s: (s.month, s.file)))


def _designs(folder: Path) -> Iterator[Path]:
    every = sorted((*folder.glob(f"*{ENDING}"), *(folder / FOLDER).glob(f"*{ENDING}")))
    yield from every[:MOST]


def _sampled(job: Job, design: Path) -> Sampled | None:
    """None where the sample is of another map."""
    stem = design.name.removesuffix(ENDING)
    files = [design.with_name(stem + ending) for ending in (".csv", ".gpkg")]
    sample = next((path for path in files if path.is_file()), files[0])
    name = str(sample.relative_to(job.spec.folder))
    try:
        made, seen = read_sample(sample)
    except CdscaleError as err:
        return _without(name, str(err))
    if made.map not in {layout.title for layout in job.layouts.values()}:
        return None
    plain = {"file": name, "variable": made.variable, "month": made.month}
    counts = {"points": len(made.points), "left": len(made.points) - len(seen)}
    try:
        found = estimate(made.counts(seen), made.mapped_km2, made.classes)
    except CdscaleError as err:
        problem = str(err) if seen else "nobody has interpreted its points yet"
        return Sampled(**plain, **counts, overall=None, classes=(), problem=problem)
    rows = zip(
        found.classes, found.mapped_km2, found.area_km2, found.users, found.producers, strict=True
    )
    classes = (
        ClassEstimate(
            name=name, mapped_km2=round(mapped, 6), area_km2=Figure.of(area),
            users=Figure.of(users), producers=Figure.of(producers),
        )
        for name, mapped, area, users, producers in rows
    )  # fmt: skip
    overall = Figure.of(found.overall)
    return Sampled(**plain, **counts, overall=overall, classes=tuple(classes), problem="")


def _without(name: str, problem: str) -> Sampled:
    return Sampled(
        file=name, variable="", month="", points=0, left=0, overall=None, classes=(),
        problem=problem,
    )  # fmt: skip
