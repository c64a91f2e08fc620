"""States of change: the edges they may move along, replay, gaps, and plain series by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cdscale import kernels
from cdscale.errors import SpecError
from cdscale.kernels import NO_DAY, Sight, States, advance, tell
from cdscale.months import Month
from cdscale.spec.changes import ChangeRules
from cdscale.spec.cube import ChangeFlag, ChangeState, LandClass, UrbanQuality
from cdscale.spec.job import STORES
from cdscale.spec.task import Stage
from cdscale.store import open_store, read_job
from tests.regions import SmallRun

S = ChangeState
SHAPE = (5, 8)
MONTHS = 14
UNDER_WAY = (S.confirmed, S.high_confidence, S.finished)
EDGES = {
    S.unobserved: {S.none},
    S.none: {S.provisional, S.confirmed, S.high_confidence, S.finished},
    S.provisional: {S.none, S.confirmed, S.high_confidence, S.finished},
    S.confirmed: {S.high_confidence, S.finished, S.reverted},
    S.high_confidence: {S.finished, S.reverted},
    S.finished: {S.reverted},
    S.reverted: {S.provisional, S.confirmed, S.high_confidence, S.finished},
}
"""Where a state may move in a month. With rules that ask for one observation only, several edges
may be taken at once; what is given up for a gap may begin anew in the same month."""
EAGER = ChangeRules(confirm=1, confirm_evidence=0, high=1, high_evidence=0, finish=2, drop=1, gap=1)
SLOW = ChangeRules(confirm=3, high=4, finish=5, memory=0.5, contrast=0.3)
RULES = st.sampled_from([ChangeRules(), EAGER, SLOW])


def series(seed: int) -> list[Sight]:
    """Months of pixels that are open, built up, or become so, with noise, gaps and haze."""
    rng = np.random.default_rng(seed)
    turns = rng.integers(-4, MONTHS + 4, SHAPE)
    back = turns + rng.integers(1, 2 * MONTHS, SHAPE)
    noise, lost = rng.choice([0.05, 0.2, 0.5]), rng.choice([0.0, 0.3, 0.7])
    sights = []
    for month in range(MONTHS):
        built = (month >= turns) & (month < back)
        values = np.where(built, 0.9, 0.1) + rng.normal(0, noise, SHAPE)
        values[rng.random(SHAPE) < lost] = np.nan
        quality = rng.integers(2, 5, SHAPE).astype(np.uint8)
        quality[np.isnan(values)] = UrbanQuality.no_data
        pair = rng.random(SHAPE) < 0.3 if month in (6, 11) else None
        packed = kernels.pack_probability(values.clip(0, 1).astype(np.float32))
        sights.append(Sight(100 + month, packed, quality, 0.5, pair, 100 + month - 5))
    return sights


def follow(sights: list[Sight], rules: ChangeRules) -> list[tuple[States, Any]]:
    """States and flags of every month, from unseen pixels on."""
    states, found = States.begin(SHAPE), []
    for sight in sights:
        states, flags = advance(states, sight, rules)
        found.append((states, flags))
    return found


def same(one: States, other: States) -> bool:
    pairs = zip(one.parts().values(), other.parts().values(), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


seeds = st.integers(0, 2**32 - 1)


@given(seeds, RULES, st.integers(0, MONTHS - 1))
def test_replay_from_any_month_and_any_rows_is_the_same(
    seed: int, rules: ChangeRules, first: int
) -> None:
    sights = series(seed)
    whole = follow(sights, rules)
    # What is carried is what is stored: taken up again, from a copy, by strips of rows.
    states = whole[first - 1][0] if first else States.begin(SHAPE)
    for sight, (expected, flags) in zip(sights[first:], whole[first:], strict=True):
        strips = [slice(0, 2), slice(2, 5)]
        parts = [advance(states[rows], sight[rows], rules) for rows in strips]
        states = States(
            **{
                name: np.concatenate([part.parts()[name] for part, _ in parts])
                for name in States.names()
            }
        )
        assert same(states, expected)
        assert np.array_equal(np.concatenate([f for _, f in parts]), flags)


@given(seeds, RULES)
def test_states_move_along_the_edges_that_there_are(seed: int, rules: ChangeRules) -> None:
    before = States.begin(SHAPE).state
    for states, _ in follow(series(seed), rules):
        for old, new in zip(before.ravel().tolist(), states.state.ravel().tolist(), strict=True):
            assert old == new or S(new) in EDGES[S(old)], (S(old), S(new))
        before = states.state


@given(seeds, RULES)
def test_a_month_without_data_changes_its_gap_and_flags_alone(
    seed: int, rules: ChangeRules
) -> None:
    sights = series(seed)
    states, _ = follow(sights, rules)[-1]
    nothing = np.full(SHAPE, 255, np.uint8)
    everywhere = np.ones(SHAPE, bool)
    quality = np.full(SHAPE, UrbanQuality.no_data, np.uint8)
    after, flags = advance(states, Sight(900, nothing, quality, 0.5, everywhere, 1), rules)
    for name, part in states.parts().items():
        expected = part + 1 if name == "gap" else part
        assert np.array_equal(after.parts()[name], expected), name
    assert (flags == ChangeFlag.no_observation).all()


@given(seeds, RULES)
def test_what_states_say_hangs_together(seed: int, rules: ChangeRules) -> None:
    for month, (states, flags) in enumerate(follow(series(seed), rules)):
        told = tell(states)
        changed = states.state >= S.provisional
        assert ((states.first_month != NO_DAY) == changed).all()
        assert ((told["confidence"] != 255) == changed).all()
        assert ((told["to_class"] == LandClass.built_up) == changed).all()
        assert ((told["from_class"] == LandClass.open_land) == changed).all()
        assert ((states.support > 0) == changed).all()
        settled = np.isin(states.state, (*UNDER_WAY, S.reverted))
        assert ((states.confirmed_month != NO_DAY) == settled).all()
        assert (states.confirmed_month[settled] >= states.first_month[settled]).all()
        assert (states.last_month[changed] >= states.first_month[changed]).all()
        assert (states.last_month <= 100 + month).all()
        assert (states.support[np.isin(states.state, UNDER_WAY)] >= rules.confirm).all()
        seen = states.gap == 0
        assert ((flags & ChangeFlag.no_observation > 0) == ~seen).all()


def one(values: list[float | None], rules: ChangeRules, **more: Any) -> list[States]:
    """States of one pixel, month by month; None is a month without data."""
    states, found = States.begin((1, 1)), []
    quality = more.pop("quality", UrbanQuality.both_sensors)
    pairs: dict[int, int] = more.pop("pairs", {})
    for day, value in enumerate(values):
        packed = kernels.pack_probability(
            np.array([[np.nan if value is None else value]], np.float32)
        )
        pair = np.ones((1, 1), bool) if day in pairs else None
        sight = Sight(
            day, packed, np.full((1, 1), quality, np.uint8), 0.5, pair, pairs.get(day, -1)
        )
        states, _ = advance(states, sight, rules)
        found.append(states)
    return found


U, N, P, C, H, R, F = (
    S.unobserved, S.none, S.provisional, S.confirmed, S.high_confidence, S.reverted, S.finished,
)  # fmt: skip
TRIED = ChangeRules(confirm=2, sure=0.3, finish=6)
"""Rules by which the series below are worked out by hand."""


@pytest.mark.parametrize(
    ("values", "states"),
    [
        ([None, 0.1, 0.1], [U, N, N]),
        ([0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], [N, P, C, C, H, H, F]),
        ([0.9, 0.9, 0.9], [N, N, N]),  # built up from the first: nothing changed
        ([0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [N, N, N, N, N, N, N]),  # only building is told
        ([0.1, 0.9, 0.1, 0.1, 0.1], [N, P, N, N, N]),  # one month of haze
        ([0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1], [N, P, C, C, C, R, R]),
        ([0.1, 0.9, 0.9, 0.1, 0.1, 0.9, 0.9], [N, P, C, C, C, C, C]),  # seen badly for two months
        ([0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.9, 0.9], [N, P, C, C, C, R, P, C]),
        ([0.1, 0.9, None, None, 0.9], [N, P, P, P, C]),
        ([0.1, 0.9, *[None] * 6, 0.9, 0.9], [N, P, *[P] * 6, P, C]),  # begins anew after a gap
        ([0.1, 0.9, *[None] * 6, 0.1], [N, P, *[P] * 6, N]),
        ([0.3, 0.6, 0.6, 0.6, 0.6], [N, N, N, N, N]),  # half built up: it always looks like that
        ([0.1, 0.9, 0.55, 0.55, 0.55], [N, P, P, P, P]),  # not sure enough
        ([0.1, 0.9, 0.9, 0.55, 0.55], [N, P, C, C, C]),  # between the two thresholds it holds
    ],
)
def test_plain_series(values: list[float | None], states: list[ChangeState]) -> None:
    found = one(values, TRIED)
    assert [S(int(s.state.item())) for s in found] == states


def test_by_default_one_sure_month_confirms_and_unsure_ones_add_up() -> None:
    rules, rebuilt = ChangeRules(), UrbanQuality.optical_reconstructed
    assert [s.state.item() for s in one([0.1, 0.98, 0.98], rules)] == [N, C, C]
    assert [s.state.item() for s in one([0.1, 0.8, 0.8, 0.8], rules)] == [N, P, C, C]
    sure: list[float | None] = [0.1, 0.98, 0.98]
    assert [s.state.item() for s in one(sure, rules, quality=rebuilt)] == [N, P, C]


def test_the_months_are_those_of_the_change() -> None:
    *_, last = one([0.1, 0.1, None, 0.9, 0.9, 0.9, 0.1], TRIED)
    found = (last.first_month.item(), last.confirmed_month.item(), last.last_month.item())
    assert found == (3, 4, 5)
    assert (last.support.item(), last.against.item()) == (3, 1)
    # After a gap a change that was not confirmed begins with the month that shows it again.
    *_, last = one([0.1, 0.9, *[None] * 6, 0.9, 0.9], TRIED)
    assert (last.first_month.item(), last.confirmed_month.item()) == (8, 9)


def test_confidence_grows_with_support_and_not_beyond_one() -> None:
    said = [tell(s)["confidence"].item() for s in one([0.1, *[0.95] * 30], TRIED)]
    assert said[0] == 255
    assert said[1] == 125  # of one sure observation: a half
    assert said[1:] == sorted(said[1:])
    assert said[-1] == 250
    fewer = [tell(s)["confidence"].item() for s in one([0.1, *[0.6] * 30], TRIED)]
    assert all(a <= b for a, b in zip(fewer[1:], said[1:], strict=True))


def test_months_without_an_optical_image_count_less() -> None:
    rebuilt = one([0.1, 0.9, 0.9, 0.9], TRIED, quality=UrbanQuality.optical_reconstructed)
    plain = one([0.1, 0.9, 0.9, 0.9], TRIED)
    assert [s.evidence.item() for s in rebuilt] == [0, 10, 20, 30]
    assert [s.evidence.item() for s in plain] == [0, 20, 40, 60]
    silent = ChangeRules(confirm=2, sure=0.3, reconstructed=0)
    quality = UrbanQuality.optical_reconstructed
    assert one([0.1, *[0.9] * 9], silent, quality=quality)[-1].state.item() == P


def test_the_pair_network_adds_evidence_to_a_change_between_its_months() -> None:
    values: list[float | None] = [0.1, 0.1, 0.9, 0.9]
    plain = one(values, TRIED)[-1].evidence.item()
    assert one(values, TRIED, pairs={3: 0})[-1].evidence.item() == plain + 10
    # It began before the earlier month of the pair, or there is none: what it sees is another one.
    assert one(values, TRIED, pairs={3: 2})[-1].evidence.item() == plain
    assert one([0.1] * 4, TRIED, pairs={3: 0})[-1].state.item() == N


def test_counts_stop_at_what_a_byte_holds() -> None:
    *_, last = one([0.1, *[0.9] * 300], TRIED)
    assert (last.support.item(), last.evidence.item()) == (255, 255)
    *_, gone = one([0.1, *[None] * 300], TRIED)
    assert gone.gap.item() == 255


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"confirm": 5, "high": 4}, "must not fall"),
        ({"confirm_evidence": 4.0, "high_evidence": 3.0}, "more than high_evidence"),
        ({"contrast": 1.5}, "contrast"),
        ({"upper": 0.7}, "upper"),
    ],
)
def test_rules_that_do_not_go_together_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        ChangeRules.check(fields, where="spec.yaml: changes")


def test_the_store_holds_what_the_series_says(small_run: SmallRun) -> None:
    """A run's states are those of its maps, taken month by month, from nothing else."""
    job = read_job(small_run.output / "run")
    urban, change = (
        open_store(small_run.output / STORES[stage], job.layouts[stage])
        for stage in (Stage.MAP, Stage.CHANGE)
    )
    threshold = job.cards["urban"].threshold
    for tile in job.tiles:
        states = States.begin((128, 128))
        for month in job.spec.period:
            reference = job.pairs.get(month)
            sight = Sight(
                day=day_of(month),
                probability_YX=urban.read("probability", tile, month),
                quality_YX=urban.read("quality", tile, month),
                threshold=threshold,
                pair_YX=change.read("change", tile, month) == 1 if reference else None,
                pair_day=day_of(reference) if reference else NO_DAY,
            )
            states, flags = advance(states, sight, job.spec.changes)
            expected: dict[str, NDArray[Any]] = {**states.parts(), **tell(states), "flags": flags}
            for name, part in expected.items():
                np.testing.assert_array_equal(change.read(name, tile, month), part, err_msg=name)
            if not reference:  # a month that the pair network does not look at
                assert (change.read("probability", tile, month) == 255).all()
                assert (change.read("change_month", tile, month) == -1).all()


def day_of(month: Month) -> int:
    return int(month.to_numpy().astype("datetime64[D]").astype(np.int64))


def test_types_are_those_of_the_store() -> None:
    from cdscale.spec.product import state_variables

    states, flags = follow(series(1), ChangeRules())[-1]
    made: dict[str, NDArray[Any]] = {**states.parts(), **tell(states), "flags": flags}
    assert {v.name: v.dtype for v in state_variables()} == {
        name: str(part.dtype) for name, part in made.items()
    }
