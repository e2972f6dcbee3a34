"""The ends that the form of a pause offers, by day, at night and at midnight."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from nomaflow_console.views.pause_ends import WrongEnd, example, pause_end, pause_ends

PARIS = ZoneInfo("Europe/Paris")


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS).astimezone(UTC)


@pytest.mark.parametrize(
    ("now", "titles"),
    [
        ("2026-11-27T15:00", ["until tomorrow 09:00", "until Monday 30 Nov 09:00"]),  # a Friday
        ("2026-11-28T00:43", ["until today 09:00", "until Monday 30 Nov 09:00"]),
        ("2026-11-29T15:00", ["until tomorrow 09:00"]),  # which is that Monday
        ("2026-11-30T00:43", ["until today 09:00", "until Monday 7 Dec 09:00"]),
        ("2026-11-30T09:00", ["until tomorrow 09:00", "until Monday 7 Dec 09:00"]),
    ],
)
def test_the_next_morning_is_that_of_the_night_and_no_end_is_offered_twice(now: str, titles: list[str]) -> None:
    """A person who pauses a job after midnight means the morning that comes."""
    ends = pause_ends(_at(now), PARIS)
    assert list(ends.values())[2:-1] == titles
    instants = [pause_end(choice, "", _at(now), PARIS) for choice in list(ends)[2:-1]]
    assert all(each is not None and each.astimezone(PARIS).hour == 9 for each in instants)


def test_a_choice_means_the_same_after_midnight() -> None:
    """A form that was shown before it and is sent after it."""
    shown, sent = _at("2026-11-27T23:59"), _at("2026-11-28T00:01")
    choice = next(value for value, title in pause_ends(shown, PARIS).items() if "tomorrow" in title)
    assert pause_end(choice, "", sent, PARIS) == _at("2026-11-28T09:00")


def test_what_is_no_choice_is_no_pause_without_an_end() -> None:
    """A form of an older page, or none at all, is refused."""
    now = _at("2026-11-27T15:00")
    assert pause_end("open", "", now, PARIS) is None
    for choice in ("", "tomorrow", "2026-11-27T09:00+01:00"):
        with pytest.raises(WrongEnd):
            pause_end(choice, "", now, PARIS)


def test_the_example_is_of_the_page_s_day() -> None:
    """In Paris it is tomorrow already when UTC's day still lasts."""
    assert example(_at("2026-11-29T00:43"), PARIS) == "2026-11-29T18:00"
