"""Time spans as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nomaflow_console.views.durations import between, ticking, took

NOW = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)


def test_an_unknown_time_is_a_dash() -> None:
    """A page has a place for it in any case."""
    assert (took(None), took(192)) == ("–", "3 min 12 s")


def test_what_has_not_begun_takes_no_time() -> None:
    """A run that waits has not taken 0 s."""
    assert between(None, NOW) is None
    assert between(NOW, None, now=NOW + timedelta(seconds=5)) == 5


def test_a_time_that_goes_on_tells_the_script_where_it_began() -> None:
    """The page's script counts on without asking."""
    shown = str(ticking(NOW, now=NOW + timedelta(seconds=5)))
    assert shown == '<span class="ticks" data-since="2026-11-26T08:00:00.000Z">5 s</span>'
