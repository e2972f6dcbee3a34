"""Fires of expressions: the cases of the two DST rules, of the day rules, and of the calendar."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import islice

import pytest

from nomaflow_project.cron import CronError, CronExpression, zone


def _fires(text: str, name: str, start: str, count: int) -> list[str]:
    fires = CronExpression.parse(text).iter_after(datetime.fromisoformat(start), zone(name))
    return [fire.strftime("%Y-%m-%dT%H:%M:%SZ") for fire in islice(fires, count)]


@pytest.mark.parametrize(
    ("text", "name", "start", "expected"),
    [
        ("30 2 * * *", "Europe/Paris", "2026-10-24T12:00Z", ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
        ("30 2 * * *", "Europe/Paris", "2026-03-28T12:00Z", ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
        ("0,20,40 2 * * *", "Europe/Paris", "2026-03-28T12:00Z", ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]),
        ("0 2,3 * * *", "Europe/Paris", "2026-03-28T12:00Z", ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]),
        ("*/20 2 * * *", "Europe/Paris", "2026-03-28T12:00Z", ["2026-03-30T00:00:00Z", "2026-03-30T00:20:00Z"]),
        ("*/20 2 * * *", "Europe/Paris", "2026-10-25T00:20Z", ["2026-10-25T00:40:00Z", "2026-10-25T01:00:00Z"]),
        ("0 0-23 * * *", "Europe/Paris", "2026-10-24T23:30Z", ["2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"]),
        ("0 */2 * * *", "Africa/Cairo", "2026-04-23T21:30Z", ["2026-04-23T23:00:00Z", "2026-04-24T01:00:00Z"]),
        ("*/20 * * * *", "Australia/Lord_Howe", "2026-04-04T14:30Z", ["2026-04-04T14:40:00Z", "2026-04-04T15:10:00Z"]),
        ("30 2 * * * 15", "Europe/Paris", "2026-03-28T12:00Z", ["2026-03-29T01:00:00Z", "2026-03-30T00:30:15Z"]),
        ("@daily", "Atlantic/Azores", "2026-10-24T12:00Z", ["2026-10-25T00:00:00Z", "2026-10-26T01:00:00Z"]),
        ("0 12 30 12 *", "Pacific/Apia", "2011-12-29T12:00Z", ["2011-12-30T10:00:00Z", "2012-12-29T22:00:00Z"]),
        ("*/30 12 30 12 *", "Pacific/Apia", "2011-12-29T12:00Z", ["2012-12-29T22:00:00Z", "2012-12-29T22:30:00Z"]),
        ("* * * * *", "Europe/Paris", "2026-03-29T00:58:30Z", ["2026-03-29T00:59:00Z", "2026-03-29T01:00:00Z"]),
        ("30 2 * * *", "Europe/Paris", "2026-10-25T00:30Z", ["2026-10-26T01:30:00Z"]),
        ("30 2 * * *", "Europe/Paris", "2026-10-25T01:15Z", ["2026-10-26T01:30:00Z"]),
        ("30 2 * * *", "Europe/Paris", "2026-03-29T01:00Z", ["2026-03-30T00:30:00Z"]),
    ],
)
def test_transitions(text: str, name: str, start: str, expected: list[str]) -> None:
    """Fixed times fire once in gap and overlap, the others follow real time."""
    assert _fires(text, name, start, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 */2 * 1", ["2026-01-05", "2026-01-19", "2026-02-09"]),
        ("0 0 1 * */2", ["2026-02-01", "2026-03-01", "2026-08-01"]),
        ("0 0 13 * 5", ["2026-01-02", "2026-01-09", "2026-01-13"]),
        ("0 0 1-31 * 1", ["2026-01-02", "2026-01-03", "2026-01-04"]),
        ("0 0 30 2 1", ["2026-02-02", "2026-02-09", "2026-02-16"]),
        ("0 0 29 2 *", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("0 0 29 2 */7", ["2032-02-29", "2060-02-29", "2088-02-29"]),
        ("0 0 * 2 1#5", ["2044-02-29", "2072-02-29", "2112-02-29"]),
        ("0 0 L * *", ["2026-01-31", "2026-02-28", "2026-03-31"]),
        ("0 0 L,15 2 *", ["2026-02-15", "2026-02-28", "2027-02-15"]),
        ("0 0 * * 5#3", ["2026-01-16", "2026-02-20", "2026-03-20"]),
        ("0 0 * * L5", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("0 0 * * sun#1,wed#2", ["2026-01-04", "2026-01-14", "2026-02-01"]),
        ("0 0 * * fri-mon", ["2026-01-02", "2026-01-03", "2026-01-04"]),
        ("0 0 * * 7-2", ["2026-01-04", "2026-01-05", "2026-01-06"]),
        ("0 0 * * 5-7", ["2026-01-02", "2026-01-03", "2026-01-04"]),
        ("0 0 * * wed-wed", ["2026-01-07", "2026-01-14", "2026-01-21"]),
        ("0 0 10-10 * *", ["2026-01-10", "2026-02-10", "2026-03-10"]),
        ("0 0 ? * MON", ["2026-01-05", "2026-01-12", "2026-01-19"]),
        ("0 0 1 nov-feb *", ["2026-02-01", "2026-11-01", "2026-12-01"]),
        (" @Weekly\t", ["2026-01-04", "2026-01-11", "2026-01-18"]),
        ("@yearly", ["2027-01-01", "2028-01-01", "2029-01-01"]),
    ],
)
def test_days(text: str, expected: list[str]) -> None:
    """The day rules: both where a field begins with a star, either where none does; L, #, names, wrapping ranges."""
    assert [fire[:10] for fire in _fires(text, "UTC", "2026-01-01T00:00Z", 3)] == expected


def test_the_leap_day_of_a_century_is_passed_over() -> None:
    """2100 is no leap year."""
    assert _fires("0 0 29 2 *", "UTC", "2096-03-01T00:00Z", 1) == ["2104-02-29T00:00:00Z"]


@pytest.mark.parametrize("text", ["10-10 * * * *", "10-10/5 * * * *"])
def test_a_range_of_one_value_is_that_value(text: str) -> None:
    """A range from a value to itself is not the whole field."""
    assert _fires(text, "UTC", "2026-01-01T00:00Z", 2) == ["2026-01-01T00:10:00Z", "2026-01-01T01:10:00Z"]


def test_fractions_of_a_second_are_later_than_the_second() -> None:
    """A start between two seconds takes the next whole one, never the one before."""
    start = datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    assert CronExpression.parse("* * * * * *").next_after(start, UTC) == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)


def test_the_end_of_the_calendar_is_an_error_and_ends_the_iteration() -> None:
    """Past the year 9999 there is nothing, in any zone."""
    start = datetime(9999, 12, 31, 23, 30, tzinfo=UTC)
    for name in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
        with pytest.raises(CronError, match="no date before the year 10000"):
            CronExpression.parse("0 0 1 1 *").next_after(start, zone(name))
        assert list(CronExpression.parse("59 23 31 12 *").iter_after(start, UTC)) == [start.replace(minute=59)]


def test_a_start_without_zone_is_refused() -> None:
    """A naive start would be read differently on each machine."""
    with pytest.raises(ValueError, match="without a zone"):
        CronExpression.parse("@daily").next_after(datetime(2026, 1, 1), UTC)  # noqa: DTZ001 - what is refused


def test_gaps_and_overlaps_are_jumped_over() -> None:
    """A schedule of every second does not try each second of a gap, nor of an overlap's second pass."""
    every, fixed, paris = (
        CronExpression.parse("* 2 * * * *"),
        CronExpression.parse("0-59 2 * * * 0-59"),
        zone("Europe/Paris"),
    )
    began = time.process_time()
    for _ in range(100):
        every.next_after(datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC), paris)
        fixed.next_after(datetime(2026, 10, 25, 1, 0, 0, tzinfo=UTC), paris)
    assert time.process_time() - began < 1.0  # 200 searches; walking takes about 58 ms each
