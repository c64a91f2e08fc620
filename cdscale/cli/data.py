"""``data``: the published data sets that networks are trained and measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cdscale.cli.app import INCOMPLETE, AsJson, app
from cdscale.display import out, print_json

data = typer.Typer(help="Published data sets: which, where from, and whether a copy is whole.")
app.add_typer(data, name="data", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the data set; `cdscale data list` has them.")]


@data.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every data set that can be read, with its task and its licence."""
    from cdscale.learn.data import DATASETS

    if as_json:
        print_json([known.as_dict() for known in DATASETS.values()])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "task", "splits", "licence"):
        table.add_column(column)
    for known in DATASETS.values():
        table.add_row(known.name, known.task, ", ".join(known.splits), known.licence)
    out.print(table)


@data.command()
def check(
    name: Name,
    root: Annotated[Path, typer.Argument(help="Folder of your copy.")],
    deep: Annotated[bool, typer.Option("--deep", help="Read every pixel, not headers alone.")] = (
        False
    ),
    as_json: AsJson = False,
) -> None:
    """Whether a folder is a whole copy; status 1 where it is not."""
    from cdscale.learn.data import data_set

    report = data_set(name).check(root, deep=deep)
    if as_json:
        print_json(report.as_dict())
    else:
        out.print(str(report), markup=False, highlight=False, soft_wrap=True)
    if not report.whole:
        raise typer.Exit(INCOMPLETE)


@data.command()
def download(
    name: Name,
    to: Annotated[Path, typer.Option(help="Folder for it.")] = Path("data"),
    fetch: Annotated[bool, typer.Option("--fetch", help="Do it, and verify checksums.")] = False,
) -> None:
    """How a data set is had: the commands, or with --fetch the deed."""
    from cdscale.learn.data import data_set

    known = data_set(name)
    if fetch:
        for path in known.download.fetch(to):
            out.print(f"Unpacked {path} into {to}", markup=False, soft_wrap=True)
        return
    for line in (f"# {known.title}. Licence: {known.licence}", *known.download.commands(to)):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


@data.command()
def miniature(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="New folder.")],
    seed: Annotated[int, typer.Option(help="Other scenes.")] = 0,
) -> None:
    """Write a SIMULATED miniature in the layout of a data set, to try recipes on."""
    from cdscale.testing.miniatures import write_miniature

    made = write_miniature(name, folder, seed)
    out.print(f"Simulated miniature of {name}: {made}", markup=False, soft_wrap=True)
