"""``plan``, ``run``, ``status``: a run from its spec to its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdscale import drift
from cdscale.cli.app import INCOMPLETE, AsJson, app
from cdscale.cli.mosaics import seams_line
from cdscale.cluster import check_choice, worker_count, worker_lanes, worker_memory
from cdscale.display import (
    err,
    out,
    print_json,
    progress_display,
    show_failures,
    show_missing,
    show_plan,
    show_rest,
    show_selection,
    shown,
)
from cdscale.errors import SpecError, StoreError, explain
from cdscale.grid import Tile
from cdscale.months import Months
from cdscale.mosaic import gates
from cdscale.plan import Plan, check, freeze, price
from cdscale.progress import EVERYTHING, Progress, Selection, StageStatus, status_of
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec, load_run

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
Refresh = Annotated[bool, typer.Option("--refresh", help="Ask the catalogue again.")]


def _load(spec: Path, area: str | None, period: str | None, output: str | None) -> RunSpec:
    return load_run(spec, {"area": area, "period": period, "output": output})


@app.command()
def plan(
    spec: SpecFile,
    area: AreaOption = None,
    period: PeriodOption = None,
    output: OutputOption = None,
    as_json: AsJson = False,
) -> None:
    """Price a run before it starts, and refuse what cannot fit."""
    job = freeze(_load(spec, area, period, output))
    priced = _price(job, Selection(), job.spec.cluster)
    if as_json:
        print_json(priced)
    else:
        show_plan(priced)
    check(priced)


def _price(job: Job, selection: Selection, cluster: str) -> Plan:
    workers = job.spec.workers
    return price(
        job,
        workers=worker_count(workers),
        memory=worker_memory(workers),
        lanes=worker_lanes(cluster, workers),
        selection=selection,
    )


@app.command()
def run(
    spec: SpecFile,
    area: AreaOption = None,
    period: PeriodOption = None,
    output: OutputOption = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="local, cuda, slurm, kubernetes, or a scheduler's address; by default as the "
            "spec says.",
            metavar="WHERE",
        ),
    ] = None,
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
    where = found.cluster if cluster is None else cluster
    raise typer.Exit(run_job(found, where, refresh=refresh, selection=selection))


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
    priced = _price(job, selection, cluster)
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
    for one in gates(spec.folder).values():
        if one.verdict == "warn":
            err.print(f"[yellow]{seams_line(one)}[/]")
    if outcome.complete:
        show_rest(progress)
        return 0
    show_failures(status_of(progress))
    if outcome.stopped:
        err.print(
            f"[yellow]{outcome.stopped} is spent:[/] {outcome.unbegun} tasks were not begun. "
            "Raise it in the spec, or run again to spend as much once more."
        )
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
    inputs = drift.kept(progress.job)
    if as_json:
        said = [one.model_dump(mode="json") | {"verdict": one.verdict} for one in inputs]
        print_json(found.model_dump(mode="json") | {"inputs": said})
        return
    for stage, part in found.stages.items():
        out.print(f"{stage:8} {part.done} of {part.tasks} tasks done{_hidden(part)}")
    for one in inputs:
        out.print(f"inputs   {VERDICTS[one.verdict]}: {one.text}")
    show_failures(found)


VERDICTS = {"pass": "[green]pass[/]", "warn": "[yellow]warning[/]", "none": "not known"}


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
