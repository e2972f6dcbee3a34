"""Ends of a pause: a few choices in the page's zone, or a time that is typed in."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo

_MORNING = time(9)
SPANS = {"1h": timedelta(hours=1), "4h": timedelta(hours=4)}
_OPEN = "open"


class WrongEnd(ValueError):
    """Raised for an end that is no time, or over."""


def pause_ends(now: datetime, zone: tzinfo) -> dict[str, str]:
    """Return the titles of the choices, by their values: a span, an instant, or ``open`` for a pause without an end.

    An instant is in its choice as the page shows it: a form that is sent after midnight still means that one.
    """
    local = now.astimezone(zone)
    morning = _morning(local, 0 if local.time() < _MORNING else 1)
    monday = _morning(local, 7 - local.weekday())
    near = "today" if morning.date() == local.date() else "tomorrow"
    mornings = {morning.isoformat(): f"until {near} 09:00"}
    mornings.setdefault(monday.isoformat(), f"until Monday {monday.day} {monday:%b} 09:00")
    return {"1h": "for 1 hour", "4h": "for 4 hours", **mornings, _OPEN: "until somebody resumes it"}


def _morning(local: datetime, days: int) -> datetime:
    return datetime.combine(local.date() + timedelta(days=days), _MORNING, local.tzinfo)


def pause_end(choice: str, text: str, now: datetime, zone: tzinfo) -> datetime | None:
    """Return the end that a form asks for; None for a pause without one.

    :param choice: a value of `pause_ends`, or ``at`` for the time that is typed in
    :param text: that time, ISO 8601, in the page's zone if it names none
    :raises WrongEnd: if it is no time, or not in the future
    """
    if choice == _OPEN:
        return None
    if choice in SPANS:
        return now + SPANS[choice]
    asked = text if choice == "at" else choice
    try:
        found = datetime.fromisoformat(asked.strip())
        end = (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongEnd(f"{asked!r} is not a date and time, such as {example(now, zone)}") from None
    if end <= now:
        raise WrongEnd("this time is over; a pause ends in the future")
    return end


def example(now: datetime, zone: tzinfo) -> str:
    """Return how a time is typed in."""
    return f"{now.astimezone(zone):%Y-%m-%dT18:00}"
