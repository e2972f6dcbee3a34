"""Time spans of a page: those that may be unknown, and those that still grow."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

from nomaflow_api.time_spans import time_span


def took(seconds: float | None) -> str:
    """Return a time span; ``–`` for None."""
    return "–" if seconds is None else time_span(seconds)


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
