"""What people see: plans, progress, failures and answers, as text or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table

from cdscale.completeness import Totals, tile_months, unplaced
from cdscale.months import Months
from cdscale.plan import Plan
from cdscale.progress import Progress, Status, status_of
from cdscale.spec.run import RunSpec
from cdscale.spec.task import Receipt, Stage, Task

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Plain data, or a frozen value, as JSON and nothing else."""
    plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    sys.stdout.write(json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


class Display:
    """One progress bar a stage, with tasks done, time left and failures, and one for overviews."""

    def __init__(self, progress: Bars) -> None:
        self._progress = progress
        self._bar: TaskID | None = None
        self._failed = 0
        self._said = False

    def begin(self, stage: Stage, *, todo: int, done: int, dashboard: str) -> None:
        """See :class:`cdscale.run.Watcher`."""
        if dashboard and not self._said:
            self._progress.console.print(f"Dashboard: {dashboard}")
            self._said = True
        self._failed = 0
        self._progress.start()
        self._bar = self._progress.add_task(str(stage), total=todo + done, completed=done, note="")

    def done(self, task: Task, receipt: Receipt) -> None:
        """See :class:`cdscale.run.Watcher`."""
        self._step()
        for scene, reason in receipt.failed.items():
            self._progress.console.print(f"[yellow]{task}[/] without {scene}: {escape(reason)}")

    def again(self, task: Task, reason: str) -> None:
        """See :class:`cdscale.run.Watcher`."""
        self._progress.console.print(f"[yellow]{task}[/] again: {escape(reason)}")

    def held(self, reason: str) -> None:
        """See :class:`cdscale.run.Watcher`."""
        self._progress.console.print(f"[yellow]{escape(reason)}[/]")

    def failed(self, task: Task, reason: str) -> None:
        """See :class:`cdscale.run.Watcher`."""
        self._failed += 1
        self._progress.console.print(f"[red]{task}[/] failed: {escape(reason)}")
        self._step()

    def overviews(self, *, made: int, shards: int) -> None:
        """See :class:`cdscale.run.Watcher`."""
        if not made:
            self._progress.start()
            self._bar = self._progress.add_task("overview", total=shards, note="")
        elif self._bar is not None:
            self._progress.update(self._bar, completed=made)

    def _step(self) -> None:
        if self._bar is not None:
            note = f"[red]{self._failed} failed[/]" if self._failed else ""
            self._progress.update(self._bar, advance=1, note=note)


@contextmanager
def progress_display() -> Iterator[Display]:
    """A display that lives as long as the run that it shows, and says nothing where none begins."""
    columns = (
        TextColumn("{task.description:8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    bars = Bars(*columns, console=err)
    try:
        yield Display(bars)
    finally:
        if bars.live.is_started:
            bars.stop()


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} PB"


def show_plan(priced: Plan) -> None:
    """What a run will do and what that takes."""
    kind = " of SIMULATED scenes" if priced.simulated else ""
    out.print(
        f"[bold]{priced.name}[/]{kind}: {priced.tiles} tiles of {priced.tile_px} px "
        f"({priced.area_km2:g} km²) on {priced.grid} ({priced.crs}), {priced.month_count} months "
        f"({priced.months}), {priced.scenes['s2']} optical and {priced.scenes['s1']} radar scenes"
        + (f", {priced.set_aside} items set aside" if priced.set_aside else "")
    )
    table = Table(box=None, pad_edge=False)
    for name in ("stage", "tasks", "done", "to do", "reads ≤", "writes ~", "memory", "CPU ~"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage, part in priced.stages.items():
        counts = (str(part.tasks), str(part.done), str(part.todo))
        sizes = (_bytes(v) for v in (part.bytes_read, part.bytes_written, part.memory_per_task))
        table.add_row(stage, *counts, *sizes, f"{part.cpu_seconds:.0f} s")
    out.print(table)
    out.print(
        f"About {priced.seconds:.0f} s on {priced.workers} workers of "
        f"{_bytes(priced.memory_per_worker)}; {_bytes(priced.disk_free)} free in "
        f"{shown(Path(priced.output))}"
    )


def show_failures(found: Status) -> None:
    """Every task that failed, or was done without some scenes, and why."""
    for part in found.stages.values():
        for task, reason in part.failed.items():
            err.print(f"[red]{task}[/] failed: {escape(reason)}")
        for task, scenes in part.incomplete.items():
            for scene, reason in scenes.items():
                err.print(f"[yellow]{task}[/] without {scene}: {escape(reason)}")


def show_selection(progress: Progress) -> None:
    """What a selection takes in beside what it names."""
    if progress.added:
        out.print(
            f"What was selected is made from {progress.added} more tasks that are not done: "
            "they are done as well."
        )


def show_rest(progress: Progress) -> None:
    """What a selection leaves to do."""
    found = status_of(progress)
    left = sum(part.tasks - part.done for part in found.stages.values())
    if left:
        out.print(f"{left} tasks beside what was selected are not done: run without a selection.")


MOST_ROWS = 200
"""Of a table on the screen."""
WIDEST = 10_000
"""Columns of a table in a file."""


def show_missing(progress: Progress, *, as_json: bool) -> None:
    """Of each tile and month what is missing and why; as JSON everything that is known."""
    totals = Totals()
    if as_json:
        _print_rows(progress, totals)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("tile", "month", "state", "expected", "used", "unused", "aside", "failed", "why"):
        table.add_column(name, justify="right" if name in COUNTS else "left")
    for row in tile_months(progress):
        totals.add(row)
        if row.lacks and table.row_count < MOST_ROWS:
            counts = (row.expected, row.used, row.unused, row.set_aside, row.failed)
            table.add_row(
                str(row.tile), str(row.month), str(row.state),
                *(str(len(scenes)) for scenes in counts), escape(row.why),
            )  # fmt: skip
    if table.row_count:
        # In a file or a pipe each row is one line.
        wide = Console(highlight=False, width=WIDEST)
        (out if out.is_terminal else wide).print(table)
    if totals.lacking > table.row_count:
        out.print(f"and {totals.lacking - table.row_count} more: see --json or --geoparquet FILE")
    _show_totals(totals)
    for item, reason in unplaced(progress.job).items():
        out.print(f"set aside without date or place: {item}: {escape(reason)}")


COUNTS = {"expected", "used", "unused", "aside", "failed"}
"""Columns of numbers."""


def _print_rows(progress: Progress, totals: Totals) -> None:
    """JSON, written as it comes: a continent has many tiles and months."""
    job = progress.job
    head = {"name": job.spec.name, "output": str(job.spec.folder), "unplaced": unplaced(job)}
    sys.stdout.write(json.dumps(head, ensure_ascii=False)[:-1] + ',\n"tile_months": [')
    comma = "\n"
    for row in tile_months(progress):
        totals.add(row)
        sys.stdout.write(comma + json.dumps(row.plain(), ensure_ascii=False))
        comma = ",\n"
    rest = json.dumps({"totals": totals.plain()}, ensure_ascii=False)
    sys.stdout.write("\n],\n" + rest[1:] + "\n")


def _show_totals(totals: Totals) -> None:
    states = ", ".join(f"{number} {state}" for state, number in sorted(totals.states.items()))
    out.print(
        f"{sum(totals.states.values())} tiles and months: {states}; {totals.lacking} lack something"
    )
    scenes = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in totals.scenes.items())
    out.print(f"scenes, each counted in every tile and month: {scenes}")
    for kind, reasons in totals.reasons.items():
        for reason, number in reasons.most_common(MOST_REASONS):
            out.print(f"  {kind.replace('_', ' ')}, {number} times: {escape(reason)}")


MOST_REASONS = 5
"""Of each kind, on the screen."""


def show_answer(answer: dict[str, Any], *, as_json: bool) -> None:
    """What a store answered, month by month."""
    if as_json:
        print_json(answer)
        return
    for key, value in answer.items():
        if key not in ("months", "unpublished"):
            out.print(f"{key}: {escape(str(value))}")
    for month in answer["months"]:
        out.print(f"[bold]{month['month']}[/]")
        for name, value in month.items():
            if name != "month":
                out.print(f"  {name}: {_text(value)}")
    if answer["unpublished"]:
        out.print(f"not published: {Months.parse(','.join(answer['unpublished']))}")


def show_evidence(told: dict[str, Any], *, as_json: bool) -> None:
    """What stands behind a pixel: the reasons in words, then scenes month by month."""
    if as_json:
        print_json(told)
        return
    out.print(f"{told['lon']}, {told['lat']} (tile {told['tile']}): {escape(told['title'])}")
    if "comment" in told:
        out.print(escape(told["comment"]))
    for sentence in told["reasons"]:
        out.print(f"- {escape(sentence)}", soft_wrap=True)
    for month in told["months"]:
        out.print(f"[bold]{month['month']}[/]")
        for name, what in (("optical", "reflectance"), ("radar", "dB")):
            seen = month[name]
            values = ", ".join(f"{band} {_text(v)}" for band, v in (seen.get(what) or {}).items())
            quality = seen.get("quality") or "no cube beside the store"
            told_too = f"; {what}: {values}" if values else ""
            out.print(f"  {name}: {quality}{escape(told_too)}", soft_wrap=True)
            for scene in seen["scenes"]:
                shown = ", shown" if scene.get("shown") else ""
                line = f"{scene['time']} {scene['id']} ({scene.get('tile', '')}{shown})"
                out.print(f"    {escape(line)}", soft_wrap=True)
    if told["unpublished"]:
        out.print(f"not published: {Months.parse(','.join(told['unpublished']))}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if not isinstance(value, dict):
        return "no data" if value is None else str(value)
    return ", ".join(f"{key} {_text(v)}" for key, v in value.items() if v != 0) or "0"


def show_scores(scores: dict[str, Any]) -> None:
    """How well a mosaic tells the truth of a simulated region."""
    out.print(
        f"\n[bold]Agreement with the simulated truth[/] ({scores['changed_share']:.1%} of the "
        "pixels became built up)"
    )
    series, pair = scores["series"], scores["pair"]
    out.print(
        f"  urban series: F1 of changed pixels {series['f1']:.3f} (precision "
        f"{series['precision']:.3f}, recall {series['recall']:.3f}); change month off by "
        f"{series['month_error']} months in the mean, {series['within_one_month']:.0%} within one"
    )
    states = scores["states"]
    out.print(
        f"  states: F1 of confirmed change {states['f1']:.3f} (precision "
        f"{states['precision']:.3f}, recall {states['recall']:.3f}); change month off by "
        f"{states['month_error']} months in the mean, confirmed {states['delay']} months after it; "
        f"{states['false_alarms_per_km2_month']} pixels of false alarm per km² and month"
    )
    out.print(
        f"  pair network: F1 of changed pixels {pair['f1']:.3f} (precision "
        f"{pair['precision']:.3f}, recall {pair['recall']:.3f}); trained on real cities, so these "
        "scenes are foreign to it"
    )


def show_next(spec_file: Path, spec: RunSpec) -> None:
    """What a demonstration made, and where a user goes from there."""
    west, south, east, north = spec.aoi.bounds
    where = f"--lon {(west + east) / 2:.4f} --lat {(south + north) / 2:.4f}"
    folder = shown(spec.folder)
    out.print(
        f"""
What was made, in {folder}:
  cube.zarr     monthly Sentinel-1/2 composites       xarray.open_zarr("{folder}/cube.zarr")
  urban.zarr    monthly urban probability, and whether it rests on optical data or on radar alone
  change.zarr   states of change month by month, and change between the first and last month
  report.html   what was found, with pictures

Ask it:
  cdscale query point {folder}/change.zarr {where}

An area of your own: copy {spec_file}, name a catalogue, your area and your months, and see
what it takes before you spend it:
  cdscale plan my-region.yaml
  cdscale run my-region.yaml"""
    )
