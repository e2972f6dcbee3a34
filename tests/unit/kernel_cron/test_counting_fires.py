"""Fires as bits against the fires themselves, and the two DST nights."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow_project.cron import CronExpression, zone
from nomaflow_project.cron.fire_counts import dst_of_fire, fire_bits, fires_a_day

_TEXTS = (
    "* * * * *", "*/7 * * * *", "*/20 */3 * * 1-5", "0 * 29 3 *", "*/30 1-3 L * *", "5 */2 * * 0",
    "0-59/5 1-3 * * *", "0-59 2 * * 6,0", "*/9 0-3 29 3 * */40", "5-50/5 2 * * *",
)  # fmt: skip
_ZONES = ["Europe/Paris", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "UTC"]
_NIGHTS = [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC), datetime(2026, 4, 5, tzinfo=UTC)]


@settings(max_examples=150, deadline=None)
@given(
    text=st.sampled_from(_TEXTS),
    name=st.sampled_from(_ZONES),
    night=st.sampled_from(_NIGHTS),
    begin=st.integers(-60 * 60 * 24 * 3, 60 * 60 * 24),
    length=st.integers(0, 60 * 60 * 24 * 4),
)
def test_bits_are_the_seconds_of_the_fires(text: str, name: str, night: datetime, begin: int, length: int) -> None:
    """For both kinds of expressions, on the nights on which clocks change too."""
    expression, tz = CronExpression.parse(text), zone(name)
    start = night + timedelta(seconds=begin)
    end = start + timedelta(seconds=length)
    fires = takewhile(lambda at: at < end, expression.iter_after(start - timedelta(microseconds=1), tz))
    assert fire_bits(expression, start, end, tz) == sum(1 << (at - start) // timedelta(seconds=1) for at in fires)


def test_a_month_of_seconds_is_counted_without_making_them() -> None:
    """31 days of a fire each second: 2,678,400, in a moment; one hour fewer in the spring, one more in autumn."""
    every_second, paris = CronExpression.parse("* * * * * *"), zone("Europe/Paris")
    began = process_time()
    for month, days in ((3, 31), (7, 31), (10, 31)):
        begin = datetime(2026, month, 1, tzinfo=paris)
        end = datetime(2026, month, days, tzinfo=paris) + timedelta(days=1)
        hours = 24 * days + {3: -1, 7: 0, 10: 1}[month]
        assert fire_bits(every_second, begin, end, paris).bit_count() == hours * 3600
    assert process_time() - began < 0.5
    assert fires_a_day(every_second) == 86_400
    assert fires_a_day(CronExpression.parse("*/30 * * * *")) == 48


@pytest.mark.parametrize(
    ("text", "at", "told"),
    [
        ("30 2 * * *", datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "gap"),
        ("30 3 * * *", datetime(2026, 3, 29, 1, 30, tzinfo=UTC), ""),
        ("30 2 * * *", datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "repeated"),
        ("*/30 * * * *", datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "repeated"),
        ("30 3 * * *", datetime(2026, 10, 25, 2, 30, tzinfo=UTC), ""),
    ],
)
def test_a_fire_of_a_dst_night_is_told(text: str, at: datetime, told: str) -> None:
    """One that the wall clock skips, and one whose time it shows twice."""
    expression, paris = CronExpression.parse(text), zone("Europe/Paris")
    assert next(iter(expression.iter_after(at - timedelta(seconds=1), paris))) == at
    assert dst_of_fire(expression, at, paris) == told
