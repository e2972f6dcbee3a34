"""Rows of runs mark what their state does not say, and commands can be read as they are typed."""

from __future__ import annotations

import gc
import re
from datetime import UTC, datetime

import pytest

from nomaflow.client.values import CallerView, ReasonView, RunView, TriggerView
from nomaflow_console.kernel.status import KernelStatus
from nomaflow_console.rendering import environment
from nomaflow_console.views.run_filters import RunQuery
from nomaflow_console.views.run_rows import log_marks, run_rows
from nomaflow_console.views.times import Zone

WARNING, ERROR = 1 << 3, 1 << 4


@pytest.mark.parametrize(
    ("state", "levels", "marks"),
    [
        ("SUCCEEDED", WARNING, "warnings"),
        ("SUCCEEDED", WARNING | ERROR, "errors"),
        ("SUCCEEDED", 1 << 2, ""),
        ("FAILED", WARNING | ERROR, ""),
        ("CANCELED", WARNING, ""),
        ("CANCELED", WARNING | ERROR, "errors"),
        ("RUNNING", WARNING, "warnings"),
        ("RUNNING", 1 << 6, "errors"),  # of a level of one's own, above CRITICAL
    ],
)
def test_a_log_is_marked_where_the_state_does_not_say_so(state: str, levels: int, marks: str) -> None:
    """A host writes warnings into the log of each run that it stops: they mark nothing."""
    assert log_marks(RunView(run_id="r", job_id="j", state=state, log_levels=levels)) == marks


def test_no_word_of_a_command_is_broken_at_its_hyphens() -> None:
    """Each word is one box, so that a narrow page breaks between words; the text is what is copied."""
    made = environment().from_string('{{ command("nomaflow replay run_1 --from-failed") }}')
    html = made.render()
    code = html.partition("<code>")[2].partition("</code>")[0]
    assert "<span>--from-failed</span>" in code
    assert re.sub(r"<[^>]+>", "", code) == "nomaflow replay run_1 --from-failed"
    assert 'data-copy="nomaflow replay run_1 --from-failed"' in html


def test_a_run_that_a_row_tells_of_is_named_by_its_end() -> None:
    """A whole id would fill the cell; the end is a link to the run."""
    why = ReasonView(code="overlap", message="skipped: run_01m8g639c1wkza4ksdw26x9vy0 is still running")
    [row] = run_rows([RunView(run_id="r", job_id="j", state="SKIPPED", reason=why)], {}, RunQuery())
    made = environment().from_string("{{ run_row(row, none) }}")
    html = made.render(row=row, zone=Zone(), now=datetime(2026, 11, 27, tzinfo=UTC), kernel=KernelStatus())
    link = '<a href="/runs/run_01m8g639c1wkza4ksdw26x9vy0">run …9vy0</a>'
    assert f'title="run_01m8g639c1wkza4ksdw26x9vy0 is still running">{link} is still running</div>' in html


@pytest.mark.parametrize(
    ("state", "grants", "offers"),
    [
        ("MISSED", ("trigger *",), ["/run", "/run"]),
        ("FAILED", ("trigger *",), ["/replay", "/run"]),
        ("RUNNING", ("trigger *", "cancel *"), ["/cancel", "/run"]),
        ("RUNNING", ("cancel *",), ["/cancel"]),
        ("MISSED", ("cancel *",), []),
        ("FAILED", ("cancel *",), []),
    ],
)
def test_a_row_offers_what_its_reader_may_do(state: str, grants: tuple[str, ...], offers: list[str]) -> None:
    """One button for what is mostly done with such a run, and the job's form in its menu."""
    at = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
    [row] = run_rows([RunView(run_id="r", job_id="j", state=state, queued_at=at)], {}, RunQuery())
    made = environment().from_string("{% from 'parts/work.html' import cancel_menu %}{{ run_row(row, cancel_menu) }}")
    kernel = KernelStatus(caller=CallerView(name="ann", kind="user", grants=grants))
    html = made.render(row=row, zone=Zone(), now=at, kernel=kernel, csrf="token", here="/runs")
    assert re.findall(r'(?:href|action)="[^"]*(/run|/replay|/cancel)["?]', html) == offers


def test_no_text_of_a_run_becomes_markup_or_turns_the_line() -> None:
    """Names that people and code have given are escaped in every cell, title, address and copied command."""
    hostile = "\"><script>'&\u202e"
    at = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
    trigger = TriggerView(kind=hostile, by=hostile, at=at)
    run = RunView(
        run_id=hostile, job_id=hostile, state="FAILED", trigger=trigger, preset=hostile, error=hostile, queued_at=at,
        started_at=at, finished_at=at,
    )  # fmt: skip
    made = environment().from_string("{{ run_row(row, none) }}{{ button(text, href=text) }}")
    [row] = run_rows([run], {hostile: hostile}, RunQuery())
    html = made.render(row=row, text=hostile, zone=Zone(), now=at, kernel=KernelStatus())
    assert "<script" not in html
    assert "\u202e" not in html
    assert html.count("\\u202e") > 9
    assert not re.search(r"&(?!amp;|lt;|gt;|#34;|#39;)", html)


@pytest.mark.parametrize("number", [20, 21])
def test_runs_that_the_first_page_has_no_room_for_are_told_of(number: int) -> None:
    """Twenty runs that run are listed; the others are one link away, and their number is said."""
    at = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
    runs = [RunView(run_id=f"r{each}", job_id="j", state="RUNNING", started_at=at) for each in range(number)]
    html = environment().get_template("parts/jobs_running.html").render(
        running=runs, usual=dict.fromkeys([run.run_id for run in runs], (None, None)), more_open=False, csrf="token",
        here="/", zone=Zone(), now=at, kernel=KernelStatus(),
    )  # fmt: skip
    assert html.count("<li data-row") == 20
    assert ('<footer>and 1 more: <a href="/runs?state=RUNNING&amp;since=ever">all that run</a></footer>' in html) == (
        number > 20
    )


def test_a_page_leaves_nothing_for_the_garbage_collector() -> None:
    """Macros that are made anew for each page are cycles: the collector held a page up for 100 ms, now and then."""
    at = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
    run = RunView(run_id="r", job_id="j", state="RUNNING", queued_at=at, started_at=at)
    table = environment().get_template("parts/runs_table.html")

    def render() -> str:
        rows = run_rows([run], {}, RunQuery())
        return table.render(
            rows=rows, rows_sum=0, query=RunQuery(), older="", newer="", scanned_until=None, csrf="token", here="/runs",
            zone=Zone(), now=at, kernel=KernelStatus(),
        )  # fmt: skip

    assert 'value="token"><input type="hidden" name="next" value="/runs"' in render()
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            render()
        assert gc.collect() < 10
    finally:
        gc.enable()
