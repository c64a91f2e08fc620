"""The calendar: ``Month`` and ``Months``; text to month and back. Nothing else knows dates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from cdscale.errors import SpecError, explain

_MONTH = re.compile(r"(\d{4})-(\d{2})")


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """One calendar month in UTC; prints as ``2017-08``."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Read ``2017-08``.

        Raises
        ------
        SpecError
            For anything else, month 13 included.
        """
        match = _MONTH.fullmatch(text.strip())
        if match is None or not 1 <= int(match[2]) <= 12 or int(match[1]) < 1:
            raise SpecError(
                explain(
                    "this is not a month",
                    expected="YYYY-MM, like 2017-08",
                    got=repr(text),
                    do="Write year and month with four and two digits.",
                )
            )
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, moment: datetime) -> Month:
        """The month of a moment; a moment without a time zone is taken as UTC."""
        utc = _utc(moment)
        return cls(utc.year, utc.month)

    @classmethod
    def from_numpy(cls, value: np.datetime64) -> Month:
        """The month of a coordinate value."""
        return cls.parse(str(value.astype("datetime64[M]")))

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    def __add__(self, months: int) -> Month:
        index = self.year * 12 + self.month - 1 + months
        return Month(index // 12, index % 12 + 1)

    def __sub__(self, other: Month) -> int:
        """Whole months from ``other`` to this one."""
        return (self.year - other.year) * 12 + self.month - other.month

    @property
    def start(self) -> datetime:
        """First moment of the month."""
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    @property
    def stop(self) -> datetime:
        """First moment after the month."""
        return (self + 1).start

    def overlaps(self, start: datetime, end: datetime, months: int = 1) -> bool:
        """Whether a scene with these times belongs to the month (STAC's interval rule).

        With more ``months``: to the month or to one of those right before it.

        A scene with one moment belongs to the month that holds it. A scene with an interval
        belongs to every month that it reaches into; touching a month's first moment with its end
        is not reaching into it. Times without a time zone are taken as UTC.
        """
        start, end = _utc(start), _utc(end)
        first = (self + (1 - months)).start
        if start == end:
            return first <= start < self.stop
        return start < self.stop and end > first

    def to_numpy(self) -> np.datetime64:
        """Coordinate value: the first day of the month."""
        return np.datetime64(str(self), "ns")


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Months:
    """Ordered, distinct months; prints as ``2017-08..2018-01,2018-03``."""

    members: tuple[Month, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise SpecError(explain("a period needs at least one month", got="none"))
        if list(self.members) != sorted(set(self.members)):
            raise SpecError(explain("months must be distinct and in order", got=str(self)))

    @classmethod
    def of(cls, months: Iterable[Month]) -> Months:
        """Months in order, each once."""
        return cls(tuple(sorted(set(months))))

    @classmethod
    def parse(cls, text: str) -> Months:
        """Read ``2017-08..2018-11`` (both ends included), ``2016-01,2018-03``, or a mixture.

        Raises
        ------
        SpecError
            For a part that is no month, or a range that runs backwards.
        """
        months: list[Month] = []
        for part in text.split(","):
            first, dots, last = part.partition("..")
            start = Month.parse(first)
            stop = Month.parse(last) if dots else start
            if stop < start:
                raise SpecError(
                    explain(
                        "this range of months runs backwards",
                        expected="FIRST..LAST",
                        got=repr(part.strip()),
                        do=f"Write {stop}..{start}.",
                    )
                )
            months.extend(start + i for i in range(stop - start + 1))
        return cls.of(months)

    def __iter__(self) -> Iterator[Month]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __contains__(self, month: Month) -> bool:
        return month in self.members

    def __str__(self) -> str:
        parts: list[str] = []
        run: list[Month] = []
        for month in (*self.members, None):
            if run and (month is None or month - run[-1] != 1):
                parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}")
                run = []
            if month is not None:
                run.append(month)
        return ",".join(parts)

    @property
    def first(self) -> Month:
        """The earliest month."""
        return self.members[0]

    @property
    def last(self) -> Month:
        """The latest month."""
        return self.members[-1]

    def index(self, month: Month) -> int:
        """Position along the month axis.

        Raises
        ------
        SpecError
            When the month is not one of these.
        """
        try:
            return self.members.index(month)
        except ValueError:
            raise SpecError(
                explain(f"month {month} is not part of this period", expected=str(self))
            ) from None

    def between(self, first: Month, last: Month) -> Months:
        """Those from ``first`` to ``last``, both included."""
        return Months.of(m for m in self.members if first <= m <= last)

    def to_numpy(self) -> np.ndarray:
        """Coordinate values, datetime64[ns] of shape (month,)."""
        return np.array([m.to_numpy() for m in self.members])
