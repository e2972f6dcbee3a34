"""Time spans as people read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow_console.views.durations import between, rough, ticking, took

NOW = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (-3.0, "0 ms"),
        (0.012, "12 ms"),
        (0.4, "0.4 s"),
        (9.96, "10 s"),
        (41.2, "41 s"),
        (59.7, "1 m 00 s"),
        (192, "3 m 12 s"),
        (3599.6, "1 h 00 m"),
        (7620, "2 h 07 m"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_time_is_shown_in_at_most_two_units(seconds: float | None, text: str) -> None:
    """The figures of the pages."""
    assert took(seconds) == text


@given(st.floats(min_value=0.0, max_value=1e8))
def test_what_is_shown_is_near_to_what_it_was(seconds: float) -> None:
    """Half of the smallest unit shown, rounded, is the most that is lost."""
    parts = [part.split(" ") for part in re.findall(r"[\d.]+ (?:ms|[smhd])", took(seconds))]
    shown = sum(float(number) * UNITS[unit] for number, unit in parts)
    smallest = UNITS[parts[-1][1]]
    assert abs(shown - seconds) <= smallest
    assert len(parts) <= 2


@given(st.floats(min_value=0.0, max_value=1e8), st.floats(min_value=0.0, max_value=1e8))
def test_a_longer_time_is_never_shown_as_a_shorter_one(one: float, other: float) -> None:
    """At the borders of units, rounding must not turn the order round."""

    def shown(seconds: float) -> float:
        return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+) (ms|[smhd])", took(seconds)))

    short, long = sorted((one, other))
    assert shown(short) <= shown(long)


@pytest.mark.parametrize(
    ("seconds", "text"), [(41.9, "41 s"), (840, "14 m"), (7300, "2 h"), (86400, "1 day"), (12 * 86400, "12 days")]
)
def test_a_rough_time_has_one_unit(seconds: float, text: str) -> None:
    """*waits 14 m* needs no seconds."""
    assert rough(seconds) == text


def test_what_has_not_begun_takes_no_time() -> None:
    """A run that waits has not taken 0 s."""
    assert between(None, NOW) is None
    assert between(NOW, None, now=NOW + timedelta(seconds=5)) == 5


def test_a_time_that_goes_on_tells_the_script_where_it_began() -> None:
    """The page's script counts on without asking."""
    shown = str(ticking(NOW, now=NOW + timedelta(seconds=5)))
    assert shown == '<span class="ticks" data-since="2026-11-26T08:00:00.000Z">5.0 s</span>'
