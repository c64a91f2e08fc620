"""Text in, values out: the command line. Every command prints for people, or JSON with --json."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from cdscale import __version__
from cdscale.cli import (
    accuracies,
    data,
    detecting,
    exporting,
    measuring,
    mosaics,
    networks,
    queries,
    runs,
    simulated,
    training,
    verifying,
)
from cdscale.cli.app import CLICK_ERROR, INCOMPLETE, INTERRUPTED, PIPE_CLOSED, USER_ERROR, app
from cdscale.cli.runs import run_job
from cdscale.cli.simulated import SIMULATED_SPEC
from cdscale.display import err, out
from cdscale.errors import CdscaleError, explain

__all__ = [
    "INTERRUPTED",
    "SIMULATED_SPEC",
    "accuracies",
    "app",
    "data",
    "detecting",
    "exporting",
    "main",
    "measuring",
    "mosaics",
    "networks",
    "queries",
    "run_job",
    "runs",
    "simulated",
    "training",
    "verifying",
]
"""Whoever imports a module of commands has them in the application."""


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
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no `²`, a path that is no text: written out rather than died of.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
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
