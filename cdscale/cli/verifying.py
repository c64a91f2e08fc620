"""``verify``: whether stores hold what their receipts say, and what to do where not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdscale.cli.app import INCOMPLETE, AsJson, app
from cdscale.cluster import check_choice
from cdscale.display import err, out, print_json, progress_display, show_failures
from cdscale.integrity import Findings, inspect, run_of
from cdscale.progress import status_of
from cdscale.spec.job import Job
from cdscale.spec.task import Stage

SHOWN = 40
"""Faults that are printed one by one."""


@app.command()
def verify(
    store: Annotated[Path, typer.Argument(help="A store of a run, or the run's output folder.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Make again exactly what is missing or damaged.")
    ] = False,
    cluster: Annotated[
        str | None, typer.Option(help="Where to repair: as for run.", metavar="WHERE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read every shard again and compare it with its receipt; status 0 only where all is sound."""
    if cluster is not None:
        check_choice(cluster)
    job, stages = run_of(store)
    found = inspect(job, stages)
    complete = not found.faults
    if not as_json:
        _show(found)
    if repair and found.faults:
        complete = _repair(job, stages, found, cluster or job.spec.cluster)
        found = inspect(job, stages)
        if not as_json:
            _show(found)
    if as_json:
        print_json(found)
    if found.faults or not complete:
        if not (repair or as_json):
            err.print("To make again exactly these: the same command with --repair")
        raise typer.Exit(INCOMPLETE)


def _repair(job: Job, stages: tuple[Stage, ...], found: Findings, cluster: str) -> bool:
    """Make again what is faulty; whether all of it could be."""
    from cdscale.run import repair

    with progress_display() as display:
        outcome, progress, others = repair(job, stages, found, cluster, display)
    for task in others:
        err.print(
            f"[yellow]{task}[/] is of another run of this folder: run the period that has it.",
        )
    show_failures(status_of(progress))
    err.print(f"{outcome.done} tasks done again in {outcome.seconds:.0f} s.")
    if outcome.mended:
        err.print(f"{outcome.mended} shards of overviews made again.")
    return outcome.complete and not others


def _show(found: Findings) -> None:
    for fault in found.faults[:SHOWN]:
        err.print(str(fault), style="red", markup=False)
    if len(found.faults) > SHOWN:
        err.print(f"... and {len(found.faults) - SHOWN} more; all of them with --json")
    count = len(found.faults)
    says = f"{count} fault{'' if count == 1 else 's'}" if count else "all as their receipts say"
    undone = f"; {found.undone} tasks are still to do" if found.undone else ""
    above = f" and {found.overviews} of overviews" if found.overviews else ""
    size = f"{found.bytes / 1e6:.1f} MB of pixels"
    out.print(f"{found.shards} shards{above}, {size}: {says}{undone}.")
