"""The states of change beside other ways to watch a series, on simulated regions of 24 months.

    python -m benchmarks.states WORK OUT.json --seeds 302 303 --size 256

Each region is simulated, composed and mapped once with the shipped urban network (WORK keeps that;
what is there is used again), with the weather that the simulation gives it, and with ``--clear``
without a cloud. Every way then watches the same stored probabilities, pixel by pixel and month by
month. The seeds are none of those that the network was trained on (101 to 112), nor 301, on which
the default rules were settled.

- states: :func:`cdscale.kernels.advance`, by the default rules, of which the contrast is swept;
- pair: a month against the first, month by month, changed where the probability has risen by a
  threshold and lies above the card's; and the last month against the first;
- CUSUM (Page 1954): sums of what exceeds a reference, restarted at 0; an alarm where a sum passes a
  threshold. The change began where the sum last left 0;
- EWMA (Roberts 1959): a moving mean (weight 0.3, or 0.6), and an alarm where it passes a threshold.
  The change began where the probability last rose above the card's threshold.

CUSUM and EWMA are run on the probability, the reference of CUSUM being the card's threshold, and
with ``own level`` on what exceeds the pixel's level, as the states keep it: there the reference of
CUSUM is the upper threshold of the states. A pixel that begins built up raises no alarm in either.

False alarms are confirmations (alarms) of pixels that do not change within the period, by square
kilometre and month; every one counts, also where it is taken back later. F1 is that of the pixels
that count as changed at the end, against those that change within the period; the error of the
month and the delay of the alarm are means over pixels of which both say so, in months. The sweep of
each way is kept; the table compares them where each has as many false alarms as the default rules,
interpolated between the neighbouring steps of the sweep, and says so where its sweep never has so
few or so many.

Shape suffixes: T month, Y row, X column.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulated_regions import spec_of
from cdscale import kernels, plan, progress, run, simulate
from cdscale.kernels import Bool, Float, UInt8
from cdscale.models import load_card
from cdscale.months import Months
from cdscale.spec.changes import ChangeRules
from cdscale.spec.cube import ChangeState, UrbanQuality
from cdscale.spec.run import S2_BANDS, RunSpec
from cdscale.spec.task import Stage
from cdscale.stages import perform
from cdscale.store import open_dataset

PERIOD = Months.parse("2020-09..2022-08")
CARD = "urban-s1s2-sim"
THRESHOLD = load_card(CARD).threshold
SETTLED = (ChangeState.confirmed, ChangeState.high_confidence, ChangeState.finished)
Months_YX = NDArray[np.int64]


# ----------------------------------------------------------------------------------- the series


@dataclass(frozen=True)
class Region:
    """A region that was mapped, and what is true of it."""

    name: str
    stored_TYX: UInt8
    quality_TYX: UInt8
    truth_YX: Months_YX
    """Index of the month of change, -1 for none."""
    built_TYX: Float
    """Share of each pixel that is built up."""
    km2: float

    @cached_property
    def probability_TYX(self) -> Float:
        """Unpacked, NaN where nothing is known."""
        return kernels.unpack_probability(self.stored_TYX)


@contextmanager
def sky_of(*, clear: bool) -> Iterator[None]:
    """The simulation's weather, or a sky without a cloud."""
    if not clear:
        yield
        return
    writing = importlib.import_module("cdscale.simulate.write")

    def none(_: simulate.Region, every: tuple[object, ...]) -> dict[object, float]:
        return dict.fromkeys(every, 0.0)

    with mock.patch.object(writing, "covers", none):
        yield


def mapped(work: Path, seed: int, size: int, *, clear: bool) -> Region:
    """A region and its series of urban maps, made where they are not there yet."""
    name = f"{seed}{'c' if clear else ''}"
    region = simulate.Region(seed=seed, size_px=size, months=PERIOD)
    with sky_of(clear=clear):
        simulate.write(region, work / name / "catalogue")
    fields = spec_of(work / name, region, S2_BANDS).model_dump(mode="json")
    spec = RunSpec.check(fields | {"models": {"urban": {"card": CARD}}}, where=name)
    job = plan.freeze(spec)
    with run.prepared(job):
        for stage in (Stage.COMPOSE, Stage.MAP):
            for task, mark in progress.Progress.of(job).agenda(stage).ready.items():
                perform(task, job, mark)
    reference = simulate.truth(region, spec.window().geobox(spec.lattice))
    truth = reference.change_month.values
    days = PERIOD.to_numpy().astype("datetime64[D]").astype(np.int64)
    with open_dataset(job.store_path(Stage.MAP)) as urban:
        return Region(
            name=name,
            stored_TYX=kernels.pack_probability(urban.probability.values),
            quality_TYX=urban.quality.values.astype(np.uint8),
            truth_YX=np.where(truth < 0, -1, np.searchsorted(days, truth)),
            built_TYX=reference.built_up_fraction.values,
            km2=truth.size * (spec.grid.resolution / 1000) ** 2,
        )


# -------------------------------------------------------------------------------- ways to watch


@dataclass(frozen=True)
class Watched:
    """What a way to watch says of a region."""

    alarms_TYX: Bool
    """Where and when it raised an alarm."""
    changed_YX: Bool
    """What counts as changed at the end."""
    alarm_YX: Months_YX
    """Month of the alarm that holds at the end."""
    began_YX: Months_YX
    """Month in which it says the change began."""


Way = Callable[[Region, float], Watched]
_LEVELS: dict[str, Float] = {}


def states(region: Region, contrast: float) -> Watched:
    """The states of change."""
    rules = ChangeRules(contrast=contrast)
    held = kernels.States.begin((region.truth_YX.shape[0], region.truth_YX.shape[1]))
    alarms = np.zeros(region.stored_TYX.shape, bool)
    for t, stored_YX in enumerate(region.stored_TYX):
        sight = kernels.Sight(t, stored_YX, region.quality_TYX[t], THRESHOLD)
        held, _ = kernels.advance(held, sight, rules)
        alarms[t] = held.confirmed_month == t
    changed_YX = np.asarray(np.isin(held.state, SETTLED))
    return Watched(
        alarms, changed_YX, held.confirmed_month.astype(np.int64), held.first_month.astype(np.int64)
    )


def pair_by_month(region: Region, rise: float) -> Watched:
    """Each month against the first."""
    values_TYX = region.probability_TYX
    risen_TYX = (values_TYX - values_TYX[0] >= rise) & (values_TYX >= THRESHOLD)
    return _first_of(risen_TYX & (values_TYX[0] < THRESHOLD))


def pair_of_ends(region: Region, rise: float) -> Watched:
    """The last month against the first: the change began in between, half-way at a guess."""
    values_TYX = region.probability_TYX
    changed_YX = (values_TYX[-1] - values_TYX[0] >= rise) & (values_TYX[-1] >= THRESHOLD)
    changed_YX &= values_TYX[0] < THRESHOLD
    alarms = np.zeros(values_TYX.shape, bool)
    alarms[-1] = changed_YX
    last = len(values_TYX) - 1
    return Watched(
        alarms,
        changed_YX,
        np.where(changed_YX, last, -1),
        np.where(changed_YX, (last + 1) // 2, -1),
    )


def _first_of(alarms_TYX: Bool, began_TYX: Months_YX | None = None) -> Watched:
    """Alarms of ways that raise one and stay with it."""
    changed_YX: Bool = np.asarray(alarms_TYX.any(axis=0))
    alarm_YX = np.where(changed_YX, alarms_TYX.argmax(axis=0), -1)
    months = np.arange(len(alarms_TYX))[:, None, None]
    began_YX = alarm_YX
    if began_TYX is not None:
        picked = np.take_along_axis(began_TYX, np.maximum(alarm_YX, 0)[None], axis=0)[0]
        began_YX = np.where(changed_YX, picked, -1)
    return Watched(months == alarm_YX, changed_YX, alarm_YX, began_YX)


def levels(region: Region) -> Float:
    """Level of the land before each month, as the states keep it while nothing changes."""
    if region.name in _LEVELS:
        return _LEVELS[region.name]
    values_TYX, memory = region.probability_TYX, ChangeRules().memory
    level_TYX = np.empty_like(values_TYX)
    level_YX = values_TYX[0].copy()
    for t, value_YX in enumerate(values_TYX):
        level_TYX[t] = level_YX
        begun_YX = value_YX >= np.maximum(THRESHOLD, level_YX + ChangeRules().contrast)
        moved_YX = np.where(np.isnan(level_YX), value_YX, level_YX + memory * (value_YX - level_YX))
        level_YX = np.where(begun_YX | np.isnan(value_YX), level_YX, moved_YX)
    return _LEVELS.setdefault(region.name, level_TYX)


def cusum(region: Region, limit: float, *, own: bool = False) -> Watched:
    """Sums of what exceeds a reference."""
    values_TYX = region.probability_TYX
    reference_TYX = np.full_like(values_TYX, THRESHOLD)
    if own:
        reference_TYX = np.maximum(reference_TYX, levels(region) + ChangeRules().contrast)
    sum_YX, begun_YX = np.zeros(values_TYX.shape[1:]), np.zeros(values_TYX.shape[1:], np.int64)
    alarms, began = np.zeros(values_TYX.shape, bool), np.zeros(values_TYX.shape, np.int64)
    for t, value_YX in enumerate(values_TYX):
        risen_YX = np.maximum(0, sum_YX + np.nan_to_num(value_YX - reference_TYX[t]))
        begun_YX = np.where((sum_YX == 0) & (risen_YX > 0), t, begun_YX)
        sum_YX = risen_YX
        alarms[t], began[t] = sum_YX > limit, begun_YX
    return _first_of(alarms & (values_TYX[0] < THRESHOLD), began)


def ewma(region: Region, limit: float, *, weight: float = 0.3, own: bool = False) -> Watched:
    """A moving mean."""
    values_TYX = region.probability_TYX
    watched_TYX = values_TYX - levels(region) if own else values_TYX
    mean_YX = np.nan_to_num(watched_TYX[0])
    above_YX, begun_YX = mean_YX > 1, np.zeros(mean_YX.shape, np.int64)
    alarms, began = np.zeros(values_TYX.shape, bool), np.zeros(values_TYX.shape, np.int64)
    for t, value_YX in enumerate(watched_TYX):
        seen_YX = np.isfinite(value_YX)
        mean_YX = np.where(seen_YX, mean_YX + weight * (value_YX - mean_YX), mean_YX)
        now_YX = np.where(seen_YX, values_TYX[t] >= THRESHOLD, above_YX)
        begun_YX, above_YX = np.where(now_YX & ~above_YX, t, begun_YX), now_YX
        alarms[t] = mean_YX > limit
        began[t] = np.where(above_YX, begun_YX, t)
    return _first_of(alarms & (values_TYX[0] < THRESHOLD), began)


LIMITS = (*np.arange(0.1, 1, 0.1).round(2).tolist(), 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
RISES = np.arange(0.1, 1, 0.05).round(2).tolist()
MEANS = np.arange(0.2, 1, 0.05).round(2).tolist()
WAYS: dict[str, tuple[Way, Sequence[float]]] = {
    "states": (states, np.arange(0.2, 0.81, 0.1).round(2).tolist()),
    "pair, each month": (pair_by_month, RISES),
    "pair, last month": (pair_of_ends, RISES),
    "CUSUM": (cusum, LIMITS),
    "CUSUM, own level": (lambda r, x: cusum(r, x, own=True), LIMITS),
    "EWMA 0.3": (ewma, MEANS),
    "EWMA 0.6": (lambda r, x: ewma(r, x, weight=0.6), MEANS),
    "EWMA 0.3, own level": (lambda r, x: ewma(r, x, own=True), MEANS),
    "EWMA 0.6, own level": (lambda r, x: ewma(r, x, weight=0.6, own=True), MEANS),
}


# -------------------------------------------------------------------------------------- figures


@dataclass(frozen=True)
class Score:
    """How well a way did at one setting: over all regions together."""

    setting: float
    false_alarms: float
    """Per square kilometre and month."""
    f1: float
    precision: float
    recall: float
    month_error: float
    delay: float


def score(regions: Sequence[Region], way: Way, setting: float) -> Score:
    """Watch regions one way, and count together."""
    false = hits = found = true = 0
    area, error, delay = 0.0, 0.0, 0.0
    for region in regions:
        said, truth_YX = way(region, setting), region.truth_YX
        changes_YX = truth_YX >= 0
        false += int((said.alarms_TYX & ~changes_YX).sum())
        both_YX = said.changed_YX & changes_YX
        hits += int(both_YX.sum())
        found += int(said.changed_YX.sum())
        true += int(changes_YX.sum())
        area += region.km2 * len(region.stored_TYX)
        error += float(np.abs(said.began_YX - truth_YX)[both_YX].sum())
        delay += float((said.alarm_YX - truth_YX)[both_YX].sum())
    return Score(
        setting=setting,
        false_alarms=round(false / area, 4),
        f1=round(2 * hits / max(found + true, 1), 4),
        precision=round(hits / max(found, 1), 4),
        recall=round(hits / max(true, 1), 4),
        month_error=round(error / max(hits, 1), 4),
        delay=round(delay / max(hits, 1), 4),
    )


def at_equal_alarms(sweep: Sequence[Score], wanted: float) -> Score | None:
    """What a way does with so many false alarms; None where its sweep never has so few or many."""
    for one, other in reversed(list(pairwise(sweep))):
        low, high = sorted((one, other), key=lambda s: s.false_alarms)
        if low.false_alarms <= wanted <= high.false_alarms:
            span = high.false_alarms - low.false_alarms
            share = (wanted - low.false_alarms) / span if span else 0.0
            mixed = {
                name: round(value + share * (getattr(high, name) - value), 4)
                for name, value in asdict(low).items()
            }
            return Score(**mixed)
    return None


def compare(regions: Sequence[Region]) -> dict[str, dict[str, object]]:
    """Every way on the same regions: its sweep, and what it does at equal false alarms."""
    default = ChangeRules().contrast
    sweeps = {
        name: [score(regions, way, setting) for setting in settings]
        for name, (way, settings) in WAYS.items()
    }
    ours = next(s for s in sweeps["states"] if s.setting == default)
    found: dict[str, dict[str, object]] = {}
    for name, sweep in sweeps.items():
        equal = ours if name == "states" else at_equal_alarms(sweep, ours.false_alarms)
        found[name] = {
            "at equal false alarms": asdict(equal) if equal else None,
            "sweep": [asdict(s) for s in sweep],
        }
    return found


def mistaken(regions: Sequence[Region]) -> dict[str, int]:
    """Pixels that the states confirm by default and that do not change: what they are."""
    counts: dict[str, int] = {}
    for region in regions:
        said = states(region, ChangeRules().contrast)
        wrong_YX = said.alarms_TYX.any(axis=0) & (region.truth_YX < 0)
        most_YX = region.built_TYX.max(axis=0)
        first_YX = region.built_TYX[0] >= 0.5
        kinds = {
            "all": wrong_YX,
            "without any building": wrong_YX & (most_YX == 0),
            "less than half built up": wrong_YX & (most_YX > 0) & ~first_YX,
            "built up from the first": wrong_YX & first_YX,
            "still confirmed at the end": wrong_YX & said.changed_YX,
        }
        for kind, where_YX in kinds.items():
            counts[kind] = counts.get(kind, 0) + int(where_YX.sum())
    return counts


def show(title: str, found: dict[str, dict[str, object]]) -> None:
    """Print the table."""
    print(f"\n{title}")
    print(f"{'':22}{'F1':>7}{'prec.':>8}{'recall':>8}{'month':>8}{'delay':>8}{'alarms':>9}")
    for name, part in found.items():
        equal = part["at equal false alarms"]
        if not isinstance(equal, dict):
            sweep = part["sweep"]
            alarms = [s["false_alarms"] for s in sweep] if isinstance(sweep, list) else []
            print(f"{name:22} never: {min(alarms):.2f} to {max(alarms):.2f} false alarms")
            continue
        figures = (equal[key] for key in ("f1", "precision", "recall"))
        print(
            f"{name:22}"
            + "".join(f"{value:8.3f}" for value in figures)
            + f"{equal['month_error']:8.2f}{equal['delay']:8.2f}{equal['false_alarms']:9.2f}"
        )


def main() -> None:
    """Map, watch, print, keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=(302, 303))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--clear", action="store_true", help="without clouds")
    options = parser.parse_args()
    regions = [
        mapped(options.work, seed, options.size, clear=options.clear) for seed in options.seeds
    ]
    found = compare(regions)
    seeds = ", ".join(map(str, options.seeds))
    sky = "without clouds" if options.clear else "with clouds"
    show(f"SIMULATED regions {seeds}, {options.size} px, {PERIOD}, {sky}", found)
    wrong = mistaken(regions)
    print("wrongly confirmed:", ", ".join(f"{number} {kind}" for kind, number in wrong.items()))
    rebuilt = [float((r.quality_TYX == UrbanQuality.optical_reconstructed).mean()) for r in regions]
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "simulated": True,
        "seeds": options.seeds,
        "size": options.size,
        "sky": sky,
        "optical reconstructed": [round(share, 4) for share in rebuilt],
        "changed pixels": [int((r.truth_YX >= 0).sum()) for r in regions],
        "wrongly confirmed by the states": wrong,
        "ways": found,
    }
    known = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    known[sky] = record
    options.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
