"""Times are in one zone at a time, and the nights on which clocks change are told apart."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow_console.views.run_words import clock
from nomaflow_console.views.times import Zone, city, day_title, in_words, seconds_to_midnight, until, when, zone_info

PARIS = ZoneInfo("Europe/Paris")
NOW = datetime(2026, 11, 26, 10, 30, tzinfo=UTC)


def _shown(at: datetime | None, zone: str, **options: object) -> str:
    context = {"zone": Zone.of_cookie(zone), "now": NOW}
    return str(when(context, at, **options))  # type: ignore[arg-type]  # a context is a mapping


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (datetime(2026, 11, 26, 5, 2, tzinfo=UTC), "06:02"),
        (datetime(2026, 11, 25, 16, 40, tzinfo=UTC), "yesterday 17:40"),
        (datetime(2026, 11, 27, 1, 30, tzinfo=UTC), "tomorrow 02:30"),
        (datetime(2026, 11, 20, 4, 0, tzinfo=UTC), "20 Nov 05:00"),
        (datetime(2025, 11, 20, 4, 0, tzinfo=UTC), "20 Nov 2025 05:00"),
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "25 Oct 02:30 CEST"),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "25 Oct 02:30 CET"),
        (datetime(2026, 3, 29, 1, 30, tzinfo=UTC), "29 Mar 03:30"),
    ],
)
def test_a_time_reads_as_a_person_says_it(at: datetime, words: str) -> None:
    """Near days have names, and an hour that comes twice says which one it is."""
    assert in_words(at, PARIS, NOW) == words


@pytest.mark.parametrize(
    ("cookie", "mode", "name"),
    [
        ("Europe/Paris", "yours", "Europe/Paris"),
        ("UTC:Europe/Paris", "UTC", "UTC"),
        ("job:Europe/Paris", "job", "Europe/Paris"),
        ("UTC", "UTC", "UTC"),
        ("", "yours", "UTC"),
        ("job:", "job", "UTC"),
        ("Mars/Olympus", "yours", "UTC"),
        ("../../etc/passwd", "yours", "UTC"),
        ("Europe", "yours", "UTC"),
    ],
)
def test_the_cookie_says_the_zone(cookie: str, mode: str, name: str) -> None:
    """The zone is that of the browser, of the job, or UTC; what makes no sense counts as not told."""
    zone = Zone.of_cookie(cookie)
    assert (zone.mode, zone.name) == (mode, name)
    assert Zone.of_cookie(zone.cookie) == zone


@given(st.text(max_size=64))
def test_no_cookie_breaks_a_page(text: str) -> None:
    """Whatever a browser sends as its zone, a page can be shown."""
    assert Zone.of_cookie(text).info is not None


def test_each_time_carries_all_three_zones() -> None:
    """A time in a list shows one zone and has the others for whoever points at it."""
    html = _shown(datetime(2026, 11, 26, 7, 30, tzinfo=UTC), "Europe/Paris", timezone="America/New_York")
    assert ">08:30<" in html
    for text in ("08:30:00 CET", "02:30:00 EST", "07:30:00 UTC", "\nage\t"):
        assert text in html
    assert "\nin\t" in _shown(datetime(2026, 11, 27, 7, 30, tzinfo=UTC), "Europe/Paris")


def test_in_the_jobs_zone_a_time_names_it() -> None:
    """A time in its job's zone names the zone; a time without a job is in the browser's zone."""
    at = datetime(2026, 11, 26, 7, 30, tzinfo=UTC)
    assert ">02:30 New York<" in _shown(at, "job:Europe/Paris", timezone="America/New_York")
    assert ">08:30<" in _shown(at, "job:Europe/Paris")


def test_a_schedule_keeps_its_own_zone() -> None:
    """A time of a schedule is in the schedule's zone, whatever the page's is, and says so."""
    at = datetime(2026, 11, 26, 7, 30, tzinfo=UTC)
    assert ">02:30 New York<" in _shown(at, "Europe/Paris", timezone="America/New_York", own=True)
    assert ">08:30<" in _shown(at, "Europe/Paris", timezone="Europe/Paris", own=True)
    of_seconds = at.replace(second=20)
    assert ">08:30:20<" in _shown(of_seconds, "Europe/Paris", timezone="Europe/Paris", own=True)
    assert ">08:30<" in _shown(of_seconds, "Europe/Paris", timezone="Europe/Paris")


def test_what_is_not_known_is_a_dash() -> None:
    """An instant that is not known is a dash, and nothing counts down to it."""
    assert _shown(None, "Europe/Paris") == "–"
    assert str(until(SimpleNamespace(), None)) == "–"  # type: ignore[arg-type]  # is not looked at


def test_days_have_names() -> None:
    """The heading of a day says which day it is, and how near."""
    assert day_title(datetime(2026, 11, 27, tzinfo=PARIS), NOW) == "Tomorrow, Friday 27 November"
    assert day_title(datetime(2027, 1, 1, tzinfo=PARIS), NOW) == "Friday 1 January 2027"
    midnight = datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert day_title(datetime(2027, 1, 1, tzinfo=PARIS), midnight) == "Today, Friday 1 January"


def test_the_axis_of_several_days_names_them() -> None:
    """Its ticks may all be midnight."""
    context, at = {"zone": Zone.of_cookie("Europe/Paris")}, datetime(2026, 11, 27, 23, tzinfo=UTC)
    assert clock(context, at) == "00:00:00"  # type: ignore[arg-type]  # a context is a mapping
    assert clock(context, at, days=3) == "28 Nov 00:00"  # type: ignore[arg-type]


def test_a_zone_has_a_short_name() -> None:
    """A zone is called by its city."""
    assert city("America/Argentina/Buenos_Aires") == "Buenos Aires"


@pytest.mark.parametrize(
    ("now", "hours"),
    [("2026-11-28T22:00Z", 1), ("2026-11-28T23:00Z", 24), ("2026-10-24T22:00Z", 25), ("2027-03-27T23:00Z", 23)],
)
def test_a_day_ends_at_the_midnight_of_its_zone(now: str, hours: float) -> None:
    """A day on which clocks change has 23 or 25 hours."""
    assert seconds_to_midnight(ZoneInfo("Europe/Paris"), datetime.fromisoformat(now)) == hours * 3600


def test_the_two_passes_of_a_repeated_hour_stay_two_times() -> None:
    """The two passes of a repeated hour are different times, although datetime calls them equal."""
    paris = ZoneInfo("Europe/Paris")
    first, second = (datetime(2026, 10, 25, 2, 30, tzinfo=paris, fold=fold) for fold in (0, 1))
    assert first == second
    told = [in_words(each, paris, datetime(2026, 10, 25, 12, tzinfo=UTC)) for each in (first, second)]
    assert told == ["02:30 CEST", "02:30 CET"]


def test_names_of_zones_do_not_add_up() -> None:
    """A cookie may say any name, and each request another one."""
    for number in range(3_000):
        assert Zone.of_cookie(f"No/Zone_{number}").yours == ""
    assert zone_info.cache_info().currsize <= 1_024
