"""The charts of a run's report: area by month, completeness, work; each as a picture's bytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cdscale.export import pictures
from cdscale.export.facts import Facts
from cdscale.export.heat import draw_heat, heat_of
from cdscale.export.outcome import Outcome
from cdscale.export.pictures import BLUE, GREY, PURPLE, VERMILLION, Kind
from cdscale.export.reading import NOT_PROCESSED, Tally
from cdscale.export.timeline import draw_timeline, spans
from cdscale.months import Month
from cdscale.spec.job import Job

Chart = tuple[str, bytes, str]
"""Name, PNG, and what it shows in words."""
KINDS = {
    "optical": {
        "valid": ("valid", BLUE),
        "cloud": ("cloud", GREY),
        "no_scene": ("no scene", GREY),
        "read_failed": ("read failed", VERMILLION),
        NOT_PROCESSED: ("not processed", VERMILLION),
    },
    "radar": {
        "valid": ("valid", BLUE),
        "no_scene": ("no scene", GREY),
        "read_failed": ("read failed", VERMILLION),
        NOT_PROCESSED: ("not processed", VERMILLION),
    },
    "urban": {
        "both_sensors": ("both sensors", BLUE),
        "optical_reconstructed": ("optical reconstr.", PURPLE),
        "radar_missing": ("optical only", BLUE),
        "no_data": ("no data", GREY),
        NOT_PROCESSED: ("not processed", VERMILLION),
    },
}
"""What the completeness picture tells apart, by sensor."""
ALWAYS = {
    ("optical", "valid"), ("optical", "cloud"), ("optical", "no_scene"), ("optical", "read_failed"),
    ("radar", "valid"),
    ("urban", "both_sensors"), ("urban", "optical_reconstructed"), ("urban", "no_data"),
}  # fmt: skip
"""Columns that are there even where no pixel is of the kind."""


def charts(job: Job, facts: Facts, tally: Tally) -> Iterator[Chart]:
    """Every chart that a run has something for."""
    yield _completeness(job, facts)
    heats = [heat_of(name, job.tiles, share) for name, share in tally.valid.items()]
    png = draw_heat(list(job.spec.period), heats)
    yield "tiles", png, "Share of valid pixels, optical and radar, by tile and month"
    if facts.outcome is not None:
        yield from _areas(facts, facts.outcome)
    log = job.spec.folder / "run" / "log.jsonl"
    if work := spans(log, facts.seconds) if facts.seconds else ():
        yield "timeline", draw_timeline(work), "Tasks of the last call, worker by worker"


def _completeness(job: Job, facts: Facts) -> Chart:
    months = list(job.spec.period)
    kinds, keys = [], []
    for sensor, names in KINDS.items():
        if sensor not in facts.completeness[str(months[0])]:
            continue
        for key, (name, colour) in names.items():
            there = any(month[sensor].get(key) for month in facts.completeness.values())
            if there or (sensor, key) in ALWAYS:
                kinds.append(Kind(sensor.capitalize(), name, colour))
                keys.append((sensor, key))
    share_MK = np.array(
        [[facts.completeness[str(m)][s].get(k, 0.0) for s, k in keys] for m in months], np.float32
    )
    marked = {Month.parse(month) for month in facts.reconstructed}
    png = pictures.draw_completeness(months, kinds, share_MK, marked)
    return "completeness", png, "Share of the area of each kind of pixel, month by month"


def _areas(facts: Facts, outcome: Outcome) -> Iterator[Chart]:
    if outcome.by_month:
        km2 = {Month.parse(month): area for month, area in outcome.by_month.items()}
        series = outcome.kind == "series"
        label = "km² first seen in the month" if series else "km² of change"
        title = "Area of change by the first month that shows it" if series else "Area by pair"
        yield "area", pictures.draw_months(km2, label, None if series else _bars(facts)), title
    if len(outcome.standing) > 1:
        months = [Month.parse(month) for month in outcome.standing]
        counted, provisional = (
            [areas[key] for areas in outcome.standing.values()]
            for key in ("counted", "provisional")
        )
        png = pictures.draw_standing(months, counted, provisional)
        yield "standing", png, "Area of confirmed and provisional change at the end of each month"


def _bars(facts: Facts) -> dict[Month, tuple[float, float]]:
    """Estimated areas of change of a pair, where one class of the map is change."""
    found = {}
    for sample in facts.samples:
        named = {c.name: c.area_km2 for c in sample.classes}
        names = {n.replace(" ", "_") for change in facts.changes for n in change.classes_km2}
        areas = [named[name] for name in names if name in named]
        if sample.variable == "change" and len(areas) == 1:
            value, interval = areas[0].value, areas[0].interval
            if value is not None and interval is not None:
                found[Month.parse(sample.month)] = (value, interval)
    return found
