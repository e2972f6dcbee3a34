"""Every event of docs/events.md is a sentence on the page Activity."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow.client.values import EventView, ReasonView
from nomaflow_console.views.activity import deed_of, of_days, person, shown_kinds

PAGE = (Path(__file__).parents[3] / "docs" / "events.md").read_text()
KINDS = sorted(set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", PAGE, re.M)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    "why",
    "trigger",
    "error",
    "rows_affected",
    "jobs",
    "problems",
    "progress",
    "added_job_ids",
    "message",
    "machine",
)


def _event(kind: str, **more: Any) -> EventView:
    return EventView(seq=1, at=datetime(2026, 11, 26, tzinfo=UTC), kind=kind, **more)


def _told(event: EventView, of: str = "") -> str:
    """Return an event as the page tells it.

    :param of: the name of what it is about
    """
    deed = deed_of(event)
    return " ".join(f"{deed.what} {of}{deed.then} {deed.detail}".split())


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_words_of_its_own(kind: str) -> None:
    """No event is told by the name of its kind."""
    assert _told(_event(kind)) not in ("", kind, kind.replace(".", " ").replace("_", " "))


def test_the_events_are_those_of_the_page() -> None:
    """The test above is about something."""
    assert len(KINDS) > 15


def test_every_kind_but_progress_is_listed() -> None:
    """The page leaves out no kind that the kernel has, but the progress of steps."""
    listed = [kind for kind in KINDS if any(f"{kind}.".startswith(f"{each}.") for each in shown_kinds(()))]
    assert listed == [kind for kind in KINDS if kind != "attempt.progress"]


def test_who_did_it_is_named_before_the_principal() -> None:
    """A person stands before the principal that called for him."""
    assert str(person("owner (for ann)")) == '<b>ann</b> <span class="quiet">(owner)</span>'
    assert str(person("ann")) == "<b>ann</b>"
    assert "<script>" not in str(person("<script> (for <script>)"))


def test_why_somebody_cancelled_is_told() -> None:
    """The words of the person who cancelled stand in quotes."""
    assert deed_of(_event("run.cancel_requested", data={"why": "wrong tenant"})).detail == "“wrong tenant”"


@pytest.mark.parametrize(
    ("message", "detail"),
    [("jobs.toml:3: no ']]'", "jobs.toml:3: no ']]'"), ("1 job would go", "1 job would go: no ']]'"), ("", "no ']]'")],
)
def test_why_a_load_was_refused_is_told_once(message: str, detail: str) -> None:
    """The host's message usually has the first problem in it."""
    data = {"message": message, "problems": [{"message": "no ']]'"}]}
    assert deed_of(_event("host.reload_refused", data=data)).detail == detail


@pytest.mark.parametrize(
    ("kind", "words"),
    [("cli", "started on the command line"), ("api", "started through the API"), ("manual", "started "),
     ("cron", "fired "), ("replay", "replayed ")],
)  # fmt: skip
def test_the_way_by_which_a_run_was_started_is_no_person(kind: str, words: str) -> None:
    """It is told in words that nobody takes for a name."""
    deed = deed_of(_event("run.queued", data={"trigger": kind}))
    assert f"{deed.what} {deed.detail}" == words


@pytest.mark.parametrize(
    ("state", "more", "told"),
    [
        ("SUCCEEDED", {"rows_affected": 3}, "etl succeeded: 3 rows"),
        ("SUCCEEDED", {}, "etl succeeded"),
        ("FAILED", {"error": "no rows"}, "etl failed: no rows"),
        ("CANCELED", {}, "etl was canceled"),
        ("MISSED", {}, "etl was missed"),
        ("NEW", {}, "etl ended new"),
    ],
)
def test_a_run_ends_as_one_says_it(state: str, more: dict[str, Any], told: str) -> None:
    """The run is the subject of the sentence, and how it ended its verb."""
    assert _told(_event("run.finished", run_state=state, data=more), of="etl") == told
    assert _told(_event("run.started"), of="etl") == "etl began"


def test_a_person_does_not_end_a_run_that_was_skipped() -> None:
    """A skipped run is told as one that its person started and that was skipped, not as one that they ended."""
    why = ReasonView(code="overlap", message="skipped: run_1 is running")
    event = _event("run.finished", run_state="SKIPPED", by="owner (for ann)", reason=why)
    assert _told(event, of="etl") == "started etl, which was skipped: run_1 is running"
    assert _told(_event("run.finished", run_state="SKIPPED"), of="etl") == "etl was skipped"


@pytest.mark.parametrize(
    ("progress", "told"),
    [
        ({"done": 109, "total": 5000}, "load, try 1, in etl reached 109 of 5,000"),
        ({"done": 109, "total": 5000, "message": "chunk 3"}, "load, try 1, in etl: chunk 3"),
        ({}, "load, try 1, in etl goes on"),
    ],
)
def test_progress_is_told_as_one_says_it(progress: dict[str, Any], told: str) -> None:
    """The place that a try has reached stands behind the run that it is of."""
    event = _event("attempt.progress", step="load", attempt=1, data={"progress": progress})
    assert _told(event, of="etl") == told


def test_a_try_ends_as_one_says_it() -> None:
    """With a verb and not with the word of its sign."""
    event = _event("attempt.finished", step="load", attempt=1, attempt_state="LOST")
    assert _told(event, of="etl") == "load, try 1, was lost in etl"


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5))
def test_no_data_breaks_the_page(kind: str, data: dict[str, Any]) -> None:
    """Whatever data an event has, from another version of the kernel too, it is a sentence."""
    assert _told(_event(kind, data=data))


def test_each_event_is_listed_once_though_clocks_go_back_over_midnight() -> None:
    """Events are in the order of their numbers; a kernel whose clock is set begins a day a second time."""
    midnight = datetime(2026, 11, 26, tzinfo=UTC)
    times = [midnight + timedelta(seconds=seconds) for seconds in (2, -1, 1, -2)]
    events = [EventView(seq=9 - place, at=at, kind="run.started") for place, at in enumerate(times)]
    days = of_days(events, UTC)
    assert [event.seq for _, events in days for event in events] == [9, 8, 7, 6]
    assert [first for first, _ in days] == times
