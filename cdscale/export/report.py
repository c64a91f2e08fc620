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

from cdscale import drift
from cdscale.export import pictures
from cdscale.export.atlas import Atlas
from cdscale.export.charts import charts
from cdscale.export.chips import PatchFacts, draw_chip
from cdscale.export.estimates import FOLDER, Figure
from cdscale.export.facts import gather
from cdscale.export.largest import LEAST_PX
from cdscale.export.outcome import outcome_of
from cdscale.export.pictures import Map
from cdscale.export.reading import SENSORS, Product, Tally, View, views
from cdscale.grid import to_lon_lat
from cdscale.progress import Progress, unpublished
from cdscale.spec.job import Job
from cdscale.spec.task import Stage
from cdscale.store import write_json, write_text

MOST_LISTED = 50
"""Failures, or scenes set aside, that the page lists before it counts."""


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
    def width(self) -> int:
        """On the page: it has two pixels for each, for fine screens and for print."""
        return int.from_bytes(self.png[16:20], "big") // 2

    @property
    def uri(self) -> str:
        """The picture itself, as an address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Part:
    """Maps of one part of the area."""

    title: str
    note: str
    overview: Picture | None
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Page:
    """What a report shows beside its facts."""

    parts: tuple[Part, ...]
    left_out: int
    """Smaller parts of the area that are not drawn."""
    chips: tuple[tuple[PatchFacts, Picture], ...]
    patches: int
    """In the parts that are drawn."""
    charts: dict[str, Picture]

    def every(self) -> Iterator[Picture]:
        """All pictures."""
        for part in self.parts:
            yield from [part.overview] if part.overview else []
        yield from (picture for _, picture in self.chips)
        for part in self.parts:
            yield from part.pictures
        yield from self.charts.values()


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
    job, folder = progress.job, progress.job.spec.folder
    products = {stage: Product(job, stage, progress) for stage in job.stages}
    tally = Tally(products).count(job)
    atlas = Atlas(job, products, tally)
    atlas.outcome = outcome_of(job, tally)
    page = _page(progress, atlas)
    drifts = drift.measure(progress)
    drift.keep(job, drifts)
    facts = gather(progress, tally, drifts, seconds)
    page.charts.update({n: Picture(n, png, alt) for n, png, alt in charts(job, facts, tally)})
    _write_pictures(folder, list(page.every()))
    commands = list(_commands(job, progress, atlas))
    plain = {
        **facts.model_dump(mode="json"),
        "patches": [patch.model_dump(mode="json") for patch, _ in page.chips],
        "patches_in_all": page.patches,
        "pictures": [picture.path for picture in page.every()],
        "parts_not_drawn": page.left_out,
        "next": commands,
    }
    write_json(folder / "report.json", plain)
    text = _template().render(
        facts=facts, page=page, commands=commands, shown=atlas.pair, most=MOST_LISTED,
        least=LEAST_PX, seen=_seen(tally), polarisations=", ".join(job.spec.cube.s1_bands),
        sample_command=_sample_command(job),
    )  # fmt: skip
    write_text(folder / "report.html", text)
    return folder / "report.html"


def _page(progress: Progress, atlas: Atlas) -> Page:
    """Maps and chips."""
    drawn, left_out = views(progress.job, progress)
    parts = tuple(_part(atlas, view, i, len(drawn)) for i, view in enumerate(drawn, 1))
    chips, number = atlas.chips(drawn)
    cube = atlas.products[Stage.COMPOSE]
    shown = []
    for chip in chips:
        words = f"Patch {chip.facts.number}, {chip.before} and {chip.after}, change outlined"
        png = draw_chip(chip, atlas.reflectance, cube)
        shown.append((chip.facts, Picture(f"patch-{chip.facts.number}", png, words)))
    return Page(parts, left_out, tuple(shown), number, {})


def _part(atlas: Atlas, view: View, number: int, of: int) -> Part:
    """Every map of one view."""
    grid = view.job.spec.lattice
    left, right, bottom, top = view.extent_km
    lon, lat = to_lon_lat(500 * (left + right), 500 * (bottom + top), grid.crs)
    drawn = f"Every {_ordinal(view.step)} pixel is drawn. " if view.step > 1 else ""
    vast = "Composites of so large an area are not drawn. " if view.vast else ""
    note = (
        f"{right - left:.3g} × {top - bottom:.3g} km around longitude {lon:.4f}°, latitude "
        f"{lat:.4f}°; grid north is up. {drawn}{vast}The thin line is the area of interest."
    )
    prefix = f"part{number}-" if of > 1 else ""

    def picture(name: str, what: Map) -> Picture:
        return Picture(f"{prefix}{name}", pictures.draw_map(view, what), what.title)

    overview = atlas.overview(view)
    maps = tuple(picture(name, what) for name, what in atlas.maps(view))
    title = f"Part {number} of {of}" if of > 1 else ""
    return Part(title, note, picture(*overview) if overview else None, maps)


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


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


def _sample_command(job: Job) -> str:
    """What to type to draw a sample of the map of change."""
    store = shlex.quote(str(job.store_path(Stage.CHANGE)))
    sample = shlex.quote(str(job.spec.folder / FOLDER / "sample.csv"))
    variable = "change" if job.pairs else "state"
    return (
        f"cdscale accuracy design {store} --variable {variable} --out {sample}\n"
        f"cdscale accuracy estimate {sample}"
    )


def _seen(tally: Tally) -> dict[str, float]:
    """Share of area and months with valid pixels, by sensor."""
    shares = {}
    for variable, sensor in SENSORS.items():
        key = Stage.COMPOSE, variable
        every = [c for (stage, _, name), c in tally.codes.items() if (stage, name) == key]
        whole = sum(sum(counts.values()) for counts in every)
        shares[sensor] = sum(counts.get("valid", 0) for counts in every) / max(whole, 1)
    return shares


def _template() -> jinja2.Template:
    source = resources.files("cdscale.export").joinpath("report.html.j2")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "share": _share, "km2": _km2, "duration": _duration, "whole": _whole, "figure": _figure,
        "sig": lambda value: f"{value:.3g}",
    }  # fmt: skip
    return environment.from_string(source.read_text(encoding="utf-8"))


def _share(value: float | None) -> str:
    if value is None:
        return "–"
    percent = 100 * value
    return "< 0.1 %" if 0 < percent < 0.1 else f"{percent:.1f} %"


def _whole(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")


def _figure(figure: Figure) -> str:
    if figure.value is None or figure.interval is None:
        return "–"
    return f"{figure.value:.3f} ± {figure.interval:.3f}"


def _km2(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{_whole(value) if value >= 1000 else f'{value:.4g}'} km²"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
