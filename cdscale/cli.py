"""Text in, values out: the command line. Every command prints for people, or JSON with --json."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape

from cdscale import __version__
from cdscale.cluster import check_choice, worker_count, worker_memory
from cdscale.display import (
    err,
    out,
    print_json,
    progress_display,
    show_answer,
    show_failures,
    show_next,
    show_plan,
    show_scores,
    shown,
)
from cdscale.errors import CdscaleError
from cdscale.grid import Area
from cdscale.months import Months
from cdscale.plan import Plan, check, freeze, price
from cdscale.progress import status as status_of
from cdscale.spec.base import read_yaml
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec, load_run

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
        print_json(priced)
    else:
        show_plan(priced)
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
    show_plan(priced)
    check(priced)
    if not any(stage.todo for stage in priced.stages.values()):
        if not (spec.folder / "report.html").exists():
            write_report(job, 0.0)
        out.print(f"Everything is done; {shown(spec.folder)} is as it was.")
        return 0
    with progress_display() as display:
        outcome = execute(job, cluster, display)
    page = write_report(job, outcome.seconds)
    out.print(f"{outcome.done} tasks done in {outcome.seconds:.0f} s. Report: {shown(page)}")
    if outcome.complete:
        return 0
    show_failures(status_of(job))
    err.print(
        f"[yellow]The run is not complete.[/] Run it again to try what is left, or see\n"
        f"  cdscale status SPEC --output {shown(spec.folder)}"
    )
    return INCOMPLETE


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
        print_json(found)
        return
    for stage, part in found.stages.items():
        out.print(f"{stage:8} {part.done} of {part.tasks} tasks done")
    show_failures(found)


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

    show_answer(ask(store, lon, lat), as_json=as_json)


@query.command()
def area(
    store: Annotated[Path, typer.Argument(help="cube.zarr, urban.zarr or change.zarr.")],
    geojson: Annotated[Path, typer.Argument(help="Polygons in degrees.")],
    as_json: AsJson = False,
) -> None:
    """What a store says of an area, month by month: means, and square kilometres of each class."""
    from cdscale.query import area as ask

    where = Area.from_geojson(read_yaml(geojson), where=str(geojson))
    show_answer(ask(store, where), as_json=as_json)


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
            show_scores(simulation.score(change, simulation.truth(region, box)))
        show_next(spec_file, spec)
    raise typer.Exit(code)


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
