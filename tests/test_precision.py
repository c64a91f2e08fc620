"""bfloat16: stated by the card, refused where it is not, part of what decides pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from benchmarks.precision import Tally, images_of
from cdscale import models, plan, scenes
from cdscale.errors import ModelError
from cdscale.inference import Block, predict_change, predict_urban
from cdscale.learn.data import data_set
from cdscale.progress import Progress
from cdscale.spec.card import ModelCard, Rounding
from cdscale.spec.job import Job
from cdscale.spec.run import ModelChoice
from cdscale.spec.task import Stage
from cdscale.store import Ledger
from tests.regions import a_card, lay_out, made_job, made_spec, pretend

CARDS = {"urban": a_card("urban", halo=16), "change": a_card("change", halo=16)}
PRECISIONS: tuple[models.Precision, ...] = ("float32", "bfloat16")


def rounding(share: float) -> Rounding:
    return Rounding(
        argmax_disagreement=share, largest_difference=0.01, pixels=10**6, data="d", command="c"
    )


def test_bfloat16_is_refused_where_the_card_does_not_speak_for_it() -> None:
    silent = a_card("change")
    fine = silent.model_copy(update={"bfloat16": rounding(1e-4)})
    rough = silent.model_copy(update={"bfloat16": rounding(3e-4)})
    for card in (silent, fine, rough):
        card.refuse_precision("float32", force=False)
        card.refuse_precision("bfloat16", force=True)
    fine.refuse_precision("bfloat16", force=False)
    with pytest.raises(ModelError, match=r"at most 0.0001 in its card; got 0.0003\. .*force: true"):
        rough.refuse_precision("bfloat16", force=False)
    with pytest.raises(ModelError, match="got none stated"):
        silent.refuse_precision("bfloat16", force=False)


def test_a_precision_that_there_is_not_is_refused() -> None:
    assert ModelChoice(card="x").precision == "float32"
    with pytest.raises(ValidationError, match="precision"):
        ModelChoice.model_validate({"card": "x", "precision": "float8"})


def test_a_card_that_states_it_reads_back(tmp_path: Path) -> None:
    card = a_card("urban", bfloat16=rounding(2e-5).model_dump())
    card.write(tmp_path / "a.card.yaml")
    assert ModelCard.read(tmp_path / "a.card.yaml") == card


def of_precision(output: Path, urban: str, change: str) -> Job:
    choices = {"urban": {"precision": urban}, "change": {"precision": change}}
    named = {name: {"card": f"tiny-{name}"} | choice for name, choice in choices.items()}
    job = made_job(output, cards=CARDS, models=named)
    lay_out(job)
    return job


@pytest.mark.parametrize(
    ("urban", "change", "again"),
    [
        ("float32", "float32", set()),
        ("bfloat16", "float32", {Stage.MAP, Stage.CHANGE}),
        ("float32", "bfloat16", {Stage.CHANGE}),
    ],
)
def test_a_map_in_another_precision_is_another_map(
    tmp_path: Path, urban: str, change: str, again: set[Stage]
) -> None:
    """Of jobs that name no precision, as all before it was there, nothing is made anew."""
    plain = {name: {"card": f"tiny-{name}"} for name in CARDS}
    before = made_job(tmp_path, cards=CARDS, models=plain)
    pretend(before)
    asked = of_precision(tmp_path, urban, change)
    progress = Progress(asked, Ledger(asked.ledger_folder))
    parts = {stage: progress.agenda(stage) for stage in asked.stages}
    assert {stage for stage, part in parts.items() if part.ready or part.waiting} == again


def test_a_job_is_not_frozen_in_a_precision_that_its_card_does_not_speak_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdscale.plan.freezing._card", lambda name: CARDS["urban"])
    monkeypatch.setattr(scenes, "search", lambda spec: pytest.fail("it searched"))
    choice = {"card": "tiny-urban", "precision": "bfloat16"}
    with pytest.raises(ModelError, match="may not map in bfloat16"):
        plan.freeze(made_spec(tmp_path, models={"urban": choice}))


# ------------------------------------------------------------------------------- the figures


def test_the_tally_counts_pixels_on_the_other_side() -> None:
    tally = Tally(threshold=0.5)
    exact = np.array([[0.1, 0.499, 0.5, np.nan]], np.float32)
    rough = np.array([[0.2, 0.501, 0.5, np.nan]], np.float32)
    tally.add(exact, rough)
    tally.add(exact[:, :1], exact[:, :1])
    assert (tally.pixels, tally.turned) == (4, 1)
    stated = tally.rounding("a city", "a command")
    assert stated.argmax_disagreement == 0.25
    assert stated.largest_difference == pytest.approx(0.1, abs=1e-3)
    with pytest.raises(ValueError, match="says nothing"):
        tally.add(exact, np.zeros_like(exact))


def test_cards_without_images_to_ask_are_named() -> None:
    with pytest.raises(SystemExit, match="tiny-change: no images"), images_of(CARDS["change"], 64):
        pass


def stated(name: str) -> tuple[ModelCard, Rounding]:
    card = models.load_card(name)
    if card.bfloat16 is None:
        pytest.fail(f"{name} does not say what bfloat16 costs: python -m benchmarks.precision")
    return card, card.bfloat16


@pytest.mark.realdata
def test_bfloat16_keeps_to_what_the_card_of_change_states(data_root: Path) -> None:
    card, said = stated("change-s1s2-oscd")
    root = data_root / "oscd"
    if not root.is_dir():
        pytest.skip(f"no OSCD at {root}")
    (sample,) = [s for s in data_set("oscd").samples(root, "train") if s.key == "beirut"]
    side = slice(200, 200 + 96 + 2 * card.halo)
    before, after = (
        Block.without_radar(np.ascontiguousarray(sample.read(x, card.s2_bands)[:, side, side]), 1)
        for x in ("before", "after")
    )
    tally = Tally(card.threshold)
    networks = [models.load(card, precision=p) for p in PRECISIONS]
    tally.add(*(predict_change(network, card, before, after) for network in networks))
    assert tally.pixels == 96**2
    assert 0 < tally.largest <= 2 * said.largest_difference
    assert tally.turned / tally.pixels <= max(10 * said.argmax_disagreement, 3 / tally.pixels)


def test_bfloat16_keeps_to_what_the_card_of_urban_states() -> None:
    """On fields as smooth as land is, of the moments that the card knows."""
    card, said = stated("urban-s1s2-sim")
    full = 128 + 2 * card.halo
    s2 = [m + s * field(i, full) for i, (m, s) in enumerate(moments(card))]
    s1 = [10 ** (-1.2 + 0.4 * field(10 + i, full)) for i in range(len(card.s1_bands))]
    block = Block(np.stack(s2).astype(np.float32), np.stack(s1).astype(np.float32))
    tally = Tally(card.threshold)
    networks = [models.load(card, precision=p) for p in PRECISIONS]
    tally.add(*(predict_urban(network, card, block).probability_YX for network in networks))
    assert 0 < tally.largest <= 2 * said.largest_difference
    assert tally.turned / tally.pixels <= 10 * said.argmax_disagreement


def moments(card: ModelCard) -> Any:
    return zip(card.normalisation.s2_mean, card.normalisation.s2_std, strict=True)


def field(seed: int, side: int) -> NDArray[np.float64]:
    rough = np.random.default_rng(seed).normal(size=(side, side))
    smooth = gaussian_filter(rough, 3)
    return np.asarray(smooth / smooth.std())
