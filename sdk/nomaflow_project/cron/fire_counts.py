"""Counting and comparing the fires of an expression without making them, and recognising the two DST nights."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Literal

from nomaflow_project.cron.calendar import matching_days
from nomaflow_project.cron.clock_changes import offset_change
from nomaflow_project.cron.errors import CronError
from nomaflow_project.cron.expression import CronExpression
from nomaflow_project.cron.grammar import CronFields

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_PATTERNS_AT_ONCE = 512
_FREQUENT_PER_DAY = 48


def fires_a_day(expression: CronExpression) -> int:
    """Return how many fires a matching day has."""
    return len(expression.fields.hours) * len(expression.fields.minutes) * len(expression.fields.seconds)


def is_frequent(expression: CronExpression) -> bool:
    """Return whether a matching day has more than 48 fires, which lists of fires sum up."""
    return fires_a_day(expression) > _FREQUENT_PER_DAY


def count_fires(expression: CronExpression, begin: datetime, end: datetime, tz: tzinfo) -> int:
    """Return how many fires there are from an aware time on, before another.

    Fires of a fixed expression whose times fall together at the end of a gap count one by one.
    """
    begin, end = _next_second(begin.astimezone(UTC)), _next_second(end.astimezone(UTC))
    if not expression.fields.wildcard:
        return _count(expression.fields, _wall(begin, tz), _wall(end, tz))
    total = 0
    while begin < end:
        part_end = _offset_ends(begin, end, tz)
        offset = begin.astimezone(tz).utcoffset() or timedelta(0)
        total += _count(expression.fields, *((at + offset).replace(tzinfo=None) for at in (begin, part_end)))
        begin = part_end
    return total


def fire_bits(expression: CronExpression, begin: datetime, end: datetime, tz: tzinfo) -> int:
    """Return the fires from an aware time on, before another, as the bits of a number: bit ``n`` is second ``n``."""
    start = at = _next_second(begin.astimezone(UTC))
    end = _next_second(end.astimezone(UTC))
    bits = 0
    while at < end:
        part_end = _offset_ends(at, end, tz)
        offset = at.astimezone(tz).utcoffset() or timedelta(0)
        part = _wall_bits(expression.fields, *((each + offset).replace(tzinfo=None) for each in (at, part_end)))
        # When clocks change, a fixed expression fires at a gap's end, and not in the second pass of an overlap.
        try:
            first = expression.next_after(at - _SECOND, tz)
        except CronError:
            break  # there is none before the year 10000
        if first < part_end:
            before = (first - at) // _SECOND
            bits |= (part >> before | 1) << before + (at - start) // _SECOND
        at = part_end
    return bits


def dst_of_fire(expression: CronExpression, at: datetime, tz: tzinfo) -> Literal["", "gap", "repeated"]:
    """Return ``gap`` for a fire whose time the wall clock skips, ``repeated`` for one whose time it shows twice."""
    local = at.astimezone(tz)
    fields = expression.fields
    if local.hour not in fields.hours or local.minute not in fields.minutes or local.second not in fields.seconds:
        return "gap"
    first, second = local.replace(fold=0).utcoffset(), local.replace(fold=1).utcoffset()
    return "repeated" if first is not None and second is not None and first > second else ""


def _next_second(at: datetime) -> datetime:
    return at if at.microsecond == 0 else at.replace(microsecond=0) + _SECOND


def _wall(at: datetime, tz: tzinfo) -> datetime:
    return at.astimezone(tz).replace(tzinfo=None, fold=0)


def _offset_ends(begin: datetime, end: datetime, tz: tzinfo) -> datetime:
    """Return the first instant after ``begin`` with another offset, ``end`` if there is none before."""
    offset = begin.astimezone(tz).utcoffset()
    low, high = begin, min(begin + _DAY, end)
    while high.astimezone(tz).utcoffset() == offset:
        if high >= end:
            return end
        low, high = high, min(high + _DAY, end)
    return offset_change(low, high, tz)


def _count(fields: CronFields, begin: datetime, end: datetime) -> int:
    """Return how many wall times match from ``begin`` on, before ``end``."""
    whole = len(fields.hours) * len(fields.minutes) * len(fields.seconds)
    total = 0
    year, month = begin.year, begin.month
    while (year, month) <= (end.year, end.month):
        for day in matching_days(fields, year, month) if month in fields.months else ():
            each = date(year, month, day)
            if begin.date() <= each <= end.date():
                total += _before(fields, end) if each == end.date() else whole
                total -= _before(fields, begin) if each == begin.date() else 0
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return max(total, 0)


def _wall_bits(fields: CronFields, begin: datetime, end: datetime) -> int:
    """Return the matching wall times from ``begin`` on, before ``end``, as bits."""
    pattern = _day_bits(fields.hours, fields.minutes, fields.seconds)
    bits = 0
    for number in range((end.date() - begin.date()).days + 1):
        day = begin.date() + number * _DAY
        if day.month in fields.months and day.day in matching_days(fields, day.year, day.month):
            ahead = (datetime.combine(day, time()) - begin) // _SECOND
            bits |= pattern << ahead if ahead >= 0 else pattern >> -ahead
    return bits & ((1 << (end - begin) // _SECOND) - 1)


@lru_cache(maxsize=_PATTERNS_AT_ONCE)
def _day_bits(hours: tuple[int, ...], minutes: tuple[int, ...], seconds: tuple[int, ...]) -> int:
    of_minute = sum(1 << second for second in seconds)
    of_hour = sum(of_minute << 60 * minute for minute in minutes)
    return sum(of_hour << 3600 * hour for hour in hours)


def _before(fields: CronFields, wall: datetime) -> int:
    """Return how many times of a day match before a wall time's own."""
    seconds, minutes = len(fields.seconds), len(fields.minutes)
    count = bisect_left(fields.hours, wall.hour) * minutes * seconds
    if wall.hour in fields.hours:
        count += bisect_left(fields.minutes, wall.minute) * seconds
        if wall.minute in fields.minutes:
            count += bisect_left(fields.seconds, wall.second)
    return count
