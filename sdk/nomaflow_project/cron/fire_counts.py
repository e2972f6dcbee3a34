"""The fires of an expression as bits, to count and compare them without making them; and the two DST nights."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Literal

from nomaflow_project.cron.calendar import matching_days
from nomaflow_project.cron.clock_changes import offset_change
from nomaflow_project.cron.errors import CronError
from nomaflow_project.cron.expression import CronExpression
from nomaflow_project.cron.grammar import CronFields

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_NO_FIRES = bytes(24 * 3600 // 8)
_PATTERNS_AT_ONCE = 512
_FREQUENT_PER_DAY = 48


def fires_a_day(expression: CronExpression) -> int:
    """Return how many fires a matching day has."""
    return len(expression.fields.hours) * len(expression.fields.minutes) * len(expression.fields.seconds)


def is_frequent(expression: CronExpression) -> bool:
    """Return whether a matching day has more than 48 fires, which lists of fires sum up."""
    return fires_a_day(expression) > _FREQUENT_PER_DAY


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


def _offset_ends(begin: datetime, end: datetime, tz: tzinfo) -> datetime:
    """Return the first instant after ``begin`` with another offset, ``end`` if there is none before."""
    offset = begin.astimezone(tz).utcoffset()
    low, high = begin, min(begin + _DAY, end)
    while high.astimezone(tz).utcoffset() == offset:
        if high >= end:
            return end
        low, high = high, min(high + _DAY, end)
    return offset_change(low, high, tz)


def _wall_bits(fields: CronFields, begin: datetime, end: datetime) -> int:
    """Return the matching wall times from ``begin`` on, before ``end``, as bits."""
    midnight, fires = datetime.combine(begin, time()), _day_bits(fields.hours, fields.minutes, fields.seconds)
    days = (midnight + number * _DAY for number in range((end.date() - begin.date()).days + 1))
    found = bytearray().join(
        fires if day.month in fields.months and day.day in matching_days(fields, day.year, day.month) else _NO_FIRES
        for day in days
    )
    whole, odd = divmod((end - midnight) // _SECOND, 8)
    found[whole] &= (1 << odd) - 1
    return int.from_bytes(found[: whole + 1], "little") >> (begin - midnight) // _SECOND


@lru_cache(maxsize=_PATTERNS_AT_ONCE)
def _day_bits(hours: tuple[int, ...], minutes: tuple[int, ...], seconds: tuple[int, ...]) -> bytes:
    of_minute = sum(1 << second for second in seconds)
    of_hour = sum(of_minute << 60 * minute for minute in minutes)
    return sum(of_hour << 3600 * hour for hour in hours).to_bytes(len(_NO_FIRES), "little")
