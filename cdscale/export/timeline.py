"""When tasks of the last call were at work, and on which workers: the log as a picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cdscale.export.pictures import (
    BLUE,
    ORANGE,
    PURPLE,
    QUIET,
    VERMILLION,
    WIDTH,
    canvas,
    to_png,
)

COLOURS = {"compose": BLUE, "map": PURPLE, "change": ORANGE}
MOST_LANES = 40
"""Workers that are drawn; a picture with more cannot be read."""


@dataclass(frozen=True)
class Span:
    """A task at work, in seconds since the first one of the call began."""

    stage: str
    worker: str
    start: float
    end: float
    whole: bool
    """Whether it ended with every scene."""


def spans(log: Path, seconds: float) -> tuple[Span, ...]:
    """Tasks of the last call, as its log has them; none where there is no log.

    Parameters
    ----------
    log : Path
        ``run/log.jsonl``, to which every call appends.
    seconds : float
        How long the last one took.
    """
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut off by a full disk or a kill
        if entry.get("event") in {"done", "incomplete"} and "worker" in entry:
            found.append((datetime.fromisoformat(entry["time"]), entry))
    if not found:
        return ()
    # The clock of the log and that of the call are not read at the same moment.
    first = found[-1][0] - timedelta(seconds=seconds + 2)
    recent = [(when, entry) for when, entry in found if when >= first]
    begins = [when - timedelta(seconds=entry["seconds"]) for when, entry in recent]
    zero = min(begins)
    return tuple(
        Span(
            stage=entry["task"].partition("/")[0],
            worker=entry["worker"],
            start=(begin - zero).total_seconds(),
            end=(when - zero).total_seconds(),
            whole=entry["event"] == "done",
        )
        for begin, (when, entry) in zip(begins, recent, strict=True)
    )


def draw_timeline(work: tuple[Span, ...]) -> bytes:
    """One lane for each worker, one bar for each task, coloured by stage."""
    workers = sorted({span.worker for span in work})[:MOST_LANES]
    height = max(0.5, 0.16 * len(workers))
    figure, axes = canvas((0.25, 0.4, WIDTH - 0.4, height), right=0.15, top=0.45)
    for span in work:
        if span.worker in workers:
            axes.broken_barh(
                [(span.start, max(span.end - span.start, 0.02))],
                (workers.index(span.worker) - 0.38, 0.76),
                facecolors=COLOURS.get(span.stage, QUIET),
                edgecolors="white" if span.whole else VERMILLION,
                linewidth=0.4 if span.whole else 1.0,
            )
    axes.set_xlim(0, max(span.end for span in work))
    axes.set_ylim(len(workers) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xlabel("seconds since the first task", fontsize=8, color=QUIET)
    axes.tick_params(labelsize=8, colors=QUIET, length=2)
    stages = [stage for stage in COLOURS if any(span.stage == stage for span in work)]
    for number, stage in enumerate(stages):
        axes.annotate(
            stage, (0, 1), xytext=(2 + 60 * number, 6), xycoords="axes fraction",
            textcoords="offset points", fontsize=8, fontweight="bold", color=COLOURS[stage],
            annotation_clip=False,
        )  # fmt: skip
    for name, spine in axes.spines.items():
        spine.set(color=QUIET, linewidth=0.5, visible=name == "bottom")
    return to_png(figure)
