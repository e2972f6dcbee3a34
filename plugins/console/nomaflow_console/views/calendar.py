"""The recent days of a job: how its runs ended, and what did not run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from nomaflow.client.values import RunView
from nomaflow_console.views.states import StateSign, sign_of

_WORST = ("FAILED", "MISSED", "RUNNING", "QUEUED", "CANCELED", "SKIPPED", "SUCCEEDED")
"""What a day with several runs is shown as: the first of these that occurs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """One day.

    :param look: None for a day without a run
    :param counts: runs, or fires that did not run, by state
    :param known: False for a day that lies before what was read
    :param since: its beginning, as is ``until`` its end
    """

    day: date
    look: StateSign | None
    counts: Sequence[tuple[StateSign, int]]
    known: bool
    since: datetime
    until: datetime

    @property
    def title(self) -> str:
        """The day in words."""
        name = f"{self.day:%a} {self.day.day} {self.day:%b}"
        if not self.known:
            return f"{name}: before what is shown here"
        told = ", ".join(f"{count:,} {look.word}" for look, count in self.counts)
        return f"{name}: {told or 'no run'}"


def recent_days(
    runs: Iterable[RunView], *, now: datetime, zone: tzinfo, days: int, whole_since: datetime | None
) -> list[list[Day]]:
    """Return the recent days in weeks that begin on Monday, the oldest first.

    :param runs: a run belongs to the day it was fired on; a row of many fires to the days of its first and last one
    :param days: the number of days, today included; the first week is filled up
    :param whole_since: the earliest instant from which all runs are given; None for all
    """
    by_day: dict[date, Counter[str]] = {}
    for run in runs:
        for at, count in _fires(run):
            by_day.setdefault(at.astimezone(zone).date(), Counter())[run.state] += count
    today = now.astimezone(zone).date()
    first = today - timedelta(days=days - 1)
    first -= timedelta(days=first.weekday())
    found = [
        _day(first + timedelta(days=offset), by_day, zone, whole_since) for offset in range((today - first).days + 1)
    ]
    return [found[start : start + 7] for start in range(0, len(found), 7)]


def _fires(run: RunView) -> list[tuple[datetime, int]]:
    fold = run.fold
    if fold is not None and fold.first is not None and fold.last is not None and fold.count > 1:
        return [(fold.first, fold.count - 1), (fold.last, 1)]
    at = run.trigger.at or run.queued_at
    return [(at, 1)] if at is not None else []


def _day(day: date, by_day: dict[date, Counter[str]], zone: tzinfo, whole_since: datetime | None) -> Day:
    counts = by_day.get(day, Counter())
    since = datetime(day.year, day.month, day.day, tzinfo=zone)
    worst = next((state for state in _WORST if counts[state]), None)
    return Day(
        day=day,
        look=sign_of(worst) if worst is not None else None,
        counts=[(sign_of(state), counts[state]) for state in _WORST if counts[state]],
        known=whole_since is None or since >= whole_since,
        since=since,
        until=since + timedelta(days=1),
    )
