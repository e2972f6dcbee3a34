"""A cron expression and its fires in a zone.

Two kinds of expression follow the two DST rules. An expression whose minute or hour field begins with ``*`` follows
real time: it fires whenever the wall clock matches, not in a gap, and in both passes of an overlap. Any other
expression is fixed: each matching time of day fires once; in a gap at the gap's end, in an overlap at the first pass.
Matches at one instant are one fire.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from nomaflow_project.cron.calendar import first_match
from nomaflow_project.cron.errors import CronError
from nomaflow_project.cron.grammar import CronFields, parse_fields

__all__ = ["CronExpression"]

_SECOND = timedelta(seconds=1)
_PROOF_START = datetime(2000, 1, 1)  # noqa: DTZ001 - the search runs on a wall clock without zone
_PARSED_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class CronExpression:
    """A parsed expression: immutable, hashable, shareable between threads. Created by `parse`, which is cached.

    :param text: the expression with aliases resolved, in lower case, blanks squeezed
    """

    text: str
    fields: CronFields = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> CronExpression:
        """Return the expression of a text of five or six fields, or of an alias such as ``@daily``.

        :raises CronError: if the text is not valid, or no date ever matches it
        """
        return _parse(text)

    def next_after(self, after: datetime, tz: tzinfo) -> datetime:
        """Return the first fire later than an aware time, in UTC.

        :param tz: the zone whose wall clock the expression refers to
        :raises CronError: if there is none before the year 10000
        :raises ValueError: if ``after`` has no zone
        """
        if after.tzinfo is None:
            msg = f"after must be an aware time, got {after!r} without a zone"
            raise ValueError(msg)
        try:
            if self.fields.wildcard:
                return self._next_by_real_time(after.astimezone(tz), tz)
            return self._next_by_wall_clock(after.astimezone(tz), tz)
        except OverflowError:
            raise self._exhausted() from None

    def iter_after(self, after: datetime, tz: tzinfo) -> Iterator[datetime]:
        """Yield the fires later than an aware time, in UTC and in order, until the year 10000."""
        while True:
            try:
                after = self.next_after(after, tz)
            except CronError:
                return
            yield after

    def _next_by_wall_clock(self, local: datetime, tz: tzinfo) -> datetime:
        after = local.astimezone(UTC)
        wall = local.replace(tzinfo=None, fold=0, microsecond=0)
        before, behind = _offsets(wall, tz)
        # The second pass of an overlap holds no fire: all of them were in the first.
        start = _overlap(wall, tz)[1] if before > behind and local.fold else wall + _SECOND
        while True:
            candidate = self._first(start)
            before, behind = _offsets(candidate, tz)
            instant = _transition(candidate, tz) if before < behind else _utc(candidate - before)
            if instant > after:
                return instant
            start = candidate + _SECOND

    def _next_by_real_time(self, local: datetime, tz: tzinfo) -> datetime:
        wall = local.replace(tzinfo=None, fold=0, microsecond=0)
        before, behind = _offsets(wall, tz)
        candidate = self._first(wall + _SECOND)
        if before > behind:
            overlap_start, overlap_end = _overlap(wall, tz)
            if candidate < overlap_end:
                return _utc(candidate - (behind if local.fold else before))
            if not local.fold:
                candidate = self._first(overlap_start)
                if candidate < overlap_end:
                    return _utc(candidate - behind)
        while True:
            before, behind = _offsets(candidate, tz)
            if before >= behind:
                return _utc(candidate - before)
            gap_end = _transition(candidate, tz).replace(tzinfo=None) + behind
            candidate = self._first(gap_end)

    def _first(self, start: datetime) -> datetime:
        found = first_match(self.fields, start)
        if found is None:
            raise self._exhausted()
        return found

    def _exhausted(self) -> CronError:
        return CronError("cron expression", self.text, "no date before the year 10000 matches")


@lru_cache(maxsize=_PARSED_AT_ONCE)
def _parse(text: str) -> CronExpression:
    fields = parse_fields(text)
    if first_match(fields, _PROOF_START) is None:
        raise CronError(
            "cron expression",
            text,
            "no date ever matches it",
            fix="check the day of the month against the months",
        )
    return CronExpression(text=fields.text, fields=fields)


def _offsets(wall: datetime, tz: tzinfo) -> tuple[timedelta, timedelta]:
    """Return the two offsets of a wall time: usually equal, rising in a gap, falling in an overlap."""
    aware = wall.replace(tzinfo=tz)
    first, second = aware.utcoffset(), aware.replace(fold=1).utcoffset()
    assert first is not None
    assert second is not None
    return first, second


def _transition(wall: datetime, tz: tzinfo) -> datetime:
    """Return the instant, in UTC, at which the offset changes around a wall time in a gap or an overlap."""
    before, behind = _offsets(wall, tz)
    low, high = sorted((_utc(wall - before), _utc(wall - behind)))
    # The earlier offset holds at low (in an overlap; in a gap it works as well) and the later one at high.
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        if middle.astimezone(tz).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def _overlap(wall: datetime, tz: tzinfo) -> tuple[datetime, datetime]:
    """Return the first wall time of an overlap and the first one after it."""
    before, behind = _offsets(wall, tz)
    instant = _transition(wall, tz).replace(tzinfo=None)
    return instant + behind, instant + before


def _utc(naive: datetime) -> datetime:
    return naive.replace(tzinfo=UTC)
