"""Months and spans of months: text and back, and which month a scene belongs to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdscale.errors import SpecError
from cdscale.months import Month, Months

months = st.integers(1900 * 12, 2200 * 12).map(lambda n: Month(n // 12, n % 12 + 1))
spans = st.sets(months, min_size=1, max_size=30)
moments = st.datetimes(datetime(1950, 1, 1), datetime(2150, 1, 1), timezones=st.just(UTC))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# ----------------------------------------------------------------------------------------- text


@given(months)
def test_a_month_reads_back_what_it_prints(month: Month) -> None:
    assert Month.parse(str(month)) == month
    assert Month.from_numpy(month.to_numpy()) == month


@given(spans)
def test_any_set_of_months_reads_back_what_it_prints(members: set[Month]) -> None:
    span = Months.of(members)
    assert Months.parse(str(span)) == span
    assert set(span) == members
    assert [span.index(month) for month in span] == list(range(len(span)))


@given(months, st.integers(0, 40))
def test_a_run_of_months_prints_as_a_range(first: Month, more: int) -> None:
    span = Months.of(first + i for i in range(more + 1))
    assert str(span) == (f"{first}..{first + more}" if more else str(first))
    assert (span.first, span.last, len(span)) == (first, first + more, more + 1)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("2023-11..2024-02", "2023-11..2024-02"),
        ("2016-01,2018-03", "2016-01,2018-03"),
        ("2018-03, 2016-01 ,2018-03", "2016-01,2018-03"),
        ("2017-08..2017-09,2017-09..2017-10", "2017-08..2017-10"),
        ("2017-12,2018-01", "2017-12..2018-01"),
        (" 2017-08 .. 2017-08 ", "2017-08"),
    ],
)
def test_spans_are_read_in_any_order_and_printed_in_one(text: str, printed: str) -> None:
    assert str(Months.parse(text)) == printed


@pytest.mark.parametrize(
    "text", ["", "2017", "2017-8", "2017-13", "2017-00", "0000-01", "2017-08-01", "aug", "-2017-08"]
)
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="not a month.*YYYY-MM.*got '"):
        Month.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2018-02..2018-01", r"runs backwards.*Write 2018-01\.\.2018-02"),
        ("2018-02..", "not a month"),
        ("..2018-02", "not a month"),
        ("2018-01..2018-02..2018-03", "not a month"),
        ("2018-01,,2018-03", "not a month"),
        ("", "not a month"),
    ],
)
def test_what_is_no_span_is_refused(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Months.parse(text)


def test_a_span_is_distinct_ordered_and_not_empty() -> None:
    with pytest.raises(SpecError, match="at least one month"):
        Months(())
    for members in [(Month(2018, 2), Month(2018, 1)), (Month(2018, 1), Month(2018, 1))]:
        with pytest.raises(SpecError, match="distinct and in order"):
            Months(members)


# ------------------------------------------------------------------------------------- counting


@given(months, st.integers(-500, 500))
def test_months_count_like_integers(month: Month, n: int) -> None:
    assert (month + n) - month == n
    assert (month + n) + -n == month
    assert (month + n > month) == (n > 0)
    assert month.stop == (month + 1).start


@given(spans, months, months)
def test_between_keeps_both_ends(members: set[Month], one: Month, other: Month) -> None:
    first, last = min(one, other), max(one, other)
    expected = {m for m in members if first <= m <= last}
    if expected:
        assert set(Months.of(members).between(first, last)) == expected
    else:
        with pytest.raises(SpecError):
            Months.of(members).between(first, last)


def test_coordinates_are_the_first_days() -> None:
    values = Months.parse("2017-12..2018-01").to_numpy()
    assert values.dtype == np.dtype("datetime64[ns]")
    assert values.astype("datetime64[s]").astype(str).tolist() == [
        "2017-12-01T00:00:00",
        "2018-01-01T00:00:00",
    ]


def test_a_month_outside_the_span_has_no_index() -> None:
    span = Months.parse("2017-08,2017-10")
    assert Month(2017, 9) not in span
    with pytest.raises(SpecError, match="2017-09 is not part.*2017-08,2017-10"):
        span.index(Month(2017, 9))


# ------------------------------------------------------------------------- which month is a scene


def test_the_month_of_a_moment_is_that_of_utc() -> None:
    east = timezone(timedelta(hours=9))
    assert Month.of(datetime(2020, 1, 1, 3, tzinfo=east)) == Month(2019, 12)
    assert Month.of(datetime(2020, 1, 1, 0, 0)) == Month(2020, 1)  # no zone: UTC


@given(moments)
def test_a_moment_belongs_to_one_month_and_it_is_its_own(moment: datetime) -> None:
    month = Month.of(moment)
    assert [n for n in (-1, 0, 1) if (month + n).overlaps(moment, moment)] == [0]


@pytest.mark.parametrize(
    ("start", "end", "served"),
    [
        ("2020-02-01", "2020-02-01", "2020-02"),  # the first moment itself
        ("2020-01-31T23:59:59", "2020-02-01", "2020-01"),  # touches it with its end
        ("2020-01-31T23:59:59", "2020-02-01T00:00:01", "2020-01..2020-02"),
        ("2020-02-01", "2020-03-01", "2020-02"),
        ("2020-01-15", "2020-04-15", "2020-01..2020-04"),
        ("2019-12-31T23:59:59", "2019-12-31T23:59:59", "2019-12"),
    ],
)
def test_an_interval_serves_every_month_that_it_reaches_into(
    start: str, end: str, served: str
) -> None:
    near = Months.parse("2019-10..2020-07")
    got = Months.of(m for m in near if m.overlaps(at(start), at(end)))
    assert str(got) == served


@given(moments, st.timedeltas(timedelta(microseconds=1), timedelta(days=200)))
def test_an_interval_serves_a_run_of_months_from_first_to_last(
    start: datetime, length: timedelta
) -> None:
    end = start + length
    first, last = Month.of(start), Month.of(end - timedelta(microseconds=1))
    around = [first + n for n in range(-2, last - first + 3)]
    assert [m for m in around if m.overlaps(start, end)] == [
        m for m in around if first <= m <= last
    ]


@given(moments, st.timedeltas(timedelta(0), timedelta(days=200)), st.integers(1, 30))
def test_a_window_reaches_back_from_its_month(
    start: datetime, length: timedelta, months: int
) -> None:
    end = start + length
    for step in (-1, 0, 1, months, months + 8):
        month = Month.of(start) + step
        alone = [(month + (-back)).overlaps(start, end) for back in range(months)]
        assert month.overlaps(start, end, months) == any(alone)


def test_times_without_a_zone_are_utc_here_too() -> None:
    assert Month(2020, 2).overlaps(datetime(2020, 2, 1), datetime(2020, 2, 1))
    assert not Month(2020, 1).overlaps(datetime(2020, 2, 1), datetime(2020, 2, 1))
