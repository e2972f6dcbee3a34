"""The last runs of a job as bars: height is time, shape and colour the state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, tzinfo
from functools import lru_cache
from math import sqrt
from typing import Any

from markupsafe import Markup, escape

from nomaflow_console.views.durations import between, took
from nomaflow_console.views.states import RUN_STATES, sign_of
from nomaflow_console.views.times import in_words

STEP, WIDTH, HEIGHT = 9, 7, 22
"""The pixels from bar to bar, of a bar's width, and of all."""
_LEAST, _ROOM = 3.0, 13.0
_PLACES = 20
"""The number of bars that there is room for."""


def sparkline(recent: Sequence[Any], *, now: datetime, zone: tzinfo) -> Markup:
    """Return runs as an SVG of bars, the newest at the right, each a link.

    :param recent: runs in short, at least one, newest first, each with ``run_id``, ``state`` and times
    :param zone: that of the times in their titles
    """
    shown = tuple(recent[:_PLACES])
    if any(run.state == "RUNNING" for run in shown):
        return _drawn(shown, now, zone)
    return _still(shown, zone, now.astimezone(zone).date())


@lru_cache(maxsize=1_000)
def _still(shown: tuple[Any, ...], zone: tzinfo, today: date) -> Markup:
    """Return the bars of runs that no longer change: a page has a thousand of them, the same all day."""
    return _drawn(shown, datetime.combine(today, time(12), zone), zone)


def _drawn(shown: Sequence[Any], now: datetime, zone: tzinfo) -> Markup:
    spans = [_seconds(run, now) for run in shown]
    longest = max((span for span in spans if span is not None), default=0.0)
    bars = [
        _bar(run, _title(run, span, zone, now), _height(span, longest), (_PLACES - 1 - place) * STEP)
        for place, (run, span) in enumerate(zip(shown, spans, strict=True))
    ]
    box, label = f"0 0 {_PLACES * STEP - 2} {HEIGHT}", escape(_summary(shown))
    # A page has a thousand bars: they are plain text, of numbers and of what is escaped.
    return Markup(  # noqa: S704
        f'<svg class="spark" viewBox="{box}" role="group" aria-label="{label}">{"".join(reversed(bars))}</svg>'
    )


def _seconds(run: Any, now: datetime) -> float | None:
    seconds = between(run.started_at, run.finished_at, now=now if run.state == "RUNNING" else run.started_at)
    return max(seconds, 0.0) if seconds is not None else None  # the clocks of hosts differ


def _summary(runs: Sequence[Any]) -> str:
    counts = {state: sum(run.state == state for run in runs) for state in RUN_STATES}
    told = ", ".join(f"{count} {sign_of(state).word}" for state, count in counts.items() if count)
    return f"last {len(runs)} runs: {told}" if len(runs) > 1 else f"last run: {told}"


def _height(seconds: float | None, longest: float) -> float:
    share = sqrt(seconds / longest) if seconds is not None and longest > 0 else 0.0
    return round(_LEAST + _ROOM * share, 1)


def _title(run: Any, seconds: float | None, zone: tzinfo, now: datetime) -> str:
    queued = in_words(run.queued_at, zone, now) if run.queued_at is not None else ""
    return " · ".join(filter(None, (sign_of(run.state).word, took(seconds) if seconds is not None else "", queued)))


def _bar(run: Any, title: str, height: float, x: int) -> str:
    look = sign_of(run.state)
    shape = _SHAPES.get(run.state, _solid)(x, height)
    return (
        f'<a href="/runs/{escape(run.run_id)}" tabindex="-1" class="state-{look.css}">'
        f"<title>{look.sign} {escape(title)}</title>"
        f'<rect class="track" x="{x - 1}" y="0" width="{STEP}" height="{HEIGHT}"/>{shape}</a>'
    )


def _solid(x: int, height: float) -> str:
    top = round(HEIGHT - height, 1)
    return f'<rect class="fill" x="{x}" y="{top}" width="{WIDTH}" height="{height}" rx="1"/>'


def _path(text: str) -> str:
    return f'<path class="fill" fill-rule="evenodd" d="{text}"/>'


def _frame(x: int, height: float) -> str:
    """Return a hollow bar: it was stopped."""
    tall = max(height, 6.0)
    top = round(HEIGHT - tall, 1)
    inner = round(tall - 3, 1)
    return _path(f"M{x} {top}h{WIDTH}v{tall}h-{WIDTH}z M{x + 1.5} {top + 1.5}h{WIDTH - 3}v{inner}h-{WIDTH - 3}z")


def _cross(x: int, height: float) -> str:
    """Return a bar that ends in a cross: it failed."""
    low = round(max(min(height, _ROOM + _LEAST) - 8, 2.0), 1)
    top = round(HEIGHT - low - 8, 1)
    cross = (
        f"M{x} {top + 1}l1 -1 2.5 2.5 2.5 -2.5 1 1 -2.5 2.5 2.5 2.5 -1 1 -2.5 -2.5 -2.5 2.5 -1 -1 2.5 -2.5z"
        f"M{x} {round(HEIGHT - low, 1)}h{WIDTH}v{low}h-{WIDTH}z"
    )
    return _path(cross)


def _ring(x: int, height: float) -> str:
    """Return a ring at the foot: it did not run."""
    del height
    middle, foot = x + WIDTH / 2, HEIGHT - 3.5
    outer = f"M{middle - 3} {foot}a3 3 0 1 0 6 0 3 3 0 1 0 -6 0z"
    return _path(f"{outer} M{middle - 1.6} {foot}a1.6 1.6 0 1 0 3.2 0 1.6 1.6 0 1 0 -3.2 0z")


def _dash(x: int, height: float) -> str:
    """Return a dash at the foot: it was passed over."""
    del height
    return _path(f"M{x} {HEIGHT - 2}h{WIDTH}v2h-{WIDTH}z")


def _pointed(x: int, height: float) -> str:
    """Return a bar with a point: it goes on."""
    tall = max(height, 7.0)
    top = round(HEIGHT - tall, 1)
    return _path(f"M{x} {top + 3}l{WIDTH / 2} -3 {WIDTH / 2} 3v{tall - 3}h-{WIDTH}z")


def _dot(x: int, height: float) -> str:
    """Return a dot at the foot: it waits."""
    del height
    return f'<circle class="fill" cx="{x + WIDTH / 2}" cy="{HEIGHT - 3.2}" r="2.2"/>'


_SHAPES = {
    "FAILED": _cross, "CANCELED": _frame, "MISSED": _ring, "SKIPPED": _dash, "RUNNING": _pointed, "QUEUED": _dot,
}  # fmt: skip
