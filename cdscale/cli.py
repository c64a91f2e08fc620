"""Text in, values out: the command line. Every command prints for people, or JSON with --json."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from cdscale import __version__
from cdscale.cluster import check_choice, worker_count, worker_memory
from cdscale.errors import CdscaleError
from cdscale.grid import Area
from cdscale.months import Months
from cdscale.plan import Plan, check, freeze, price
from cdscale.progress import Status
from cdscale.progress import status as status_of
from cdscale.spec.base import read_yaml
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec, load_run
from cdscale.spec.task import Receipt, Stage, Task

INCOMPLETE, USER_ERROR, INTERRUPTED = 1, 2, 130
CLICK_ERROR: Any = typer.BadParameter.__mro__[2]
"""What typer raises for wrong usage: click's own, or of the copy that newer releases bring."""

app = typer.Typer(
    name="cdscale",
    help="From STAC catalogues to continental change maps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
query = typer.Typer(help="Ask a store about a point or an area.", no_args_is_help=True)
app.add_typer(query, name="query")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="The run's spec.")]
AreaOption = Annotated[
    str | None, typer.Option(help="GeoJSON file that replaces the spec's area.", metavar="FILE")
]
PeriodOption = Annotated[
    str | None, typer.Option(help="Like 2017-08..2018-11, or 2016-01,2018-03.", metavar="MONTHS")
]
OutputOption = Annotated[
    str | None, typer.Option(help="Folder for everything that is made.", metavar="DIR")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Refresh = Annotated[bool, typer.Option("--refresh", help="Ask the catalogue again.")]


def _load(spec: Path, area: str | None, period: str | None, output: str | None) -> RunSpec:
    return load_run(spec, {"area": area, "period": period, "output": output})


def _print_json(value: Any) -> None:
    plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    sys.stdout.write(json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


# ------------------------------------------------------------------------------------ plan, run


@app.command()
def plan(
    spec: SpecFile,
    area: AreaOption = None,
    period: PeriodOption = None,
    output: OutputOption = None,
    as_json: AsJson = False,
) -> None:
    """Price a run before it starts, and refuse what cannot fit."""
    priced = _price(freeze(_load(spec, area, period, output)))
    if as_json:
        _print_json(priced)
    else:
        _show_plan(priced)
    check(priced)


def _price(job: Job) -> Plan:
    workers = job.spec.workers
    return price(job, workers=worker_count(workers), memory=worker_memory(workers))


@app.command()
def run(
    spec: SpecFile,
    area: AreaOption = None,
    period: PeriodOption = None,
    output: OutputOption = None,
    cluster: Annotated[
        str, typer.Option(help="local, cuda, or a scheduler's address.", metavar="WHERE")
    ] = "local",
    refresh: Refresh = False,
) -> None:
    """Do what is left of a run; ends with status 0 only where everything is done."""
    raise typer.Exit(run_job(_load(spec, area, period, output), cluster, refresh=refresh))


def run_job(spec: RunSpec, cluster: str, *, refresh: bool = False) -> int:
    """Plan, run and report; returns the exit status."""
    from cdscale.export.report import write_report
    from cdscale.run import execute

    check_choice(cluster)
    job = freeze(spec, refresh=refresh)
    priced = _price(job)
    _show_plan(priced)
    check(priced)
    if not any(stage.todo for stage in priced.stages.values()):
        if not (spec.folder / "report.html").exists():
            write_report(job, 0.0)
        out.print(f"Everything is done; {_shown(spec.folder)} is as it was.")
        return 0
    with _display() as display:
        outcome = execute(job, cluster, display)
    page = write_report(job, outcome.seconds)
    out.print(f"{outcome.done} tasks done in {outcome.seconds:.0f} s. Report: {_shown(page)}")
    if outcome.complete:
        return 0
    _show_failures(status_of(job))
    err.print(
        f"[yellow]The run is not complete.[/] Run it again to try what is left, or see\n"
        f"  cdscale status SPEC --output {_shown(spec.folder)}"
    )
    return INCOMPLETE


class Display:
    """One progress bar a stage, with tasks done, time left and failures."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar: TaskID | None = None
        self._failed = 0
        self._said = False

    def begin(self, stage: Stage, *, todo: int, done: int, dashboard: str) -> None:
        """See :class:`cdscale.run.Watcher`."""
        if dashboard and not self._said:
            self._progress.console.print(f"Dashboard: {dashboard}")
            self._said = True
        self._failed = 0
        self._bar = self._progress.add_task(str(stage), total=todo + done, completed=done, note="")

    def done(self, task: Task, receipt: Receipt) -> None:
        """See :class:`cdscale.run.Watcher`."""
        self._step()
        for scene, reason in receipt.failed.items():
            self._progress.console.print(f"[yellow]{task}[/] without {scene}: {escape(reason)}")

    def again(self, task: Task, reason: str) -> None:
        """See :class:`cdscale.run.Watcher`."""
        self._progress.console.print(f"[yellow]{task}[/] again: {escape(reason)}")

    def failed(self, task: Task, reason: str) -> None:
        """See :class:`cdscale.run.Watcher`."""
        self._failed += 1
        self._progress.console.print(f"[red]{task}[/] failed: {escape(reason)}")
        self._step()

    def _step(self) -> None:
        if self._bar is not None:
            note = f"[red]{self._failed} failed[/]" if self._failed else ""
            self._progress.update(self._bar, advance=1, note=note)


@contextmanager
def _display() -> Iterator[Display]:
    columns = (
        TextColumn("{task.description:8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=err) as progress:
        yield Display(progress)


def _shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} PB"


def _show_plan(priced: Plan) -> None:
    kind = " of SIMULATED scenes" if priced.simulated else ""
    out.print(
        f"[bold]{priced.name}[/]{kind}: {priced.tiles} tiles of {priced.tile_px} px "
        f"({priced.area_km2:g} km²) on {priced.grid} ({priced.crs}), {priced.month_count} months "
        f"({priced.months}), {priced.scenes['s2']} optical and {priced.scenes['s1']} radar scenes"
        + (f", {priced.set_aside} items set aside" if priced.set_aside else "")
    )
    table = Table(box=None, pad_edge=False)
    for name in ("stage", "tasks", "done", "to do", "reads ≤", "writes ~", "memory", "CPU ~"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage, part in priced.stages.items():
        counts = (str(part.tasks), str(part.done), str(part.todo))
        sizes = (_bytes(v) for v in (part.bytes_read, part.bytes_written, part.memory_per_task))
        table.add_row(stage, *counts, *sizes, f"{part.cpu_seconds:.0f} s")
    out.print(table)
    out.print(
        f"About {priced.seconds:.0f} s on {priced.workers} workers of "
        f"{_bytes(priced.memory_per_worker)}; {_bytes(priced.disk_free)} free in "
        f"{_shown(Path(priced.output))}"
    )


# --------------------------------------------------------------------------------------- status


@app.command()
def status(
    spec: SpecFile,
    area: AreaOption = None,
    period: PeriodOption = None,
    output: OutputOption = None,
    as_json: AsJson = False,
) -> None:
    """What a run has done, what is missing or failed, and why."""
    found = status_of(freeze(_load(spec, area, period, output)))
    if as_json:
        _print_json(found)
        return
    for stage, part in found.stages.items():
        out.print(f"{stage:8} {part.done} of {part.tasks} tasks done")
    _show_failures(found)


def _show_failures(found: Status) -> None:
    for part in found.stages.values():
        for task, reason in part.failed.items():
            err.print(f"[red]{task}[/] failed: {escape(reason)}")
        for task, scenes in part.incomplete.items():
            for scene, reason in scenes.items():
                err.print(f"[yellow]{task}[/] without {scene}: {escape(reason)}")


# ---------------------------------------------------------------------------------------- query


@query.command()
def point(
    store: Annotated[Path, typer.Argument(help="cube.zarr, urban.zarr or change.zarr.")],
    lon: Annotated[float, typer.Option(help="Longitude, degrees.")],
    lat: Annotated[float, typer.Option(help="Latitude, degrees.")],
    as_json: AsJson = False,
) -> None:
    """Every value of a store at one place, month by month."""
    from cdscale.query import point as ask

    _show_answer(ask(store, lon, lat), as_json=as_json)


@query.command()
def area(
    store: Annotated[Path, typer.Argument(help="cube.zarr, urban.zarr or change.zarr.")],
    geojson: Annotated[Path, typer.Argument(help="Polygons in degrees.")],
    as_json: AsJson = False,
) -> None:
    """What a store says of an area, month by month: means, and square kilometres of each class."""
    from cdscale.query import area as ask

    where = Area.from_geojson(read_yaml(geojson), where=str(geojson))
    _show_answer(ask(store, where), as_json=as_json)


def _show_answer(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(answer)
        return
    for key, value in answer.items():
        if key != "months":
            out.print(f"{key}: {escape(str(value))}")
    for month in answer["months"]:
        out.print(f"[bold]{month['month']}[/]")
        for name, value in month.items():
            if name != "month":
                out.print(f"  {name}: {_text(value)}")


def _text(value: Any) -> str:
    if not isinstance(value, dict):
        return "no data" if value is None else str(value)
    return ", ".join(f"{key} {_text(v)}" for key, v in value.items() if v != 0) or "0"


# ------------------------------------------------------------------------------- simulated data


SIMULATED_SPEC = """\
# A SIMULATED region: no place on Earth. Paths are relative to this file, the output to the current
# folder.
name: simulated
catalogue: {folder}
collections:
  sentinel-2-l2a: planetary-computer-sentinel-2-l2a
  sentinel-1-rtc: planetary-computer-sentinel-1-rtc
area: {folder}/area.geojson
period: {months}
grid: {{preset: europe, tile: 256, chunk: 128}}
models:
  urban: {{card: urban-s1s2-sim}}
  change: {{card: change-s1s2-oscd}}
output: {output}
"""


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Folder for the catalogue.")],
    seed: Annotated[int, typer.Option(help="Another seed, another place.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels of 10 m along a side.")] = 512,
    period: Annotated[str, typer.Option(metavar="MONTHS")] = "2021-07..2022-08",
) -> None:
    """Write a SIMULATED region as a STAC catalogue of COGs, with its true change."""
    from cdscale import simulate as simulation

    region = simulation.Region(seed=seed, size_px=size, months=Months.parse(period))
    out.print(f"Simulated region: {simulation.write(region, folder)}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Another seed, another place.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels of 10 m along a side.")] = 512,
) -> None:
    """Simulate a region, map its change from the catalogue to the mosaic, and score the result."""
    from cdscale import simulate as simulation
    from cdscale.store import open_dataset

    region = simulation.Region(seed=seed, size_px=size)
    out.print(f"Simulating a region of {size} x {size} pixels in {output / 'catalogue'} ...")
    simulation.write(region, output / "catalogue")
    spec_file = output / "simulated.yaml"
    spec_file.write_text(
        SIMULATED_SPEC.format(folder="catalogue", months=region.months, output=output / "run")
    )
    spec = load_run(spec_file)
    code = run_job(spec, "local")
    if code == 0:
        with open_dataset(spec.folder / "change.zarr") as change:
            box = spec.window().geobox(spec.lattice)
            _show_scores(simulation.score(change, simulation.truth(region, box)))
        _show_next(spec_file, spec)
    raise typer.Exit(code)


def _show_scores(scores: dict[str, Any]) -> None:
    out.print(
        f"\n[bold]Agreement with the simulated truth[/] ({scores['changed_share']:.1%} of the "
        "pixels became built up)"
    )
    series, pair = scores["series"], scores["pair"]
    out.print(
        f"  urban series: F1 of changed pixels {series['f1']:.3f} (precision "
        f"{series['precision']:.3f}, recall {series['recall']:.3f}); change month off by "
        f"{series['month_error']} months in the mean, {series['within_one_month']:.0%} within one"
    )
    out.print(
        f"  pair network: F1 of changed pixels {pair['f1']:.3f} (precision "
        f"{pair['precision']:.3f}, recall {pair['recall']:.3f}); trained on real cities, so these "
        "scenes are foreign to it"
    )


def _show_next(spec_file: Path, spec: RunSpec) -> None:
    west, south, east, north = spec.aoi.bounds
    where = f"--lon {(west + east) / 2:.4f} --lat {(south + north) / 2:.4f}"
    folder = _shown(spec.folder)
    out.print(
        f"""
What was made, in {folder}:
  cube.zarr     monthly Sentinel-1/2 composites       xarray.open_zarr("{folder}/cube.zarr")
  urban.zarr    monthly urban probability, and whether it rests on optical data or on radar alone
  change.zarr   change since the first month, and the month in which it came
  report.html   what was found, with pictures

Ask it:
  cdscale query point {folder}/change.zarr {where}

An area of your own: copy {spec_file}, name a catalogue, your area and your months, and see
what it takes before you spend it:
  cdscale plan my-region.yaml
  cdscale run my-region.yaml"""
    )


# ----------------------------------------------------------------------------------------- main


def _version(asked: bool) -> None:
    if asked:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


def _stop(number: int, frame: object) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt


def main() -> None:
    """Entry point: one clear message and a status that says how it ended, never a traceback."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = app(standalone_mode=False)
    except CdscaleError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        code = USER_ERROR
    except CLICK_ERROR as error:
        error.show()
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    if code == INTERRUPTED:  # typer turns Ctrl-C into this status
        err.print("Stopped; what is done is kept. Run the same command to go on.")
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
