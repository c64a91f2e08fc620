"""Text in, values out: the command line. Every command prints for people, or JSON with --json."""

from __future__ import annotations

import os
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
    show_missing,
    show_next,
    show_plan,
    show_rest,
    show_scores,
    show_selection,
    shown,
)
from cdscale.errors import CdscaleError, SpecError, StoreError, explain
from cdscale.grid import Area, Tile
from cdscale.months import Months
from cdscale.plan import Plan, check, freeze, price
from cdscale.progress import EVERYTHING, Progress, Selection, StageStatus, status_of
from cdscale.spec.base import read_yaml
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec, load_run

INCOMPLETE, USER_ERROR, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141
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
Unpublished = Annotated[
    bool, typer.Option("--unpublished", help="Show months as well that are not complete.")
]
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
    priced = _price(freeze(_load(spec, area, period, output)), Selection())
    if as_json:
        print_json(priced)
    else:
        show_plan(priced)
    check(priced)


def _price(job: Job, selection: Selection) -> Plan:
    count, memory = worker_count(job.spec.workers), worker_memory(job.spec.workers)
    return price(job, workers=count, memory=memory, selection=selection)


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
    months: Annotated[
        str | None,
        typer.Option(help="Do only these, and what they are made from.", metavar="MONTHS"),
    ] = None,
    tiles: Annotated[
        str | None,
        typer.Option(help="Do only these, like x0012y0034,x0013y0034.", metavar="TILES"),
    ] = None,
    redo: Annotated[bool, typer.Option("--redo", help="Do them again although done.")] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Do only what failed or lacks scenes, and what rests on it."
        ),
    ] = False,
) -> None:
    """Do what is left of a run; ends with status 0 only where everything asked for is done."""
    selection = _selection(months, tiles, redo=redo, retry_failed=retry_failed)
    found = _load(spec, area, period, output)
    raise typer.Exit(run_job(found, cluster, refresh=refresh, selection=selection))


def _selection(
    months: str | None, tiles: str | None, *, redo: bool, retry_failed: bool
) -> Selection:
    if redo and retry_failed:
        raise SpecError(
            explain("--redo and --retry-failed do not go together", do="Choose one of them.")
        )
    return Selection(
        months=frozenset(Months.parse(months)) if months is not None else frozenset(),
        tiles=frozenset(map(Tile.parse, tiles.split(","))) if tiles is not None else frozenset(),
        redo=redo,
        retry_failed=retry_failed,
    )


def run_job(
    spec: RunSpec, cluster: str, *, refresh: bool = False, selection: Selection = EVERYTHING
) -> int:
    """Plan, run and report; returns the exit status."""
    from cdscale.run import carry_out, prepared

    check_choice(cluster)
    job = freeze(spec, refresh=refresh)
    priced = _price(job, selection)
    show_plan(priced)
    check(priced)
    todo = any(stage.todo for stage in priced.stages.values())
    with prepared(job, selection) as progress:
        if todo:
            show_selection(progress)
            with progress_display() as display:
                outcome = carry_out(progress, cluster, display)
    if not todo:
        _report(progress, 0.0, again=False)
        what = "Everything" if selection.whole else "Everything asked for"
        out.print(f"{what} is done; {shown(spec.folder)} is as it was.")
        show_rest(progress)
        return 0
    page = _report(progress, outcome.seconds, again=True)
    out.print(f"{outcome.done} tasks done in {outcome.seconds:.0f} s. Report: {shown(page)}")
    if outcome.complete:
        show_rest(progress)
        return 0
    show_failures(status_of(progress))
    err.print(
        "[yellow]The run is not complete.[/] Run it again to try what is left, with "
        "--retry-failed only what failed, or see\n"
        f"  cdscale status SPEC --missing --output {shown(spec.folder)}"
    )
    return INCOMPLETE


def _report(progress: Progress, seconds: float, *, again: bool) -> Path:
    """The page, and the ledger of completeness; those that are there stay, unless made again."""
    from cdscale.export.ledger import NAME, write_ledger
    from cdscale.export.report import write_report

    folder = progress.job.spec.folder
    if again or not (folder / NAME).exists():
        write_ledger(progress, folder / NAME)
    if again or not (folder / "report.html").exists():
        write_report(progress, seconds)
    return folder / "report.html"


# --------------------------------------------------------------------------------------- status


@app.command()
def status(
    spec: SpecFile,
    area: AreaOption = None,
    period: PeriodOption = None,
    output: OutputOption = None,
    missing: Annotated[
        bool,
        typer.Option("--missing", help="For each tile and month: scenes expected, used, left out."),
    ] = False,
    geoparquet: Annotated[
        Path | None,
        typer.Option(help="Write each tile and month into this file.", metavar="FILE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a run has done, what is missing or failed, and why."""
    progress = Progress.of(freeze(_load(spec, area, period, output)))
    if geoparquet is not None:
        _write_geoparquet(progress, geoparquet)
    if missing:
        show_missing(progress, as_json=as_json)
        return
    found = status_of(progress)
    if as_json:
        print_json(found)
        return
    for stage, part in found.stages.items():
        out.print(f"{stage:8} {part.done} of {part.tasks} tasks done{_hidden(part)}")
    show_failures(found)


def _hidden(part: StageStatus) -> str:
    """Which months of a stage readers do not get yet."""
    months = ",".join(part.unpublished)
    return f"; not published: {Months.parse(months)}" if months else ""


def _write_geoparquet(progress: Progress, path: Path) -> None:
    from cdscale.export.ledger import write_ledger

    if path.is_dir():
        raise StoreError(explain(f"cannot write {path}: it is a folder", do="Name a file in it."))
    try:
        write_ledger(progress, path)
    except OSError as error:
        raise StoreError(
            explain(f"cannot write {path}: {error.strerror}", do="Choose another file.")
        ) from None


# ---------------------------------------------------------------------------------------- query


@query.command()
def point(
    store: Annotated[Path, typer.Argument(help="cube.zarr, urban.zarr or change.zarr.")],
    lon: Annotated[float, typer.Option(help="Longitude, degrees.")],
    lat: Annotated[float, typer.Option(help="Latitude, degrees.")],
    unpublished: Unpublished = False,
    as_json: AsJson = False,
) -> None:
    """Every value of a store at one place, month by month."""
    from cdscale.query import point as ask

    show_answer(ask(store, lon, lat, unpublished=unpublished), as_json=as_json)


@query.command()
def area(
    store: Annotated[Path, typer.Argument(help="cube.zarr, urban.zarr or change.zarr.")],
    geojson: Annotated[Path, typer.Argument(help="Polygons in degrees.")],
    unpublished: Unpublished = False,
    as_json: AsJson = False,
) -> None:
    """What a store says of an area, month by month: means, and square kilometres of each class."""
    from cdscale.query import area as ask

    where = Area.from_geojson(read_yaml(geojson), where=str(geojson))
    show_answer(ask(store, where, unpublished=unpublished), as_json=as_json)


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


def _system_trouble(error: OSError) -> str:
    """A full disk, or a folder that was taken away while a command was at work."""
    where = f" {error.filename}" if error.filename else ""
    return explain(
        f"the system refused{where}: {error.strerror}",
        do="See to the disk and its rights, and run the same command again; what is done is kept.",
    )


def main() -> None:
    """Entry point: one clear message and a status that says how it ended, never a traceback."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = app(standalone_mode=False)
    except CdscaleError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        code = USER_ERROR
    except BrokenPipeError:  # whoever reads the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = PIPE_CLOSED
    except OSError as error:
        if error.errno is None:  # a library's own, and no word of the system
            raise
        err.print(f"[red]error:[/] {escape(_system_trouble(error))}")
        code = INCOMPLETE
    except CLICK_ERROR as error:
        error.show()
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    if code == INTERRUPTED:  # typer turns Ctrl-C into this status
        err.print("Stopped; what is done is kept. Run the same command to go on.")
    sys.exit(code if isinstance(code, int) else 0)
