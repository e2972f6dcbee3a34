"""The search against the dumb implementation, around the transitions of many zones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from itertools import takewhile

from cron_oracle import Oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow_project.cron import CronError, CronExpression, zone

_ZONES = [
    "Europe/Paris",
    "America/New_York",
    "America/Havana",
    "America/St_Johns",
    "America/Santiago",
    "Atlantic/Azores",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Asia/Gaza",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Antarctica/Troll",
    "UTC",
]


def _changes(tz: tzinfo, begin: datetime, count: int, step: timedelta) -> Iterator[datetime]:
    """Yield the beginning of each of so many steps in a row within which a zone's offset changes."""
    offset = begin.astimezone(tz).utcoffset()
    for number in range(count):
        before, offset = offset, (begin + (number + 1) * step).astimezone(tz).utcoffset()
        if offset != before:
            yield begin + number * step


@cache
def _transitions(name: str) -> list[datetime]:
    """Return the hours in 2010 to 2013 and 2026 within which a zone's offset changes."""
    tz, day, hour = zone(name), timedelta(days=1), timedelta(hours=1)
    days = [
        found
        for first, count in ((2010, 1461), (2026, 365))
        for found in _changes(tz, datetime(first, 1, 1, tzinfo=UTC), count, day)
    ]
    return [found for begin in days for found in _changes(tz, begin, 24, hour)] or [datetime(2026, 3, 1, tzinfo=UTC)]


def _range(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        number.map(str),
        st.tuples(number, number).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: f"{pair[0]}-{pair[1]}"),
        st.tuples(number, number, st.integers(1, 9))
        .filter(lambda each: each[0] < each[1])
        .map(lambda each: f"{each[0]}-{each[1]}/{each[2]}"),
        st.tuples(number, st.integers(2, 20)).map(lambda each: f"{each[0]}/{each[1]}"),
    )


def _field(low: int, high: int, *, star: int) -> st.SearchStrategy[str]:
    lists = st.lists(_range(low, high), min_size=1, max_size=3).map(",".join)
    stars = st.one_of(st.just("*"), st.sampled_from(["*/2", "*/3", "*/5", "*/20", "*/7"]))
    return st.one_of(*([stars] * star), lists)


_HOURS = st.one_of(_field(0, 23, star=2), st.sampled_from(["0", "1", "2", "3", "1-3", "0,23", "2,3", "0-23"]))
_DAYS = st.one_of(st.just("*"), st.just("*"), _field(1, 31, star=1))
_MONTHS = st.one_of(st.just("*"), st.just("*"), st.sampled_from(["3,4,10,11", "mar-nov", "oct-apr", "*/2"]))
_WEEKDAYS = st.one_of(st.just("*"), st.just("*"), _field(0, 6, star=1), st.sampled_from(["7", "fri-mon", "5-7", "sun"]))
_FIVE = st.tuples(_field(0, 59, star=1), _HOURS, _DAYS, _MONTHS, _WEEKDAYS).map(" ".join)
_SECONDS = st.sampled_from(["0", "15", "59", "*/30", "7,8", "0-5"])


@st.composite
def _moments(draw: st.DrawFn) -> tuple[str, datetime]:
    name = draw(st.sampled_from(_ZONES))
    around = draw(st.sampled_from(_transitions(name)))
    return name, around + timedelta(seconds=draw(st.integers(-5 * 3600, 4 * 3600)))


def _compare(text: str, name: str, start: datetime, length: timedelta) -> None:
    expected = Oracle(text).fires(start, start + length, zone(name))
    try:
        expression = CronExpression.parse(text)
    except CronError:
        assert expected == []  # the expressions drawn are all valid, so this one never matches
        return
    fires = takewhile(lambda fire: fire <= start + length, expression.iter_after(start, zone(name)))
    assert list(fires) == expected, (text, name, start)


@settings(max_examples=250, deadline=None)
@given(text=_FIVE, moment=_moments())
def test_five_fields_fire_as_the_oracle_says(text: str, moment: tuple[str, datetime]) -> None:
    """Around a transition, every fire of a day is there and no other."""
    _compare(text, *moment, timedelta(hours=25))


@settings(max_examples=40, deadline=None)
@given(text=_FIVE, seconds=_SECONDS, moment=_moments())
def test_six_fields_fire_as_the_oracle_says(text: str, seconds: str, moment: tuple[str, datetime]) -> None:
    """Expressions with seconds agree with the oracle, in the hours of the transition."""
    _compare(f"{text} {seconds}", *moment, timedelta(hours=5))


@settings(max_examples=200, deadline=None)
@given(
    text=st.tuples(st.just("30"), st.just("12"), _DAYS, _field(1, 12, star=1), _WEEKDAYS).map(" ".join),
    start=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001 - given its zone below
)
def test_days_are_those_of_the_calendar(text: str, start: datetime) -> None:
    """The next day that fires is the first one that the day rules let through, over years."""
    begin = start.replace(tzinfo=UTC, microsecond=0)
    oracle, day = Oracle(text), begin
    try:
        found = CronExpression.parse(text).next_after(begin, UTC)
    except CronError:
        found = None
    for _ in range(366 * 9):
        noon = day.replace(hour=12, minute=30, second=0)
        if noon > begin and oracle.day_matches(noon.date()):
            assert found == noon
            return
        day += timedelta(days=1)
    assert found is None or found > day
