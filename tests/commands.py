"""Commands run in this process, and what they said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

OK, INCOMPLETE, WRONG = 0, 1, 2


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


def refused(result: Result, *parts: str) -> str:
    """Checks that a command ended with one message that says these things; returns it."""
    assert result.code == WRONG, result
    assert "Traceback" not in result.err + result.out
    (message,) = result.err.strip().splitlines()
    assert message.startswith("error: ")
    assert message.endswith((".", ")", "output", '"')), message
    for part in parts:
        assert part in message, f"{part!r} is not in {message!r}"
    return message
