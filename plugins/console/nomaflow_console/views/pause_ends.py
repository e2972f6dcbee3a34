"""Ends of a pause: a few choices in the page's zone, or a time that is typed in."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo

_MORNING = time(9)


class WrongEnd(ValueError):
    """Raised for an end that is no time, or over."""


def pause_ends(now: datetime, zone: tzinfo) -> dict[str, tuple[str, datetime | None]]:
    """Return the choices: by name their title and the instant; None for a pause without an end."""
    local = now.astimezone(zone)
    tomorrow = datetime.combine(local.date() + timedelta(days=1), _MORNING, zone)
    monday = datetime.combine(local.date() + timedelta(days=7 - local.weekday()), _MORNING, zone)
    return {
        "1h": ("for 1 hour", now + timedelta(hours=1)),
        "4h": ("for 4 hours", now + timedelta(hours=4)),
        "tomorrow": ("until tomorrow 09:00", tomorrow.astimezone(UTC)),
        "monday": (f"until Monday {monday.day} {monday:%b} 09:00", monday.astimezone(UTC)),
        "open": ("until somebody resumes it", None),
    }


def pause_end(choice: str, text: str, now: datetime, zone: tzinfo) -> datetime | None:
    """Return the end that a form asks for; None for a pause without one.

    :param choice: a name of `pause_ends`, or ``at`` for the time that is typed in
    :param text: that time, ISO 8601, in the page's zone if it names none
    :raises WrongEnd: if it is no time, or not in the future
    """
    if choice != "at":
        return pause_ends(now, zone).get(choice, ("", None))[1]
    try:
        found = datetime.fromisoformat(text.strip())
        end = (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongEnd(f"{text!r} is not a date and time, such as {now.astimezone(zone):%Y-%m-%dT18:00}") from None
    if end <= now:
        raise WrongEnd("this time is over; a pause ends in the future")
    return end
