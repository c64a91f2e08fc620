"""The one refusal of options out of their range."""

from __future__ import annotations

from cdscale.errors import SpecError, explain


def require(holds: bool, what: str, expected: str, got: object) -> None:
    """Refuse an option out of its range.

    Raises
    ------
    SpecError
        When the condition does not hold.
    """
    if not holds:
        raise SpecError(
            explain(what, expected=expected, got=got, do="Leave it out for the default.")
        )
