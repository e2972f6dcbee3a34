"""Fires in the nights when clocks change: one rule for fixed expressions, one for those that begin with ``*``.

A wall time has two offsets: they are equal on most days, rising in a gap (clocks go forward, times are skipped), and
falling in an overlap (clocks go back, times come twice).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo

FirstMatch = Callable[[datetime], datetime]
_SECOND = timedelta(seconds=1)


def next_by_wall_clock(first: FirstMatch, local: datetime, tz: tzinfo) -> datetime:
    """Return the next fire of a fixed expression: in a gap at its end, in an overlap at the first pass.

    :param first: returns the first wall time that matches, from a wall time on
    """
    wall = local.replace(tzinfo=None, fold=0, microsecond=0)
    before, behind = _offsets(wall, tz)
    # The second pass of an overlap holds no fire: all of them were in the first.
    candidate = first(_overlap(wall, tz)[1] if before > behind and local.fold else wall + _SECOND)
    before, behind = _offsets(candidate, tz)
    return _transition(candidate, tz) if before < behind else _utc(candidate - before)


def next_by_real_time(first: FirstMatch, local: datetime, tz: tzinfo) -> datetime:
    """Return the next fire of a ``*`` expression: none in a gap, and at both passes of an overlap.

    :param first: returns the first wall time that matches, from a wall time on
    """
    wall = local.replace(tzinfo=None, fold=0, microsecond=0)
    before, behind = _offsets(wall, tz)
    candidate = first(wall + _SECOND)
    if before > behind:
        overlap_start, overlap_end = _overlap(wall, tz)
        if candidate < overlap_end:
            return _utc(candidate - (behind if local.fold else before))
        if not local.fold:
            candidate = first(overlap_start)
            if candidate < overlap_end:
                return _utc(candidate - behind)
    while True:
        before, behind = _offsets(candidate, tz)
        if before >= behind:
            return _utc(candidate - before)
        gap_end = _transition(candidate, tz).replace(tzinfo=None) + behind
        candidate = first(gap_end)


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
    return offset_change(low, high, tz)


def offset_change(low: datetime, high: datetime, tz: tzinfo) -> datetime:
    """Return the first of the whole seconds between two instants at which the offset of the first has ended."""
    offset = low.astimezone(tz).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if middle.astimezone(tz).utcoffset() == offset:
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
