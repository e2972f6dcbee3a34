"""A second, dumb implementation of the cron rules: it looks at every minute (or second) there is.

It shares no code with the product: its own reading of the fields, its own offsets, no search.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7), (0, 59))
_NAMES = {
    name: number
    for names, first in (
        ("jan feb mar apr may jun jul aug sep oct nov dec", 1),
        ("sun mon tue wed thu fri sat", 0),
    )
    for number, name in enumerate(names.split(), first)
}


def field_values(text: str, index: int) -> set[int]:
    """Return the values of one field of plain crontab: stars, lists, ranges that may wrap, steps, names."""
    low, high = _LIMITS[index]
    values: set[int] = set()
    for item in text.split(","):
        base, _, step = item.partition("/")
        if base == "*":
            chosen = list(range(low, (6 if index == 4 else high) + 1))
        else:
            first, _, last = base.partition("-")
            start = _NAMES[first] if first in _NAMES else int(first)
            end = start if not last else _NAMES[last] if last in _NAMES else int(last)
            if not last and step:
                end = 6 if index == 4 else high
            if start <= end:
                chosen = list(range(start, end + 1))
            else:
                chosen = [*range(start, (6 if index == 4 else high) + 1), *range(low, end + 1)]
        values.update(chosen[:: int(step or 1)])
    return {value % 7 for value in values} if index == 4 else values


class Oracle:
    """One expression of five or six fields."""

    def __init__(self, text: str) -> None:
        parts = text.split()
        self.parts = parts
        self.sets = [field_values(part, index) for index, part in enumerate(parts)]
        self.second_set = self.sets[5] if len(parts) == 6 else {0}
        self.wildcard = parts[0].startswith("*") or parts[1].startswith("*")

    def day_matches(self, day: date) -> bool:
        """Return whether crontab's day rules let a day through."""
        by_date = day.day in self.sets[2]
        by_weekday = day.isoweekday() % 7 in self.sets[4]
        both = self.parts[2].startswith("*") or self.parts[4].startswith("*")
        return day.month in self.sets[3] and (by_date and by_weekday if both else by_date or by_weekday)

    def matches(self, wall: datetime) -> bool:
        """Return whether a wall time, down to the second, matches."""
        return (
            wall.second in self.second_set
            and wall.minute in self.sets[0]
            and wall.hour in self.sets[1]
            and self.day_matches(wall.date())
        )

    def fires(self, start: datetime, end: datetime, tz: ZoneInfo) -> list[datetime]:
        """Return the fires later than ``start`` and not later than ``end``, in UTC."""
        step = timedelta(seconds=1) if len(self.parts) == 6 else timedelta(minutes=1)
        found = self._real_time(start, end, tz, step) if self.wildcard else self._wall_clock(start, end, tz, step)
        return sorted({fire for fire in found if start < fire <= end})

    def _real_time(self, start: datetime, end: datetime, tz: ZoneInfo, step: timedelta) -> Iterator[datetime]:
        instant = start.replace(second=0, microsecond=0)
        while instant <= end:
            if self.matches(instant.astimezone(tz).replace(tzinfo=None)):
                yield instant
            instant += step

    def _wall_clock(self, start: datetime, end: datetime, tz: ZoneInfo, step: timedelta) -> Iterator[datetime]:
        wall = (start - timedelta(hours=30)).replace(tzinfo=None, second=0, microsecond=0)
        stop = (end + timedelta(hours=30)).replace(tzinfo=None)
        while wall <= stop:
            if self.matches(wall):
                yield _instant(wall, tz)
            wall += step


def _instant(wall: datetime, tz: ZoneInfo) -> datetime:
    """Return when the wall clock first shows a time; the first instant that it shows a later one, in a gap."""
    first = wall.replace(tzinfo=tz).astimezone(UTC)
    if first.astimezone(tz).replace(tzinfo=None) == wall:
        return first  # also the first of two passes: fold is 0
    # In a gap. The clock shows less than `wall` just before the transition and more from it on.
    low, high = first - timedelta(hours=26), first + timedelta(hours=26)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if middle.astimezone(tz).replace(tzinfo=None) < wall:
            low = middle
        else:
            high = middle
    return high
