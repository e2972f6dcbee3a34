"""Time spans for people: exact where one compares, rough where one wonders."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def took(seconds: float | None) -> str:
    """Return a time span: ``12 ms``, ``0.4 s``, ``41 s``, ``3 m 12 s``, ``2 h 07 m``, ``3 d 4 h``; ``–`` for None.

    A negative one, which clocks that differ may yield, counts as none.
    """
    if seconds is None:
        return "–"
    span = max(seconds, 0.0)
    if span < 0.0995:
        return f"{round(span * 1000)} ms"
    if span < 9.95:
        return f"{span:.1f} s"
    whole = round(span)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} m {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} m"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def rough(seconds: float | None) -> str:
    """Return a time span in its largest unit, rounded down: ``41 s``, ``14 m``, ``2 h``, ``12 days``."""
    if seconds is None:
        return "–"
    span = int(max(seconds, 0.0))
    if span < _MINUTE:
        return f"{span} s"
    if span < _HOUR:
        return f"{span // _MINUTE} m"
    if span < _DAY:
        return f"{span // _HOUR} h"
    days = span // _DAY
    return "1 day" if days == 1 else f"{days:,} days"


def between(start: datetime | None, end: datetime | None, *, now: datetime | None = None) -> float | None:
    """Return the seconds from start to end, or to now if there is no end yet; None if it has not begun."""
    if start is None:
        return None
    return ((end or now or datetime.now(UTC)) - start).total_seconds()


def ticking(since: datetime | None, *, now: datetime | None = None) -> Markup:
    """Return the time since an instant as HTML that the page's script counts on; ``–`` for None."""
    if since is None:
        return Markup("–")
    begun = since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup(f'<span class="ticks" data-since="{begun}">{took(between(since, None, now=now))}</span>')  # noqa: S704
