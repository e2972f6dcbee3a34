"""Times: one zone at a time, told by the browser and kept in a cookie; each time carries all three."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from nomaflow_console.views.durations import took

_YOURS, _JOB, _UTC = ("yours", "job", "UTC")


@lru_cache(maxsize=1_024)
def zone_info(name: str) -> tzinfo | None:
    """Return a time zone by its IANA name; None if there is none of that name."""
    try:
        return ZoneInfo(name) if name else None
    except (KeyError, ValueError, OSError):  # unknown, malformed, or the name of a folder
        return None


def city(name: str) -> str:
    """Return the short name of a zone: ``Buenos Aires`` for ``America/Argentina/Buenos_Aires``."""
    return name.rsplit("/", 1)[-1].replace("_", " ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Zone:
    """The time zone of a page.

    :param mode: ``yours``, ``job`` or ``UTC``
    :param yours: the browser's zone, an IANA name; empty if it is not known
    """

    mode: str = _YOURS
    yours: str = ""

    @classmethod
    def of_cookie(cls, text: str) -> Zone:
        """Return the zone that a cookie says: ``Europe/Paris``, ``UTC:Europe/Paris`` or ``job:Europe/Paris``.

        What is not understood counts as not told.
        """
        mode, colon, yours = text.rpartition(":")
        if not colon and yours in (_JOB, _UTC):
            mode, yours = yours, ""
        known = yours if zone_info(yours) is not None else ""
        return cls(mode=mode if mode in (_JOB, _UTC) else _YOURS, yours=known)

    @property
    def cookie(self) -> str:
        """The cookie's value."""
        return f"{self.mode}:{self.yours}" if self.mode != _YOURS else self.yours

    @property
    def own(self) -> tzinfo:
        """The browser's zone; UTC if it is not known."""
        return zone_info(self.yours) or UTC

    @property
    def info(self) -> tzinfo:
        """The zone of times that belong to no job."""
        return UTC if self.mode == _UTC else self.own

    @property
    def of_jobs(self) -> bool:
        """True if a time that belongs to a job is shown in the job's zone."""
        return self.mode == _JOB

    @property
    def name(self) -> str:
        """The name of :attr:`info`: an IANA name, or ``UTC``."""
        return "UTC" if self.mode == _UTC or not self.yours else self.yours

    @property
    def short(self) -> str:
        """The name in the header."""
        return "each job's zone" if self.mode == _JOB else city(self.name)

    @property
    def choices(self) -> list[tuple[Zone, str, str]]:
        """The choices of the menu, each with its name and a remark."""
        told = (
            (_YOURS, "Your zone", self.yours or "not told yet"),
            (_JOB, "The job's zone", "as its schedule"),
            (_UTC, "UTC", ""),
        )
        return [(replace(self, mode=mode), name, remark) for mode, name, remark in told]

    def for_job(self, timezone: str) -> tuple[tzinfo, str]:
        """Return the zone of a job's time and its name.

        :param timezone: the job's zone, an IANA name; empty if it has none
        """
        job = zone_info(timezone) if self.mode == _JOB else None
        return (job, timezone) if job is not None else (self.info, self.name)


def in_words(at: datetime, zone: tzinfo, now: datetime, *, seconds: bool = False) -> str:
    """Return a time as a person says it: ``06:02``, ``yesterday 17:40``, ``20 Nov 05:00``, ``20 Nov 2025 05:00``.

    An hour that the clock shows twice is told apart by the zone's abbreviation: ``02:30 CEST``.
    """
    # In UTC: two times of an hour that a clock shows twice are equal in its own zone.
    return _in_words(at.astimezone(UTC), zone, now.astimezone(zone).date(), seconds)


@lru_cache(maxsize=4096)
def _in_words(at: datetime, zone: tzinfo, today: date, seconds: bool) -> str:  # noqa: FBT001  # a key of the cache
    local = at.astimezone(zone)
    clock = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        clock = f"{clock} {local:%Z}"
    days = (local.date() - today).days
    if days == 0:
        return clock
    if days in (-1, 1):
        return f"{'yesterday' if days < 0 else 'tomorrow'} {clock}"
    year = f" {local.year}" if local.year != today.year else ""
    return f"{local.day} {local:%b}{year} {clock}"


def seconds_to_midnight(zone: tzinfo, now: datetime | None = None) -> float:
    """Return the time to the end of the day on the clock of a zone."""
    at = now or datetime.now(UTC)
    midnight = datetime.combine(at.astimezone(zone).date() + timedelta(days=1), time.min, zone)
    return (midnight.astimezone(UTC) - at).total_seconds()


def day_title(day: datetime, now: datetime) -> str:
    """Return the heading of a day: ``Today, Thursday 26 November``."""
    today = now.astimezone(day.tzinfo).date()
    near = {-1: "Yesterday, ", 0: "Today, ", 1: "Tomorrow, "}.get((day.date() - today).days, "")
    year = f" {day.year}" if day.year != today.year else ""
    return f"{near}{day:%A} {day.day} {day:%B}{year}"


def _whole(at: datetime, zone: tzinfo) -> str:
    local = at.astimezone(zone)
    return f"{local:%a} {local.day} {local:%b %Y %H:%M:%S %Z}"


def _in_all_zones(at: datetime, zone: Zone, timezone: str) -> tuple[str, str]:
    """Return a time in the reader's zone, its job's and UTC, as text that is escaped: with labels, and without."""
    told = [("yours" if zone.yours else "yours (not told)", _whole(at, zone.own))]
    job = zone_info(timezone)
    if job is not None:
        told.append((f"job, {city(timezone)}", _whole(at, job)))
    told.append(("UTC", _whole(at, UTC)))
    return escape("\n".join(f"{label}\t{value}" for label, value in told)), escape(" · ".join(each for _, each in told))


@pass_context
def when(
    context: Context,
    at: datetime | float | None,
    *,
    timezone: str = "",
    seconds: bool = False,
    own: bool = False,
    clock: bool = False,
    focus: bool = False,
) -> Markup:
    """Return a time as HTML, in the page's zone; ``–`` for None.

    :param at: an instant; seconds since the epoch are one too
    :param timezone: the zone of the job that it belongs to, an IANA name
    :param seconds: True to show the seconds
    :param own: True for a time of a schedule, which is shown in the schedule's own zone whatever the page's is, and
        with its seconds if it has some
    :param clock: True for the time of day only, to the second: the day is said elsewhere
    :param focus: True if Tab stops at it; in a list its row does
    """
    if at is None:
        return Markup("–")
    instant = datetime.fromtimestamp(at, UTC) if isinstance(at, int | float) else at
    zone: Zone = context["zone"]
    now: datetime = context["now"]
    schedule = zone_info(timezone) if own else None
    info, name = (schedule, timezone) if schedule is not None else zone.for_job(timezone)
    text = in_words(instant, info, instant if clock else now, seconds=seconds or clock or (own and instant.second > 0))
    # A time in another zone than the header names says so.
    if name != zone.name or (zone.of_jobs and timezone):
        text = f"{text} {city(name)}"
    return _element(instant.astimezone(UTC), text, zone, timezone, instant <= now, focus)


@lru_cache(maxsize=4096)
def _element(utc: datetime, text: str, zone: Zone, timezone: str, over: bool, focus: bool) -> Markup:  # noqa: FBT001  # a key of the cache
    """Return the element of a time. The page's script counts the age, which would be wrong soon."""
    told, title = _in_all_zones(utc, zone, timezone)
    told, tab = f"{told}\n{'age' if over else 'in'}\t", ' tabindex="0"' if focus else ""
    at = utc.isoformat(timespec="seconds").replace("+00:00", "Z")
    return Markup(f'<time datetime="{at}" data-at="{told}"{tab} title="{title}">{escape(text)}</time>')  # noqa: S704  # escaped above


@pass_context
def until(context: Context, at: datetime | None) -> Markup:
    """Return the time that is left until an instant as HTML that the page's script counts down; ``–`` for None."""
    if at is None:
        return Markup("–")
    now: datetime = context["now"]
    return Markup('<span class="ticks" data-until="{}">{}</span>').format(
        at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        took(max((at - now).total_seconds(), 0.0)),
    )
