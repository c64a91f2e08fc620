"""What a report says of a run, as plain data: where, from what, how complete, how much changed."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from cdscale import __version__
from cdscale.drift import Drift
from cdscale.export.checks import Check, checks
from cdscale.export.estimates import Sampled, samples_of
from cdscale.export.outcome import Outcome, outcome_of, pixel_km2
from cdscale.export.reading import Counts, Tally
from cdscale.months import Months
from cdscale.progress import Progress, StageStatus, Status, status_of
from cdscale.spec.base import Frozen
from cdscale.spec.card import ModelCard
from cdscale.spec.job import Job
from cdscale.spec.run import public
from cdscale.spec.task import Stage

RECONSTRUCTED = 0.5
"""Share of the area from which a month is called reconstructed."""
SOME_SIMULATED = "Some of the scenes are SIMULATED: not everywhere a place on Earth."


class Timing(Frozen):
    """What a stage has taken, as its receipts tell."""

    tasks: int
    done: int
    partly: int
    """Done without some scenes, which could not be read; the next run tries these tasks again."""
    seconds: float
    """Of work, summed over tasks: on n workers about n times the time on the wall."""
    km2_per_hour: float | None
    """Tile area, each month counted, in an hour of one worker."""
    bytes_written: int


class Problem(Frozen):
    """One task that failed, or was done without something, and why."""

    task: str
    kind: str
    what: str
    reason: str


class Change(Frozen):
    """What the pair network says of one pair of months: pixels inside the area of interest."""

    reference: str
    month: str
    threshold: float
    classes_km2: dict[str, float]
    """Classes of change by the pair network; without the class of no change."""
    no_data: float
    """Share of the area where an optical image of either month is missing."""
    not_processed: float


class Model(Frozen):
    """What a network is, as its card says."""

    role: str
    name: str
    version: str
    title: str
    data: str
    licence: str
    simulated: bool
    threshold: float
    weights_sha256: str
    accuracy: dict[str, str]
    limits: tuple[str, ...]


class Where(Frozen):
    """The place."""

    west: float
    south: float
    east: float
    north: float
    area_km2: float
    tiles: int
    tiles_km2: float
    grid: str
    crs: str
    resolution_m: float
    tile_px: int


class Facts(Frozen):
    """Everything that a report says but its pictures."""

    name: str
    what: str
    complete: bool
    warnings: tuple[str, ...]
    where: Where
    period: str
    months: int
    catalogue: str
    scenes_found: dict[str, int]
    scenes_used: dict[str, int]
    set_aside: dict[str, str]
    models: tuple[Model, ...]
    outcome: Outcome | None
    """None: no change was mapped."""
    checks: tuple[Check, ...]
    samples: tuple[Sampled, ...]
    drifts: tuple[Drift, ...]
    exact: bool
    """Whether tiles on the edge of the area were read to be counted."""
    changes: tuple[Change, ...]
    inside_px: int
    completeness: dict[str, dict[str, dict[str, float]]]
    """By month and sensor (optical, radar, urban): share of the area of each kind of pixel."""
    reconstructed: tuple[str, ...]
    """Months whose optical features were reconstructed over most of the area."""
    timings: dict[str, Timing]
    seconds: float
    """Of the call that this report closes, on the wall."""
    not_done: dict[str, int]
    """Tasks of each stage that were not done and did not fail: not tried, or without inputs."""
    problems: tuple[Problem, ...]
    unpublished: dict[str, str]
    """For each stage the months of its store that readers do not get yet."""
    versions: dict[str, str]
    spec: dict[str, Any]


def gather(progress: Progress, tally: Tally, drifts: tuple[Drift, ...], seconds: float) -> Facts:
    """Put together what a run's receipts, stores, cards and samples tell."""
    job, status = progress.job, status_of(progress)
    shares, samples = completeness(job, tally), samples_of(job)
    unreadable = {t: w for p in tally.products.values() for t, w in p.unreadable.items()}
    not_done = {n: len(s.missing) - len(s.failed) for n, s in status.stages.items()}
    return Facts(
        name=job.spec.name,
        what=_what(job),
        complete=status.complete and not unreadable,
        warnings=_warnings(job),
        where=_where(job),
        period=str(job.spec.period),
        months=len(job.spec.period),
        catalogue=public(job.spec.catalogue),
        **_scenes(job, progress),
        set_aside=dict(sorted(status.set_aside.items())),
        models=tuple(_model(role, card) for role, card in sorted(job.cards.items())),
        outcome=outcome_of(job, tally),
        checks=checks(job, status, drifts, samples),
        samples=samples,
        drifts=drifts,
        exact=tally.exact,
        changes=tuple(_changes(job, tally)),
        inside_px=tally.inside,
        completeness=shares,
        reconstructed=tuple(
            month
            for month, sensors in shares.items()
            if sensors.get("urban", {}).get("optical_reconstructed", 0) >= RECONSTRUCTED
        ),
        timings={str(s): _timing(job, progress, s, status.stages[str(s)]) for s in job.stages},
        seconds=round(seconds, 1),
        not_done={name: number for name, number in not_done.items() if number},
        problems=tuple(_problems(status, unreadable)),
        unpublished={
            name: str(Months.parse(",".join(part.unpublished)))
            for name, part in status.stages.items()
            if part.unpublished
        },
        versions=_versions(),
        spec={**job.spec.model_dump(mode="json"), "catalogue": public(job.spec.catalogue)},
    )


def _what(job: Job) -> str:
    parts = ["monthly Sentinel-1 and Sentinel-2 composites"]
    if Stage.MAP in job.stages:
        parts.append("built-up land")
    if Stage.CHANGE in job.stages:
        parts.append("change")
    text = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return text[0].upper() + text[1:]


def _warnings(job: Job) -> tuple[str, ...]:
    found = [str(layout.attrs.get("comment", "")) for layout in job.layouts.values()]
    if not job.scenes.simulated and any(scene.simulated for scene in job.scenes.scenes):
        found.append(SOME_SIMULATED)
    distinct = [text for text in dict.fromkeys(found) if text]
    return tuple(t for t in distinct if not any(t != o and t in o for o in distinct))


def _where(job: Job) -> Where:
    grid, bounds = job.spec.lattice, job.spec.aoi.bounds
    return Where(
        **{side: round(value, 5) for side, value in bounds._asdict().items()},
        area_km2=round(job.spec.aoi.to_crs(grid.crs).area / 1e6, 4),
        tiles=len(job.tiles),
        tiles_km2=round(len(job.tiles) * (grid.tile_m / 1000) ** 2, 4),
        grid=grid.name,
        crs=grid.crs,
        resolution_m=grid.resolution,
        tile_px=grid.tile_px,
    )


def _scenes(job: Job, progress: Progress) -> dict[str, dict[str, int]]:
    receipts = [progress.receipt(task) for task in job.tasks(Stage.COMPOSE)]
    used = {scene for receipt in receipts if receipt for scene in receipt.scenes}
    found: dict[str, set[str]] = {"s2": set(), "s1": set()}
    for scene in job.scenes.scenes:
        found[scene.sensor].add(scene.id)
    return {
        "scenes_found": {sensor: len(ids) for sensor, ids in found.items()},
        "scenes_used": {sensor: len(ids & used) for sensor, ids in found.items()},
    }


def _model(role: str, card: ModelCard) -> Model:
    return Model(
        role=role,
        name=card.name,
        version=card.version,
        title=card.title,
        data=f"{card.training.data} ({card.training.split})",
        licence=card.training.licence,
        simulated=card.training.simulated,
        threshold=card.threshold,
        weights_sha256=card.weights_sha256,
        accuracy=dict(_flat(card.accuracy)),
        limits=card.limits,
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, str(value)


# ---------------------------------------------------------------------------------- from counts


def completeness(job: Job, tally: Tally) -> dict[str, dict[str, dict[str, float]]]:
    """Share of the area of each kind of pixel, by month and sensor."""
    wanted = {"optical": (Stage.COMPOSE, "s2_quality"), "radar": (Stage.COMPOSE, "s1_quality")}
    if Stage.MAP in job.stages:
        wanted["urban"] = (Stage.MAP, "quality")
    return {
        str(month): {
            sensor: _shares(tally.codes.get((stage, month, variable), {}), tally.inside)
            for sensor, (stage, variable) in wanted.items()
        }
        for month in job.spec.period
    }


def _shares(counts: Counts, inside: int) -> dict[str, float]:
    return {name: round(n / inside, 6) for name, n in sorted(counts.items()) if n and inside}


def _changes(job: Job, tally: Tally) -> Iterator[Change]:
    card = job.cards.get("change")
    if card is None:
        return
    named = sorted(card.classes.items())
    for month, reference in sorted(job.pairs.items()):
        codes = tally.codes.get((Stage.CHANGE, month, "change"), {})
        quality = _shares(tally.codes.get((Stage.CHANGE, month, "quality"), {}), tally.inside)
        missing = sum(share for name, share in quality.items() if name.startswith("no_optical"))
        undone = tally.undone.get((Stage.CHANGE, month), 0)
        yield Change(
            reference=str(reference),
            month=str(month),
            threshold=card.threshold,
            classes_km2={
                name: round(codes.get(name.replace(" ", "_"), 0) * pixel_km2(job), 6)
                for code, name in named
                if code
            },
            no_data=round(missing, 6),
            not_processed=round(undone / max(tally.inside, 1), 6),
        )


# ------------------------------------------------------------------------------ from receipts


def _timing(job: Job, progress: Progress, stage: Stage, status: StageStatus) -> Timing:
    receipts = [r for task in job.tasks(stage) if (r := progress.receipt(task)) is not None]
    seconds = sum(receipt.seconds for receipt in receipts)
    km2 = len(receipts) * (job.spec.lattice.tile_m / 1000) ** 2
    return Timing(
        tasks=status.tasks,
        done=status.done,
        partly=len(status.incomplete),
        seconds=round(seconds, 3),
        km2_per_hour=round(km2 / seconds * 3600, 1) if seconds else None,
        bytes_written=sum(receipt.bytes_written for receipt in receipts),
    )


def _problems(status: Status, unreadable: dict[str, str]) -> Iterator[Problem]:
    for stage in status.stages.values():
        for task, reason in sorted(stage.failed.items()):
            yield Problem(task=task, kind="failed", what="", reason=reason)
        for task, scenes in sorted(stage.incomplete.items()):
            for scene, reason in sorted(scenes.items()):
                yield Problem(task=task, kind="without a scene", what=scene, reason=reason)
    for task, reason in sorted(unreadable.items()):
        yield Problem(task=task, kind="does not read back", what="", reason=reason)


def _versions() -> dict[str, str]:
    found = {"cdscale": __version__, "python": platform.python_version()}
    for name in ("zarr", "xarray", "dask", "torch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
