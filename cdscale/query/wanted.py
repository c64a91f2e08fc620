"""Which months and variables of a store a question is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cdscale.errors import SpecError, explain
from cdscale.months import Month, Months
from cdscale.spec.cube import CubeSpec, Variable
from cdscale.store import Source


@dataclass(frozen=True)
class Wanted:
    """What a user asks for; without anything said, all variables of all published months."""

    months: frozenset[Month] = frozenset()
    """None: all."""
    variables: tuple[str, ...] = ()
    """None: all."""
    unpublished: bool = False
    """Months as well that are not complete, or are just being made."""


ALL = Wanted()


@dataclass(frozen=True)
class Subject:
    """What of a store it is, then."""

    months: tuple[Month, ...]
    hidden: tuple[Month, ...]
    """Months of the store that are not published."""
    variables: tuple[Variable, ...]


def subject(source: Source, wanted: Wanted) -> Subject:
    """The months and variables that a question is about.

    Raises
    ------
    SpecError
        When it names a month or variable that the store does not have, or a month that is not
        published.
    """
    spec = source.spec
    published = set(source.published())
    hidden = tuple(month for month in spec.months if month not in published)
    _check_months(source, wanted, published)
    months = tuple(
        month
        for month in spec.months
        if (wanted.unpublished or month in published)
        and (not wanted.months or month in wanted.months)
    )
    names = [v.name for v in spec.variables]
    if unknown := sorted(set(wanted.variables).difference(names)):
        raise SpecError(
            explain(
                f"{source.place} has no variable {', '.join(unknown)}",
                expected=f"one of {', '.join(names)}",
            )
        )
    variables = tuple(
        v for v in spec.variables if not wanted.variables or v.name in wanted.variables
    )
    return Subject(months, hidden, variables)


def _check_months(source: Source, wanted: Wanted, published: set[Month]) -> None:
    if foreign := wanted.months.difference(source.spec.months):
        raise SpecError(
            explain(
                f"{source.place} does not have these months",
                expected=f"months of {source.spec.months}",
                got=str(Months.of(foreign)),
            )
        )
    if not wanted.unpublished and (early := wanted.months - published):
        raise SpecError(
            explain(
                f"{source.place}: {Months.of(early)} is not published",
                expected=f"one of {Months.of(published)}" if published else "a complete run",
                do="Complete the run, or ask with --unpublished.",
            )
        )


def head(source: Source, about: Subject) -> dict[str, Any]:
    """What every answer says of its store."""
    spec = source.spec
    return {
        "store": str(source.place),
        "title": spec.title,
        **({"comment": spec.attrs["comment"]} if "comment" in spec.attrs else {}),
        "unpublished": [str(month) for month in about.hidden],
    }


def month_head(spec: CubeSpec, month: Month) -> dict[str, str]:
    """What every answer says of a month: which one, and what it is compared with."""
    earlier = spec.reference.get(str(month))
    return {"month": str(month), **({"reference_month": earlier} if earlier else {})}
