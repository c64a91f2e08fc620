"""Drift: a run whose scenes are unlike those of a network's training says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdscale import drift, models
from cdscale.kernels.spread import LEVELS, distance, spread_of
from cdscale.progress import Progress
from cdscale.spec.card import Seen
from cdscale.spec.job import Job
from cdscale.spec.task import Stage
from cdscale.store import create
from tests.regions import a_card, made_job, pretend

KNOWN = Seen(
    s2={"B04": (0.08, 0.09, 0.1, 0.11, 0.12), "B08": (0.2, 0.25, 0.3, 0.35, 0.4)},
    s1={"vv": (-14.0, -12.0, -10.0, -8.0, -6.0)},
    limit={"B04": 0.8, "B08": 0.8, "vv": 0.8},
    places=9,
    data="made up",
    command="none",
)


def a_run(folder: Path, *, offset: float = 0.0, gone: str = "", **card: Any) -> Job:
    """A cube whose bands are spread as in training, but for an offset of one of them."""
    job = made_job(folder, cards={"urban": a_card("urban", **{"seen": KNOWN.model_dump()} | card)})
    pretend(job, Stage.COMPOSE)
    store = create(job.store_path(Stage.COMPOSE), job.layouts[Stage.COMPOSE])
    rng = np.random.default_rng(5)
    for task in job.tasks(Stage.COMPOSE):
        at = rng.random((3, 64, 64))
        red, infrared, decibel = (
            np.interp(at[i], LEVELS, known)
            for i, known in enumerate((KNOWN.s2["B04"], KNOWN.s2["B08"], KNOWN.s1["vv"]))
        )
        one = np.ones((64, 64), np.uint8)
        s2 = np.round(np.stack([red + offset, infrared]) * 10_000).astype(np.int16)
        if gone == str(task.month):
            s2[:] = -32768
        blocks = {
            "s2": s2, "s1": (10 ** (decibel / 10)).astype(np.float32)[None], "s2_scenes": one,
            "s2_quality": one, "s1_quality": one, "s2_clear": one, "s1_scenes": one,
            "s2_date": one.astype(np.uint16),
        }  # fmt: skip
        store.write(task.tile, task.month, blocks)
    return job


def test_a_run_like_the_training_passes(tmp_path: Path) -> None:
    (found,) = drift.measure(Progress.of(a_run(tmp_path, gone="2022-05")))

    assert found.verdict == "pass"
    assert found.pieces == 4
    assert found.pixels == 4 * 64 * 64  # of the radar: one month has no optical image
    assert {band.name for band in found.bands} == {"B04", "B08", "vv"}
    assert all(band.distance < 0.1 for band in found.bands)
    assert "Like the training of tiny-urban" in found.text


def test_an_offset_left_in_one_band_warns_and_names_it(tmp_path: Path) -> None:
    job = a_run(tmp_path, offset=0.1)

    (found,) = drift.measure(Progress.of(job))
    drift.keep(job, (found,))

    red, infrared, vv = found.bands
    # 0.1 of reflectance, where a standard deviation of the training is 0.04 / 2.5631.
    assert red.distance == pytest.approx(0.1 / (0.04 / 2.5631), rel=0.02)
    assert max(infrared.distance, vv.distance) < 0.1
    assert found.verdict == "warn"
    assert "B04 (8.0 times)" in found.text
    assert "B08" not in found.text
    assert drift.kept(job) == (found,)


def test_a_card_that_does_not_say_what_it_has_seen_is_not_compared(tmp_path: Path) -> None:
    assert drift.measure(Progress.of(a_run(tmp_path, seen=None))) == ()


def test_of_a_run_without_a_pixel_nothing_is_said(tmp_path: Path) -> None:
    job = made_job(tmp_path, cards={"urban": a_card("urban", seen=KNOWN.model_dump())})

    (found,) = drift.measure(Progress.of(job))

    assert (found.verdict, found.bands) == ("none", ())
    assert drift.kept(job) == ()
    drift.drift_path(job).parent.mkdir(parents=True, exist_ok=True)
    drift.drift_path(job).write_text("{}", encoding="utf-8")
    assert drift.kept(job) == ()


def test_of_many_tiles_and_months_few_pieces_are_read_of_all_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "MOST_BLOCKS", 8)
    job = made_job(tmp_path, nx=4, ny=4, period="2022-01..2022-04")
    pretend(job, Stage.COMPOSE)

    chosen = drift._chosen(Progress.of(job), tuple(job.spec.period))

    assert len(chosen) == 8
    assert {task.month for task in chosen} == set(job.spec.period)
    assert len({task.tile for task in chosen}) == 8


@given(
    st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=50),
    st.floats(-3, 3),
    st.floats(0.01, 10),
)
def test_a_distance_is_a_shift_in_standard_deviations(
    values: list[float], shift: float, std: float
) -> None:
    known = tuple(std * q for q in (-1.28155, -0.5244, 0, 0.5244, 1.28155))
    assert distance(known, known) == 0
    moved = tuple(q + shift for q in known)
    assert distance(moved, known) == pytest.approx(abs(shift) / std, rel=1e-3, abs=1e-9)
    spread = spread_of(np.array([*values, np.nan]))
    assert spread == tuple(sorted(spread))
    assert min(values) <= spread[0] <= spread[-1] <= max(values)
    assert spread_of(np.full(3, np.nan)) == ()


@pytest.mark.parametrize("name", ["change-s1s2-oscd", "urban-s1s2-sim"])
def test_what_ships_says_what_it_has_seen(name: str) -> None:
    card = models.load_card(name)
    seen = card.seen
    assert seen is not None
    assert seen.s2.keys() == set(card.s2_bands)
    assert seen.s1.keys() == set(card.s1_bands)
    assert seen.limit.keys() == {*card.s2_bands, *card.s1_bands}
    for spread in (seen.s2 | seen.s1).values():
        assert len(spread) == len(LEVELS)
        assert spread == tuple(sorted(spread))
