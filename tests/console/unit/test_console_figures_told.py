"""Figures of a job's runs are told of the runs that they are about."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from nomaflow.client.values import FoldView, JobStatsView, JobView, RecentRunView
from nomaflow_console.kernel.status import KernelStatus
from nomaflow_console.rendering import environment
from nomaflow_console.views.figures_told import ended_ok, without_run
from nomaflow_console.views.job_rows import JobQuery, job_sign
from nomaflow_console.views.times import Zone

NOW = datetime(2026, 11, 28, 4, tzinfo=UTC)


def _recent(*runs: tuple[str, float | None]) -> JobStatsView:
    made = [
        RecentRunView(
            run_id=f"run_{number}", state=state, queued_at=NOW, started_at=NOW if seconds is not None else None,
            finished_at=NOW + timedelta(seconds=seconds) if seconds else None,
        )
        for number, (state, seconds) in enumerate(runs)
    ]  # fmt: skip
    return JobStatsView(job_id="etl", recent=tuple(made), median_seconds=9, p95_seconds=9, median_rows=1)


OK, SKIPPED = ("SUCCEEDED", 5.0), ("SKIPPED", None)


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([OK, SKIPPED, OK, SKIPPED], "100 % of the last 2 runs that took place were ok"),
        ([("RUNNING", 0.0), ("FAILED", 5.0)], "the last run that took place was not ok"),
        (
            [OK, ("FAILED", None), ("CANCELED", 5.0), ("CANCELED", None)],
            "33 % of the last 3 runs that took place were ok",
        ),
        ([("RUNNING", 0.0), SKIPPED, ("MISSED", None)], ""),
        ([], ""),
    ],
)
def test_the_share_of_good_runs_is_of_those_that_ran_and_ended(runs: list[tuple[str, float | None]], text: str) -> None:
    """A run that was skipped, missed, canceled before it began, or is still open, is neither good nor bad."""
    assert ended_ok(_recent(*runs)) == text


def test_what_is_usual_for_a_run_is_what_the_others_took() -> None:
    """A run is not compared with itself, and the only one with none."""
    stats = without_run(_recent(("SUCCEEDED", 100.0), OK, ("SUCCEEDED", 7.0), ("FAILED", 1.0), SKIPPED), "run_0")
    assert stats is not None
    assert (stats.median_seconds, stats.p95_seconds) == (6.0, 7.0)
    alone = without_run(_recent(OK), "run_0")
    assert alone is not None
    assert (alone.median_seconds, alone.p95_seconds) == (None, None)
    assert without_run(None, "run_0") is None


def _part(name: str, **context: object) -> str:
    return environment().get_template(f"parts/{name}.html").render(now=NOW, zone=Zone(), **context)


def test_the_head_of_a_job_counts_its_rows_and_runs() -> None:
    """One row is no rows, and runs that were skipped are not among the good ones."""
    job = JobView(job_id="etl", host="team", valid=True)
    html = _part(
        "job_head", job=job, sign=job_sign(job, None), stats=_recent(OK, SKIPPED, OK), kernel=KernelStatus(), fires=(),
        here="", csrf="", now_text="",
    )  # fmt: skip
    assert "<span>usually 1 row</span>" in html
    assert "100 % of the last 2 runs that took place were ok" in html


@pytest.mark.parametrize(("count", "seconds", "text"), [(1, 0, ""), (3, 10, "3 fires from 05:00:00 to 05:00:10")])
def test_a_run_that_stands_for_fires_says_when_they_were(count: int, seconds: float, text: str) -> None:
    """One fire has one time, and fires of one minute are told apart."""
    fold = FoldView(count=count, first=NOW, last=NOW + timedelta(seconds=seconds))
    made = environment().from_string("{{ fires_of(fold, timezone) }}")
    html = made.render(fold=fold, timezone="", now=NOW, zone=Zone(yours="Europe/Paris"))
    assert re.sub("<[^>]+>", "", html) == text


def test_a_tally_without_an_ended_run_does_not_say_that_none_runs() -> None:
    """It counts runs that are over: one may run in the first minutes of a night."""
    html = _part("jobs_tally", query=JobQuery(), spans={"night": "last night"}, since=NOW, tally=[])
    assert "No run has ended since then." in html
