"""The search for the next match, on a wall clock that knows no zone."""

from __future__ import annotations

import calendar
from bisect import bisect_left, bisect_right
from datetime import MAXYEAR, date, datetime

from nomaflow_project.cron.grammar import LAST, CronFields

# The Gregorian calendar, weekdays included, repeats after 400 years: a date that does not match by then never does.
_CYCLE_YEARS = 400


def first_match(fields: CronFields, start: datetime) -> datetime:
    """Return the first naive time at or after the naive ``start`` that matches.

    :param start: a whole second
    :raises OverflowError: if there is none before the year 10000
    """
    year, month, day = start.year, start.month, start.day
    if month in fields.months and day in matching_days(fields, year, month):
        time = _time_from(fields, start.hour, start.minute, start.second)
        if time is not None:
            return datetime(year, month, day, *time)  # noqa: DTZ001 - a wall clock without zone is what is searched
    found = _day_after(fields, year, month, day)
    time = (fields.hours[0], fields.minutes[0], fields.seconds[0])
    return datetime(found.year, found.month, found.day, *time)  # noqa: DTZ001 - as above


def _time_from(fields: CronFields, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
    """Return the first matching time of a day at or after the one given."""
    if hour in fields.hours:
        if minute in fields.minutes:
            index = bisect_left(fields.seconds, second)
            if index < len(fields.seconds):
                return hour, minute, fields.seconds[index]
        index = bisect_right(fields.minutes, minute)
        if index < len(fields.minutes):
            return hour, fields.minutes[index], fields.seconds[0]
    index = bisect_right(fields.hours, hour)
    if index < len(fields.hours):
        return fields.hours[index], fields.minutes[0], fields.seconds[0]
    return None


def _day_after(fields: CronFields, year: int, month: int, day: int) -> date:
    """Return the first matching day after the one given.

    :raises OverflowError: if there is none before the year 10000
    """
    for each_year in range(year, min(year + _CYCLE_YEARS, MAXYEAR) + 1):
        for each_month in fields.months:
            if each_year == year and each_month < month:
                continue
            days = matching_days(fields, each_year, each_month)
            index = bisect_right(days, day) if (each_year, each_month) == (year, month) else 0
            if index < len(days):
                return date(each_year, each_month, days[index])
    raise OverflowError("no date before the year 10000 matches")


def matching_days(fields: CronFields, year: int, month: int) -> list[int] | range:
    """Return the matching days of a month in order, by the day rules of crontab."""
    monday_based, length = calendar.monthrange(year, month)
    every_weekday = len(fields.weekdays) == 7 and not fields.nth_weekdays
    every_day = len(fields.days) == 31
    if every_day and every_weekday:
        return range(1, length + 1)
    by_date = {length if day == LAST else day for day in fields.days if day <= length}
    if every_weekday and fields.both_days:
        return sorted(by_date)
    by_weekday = _days_by_weekday(fields, first_weekday=(monday_based + 1) % 7, length=length)
    if every_day and fields.both_days:
        return sorted(by_weekday)
    return sorted(by_date & by_weekday if fields.both_days else by_date | by_weekday)


def _days_by_weekday(fields: CronFields, *, first_weekday: int, length: int) -> set[int]:
    if not fields.nth_weekdays:
        return {day for weekday in fields.weekdays for day in range(1 + (weekday - first_weekday) % 7, length + 1, 7)}
    days = set()
    for weekday, nth in fields.nth_weekdays:
        first = 1 + (weekday - first_weekday) % 7
        last = first + (length - first) // 7 * 7
        day = last if nth == LAST else first + 7 * (nth - 1)
        if day <= length:
            days.add(day)
    return days
