"""The address of the page of runs holds its whole state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow_console.views.run_filters import COLUMNS, SPANS, TRIGGERS, RunQuery, filter_name
from nomaflow_console.views.states import RUN_STATES

NOW = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
NAMES = st.text("abcdefgh-_.&=?%é", min_size=1, max_size=8).map(str.strip).filter(bool)
QUERIES = st.builds(
    RunQuery,
    states=st.lists(st.sampled_from(RUN_STATES), unique=True).map(tuple),
    triggers=st.lists(st.sampled_from(TRIGGERS), unique=True).map(tuple),
    job=NAMES | st.just(""),
    host=NAMES | st.just(""),
    by=NAMES | st.just(""),
    since=st.sampled_from([*SPANS, "90m", "2026-11-26T08:00:00+00:00"]),
    level=st.sampled_from(["", "warning", "error"]),
    hidden=st.lists(NAMES, unique=True, max_size=3).map(tuple),
    off=st.lists(st.sampled_from(list(COLUMNS)), unique=True).map(tuple),
    runs=st.lists(NAMES, unique=True, max_size=3).map(tuple),
    before=st.sampled_from(["", "run_1"]),
)


@given(QUERIES)
def test_an_address_leads_back_to_the_same_page(query: RunQuery) -> None:
    """Back, reload, and a pasted link."""
    assert RunQuery.of(parse_qsl(query.to_query())) == (query, [])


@given(QUERIES)
def test_each_filter_can_be_taken_off_alone(query: RunQuery) -> None:
    """The others stay."""
    chips = [*query.chips(UTC, NOW), *query.hidden_chips()]
    for chip in chips:
        left, problems = RunQuery.of(parse_qsl(chip.without.partition("?")[2]))
        assert problems == []
        assert len([*left.chips(UTC, NOW), *left.hidden_chips()]) == len(chips) - 1


@given(st.lists(st.tuples(st.text(max_size=10), st.text(max_size=20)), max_size=8))
def test_any_address_is_a_page(pairs: list[tuple[str, str]]) -> None:
    """A filter that is not understood is reported or left out; the page is shown."""
    query, _ = RunQuery.of(pairs)
    query.filters(NOW)


@pytest.mark.parametrize(
    ("pair", "problem"),
    [
        (("state", "DONE"), "there is no state 'DONE'"),
        (("trigger", "moon"), "there is no trigger 'moon'; there are cron, manual, api, cli, call_job, replay"),
        (("off", "job"), "there is no column 'job'; there are started, took, rows, why, trigger, run"),
        (("since", "tuesday"), "since: 'tuesday' is no time; write 24h, 7d, ever, or 2026-11-26T08:00"),
        (("level", "loud"), "there is no level 'loud'; there are warning, error"),
    ],
)
def test_a_wrong_filter_is_told_with_the_right_ones(pair: tuple[str, str], problem: str) -> None:
    """The page is shown all the same."""
    _, (told,) = RunQuery.of([pair])
    assert told.startswith(problem)


def test_another_filter_begins_on_the_first_page() -> None:
    """The run that a page went on after may not match any more."""
    query = RunQuery(before="run_1")
    assert query.address(job="a") == "/runs?job=a"
    assert query.address(before="run_2") == "/runs?older_than=run_2"


def test_a_span_is_counted_from_now() -> None:
    """24 hours unless something else is said."""
    assert RunQuery().since_at(NOW) == NOW - timedelta(hours=24)
    assert RunQuery(since="90m").since_at(NOW) == NOW - timedelta(minutes=90)
    assert RunQuery(since="ever").since_at(NOW) is None
    assert RunQuery.of([("until", "1h")])[0].filters(NOW)["until"] == NOW - timedelta(hours=1)


def test_a_time_that_is_typed_in_is_one_of_the_pages_zone_and_told_in_it() -> None:
    """As the header says. The address holds its offset, so that it means the same elsewhere."""
    typed = [("since", "2026-11-26T08:00"), ("until", "2026-11-26T09:30")]
    paris, problems = RunQuery.of(typed, ZoneInfo("Europe/Paris"))
    assert problems == []
    assert paris.since_at(NOW) == datetime(2026, 11, 26, 7, tzinfo=UTC)
    assert paris.filters(NOW)["until"] == datetime(2026, 11, 26, 8, 30, tzinfo=UTC)
    assert RunQuery.of(parse_qsl(paris.to_query()), ZoneInfo("Asia/Tokyo")) == (paris, [])
    on_that_day = datetime(2026, 11, 26, 20, tzinfo=UTC)
    assert paris.period(ZoneInfo("Europe/Paris"), on_that_day) == "since 08:00"
    assert [chip.text for chip in paris.chips(ZoneInfo("Europe/Paris"), on_that_day)] == ["until 09:30"]


def test_warnings_include_what_is_worse() -> None:
    """A log with an error has something to look at too."""
    assert RunQuery(level="warning").filters(NOW)["log_levels"] == 0b1111000
    assert RunQuery(level="error").filters(NOW)["log_levels"] == 0b1110000


@pytest.mark.parametrize("by", ["owner", "alice", "alice (for bob)", "owner (for a\u202eb)", "owner (for ) x", ""])
def test_what_is_no_note_of_the_owner_is_filtered_by_as_it_is(by: str) -> None:
    """Of the owner's only the person is named, if they can be shown as they are."""
    assert filter_name(by) == by
    assert filter_name("owner (for ann)") == "ann"
