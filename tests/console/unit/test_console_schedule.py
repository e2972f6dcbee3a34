"""Days of the schedule: their length, their marks and their axis, also on the nights on which clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from starlette.requests import Request

from nomaflow.client.values import (
    FirePageView,
    FrequentScheduleView,
    ListedFireView,
    RunCountView,
    RunPageView,
    RunView,
    TriggerView,
)
from nomaflow_console.pages import schedule
from nomaflow_console.views.schedule import Day, days, marks_of, outcomes, strip

ZONES = ("Europe/Paris", "America/New_York", "Australia/Lord_Howe")
NOW = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)


def _fire(at: datetime, job_id: str = "etl", **more: object) -> ListedFireView:
    return ListedFireView(at=at, local=at.isoformat(), timezone="UTC", job_id=job_id, **more)  # type: ignore[arg-type]


def _run(at: datetime, state: str = "SUCCEEDED", seconds: float = 60) -> RunView:
    return RunView(
        run_id="run_1", job_id="etl", state=state, trigger=TriggerView(kind="cron"), queued_at=at, started_at=at,
        finished_at=at + timedelta(seconds=seconds),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("zone", "day", "hours", "change"),
    [
        ("Europe/Paris", date(2026, 3, 29), 23, "clocks go forward by 1 h"),
        ("Europe/Paris", date(2026, 10, 25), 25, "clocks go back by 1 h"),
        ("America/New_York", date(2026, 3, 8), 23, "clocks go forward by 1 h"),
        ("America/New_York", date(2026, 11, 1), 25, "clocks go back by 1 h"),
        ("Australia/Lord_Howe", date(2026, 10, 4), 23.5, "clocks go forward by 30 min"),
        ("UTC", date(2026, 3, 29), 24, ""),
        ("Europe/Paris", date(2026, 3, 30), 24, ""),
    ],
)
def test_both_nights_on_which_clocks_change_are_marked(zone: str, day: date, hours: float, change: str) -> None:
    """The day of a change has its real length, and says what clocks do."""
    (made,) = days(day, 1, ZoneInfo(zone), [], [])
    assert made.seconds == hours * 3600
    assert made.change.startswith(change)
    assert bool(made.change) == bool(change)


@pytest.mark.parametrize("zone", ZONES)
def test_each_fire_of_such_a_night_lies_on_its_day(zone: str) -> None:
    """Fires of every half hour over a change: each is on one day, none twice, none lost."""
    begin = datetime(2026, 3, 7, tzinfo=UTC)
    fires = [_fire(begin + timedelta(minutes=30 * number)) for number in range(48 * 30)]
    made = days(date(2026, 3, 6), 33, ZoneInfo(zone), fires, [])
    assert sum(len(day.fires) for day in made) == len(fires)
    for day in made:
        assert all(day.start <= fire.at < day.end for fire in day.fires if fire.at is not None)
        assert all(0 <= mark.begin < day.seconds for mark in marks_of(day, NOW))


def _day(*, fires: tuple[ListedFireView, ...] = (), runs: tuple[RunView, ...] = ()) -> Day:
    start = datetime(2026, 3, 28, tzinfo=UTC)
    return Day(start=start, end=start + timedelta(days=1), fires=fires, runs=runs)


def test_the_axis_has_what_was_and_what_comes() -> None:
    """Past runs have the colour of their state, coming fires say with what they collide; now is a line."""
    html = str(
        strip(
            _day(
                runs=(_run(NOW - timedelta(hours=2), "FAILED"),),
                fires=(
                    _fire(NOW + timedelta(hours=1), collides_with=("report",)),
                    _fire(NOW + timedelta(hours=2), paused=True),
                ),
            ),
            NOW,
        )
    )
    assert 'class="state-failed"' in html
    assert "10:00 etl: failed, 1 min" in html
    assert "13:00 etl, with report" in html
    assert 'class="fire-paused"' in html
    assert 'class="now" x1="50.000%"' in html


def test_marks_at_one_time_lie_below_each_other() -> None:
    """Fires of one minute do not hide each other."""
    at = NOW + timedelta(hours=1)
    html = str(strip(_day(fires=(_fire(at, "a"), _fire(at, "b"), _fire(at, "c"))), NOW))
    assert {f'y="{18 + 12 * lane}"' in html for lane in range(3)} == {True}


def test_a_row_of_many_fires_counts_each_of_them() -> None:
    """As the list of jobs does: one row of three skipped fires is three."""
    rows = [
        RunCountView(group="etl", state="SKIPPED", runs=1, fires=3, rows_affected=0),
        RunCountView(group="etl", state="SUCCEEDED", runs=2, fires=2, rows_affected=5),
        RunCountView(group="other", state="FAILED", runs=1, fires=1, rows_affected=0),
    ]
    found = outcomes(rows, ["etl", "none"])
    assert {job: {state: fires for _, state, fires in each} for job, each in found.items()} == {
        "etl": {"SUCCEEDED": 2, "SKIPPED": 3}, "none": {},
    }  # fmt: skip


def test_a_hostile_name_stays_text() -> None:
    """A job's name cannot leave its place in the drawing."""
    html = str(strip(_day(fires=(_fire(NOW, '"><script>alert(1)</script>'),)), NOW))
    assert "<script" not in html


class _BusyKernel:
    """A kernel with 150 jobs that fire often, the later ones more often, and one that does not."""

    async def list_fires(self, **_: Any) -> FirePageView:
        often = (
            FrequentScheduleView(job_id=f"often-{number:03}", schedule="", timezone="UTC", fires=50 + number)
            for number in range(150)
        )
        return FirePageView(frequent=tuple(often))

    async def list_runs_page(self, *, exclude_job_ids: list[str], **_: Any) -> RunPageView:
        assert len(exclude_job_ids) <= 100  # the kernel takes no more
        jobs = ["etl", *(f"often-{number:03}" for number in range(150))]
        left = (RunView(run_id=job, job_id=job, state="SUCCEEDED") for job in jobs if job not in exclude_job_ids)
        return RunPageView(runs=tuple(left))

    async def summarize_runs(self, **_: Any) -> list[RunCountView]:
        return []


async def test_more_jobs_than_a_list_can_leave_out_may_fire_often() -> None:
    """The page counts the fires of all of them, and lists the runs of the others alone."""
    kernels = SimpleNamespace(of=lambda _: _BusyKernel())
    request = SimpleNamespace(
        app=SimpleNamespace(state=SimpleNamespace(kernels=kernels)), state=SimpleNamespace(session=None)
    )
    choice = schedule.Choice(first=NOW.date(), no_day="", length=1, host="", tag="", job="", collisions=False)
    begin, end = NOW - timedelta(hours=12), NOW + timedelta(hours=12)
    _, runs, counts = await schedule._load(cast(Request, request), choice, begin, end, NOW)
    assert [run.job_id for run in runs.runs] == ["etl"]
    assert len(counts) == 150
