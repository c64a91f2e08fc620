"""The gates of a run: what passed, what warns, and what was not looked at, one line each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from cdscale.drift import Drift
from cdscale.export.estimates import Sampled
from cdscale.mosaic import gates
from cdscale.progress import Status
from cdscale.seams import Gate
from cdscale.spec.base import Frozen
from cdscale.spec.job import Job
from cdscale.spec.task import Stage

Verdict = Literal["pass", "warn", "none"]


class Check(Frozen):
    """One gate."""

    name: str
    verdict: Verdict
    """``none``: not looked at, or nothing to look at."""
    text: str
    """One or two sentences, from text of our own and figures."""
    more: str = ""
    """Of the page's sections the one that tells more."""


def checks(
    job: Job, status: Status, drifts: Iterable[Drift], samples: Iterable[Sampled]
) -> tuple[Check, ...]:
    """Every gate, in the order in which a reader asks.

    Parameters
    ----------
    job : Job
        The run.
    status : Status
        How far it is.
    drifts, samples : iterables
        From :mod:`cdscale.drift` and :mod:`cdscale.export.estimates`.
    """
    seams = (seam_check(gate) for gate in gates(job.spec.folder).values())
    found = [_complete(status), _published(status), *map(drift_check, drifts), *seams]
    return (*found, *([_estimated(samples)] if Stage.CHANGE in job.stages else []))


def seam_check(gate: Gate) -> Check:
    """Whether maps jump where tiles meet."""
    name, worst = f"Seams, {gate.product}", gate.worst
    if worst is None:
        text = "No two tiles with data meet."
        return Check(name=name, verdict="none", text=text)
    of = f", the worst of {gate.months} months" if gate.months > 1 else ""
    text = (
        f"Probabilities differ by {worst.across:.3f} across the edges of tiles and by "
        f"{worst.inside:.3f} beside them ({worst.month}{of}); "
        f"{gate.largest_excess:g} more and {gate.largest_ratio:g} times as much warns."
    )
    return Check(name=name, verdict="pass" if worst.passed else "warn", text=text)


def _complete(status: Status) -> Check:
    tasks = sum(stage.tasks for stage in status.stages.values())
    done = sum(stage.done for stage in status.stages.values())
    failed = sum(len(stage.failed) for stage in status.stages.values())
    partly = sum(len(stage.incomplete) for stage in status.stages.values())
    if done == tasks:
        text = f"All {tasks} tasks are done, with every scene that they needed."
        return Check(name="Complete", verdict="pass", text=text, more="work")
    parts = [f"{done} of {tasks} tasks are done"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{partly} went without scenes that could not be read"] if partly else []
    text = f"{', '.join(parts)}. Run the same command again to try what is left."
    return Check(name="Complete", verdict="warn", text=text, more="work")


def _published(status: Status) -> Check:
    hidden = {name: len(stage.unpublished) for name, stage in status.stages.items()}
    hidden = {name: number for name, number in hidden.items() if number}
    if not hidden:
        text = "Every month of every store is published."
        return Check(name="Published", verdict="pass", text=text, more="missing")
    listed = ", ".join(f"{number} of {name}" for name, number in hidden.items())
    text = f"Months that readers do not get yet: {listed}."
    return Check(name="Published", verdict="warn", text=text, more="missing")


def drift_check(found: Drift) -> Check:
    """Whether a run's scenes are like those that a network was trained on."""
    name = f"Inputs, {found.role} network"
    return Check(name=name, verdict=found.verdict, text=found.text, more="inputs")


def _estimated(samples: Iterable[Sampled]) -> Check:
    every = tuple(samples)
    good = [sample for sample in every if sample.overall is not None]
    if good:
        points = sum(sample.points - sample.left for sample in good)
        text = f"Areas are estimated from {points} interpreted points."
        return Check(name="Area estimated", verdict="pass", text=text, more="sure")
    if every:
        text = "There is a sample, and it gives no estimate yet: areas are counts of pixels."
        return Check(name="Area estimated", verdict="warn", text=text, more="sure")
    text = "No interpreted sample lies beside this run: areas are counts of pixels, not estimates."
    return Check(name="Area estimated", verdict="none", text=text, more="sure")
