"""The curve of a training run as a picture: loss above, figures of held-out places below."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cdscale.errors import ReadError, explain

INK, QUIET = "#222222", "#6b6b6b"
LINES = {
    "s1s2_f1": ("F1, both sensors", "#0072b2"),
    "s2_f1": ("F1, radar withheld", "#d55e00"),
    "all_f1": ("F1", "#0072b2"),
    "seen_f1": ("F1 where optical was seen", "#009e73"),
    "reconstructed_f1": ("F1 where it was not", "#e69f00"),
    "s1_only_f1": ("F1, optical withheld", "#d55e00"),
}
"""Columns that are drawn, with their words and colours; where there is none of them, the score."""
SCORE = {"score": ("score", "#0072b2")}


def plot_curve(table: Path, picture: Path) -> Path:
    """Draw ``curve.csv`` of a run.

    Parameters
    ----------
    table : Path
        Columns ``epoch`` and ``loss``, and where there was validation those of :data:`LINES`, or
        ``score``; a row an epoch, empty where nothing was validated.
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
    lines = {name: line for name, line in LINES.items() if any(r.get(name) for r in rows)} or SCORE
    for name, (label, colour) in lines.items():
        points = [(float(r["epoch"]), float(r[name])) for r in rows if r.get(name)]
        if points:
            below.plot(
                *zip(*points, strict=True), color=colour, marker=".", markersize=4, label=label
            )
    if below.lines:
        below.legend(frameon=False, fontsize=8)
    below.set_ylim(0, 1)
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    _dress(below, "held-out places")
    figure.savefig(picture)
    return picture


def _dress(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.grid(visible=True, color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=QUIET, labelsize=8)
