"""The report of a run: one page that works offline, its pictures, and the same facts as JSON."""

from __future__ import annotations

import base64
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np

from cdscale import drift, kernels
from cdscale.export import pictures
from cdscale.export.facts import Change, Facts, gather
from cdscale.export.pictures import BLUE, GREY, PURPLE, VERMILLION, Kind, Map
from cdscale.export.reading import NOT_PROCESSED, Product, Tally, View, onset_of, views
from cdscale.export.timeline import draw_timeline, spans
from cdscale.grid import to_lon_lat
from cdscale.kernels import Bool, Float
from cdscale.months import Month
from cdscale.progress import Progress, status_of, unpublished
from cdscale.spec.job import Job
from cdscale.spec.task import Stage
from cdscale.store import write_json, write_text

MOST_LISTED = 50
"""Failures, or scenes set aside, that the page lists before it counts."""
KINDS = {
    "optical": {
        "valid": ("valid", BLUE),
        "cloud": ("cloud", GREY),
        "no_scene": ("no scene", GREY),
        "read_failed": ("read failed", VERMILLION),
        NOT_PROCESSED: ("not processed", VERMILLION),
    },
    "radar": {
        "valid": ("valid", BLUE),
        "no_scene": ("no scene", GREY),
        "read_failed": ("read failed", VERMILLION),
        NOT_PROCESSED: ("not processed", VERMILLION),
    },
    "urban": {
        "both_sensors": ("both sensors", BLUE),
        "optical_reconstructed": ("optical reconstr.", PURPLE),
        "radar_missing": ("optical only", BLUE),
        "no_data": ("no data", GREY),
        NOT_PROCESSED: ("not processed", VERMILLION),
    },
}
"""What the completeness picture tells apart, by sensor."""
ALWAYS = {
    ("optical", "valid"), ("optical", "cloud"), ("optical", "no_scene"), ("optical", "read_failed"),
    ("radar", "valid"),
    ("urban", "both_sensors"), ("urban", "optical_reconstructed"), ("urban", "no_data"),
}  # fmt: skip
"""Columns that are there even where no pixel is of the kind."""


@dataclass(frozen=True)
class Picture:
    """A picture of the page."""

    name: str
    png: bytes
    alt: str

    @property
    def path(self) -> str:
        """Relative to the output folder."""
        return f"report/{self.name}.png"

    @property
    def uri(self) -> str:
        """The picture itself, as an address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Part:
    """Maps of one part of the area."""

    title: str
    note: str
    pictures: tuple[Picture, ...]


def write_report(progress: Progress, seconds: float) -> Path:
    """Write ``report.html``, ``report.json`` and ``report/*.png`` into a run's folder.

    Parameters
    ----------
    progress : Progress
        Where the run stands; whatever of its stages is there is reported.
    seconds : float
        Wall time of the call that has just ended.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    job = progress.job
    drift.keep(job, drift.measure(progress))
    products = {stage: Product(job, stage, progress) for stage in job.stages}
    tally = Tally(products).count(job)
    atlas = Atlas(job, products, tally)
    drawn, left_out = views(job, progress)
    parts = tuple(atlas.part(view, i, len(drawn)) for i, view in enumerate(drawn, 1))
    facts = gather(job, progress, status_of(progress), tally, seconds)
    charts = {picture.name: picture for picture in _charts(job, facts)}
    if work := spans(job.spec.folder / "run" / "log.jsonl", seconds) if seconds else ():
        png = draw_timeline(work)
        charts["timeline"] = Picture("timeline", png, "Tasks of the last call, worker by worker")
    commands = list(_commands(job, progress, atlas))
    folder = job.spec.folder
    every = [*(picture for part in parts for picture in part.pictures), *charts.values()]
    _write_pictures(folder, every)
    plain = {
        **facts.model_dump(mode="json"),
        "pictures": [picture.path for picture in every],
        "parts_not_drawn": left_out,
        "next": commands,
    }
    write_json(folder / "report.json", plain)
    page = _template().render(
        facts=facts, parts=parts, left_out=left_out, charts=charts, commands=commands,
        shown=atlas.pair, most=MOST_LISTED,
    )  # fmt: skip
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _write_pictures(folder: Path, every: list[Picture]) -> None:
    """Write the pictures, then remove those of an earlier report that this one does not have."""
    for picture in every:
        path = folder / picture.path
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(picture.png)
        os.replace(temporary, path)
    known = {picture.path for picture in every}
    for path in (folder / "report").glob("*.png"):
        if f"report/{path.name}" not in known:
            path.unlink()


# ---------------------------------------------------------------------------------------- maps


class Atlas:
    """The maps of a run: which months they show, and a place worth asking about."""

    def __init__(self, job: Job, products: dict[Stage, Product], tally: Tally) -> None:
        self.job = job
        self.products = products
        self.before, self.after = self._months(tally)
        self.place = job.spec.aoi.geometry.representative_point().coords[0]
        self._rank = 0

    def _months(self, tally: Tally) -> tuple[Month, Month]:
        """The latest pair that is there; else the first and last months with an optical image."""
        pairs = self.job.pairs
        if Stage.CHANGE in self.job.stages:
            later = sorted(pairs) or list(self.job.months(Stage.CHANGE))
            there = [m for m in later if tally.codes_of(Stage.CHANGE, m) or m in tally.onset]
            after = (there or later)[-1]
            return pairs.get(after, self.job.spec.period.first), after
        period = list(self.job.spec.period)
        seen = [m for m in period if tally.codes_of(Stage.COMPOSE, m).get("valid")]
        return (seen or period)[0], (seen or period)[-1]

    @property
    def pair(self) -> dict[str, str]:
        """The months that are shown."""
        return {"before": str(self.before), "after": str(self.after)}

    def part(self, view: View, number: int, of: int) -> Part:
        """Every map of one view."""
        grid = self.job.spec.lattice
        left, right, bottom, top = view.extent_km
        lon, lat = to_lon_lat(500 * (left + right), 500 * (bottom + top), grid.crs)
        drawn = f"Every {_ordinal(view.step)} pixel is drawn. " if view.step > 1 else ""
        note = (
            f"{right - left:.3g} × {top - bottom:.3g} km around longitude {lon:.4f}°, latitude "
            f"{lat:.4f}°; grid north is up. {drawn}The thin line is the area of interest."
        )
        prefix = f"part{number}-" if of > 1 else ""
        maps = tuple(
            Picture(f"{prefix}{name}", pictures.draw_map(view, what), what.title)
            for name, what in self._maps(view)
        )
        return Part(f"Part {number} of {of}" if of > 1 else "", note, maps)

    def _maps(self, view: View) -> Iterator[tuple[str, Map]]:
        months = list(dict.fromkeys([self.before, self.after]))
        cube = self.products[Stage.COMPOSE]
        colours = pictures.stretch([self._reflectance(view, month) for month in months])
        names = [", before", ", after"] if Stage.CHANGE in self.products else ["", ""]
        for month, colour_YXC, name in zip(months, colours, names, strict=False):
            quality_YX = cube.picture("s2_quality", month, view)
            title = f"Sentinel-2 composite of {month}{name}"
            yield f"composite-{month}", pictures.composite(title, colour_YXC, quality_YX)
        self._place(view, np.asarray(np.isfinite(colours[-1]).all(axis=-1)), 1)
        if Stage.MAP in self.products and "change" not in self.job.cards:
            for month in months:
                values_YX = self._probability(Stage.MAP, view, month)
                title, label = f"Built-up land in {month}", "probability of built-up land"
                yield f"urban-{month}", pictures.probability(title, values_YX, label)
        if Stage.CHANGE in self.products:
            last_YXC = np.where(np.isfinite(colours[-1]), colours[-1], colours[0])
            yield from self._change(view, pictures.dimmed(last_YXC))

    def _change(self, view: View, ground_YXC: Float) -> Iterator[tuple[str, Map]]:
        product, span = self.products[Stage.CHANGE], f"{self.before} to {self.after}"
        if "urban" in self.job.cards:
            days_YX = product.picture(onset_of(product.layout), self.after, view)
            months = list(self.job.spec.period.between(self.before, self.after))[1:]
            self._place(view, days_YX >= 0, 2)
            done_YX = product.done(self.after, view)
            title = f"Month of change, {span}"
            series = pictures.change_months(title, ground_YXC, days_YX, done_YX, months)
        if card := self.job.cards.get("change"):
            values_YX = self._probability(Stage.CHANGE, view, self.after)
            codes_YX = product.picture("change", self.after, view)
            if np.isfinite(values_YX).any():
                self._place(view, values_YX == np.nanmax(values_YX), 3)
            title = f"Probability of change, {span}"
            yield "probability", pictures.probability(title, values_YX, "probability of change")
            title = f"Change, {span} (probability ≥ {card.threshold:g})"
            yield "change", pictures.classes(title, ground_YXC, codes_YX, card.classes)
        if "urban" in self.job.cards:
            yield "change-month", series

    def _probability(self, stage: Stage, view: View, month: Month) -> Float:
        return kernels.unpack_probability(self.products[stage].picture("probability", month, view))

    def _reflectance(self, view: View, month: Month) -> Float:
        """Red, green and blue of a month, NaN where there is none: (y, x, 3)."""
        cube = self.products[Stage.COMPOSE]
        variable = cube.layout.variable("s2")
        true = ("B04", "B03", "B02")
        bands = true if set(true) <= set(variable.bands) else (variable.bands * 3)[:3]
        stored = np.stack([cube.picture("s2", month, view, band) for band in bands], axis=-1)
        values = stored.astype(np.float32) * np.float32(variable.scale or 1)
        return np.where(stored == variable.fill, np.float32(np.nan), values)

    def _place(self, view: View, wanted_YX: Bool, rank: int) -> None:
        """Remember the most central of these pixels, unless there is one as worth asking about."""
        if rank <= self._rank or not wanted_YX.any():
            return
        rows, columns = np.nonzero(wanted_YX)
        middle = np.hypot(rows - view.shape[0] / 2, columns - view.shape[1] / 2)
        nearest = int(np.argmin(middle))
        grid = self.job.spec.lattice
        left, _, _, top = view.extent_km
        x = 1000 * left + (columns[nearest] * view.step + 0.5) * grid.resolution
        y = 1000 * top - (rows[nearest] * view.step + 0.5) * grid.resolution
        self.place, self._rank = to_lon_lat(x, y, grid.crs), rank


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


# -------------------------------------------------------------------------------------- charts


def _charts(job: Job, facts: Facts) -> Iterator[Picture]:
    months = list(job.spec.period)
    kinds, keys = [], []
    for sensor, names in KINDS.items():
        if sensor not in facts.completeness[str(months[0])]:
            continue
        for key, (name, colour) in names.items():
            there = any(month[sensor].get(key) for month in facts.completeness.values())
            if there or (sensor, key) in ALWAYS:
                kinds.append(Kind(sensor.capitalize(), name, colour))
                keys.append((sensor, key))
    share_MK = np.array(
        [[facts.completeness[str(m)][s].get(k, 0.0) for s, k in keys] for m in months], np.float32
    )
    marked = {Month.parse(month) for month in facts.reconstructed}
    png = pictures.draw_completeness(months, kinds, share_MK, marked)
    yield Picture("completeness", png, "Share of the area of each kind of pixel, month by month")
    for change in facts.changes:
        if change.series_km2:
            km2 = {Month.parse(month): area for month, area in change.series_km2.items()}
            title = f"Area that became built up, by month, {_span(change)}"
            yield Picture(f"km2-{change.month}", pictures.draw_months(km2), title)


def _span(change: Change) -> str:
    return f"{change.reference} to {change.month}"


# ---------------------------------------------------------------------------------------- page


def _commands(job: Job, progress: Progress, atlas: Atlas) -> Iterator[str]:
    """What to type to ask each store about one place, the furthest stage first."""
    lon, lat = (f"{value:.5f}" for value in atlas.place)
    for stage in reversed(job.stages):
        if any(progress.receipt(task) for task in job.tasks(stage)):
            store = shlex.quote(str(job.store_path(stage)))
            every = set(job.months(stage)) <= set(unpublished(job, stage))
            hidden = " --unpublished" if every else ""
            yield f"cdscale query point {store} --lon {lon} --lat {lat}{hidden}"


def _template() -> jinja2.Template:
    source = resources.files("cdscale.export").joinpath("report.html.j2")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"share": _share, "km2": _km2, "duration": _duration, "whole": _whole}
    return environment.from_string(source.read_text(encoding="utf-8"))


def _share(value: float | None) -> str:
    if value is None:
        return "–"
    percent = 100 * value
    return "< 0.1 %" if 0 < percent < 0.1 else f"{percent:.1f} %"


def _whole(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")


def _km2(value: float) -> str:
    return f"{_whole(value) if value >= 1000 else f'{value:.4g}'} km²"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
