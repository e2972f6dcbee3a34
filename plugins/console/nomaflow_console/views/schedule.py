"""Days of a schedule: their hours in one zone, what clocks do on them, and where each fire and run lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise
from urllib.parse import quote

from markupsafe import Markup, escape

from nomaflow.client.values import ListedFireView, RunCountView, RunView
from nomaflow_console.views.durations import took
from nomaflow_console.views.states import RUN_STATES, StateSign, run_sign, sign_of
from nomaflow_console.views.times import in_words

_TOP, _LANE, _MOST_LANES = 18, 12, 8
"""Pixels above the first lane, and of a lane; lanes beyond the last lie on it."""
_LEAST, _GAP = 0.55, 0.15
"""The width of the shortest mark and the space between two, in hundredths of the axis."""
_LINE = Markup('<line class="{}" x1="{:.3f}%" x2="{:.3f}%" y1="{}" y2="{}"/>')


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """One fire or run on the axis of a day.

    :param begin: seconds since the day's start
    :param seconds: how long it took or usually takes; 0 if nobody knows
    :param css: the class that colours it
    :param href: an address whose parts are quoted
    """

    begin: float
    seconds: float
    css: str
    href: str
    label: Markup


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """One day of a zone.

    :param change: what clocks do on it; empty on all days but two of a year
    """

    start: datetime
    end: datetime
    change: str = ""
    fires: tuple[ListedFireView, ...] = ()
    runs: tuple[RunView, ...] = ()

    @property
    def seconds(self) -> float:
        """Its length, which is not 24 hours on two days of a year."""
        return (self.end.astimezone(UTC) - self.start.astimezone(UTC)).total_seconds()

    @property
    def id(self) -> str:
        """The name of its element."""
        return f"day-{self.start:%Y-%m-%d}"

    @property
    def date(self) -> str:
        """The date as addresses have it."""
        return f"{self.start:%Y-%m-%d}"


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _change(start: datetime, end: datetime) -> str:
    before, after = start.utcoffset() or timedelta(), end.utcoffset() or timedelta()
    if before == after:
        return ""
    span = took(abs((after - before).total_seconds()))
    if after > before:
        return f"clocks go forward by {span} in this zone: the times of that {span} do not exist"
    return f"clocks go back by {span} in this zone: the times of that {span} come twice"


def days(first: date, count: int, zone: tzinfo, fires: Iterable[ListedFireView], runs: Iterable[RunView]) -> list[Day]:
    """Return days with their fires and runs.

    :param runs: those that have begun to wait on one of the days; what lies outside is left out
    """
    starts = [_midnight(first + timedelta(days=number), zone) for number in range(count + 1)]
    made = [Day(start=start, end=end, change=_change(start, end)) for start, end in pairwise(starts)]
    by_day: dict[date, tuple[list[ListedFireView], list[RunView]]] = {day.start.date(): ([], []) for day in made}
    for fire in fires:
        if fire.at is not None and (found := by_day.get(fire.at.astimezone(zone).date())):
            found[0].append(fire)
    for run in runs:
        if run.queued_at is not None and (found := by_day.get(run.queued_at.astimezone(zone).date())):
            found[1].append(run)
    return [
        replace(day, fires=tuple(by_day[day.start.date()][0]), runs=tuple(by_day[day.start.date()][1])) for day in made
    ]


def outcomes(counts: Iterable[RunCountView], jobs: Iterable[str]) -> dict[str, list[tuple[StateSign, str, int]]]:
    """Return for each job sign, state and number of its fires. Rows that stand for many fires count each of them."""
    found = {(each.group, each.state): each.fires for each in counts}
    return {
        job: [(sign_of(state), state, fires) for state in RUN_STATES if (fires := found.get((job, state), 0))]
        for job in jobs
    }


def marks_of(day: Day, now: datetime) -> list[Mark]:
    """Return what lies on the axis of a day: the runs that were, then the fires that come."""
    zone = day.start.tzinfo or UTC
    marks = []
    for run in day.runs:
        begin = run.started_at or run.queued_at
        if begin is None:
            continue
        seconds = ((run.finished_at or now) - begin).total_seconds() if run.started_at else 0.0
        sign = run_sign(run)
        length = f", {took(seconds)}" if run.started_at else ""
        label = f"{in_words(begin, zone, now)} {run.job_id}: {sign.word}{length}"
        offset = max((begin - day.start).total_seconds(), 0.0)
        href = f"/runs/{quote(run.run_id)}"
        marks.append(Mark(begin=offset, seconds=seconds, css=f"state-{sign.css}", href=href, label=escape(label)))
    return [*marks, *_marks_of_fires(day.fires, day.start, zone, now.astimezone(zone).date())]


@lru_cache(maxsize=8)
def _marks_of_fires(fires: tuple[ListedFireView, ...], start: datetime, zone: tzinfo, today: date) -> tuple[Mark, ...]:
    """Return the marks of a day's fires, which are the same until one is over or the reader's day is.

    :param start: the beginning of the fires' day
    :param today: the reader's day, by which a time is said to be tomorrow's
    """
    now = _midnight(today, zone)
    marks = []
    for fire in fires:
        if fire.at is None:
            continue
        usual = f", usually {took(fire.expected_seconds)}" if fire.expected_seconds is not None else ""
        label = f"{in_words(fire.at, zone, now)} {fire.job_id}{usual}"
        marks.append(
            Mark(
                begin=(fire.at - start).total_seconds(),
                seconds=fire.expected_seconds or 0.0,
                css="fire-paused" if fire.paused else "fire-collides" if fire.collides_with else "fire",
                href=f"/jobs/{quote(fire.job_id)}",
                label=escape(f"{label}, with {', '.join(fire.collides_with)}" if fire.collides_with else label),
            )
        )
    return tuple(marks)


def _lanes(boxes: Sequence[tuple[float, float]]) -> list[int]:
    """Return the lane of each box, from left and width, so that boxes of one lane do not touch."""
    ends: list[float] = []
    lanes = []
    for left, width in boxes:
        lane = next((number for number, end in enumerate(ends) if end + _GAP <= left), len(ends))
        ends[lane : lane + 1] = [left + width]
        lanes.append(lane)
    return lanes


def strip(day: Day, now: datetime) -> Markup:
    """Return the axis of a day as SVG: hours, what was, now, and what comes; each mark is a link.

    Places are shares of the width, so that the axis is as wide as the page and its text is not stretched.
    """
    marks = sorted(marks_of(day, now), key=lambda mark: mark.begin)
    share = 100 / day.seconds
    boxes = [(mark.begin * share, max(mark.seconds * share, _LEAST)) for mark in marks]
    lanes = [min(lane, _MOST_LANES - 1) for lane in _lanes(boxes)]
    height = (max(lanes, default=0) + 1) * _LANE + _TOP + 2
    parts: list[str] = [*_hours(day.start, day.end, day.start.tzinfo or UTC, height)]
    for mark, (left, width), lane in zip(marks, boxes, lanes, strict=True):
        x, y, label = min(left, 100 - width), _TOP + lane * _LANE, mark.label
        parts.append(
            f'<a href="{mark.href}" class="{mark.css}" aria-label="{label}"><title>{label}</title>'
            f'<rect x="{x:.3f}%" y="{y}" width="{width:.3f}%" height="{_LANE - 3}" rx="2"/></a>'
        )
    if day.start <= now < day.end:
        at = (now - day.start).total_seconds() * share
        parts.append(_LINE.format("now", at, at, _TOP - 4, height))
    title = f"{day.start:%A} {day.start.day} {day.start:%B}: {len(marks)} runs and fires"
    whole = Markup('<svg class="strip" width="100%" height="{}" role="group" aria-label="{}">{}</svg>')
    return whole.format(height, title, Markup("".join(parts)))  # noqa: S704  # escaped above


@lru_cache(maxsize=64)
def _hours(day_start: datetime, day_end: datetime, zone: tzinfo, height: int) -> tuple[Markup, ...]:
    """Return lines and labels at every third hour of the clock, whatever clocks do that day."""
    start, end = day_start.astimezone(UTC), day_end.astimezone(UTC)
    moment, made = start, []
    while moment < end:
        local = moment.astimezone(zone)
        if local.hour % 3 == 0 and local.minute == 0 and local.fold == 0:
            at = 100 * ((moment - start) / (end - start))
            made.append(_LINE.format("hour", at, at, 0, height))
            made.append(Markup('<text x="{:.3f}%" dx="4" y="10">{}</text>').format(at, f"{local:%H}"))
        moment += timedelta(minutes=30)
    return tuple(made)
