"""Conversion of an expression's text to the sets of values that it matches.

croniter expands the fields. Texts that it accepts and crontab does not (or reads differently) are refused or rewritten
here first, so that no text silently has another meaning: random and hashed fields, a year, wrapping ranges with a step,
``10-10`` for the whole field, a day of the month beside ``#``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from croniter import croniter

from nomaflow_project.cron.errors import CronError

LAST = -1
"""Number that stands for the last day of the month, or for the last of a weekday in it."""

_MAX_LENGTH = 512
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
_ITEM = re.compile(r"(?P<first>\*|[a-z]+|\d{1,4})(?:-(?P<last>[a-z]+|\d{1,4}))?(?:/(?P<step>\d{1,4}))?")
_NTH_ITEM = re.compile(r"(?P<weekday>[a-z]+|\d{1,4})#(?P<nth>\d{1,4})|l(?P<last_weekday>\d)")


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
_WEEKDAY = _Field("day of week", 0, 7, _WEEKDAYS)
_SECOND = _Field("second", 0, 59)
_LAYOUT = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY, _SECOND)


@dataclass(frozen=True, kw_only=True, slots=True)
class CronFields:
    """The values that an expression matches, expanded. Weekdays count from Sunday, 0.

    :param days: days of the month; `LAST` among them is the last day
    :param nth_weekdays: (weekday, n) pairs for ``5#3`` and ``L5`` (n is `LAST`); if there are any, the field has no
        other items, and ``weekdays`` is not used
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
        rewritten = [
            ",".join(_rewritten(field, item) for item in part.split(","))
            for field, part in zip(_LAYOUT, parts, strict=False)
        ]
        ordinals = ["#" in item or item.startswith("l") for item in rewritten[4].split(",")]
        if any(ordinals) and not all(ordinals):
            problem = f"day of week {parts[4]!r} has items with # or L and others"
            raise _Refusal(problem, "write all of them with # or L")
        if any(ordinals) and parts[2] not in ("*", "?"):
            problem = f"day of month {parts[2]!r} cannot stand beside # or L in the day of week field"
            raise _Refusal(problem, "make the day of month *")
        expanded, nth = croniter.expand(" ".join(rewritten))
    except _Refusal as refusal:
        raise CronError("cron expression", text, refusal.problem, fix=refusal.fix) from None
    except ValueError as error:  # every error of croniter is one
        raise CronError("cron expression", text, f"it cannot be read ({error})") from error
    values = [_values(field, column) for field, column in zip(_LAYOUT, expanded, strict=False)]
    return CronFields(
        text=" ".join(parts),
        seconds=values[5] if len(values) == len(_LAYOUT) else (0,),
        minutes=values[0],
        hours=values[1],
        days=values[2],
        months=values[3],
        weekdays=values[4],
        nth_weekdays=tuple(
            sorted((weekday, LAST if n == "l" else int(n)) for weekday, each in nth.items() for n in each)
        ),
        both_days=parts[2].startswith(("*", "?")) or parts[4].startswith(("*", "?")),
        wildcard=parts[0].startswith("*") or parts[1].startswith("*"),
    )


def _split(text: str) -> list[str]:
    """Return the five or six fields in lower case, aliases resolved."""
    if len(text) > _MAX_LENGTH:
        raise _Refusal(f"it has {len(text)} characters, expected at most {_MAX_LENGTH}")
    if not text.isascii():
        raise _Refusal("it has characters that are not ASCII", "retype it with plain digits, letters and blanks")
    stripped = text.strip(" \t\r\n").lower()
    if not stripped:
        raise _Refusal("it is empty", "leave the schedule out for a job that is only started by hand")
    if stripped.startswith("@"):
        if stripped not in _ALIASES:
            raise _Refusal("there is no such alias", "the aliases are " + ", ".join(sorted(_ALIASES)))
        stripped = _ALIASES[stripped]
    parts = re.split(r"[ \t]+", stripped)
    if len(parts) not in (5, 6):
        advice = "give minute, hour, day of the month, month and day of the week, and seconds last if needed"
        if len(parts) == 7:
            advice += "; a year cannot be given"
        raise _Refusal(f"it has {len(parts)} field{'' if len(parts) == 1 else 's'}, expected 5 or 6", advice)
    return parts


def _rewritten(field: _Field, item: str) -> str:
    """Return an item of a field in a form that croniter reads correctly; refuse what crontab does not have."""
    if item == "?" and field in (_DAY, _WEEKDAY):
        return "*"
    if item == "l" and field is _DAY:
        return item
    if field is _WEEKDAY and (nth := _NTH_ITEM.fullmatch(item)):
        return _rewrite_nth(nth)
    match = _ITEM.fullmatch(item)
    if match is None:
        raise _Refusal(f"{item!r} is not valid in the {field.name} field", _advice(field))
    step = match["step"]
    if step is not None and int(step) == 0:
        raise _Refusal(f"the step of {item!r} in the {field.name} field is 0", "give a step of 1 or more")
    if match["first"] == "*":
        if match["last"] is not None:
            raise _Refusal(f"{item!r} is not valid in the {field.name} field", _advice(field))
        return item
    first = _number(field, match["first"], item)
    if match["last"] is None:
        return str(first) if step is None else f"{first % 7 if field is _WEEKDAY else first}/{int(step)}"
    last = _number(field, match["last"], item)
    return _rewrite_range(field, item, first, last, step)


def _rewrite_range(field: _Field, item: str, first: int, last: int, step: str | None) -> str:
    if field is _WEEKDAY and first == 7:
        # As the start of a range, 7 is the Sunday that begins the week; as its end, the Sunday after Saturday.
        first, last = 0, last % 7
    if first == last:
        return str(first)  # croniter reads it as the whole field
    if step is None:
        return f"{first}-{last}"
    if first > last:
        raise _Refusal(
            f"{item!r} in the {field.name} field wraps round and has a step, so where it counts from is not clear",
            "list the values",
        )
    return f"{first}-{last}/{int(step)}"


def _rewrite_nth(match: re.Match[str]) -> str:
    if match["last_weekday"] is not None:
        return f"l{_number(_WEEKDAY, match['last_weekday'], match.group()) % 7}"
    nth = int(match["nth"])
    if not 1 <= nth <= 5:
        raise _Refusal(f"{match.group()!r} asks for weekday number {nth} of a month", "# takes 1 to 5")
    return f"{_number(_WEEKDAY, match['weekday'], match.group()) % 7}#{nth}"


def _number(field: _Field, token: str, item: str) -> int:
    """Return the number that a digit or a name stands for in an item."""
    if token.isdigit():
        value = int(token)
        if not field.low <= value <= field.high:
            raise _Refusal(f"{token} is out of range for the {field.name} field", _advice(field))
        return value
    if token in field.names:
        return field.names.index(token) + field.low
    raise _Refusal(f"{item!r} is not valid in the {field.name} field", _advice(field))


def _values(field: _Field, column: list[int | str]) -> tuple[int, ...]:
    """Return one expanded column as sorted numbers."""
    if "*" in column:
        return _everything(field.low, 6 if field is _WEEKDAY else field.high)
    numbers = {LAST if value == "l" else int(value) for value in column}
    return tuple(sorted(value for value in numbers if value <= field.high))


@lru_cache(maxsize=16)
def _everything(low: int, high: int) -> tuple[int, ...]:
    """Return one shared tuple for the many fields that match their whole range."""
    return tuple(range(low, high + 1))


def _advice(field: _Field) -> str:
    names = f" or {field.names[0]} to {field.names[-1]}" if field.names else ""
    extra = {"day of month": ", L for the last day", "day of week": ", 5#3 or L5"}.get(field.name, "")
    return (
        f"it takes {field.low} to {field.high}{names}, *, lists, ranges and steps such as */{2 + field.low * 3}{extra}"
    )
