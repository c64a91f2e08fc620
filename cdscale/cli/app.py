"""The application that commands are hung on, and what several of them share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

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

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
