"""The curve of a training run as a picture: loss above, F1 of the held-out places below."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cdscale.errors import ReadError, explain

INK, QUIET = "#222222", "#6b6b6b"
COLOURS = {"s1s2_f1": "#0072b2", "s2_f1": "#d55e00"}
NAMES = {"s1s2_f1": "both sensors", "s2_f1": "radar withheld"}


def plot_curve(table: Path, picture: Path) -> Path:
    """Draw ``curve.csv`` of a run.

    Parameters
    ----------
    table : Path
        Columns ``epoch`` and ``loss``, and where there was validation ``s1s2_f1``, ``s2_f1``; a
        row an epoch, empty where nothing was validated.
    picture : Path
        The PNG to be written.

    Raises
    ------
    ReadError
        When the table is absent, empty, or none of these.
    """
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        losses = [(float(row["epoch"]), float(row["loss"])) for row in rows]
    except (OSError, KeyError, ValueError) as err:
        raise ReadError(
            explain(f"curve of a run: {table}", got=repr(err)), permanent=True
        ) from None
    if not losses:
        raise ReadError(explain(f"curve of a run: {table}", got="no row"), permanent=True)
    figure = Figure(figsize=(6.4, 5.2), dpi=150, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(*zip(*losses, strict=True), color=INK, marker=".", markersize=3)
    _dress(above, "training loss")
    for name in COLOURS:
        points = [(float(r["epoch"]), float(r[name])) for r in rows if r.get(name)]
        if points:
            colour = COLOURS[name]
            label = NAMES[name] if any(r.get("s1s2_f1") for r in rows) else "F1"
            below.plot(
                *zip(*points, strict=True), color=colour, marker=".", markersize=4, label=label
            )
    if below.lines:
        below.legend(frameon=False, fontsize=8)
    below.set_ylim(0, 1)
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    _dress(below, "F1 of held-out places")
    figure.savefig(picture)
    return picture


def _dress(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.grid(visible=True, color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=QUIET, labelsize=8)
