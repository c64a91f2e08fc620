"""The named problems, small and untimed: that they answer, not how fast."""

from __future__ import annotations

import math

import pytest

from benchmarks.problems import SMALL, in_turn


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_problem_answers_with_a_ratio(name: str) -> None:
    answer = SMALL[name].ask(128, 1)
    assert answer.problem == name
    assert math.isfinite(answer.ratio)
    assert answer.ratio > 0
    assert all(math.isfinite(value) for value in answer.figures.values())


def test_ways_take_turns_and_the_first_turn_does_not_count() -> None:
    calls: list[str] = []
    medians = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert set(medians) == {"a", "b"}
