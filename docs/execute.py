"""``python docs/execute.py docs/tutorial.py``: a script in cells becomes an executed notebook.

The script is what is written and reviewed: plain Python, cells begin with ``# %%``, those of text
with ``# %% [markdown]`` (Jupytext's percent format, which editors know). The notebook beside it has
the same cells with what they printed, their last values and their figures. It is executed here, in
this process: no kernel, no server.
"""

from __future__ import annotations

import argparse
import ast
import base64
import contextlib
import io
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

MARK = "# %%"
DPI = 100


class Cell(NamedTuple):
    """A piece of a script."""

    kind: str
    """``markdown`` or ``code``."""
    source: str
    parameters: bool = False
    """Whether what it sets may be set otherwise by who executes it."""


def cells_of(text: str) -> list[Cell]:
    """Cells of a script in percent format; what stands before the first is a heading of its own."""
    return list(_cells(text))


def _cells(text: str) -> Iterator[Cell]:
    head, body = "", list[str]()
    for line in [*text.splitlines(), MARK]:
        if not line.startswith(MARK):
            body.append(line)
            continue
        source = "\n".join(body).strip("\n")
        if head and source:
            if "[markdown]" in head:
                plain = (row.removeprefix("#").removeprefix(" ") for row in source.splitlines())
                yield Cell("markdown", "\n".join(plain))
            else:
                yield Cell("code", source, parameters="parameters" in head)
        head, body = line, []


Outputs = list[list[dict[str, Any]]]


def execute(cells: list[Cell], parameters: Mapping[str, Any], name: str) -> Outputs:
    """Outputs of each cell, in the form of notebooks; parameters replace those of the script.

    Raises
    ------
    Exception
        Whatever a cell raises.
    """
    space: dict[str, Any] = {"__name__": "__main__", "__file__": name}
    found = []
    for number, cell in enumerate(cells, 1):
        if cell.kind == "markdown":
            found.append([])
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            value = _run(cell.source, space, f"{name}, cell {number}")
        if cell.parameters:
            space.update(parameters)
        outputs = []
        if printed.getvalue():
            text = printed.getvalue().splitlines(keepends=True)
            outputs.append({"output_type": "stream", "name": "stdout", "text": text})
        if value is not None:
            outputs.append(
                {
                    "output_type": "execute_result", "execution_count": number, "metadata": {},
                    "data": _shown(value),
                }
            )  # fmt: skip
        found.append(outputs)
    return found


def _run(source: str, space: dict[str, Any], name: str) -> Any:
    """The value of the last line of a cell, where it is an expression."""
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), space)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), name, "eval"), space)


def _shown(value: Any) -> dict[str, Any]:
    if isinstance(value, Figure):
        target = io.BytesIO()
        value.savefig(target, format="png", dpi=DPI, metadata={"Software": None})
        png = base64.b64encode(target.getvalue()).decode()
        return {"image/png": png, "text/plain": ["a figure"]}
    plain = {"text/plain": repr(value).splitlines(keepends=True)}
    if type(value).__module__.startswith("pandas"):
        html = value._repr_html_() if hasattr(value, "_repr_html_") else None
        return plain | ({"text/html": html.splitlines(keepends=True)} if html else {})
    return plain


def notebook(cells: list[Cell], outputs: Outputs) -> dict[str, Any]:
    """As Jupyter reads it: nbformat 4.5."""
    made = []
    for number, (cell, shown) in enumerate(zip(cells, outputs, strict=True), 1):
        entry: dict[str, Any] = {
            "cell_type": cell.kind,
            "id": f"cell-{number}",
            "metadata": {"tags": ["parameters"]} if cell.parameters else {},
            "source": cell.source.splitlines(keepends=True),
        }
        if cell.kind == "code":
            entry |= {"execution_count": number, "outputs": shown}
        made.append(entry)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def main() -> None:
    """Execute the script that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script", type=Path)
    options = parser.parse_args()
    cells = cells_of(options.script.read_text(encoding="utf-8"))
    outputs = execute(cells, {}, options.script.name)
    text = json.dumps(notebook(cells, outputs), indent=1, ensure_ascii=False)
    target = options.script.with_suffix(".ipynb")
    # Where it was executed is nobody's business.
    for place in {str(Path.cwd()), str(options.script.resolve().parents[1])}:
        text = text.replace(f"{place}/", "")
    target.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(f"{target}\n")


if __name__ == "__main__":
    main()
