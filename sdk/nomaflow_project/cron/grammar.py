"""Conversion of an expression's text to the sets of values that it matches.

A text is refused if other readers of crontab disagree about it: random and hashed fields, a year, ranges that wrap
round and have a step, a day of the month beside ``#``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from nomaflow_project.cron.errors import CronError

__all__ = ["LAST", "CronFields", "parse_fields"]

LAST = -1
"""Number for the last day of the month, or the last such weekday of it."""

_MAX_LENGTH = 512
_SHARED = 4096
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ITEM = re.compile(r"(?:(?P<all>\*)|(?P<first>[a-z]+|\d{1,4})(?:-(?P<last>[a-z]+|\d{1,4}))?)(?:/(?P<step>\d{1,4}))?")
_NTH_ITEM = re.compile(r"(?P<weekday>[a-z]+|\d{1,4})#(?P<nth>\d{1,4})|l(?P<last_weekday>\d)")


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of an expression.

    :param high: the highest number that may be written; a weekday 7 counts as 0
    :param first_name: the number of the first name
    """

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    first_name: int = 0


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS, 1)
_WEEKDAY = _Field("day of week", 0, 7, _WEEKDAYS, 0)
_SECOND = _Field("second", 0, 59)
_LAYOUT = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY, _SECOND)


@dataclass(frozen=True, kw_only=True, slots=True)
class CronFields:
    """The values that an expression matches, expanded. Weekdays count from Sunday, 0.

    :param days: days of the month; `LAST` among them is the last day
    :param nth_weekdays: (weekday, n) pairs for ``5#3`` and ``L5`` (n is `LAST`); ``weekdays`` is then empty
    :param both_days: True if day of month and weekday must both match, False if one is enough
    :param wildcard: True if minute or hour begins with ``*``: the job follows real time instead of the wall clock
    """

    text: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    nth_weekdays: tuple[tuple[int, int], ...]
    both_days: bool
    wildcard: bool


class _Refusal(Exception):
    """Raised when a part of an expression cannot be used, with the problem and the way out."""

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix


def parse_fields(text: str) -> CronFields:
    """Return the expanded fields of an expression.

    :raises CronError: if the text is not a crontab expression; names the part and the way out
    """
    try:
        parts = _split(text)
        nth = _nth_weekdays(parts[4], parts[2])
        minutes, hours, days, months, weekdays, seconds = (
            () if field is _WEEKDAY and nth else _values(field, part)
            for field, part in zip(_LAYOUT, [*parts, "0"][: len(_LAYOUT)], strict=True)
        )
    except _Refusal as refusal:
        raise CronError("cron expression", text, refusal.problem, fix=refusal.fix) from None
    return CronFields(
        text=" ".join(parts),
        seconds=seconds,
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=weekdays,
        nth_weekdays=nth,
        both_days=parts[2].startswith(("*", "?")) or parts[4].startswith(("*", "?")),
        wildcard=parts[0].startswith("*") or parts[1].startswith("*"),
    )


def _split(text: str) -> list[str]:
    """Return the five or six fields in lower case, aliases resolved."""
    if len(text) > _MAX_LENGTH:
        raise _Refusal(f"it has {len(text)} characters, at most {_MAX_LENGTH} are allowed")
    if not text.isascii():
        raise _Refusal("it has characters that are not ASCII", "retype it with plain digits, letters and blanks")
    stripped = text.strip(" \t\r\n").lower()
    if not stripped:
        raise _Refusal("it is empty", "leave the schedule out for a job that is only started by hand")
    if stripped.startswith("@"):
        if stripped not in _ALIASES:
            raise _Refusal("no such alias", "the aliases are " + ", ".join(sorted(_ALIASES)))
        stripped = _ALIASES[stripped]
    parts = re.split(r"[ \t]+", stripped)
    if len(parts) not in (5, 6):
        advice = "minute hour day-of-month month day-of-week, and seconds last where needed"
        if len(parts) == 7:
            advice += "; a year cannot be given"
        raise _Refusal(f"it has {len(parts)} fields, expected 5 or 6", advice)
    return parts


@lru_cache(maxsize=_SHARED)
def _values(field: _Field, part: str) -> tuple[int, ...]:
    """Return the numbers of a field in order. Expressions share them, since most have the same."""
    numbers = {value for item in part.split(",") for value in _item(field, item)}
    if numbers.issuperset(range(field.low, field.high + 1)):
        numbers.discard(LAST)  # every day includes the last one
    return tuple(sorted(numbers))


def _item(field: _Field, item: str) -> list[int]:
    """Return the numbers of one item of a list."""
    if item == "l" and field is _DAY:
        return [LAST]
    match = _ITEM.fullmatch("*" if item == "?" and field in (_DAY, _WEEKDAY) else item)
    if match is None:
        raise _Refusal(f"{item!r} is not valid in the {field.name} field", _advice(field))
    step = int(match["step"] or 1)
    if step == 0:
        raise _Refusal(f"the step of {item!r} in the {field.name} field is 0", "give a step of 1 or more")
    highest = 6 if field is _WEEKDAY else field.high
    if match["all"]:
        return list(range(field.low, highest + 1, step))
    first = _number(field, match["first"])
    if match["last"] is None:
        first = first % 7 if field is _WEEKDAY else first
        return list(range(first, highest + 1, step)) if match["step"] else [first]
    last = _number(field, match["last"])
    if field is _WEEKDAY and first == 7:
        # As the start of a range, 7 is the Sunday that begins the week; as its end, the Sunday after Saturday.
        first, last = 0, last % 7
    if first <= last:
        return [value % 7 if field is _WEEKDAY else value for value in range(first, last + 1, step)]
    if match["step"]:
        raise _Refusal(
            f"{item!r} in the {field.name} field wraps round and has a step, so where it counts from is not clear",
            "list the values",
        )
    return [*range(first, highest + 1), *range(field.low, last + 1)]


def _nth_weekdays(part: str, day_part: str) -> tuple[tuple[int, int], ...]:
    """Return the (weekday, n) pairs of ``5#3`` and ``L5``; none if the field has plain weekdays."""
    found, plain = set(), []
    for item in part.split(","):
        match = _NTH_ITEM.fullmatch(item)
        if match is None:
            plain.append(item)
            continue
        nth = LAST if match["nth"] is None else int(match["nth"])
        if nth != LAST and not 1 <= nth <= 5:
            raise _Refusal(f"{match.group()!r} asks for weekday number {nth} of a month", "# takes 1 to 5")
        found.add((_number(_WEEKDAY, match["weekday"] or match["last_weekday"]) % 7, nth))
    if found and day_part not in ("*", "?"):
        problem = f"day of month {day_part!r} cannot stand beside # or L in the day of week field"
        raise _Refusal(problem, "make the day of month *")
    others = set(_values(_WEEKDAY, ",".join(plain))) if found and plain else set()
    if not others <= {weekday for weekday, _ in found} and len(others) < len(_WEEKDAYS):
        raise _Refusal("the day of week field mixes # or L with plain weekdays", "use two schedules, one in a preset")
    return tuple(sorted(found))


def _number(field: _Field, token: str) -> int:
    if token.isdigit():
        value = int(token)
        if not field.low <= value <= field.high:
            raise _Refusal(f"{token} is out of range for the {field.name} field", _advice(field))
        return value
    if token in field.names:
        return field.names.index(token) + field.first_name
    raise _Refusal(f"{token!r} is not valid in the {field.name} field", _advice(field))


def _advice(field: _Field) -> str:
    names = f" or {field.names[0]} to {field.names[-1]}" if field.names else ""
    extra = {"day of month": ", L for the last day", "day of week": ", 5#3 or L5"}.get(field.name, "")
    return (
        f"it takes {field.low} to {field.high}{names}, *, lists, ranges and steps such as */{2 + field.low * 3}{extra}"
    )
