"""Time spans as people read them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow_api.time_spans import rough_span, time_span

UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3.0, "0 ms"),
        (0.012, "12 ms"),
        (0.4, "0.4 s"),
        (2.0, "2 s"),
        (9.96, "10 s"),
        (41.2, "41 s"),
        (59.7, "1 min"),
        (185, "3 min 05 s"),
        (192, "3 min 12 s"),
        (3599.6, "1 h"),
        (3659.4, "1 h"),
        (7620, "2 h 07 min"),
        (90_000, "1 d 1 h"),
        (1_000 * 86_400, "1,000 d"),
    ],
)
def test_a_time_is_shown_in_at_most_two_units(seconds: float, text: str) -> None:
    """The figures of the pages; a smaller unit of which there is none is not named."""
    assert time_span(seconds) == text


def parts(seconds: float) -> list[tuple[float, float]]:
    """Return the numbers of a text with the seconds of their units."""
    found = re.findall(r"([\d.,]+) ([a-z]+)", time_span(seconds))
    return [(float(number.replace(",", "")), UNITS[unit]) for number, unit in found]


def shown(seconds: float) -> float:
    """Return the seconds that a text says."""
    return sum(number * size for number, size in parts(seconds))


@given(st.floats(min_value=0.0, max_value=1e8))
def test_what_is_shown_is_near_to_what_it_was(seconds: float) -> None:
    """Less than the smallest unit shown is lost."""
    assert len(parts(seconds)) <= 2
    assert abs(shown(seconds) - seconds) <= parts(seconds)[-1][1]


@given(st.floats(min_value=0.0, max_value=1e8), st.floats(min_value=0.0, max_value=1e8))
def test_a_longer_time_is_never_shown_as_a_shorter_one(one: float, other: float) -> None:
    """At the borders of units, rounding must not turn the order round."""
    short, long = sorted((one, other))
    assert shown(short) <= shown(long)


@pytest.mark.parametrize(
    ("seconds", "text"), [(41.9, "41 s"), (840, "14 min"), (7300, "2 h"), (86400, "1 d"), (12 * 86400, "12 d")]
)
def test_a_rough_time_has_one_unit(seconds: float, text: str) -> None:
    """*waits 14 min* needs no seconds."""
    assert rough_span(seconds) == text
