"""Bars, grids and calendars of runs: shape, words and links, whatever the runs are like."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from nomaflow.client.values import AttemptView, FoldView, RecentRunView, RunView, StepView, TriggerView
from nomaflow_console.views.calendar import recent_days
from nomaflow_console.views.run_grid import run_grid
from nomaflow_console.views.sparkline import HEIGHT, sparkline
from nomaflow_console.views.states import RUN_STATES

NOW = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
TIMES = st.none() | st.integers(-(10**6), 10**6).map(lambda seconds: NOW + timedelta(seconds=seconds))
RECENT = st.builds(
    RecentRunView,
    run_id=st.just("run_1"),
    state=st.sampled_from(RUN_STATES) | st.text("<>&\"'ab", max_size=4),
    queued_at=TIMES,
    started_at=TIMES,
    finished_at=TIMES,
)


@given(st.lists(RECENT, max_size=30))
def test_any_runs_are_bars_inside_of_the_picture(recent: list[RecentRunView]) -> None:
    """Clocks that differ, runs that never started, and states of a later kernel included."""
    picture = ET.fromstring(str(sparkline(recent, now=NOW, zone=UTC)))
    links = picture.findall("a")
    assert len(links) == min(len(recent), 20)
    for bar in picture.iter("rect"):
        assert float(bar.get("y", "0")) >= 0
        assert float(bar.get("y", "0")) + float(bar.get("height", "0")) <= HEIGHT + 0.2


def test_each_state_has_a_shape_of_its_own() -> None:
    """A reader who cannot tell the colours apart sees which run failed."""
    shapes = set()
    for state in RUN_STATES:
        run = RecentRunView(run_id="r", state=state, queued_at=NOW, started_at=NOW, finished_at=NOW)
        picture = ET.fromstring(str(sparkline([run], now=NOW, zone=UTC)))
        mark = next(each for each in picture.find("a") if each.get("class") == "fill")  # type: ignore[union-attr]
        shapes.add((mark.tag, mark.get("d", "")[:40]))
    assert len(shapes) == len(RUN_STATES)


def test_the_bars_say_in_words_what_they_show() -> None:
    """For those who hear them."""
    runs = [RecentRunView(run_id="r", state=state, queued_at=NOW) for state in ("FAILED", "SUCCEEDED", "SUCCEEDED")]
    picture = ET.fromstring(str(sparkline(runs, now=NOW, zone=UTC)))
    assert picture.get("aria-label") == "last 3 runs: 1 failed, 2 ok"


def test_bars_of_runs_that_are_over_are_drawn_once_and_those_of_running_ones_each_time() -> None:
    """A page draws the same thousand bars again and again; a run that goes on has taken longer by then."""
    begun = {"queued_at": NOW, "started_at": NOW}
    over = (
        RecentRunView(run_id="r2", state="SUCCEEDED", finished_at=NOW + timedelta(seconds=9), **begun),
        RecentRunView(run_id="r1", state="FAILED", finished_at=NOW + timedelta(seconds=3), **begun),
    )
    later = NOW + timedelta(hours=1)
    assert sparkline(over, now=later, zone=UTC) is sparkline(list(over), now=NOW, zone=UTC)
    running = (RecentRunView(run_id="r3", state="RUNNING", **begun), *over)
    assert "1 h" in sparkline(running, now=later, zone=UTC)
    assert "5 s" in sparkline(running, now=NOW + timedelta(seconds=5), zone=UTC)


def test_the_time_of_a_bar_is_in_the_pages_zone() -> None:
    """As all times of a page are, and said like them."""
    run = RecentRunView(run_id="r", state="SUCCEEDED", queued_at=NOW.replace(hour=16))
    for zone, told in ((UTC, "16:00"), (ZoneInfo("Asia/Tokyo"), "tomorrow 01:00")):
        assert f"<title>✓ ok · {told}</title>" in sparkline([run], now=NOW, zone=zone)


def test_a_grid_has_every_step_of_now_and_of_then() -> None:
    """A step that was renamed since is still shown, and one that was not reached says so. A name may hold anything."""
    old = StepView(name="a&b #1", attempts=(AttemptView(attempt_key="k", attempt=1, state="FAILED"),))
    grid = run_grid([RunView(run_id="r", job_id="j", state="FAILED", steps=(old,), started_at=NOW)], ["new"], NOW)
    assert grid.steps == ["new", "a&b #1"]
    assert [cell.href for cell in grid.columns[0].cells] == ["/runs/r", "/runs/r?step=a%26b%20%231"]
    assert [cell.look.word for cell in grid.columns[0].cells] == ["not reached", "failed"]


def test_days_are_those_of_the_zone_and_begin_on_monday() -> None:
    """A run at 23:30 in Paris belongs to that day, though it is 22:30 elsewhere."""
    at = datetime(2026, 11, 24, 23, 30, tzinfo=ZoneInfo("Europe/Paris"))
    run = RunView(run_id="r", job_id="j", state="SUCCEEDED", trigger=TriggerView(kind="cron", at=at))
    weeks = recent_days([run], now=NOW, zone=ZoneInfo("Europe/Paris"), days=14, whole_since=None)
    assert all(week[0].day.weekday() == 0 for week in weeks)
    (day,) = [day for week in weeks for day in week if day.look is not None]
    assert (day.day.day, day.title) == (24, "Tue 24 Nov: 1 ok")


def test_a_day_on_which_fires_did_not_run_shows_them() -> None:
    """Whatever else ran well on it; three missed fires count as three."""
    fold = FoldView(first=NOW - timedelta(hours=3), last=NOW, count=3)
    runs = [
        RunView(run_id="a", job_id="j", state="SUCCEEDED", queued_at=NOW),
        RunView(run_id="b", job_id="j", state="MISSED", queued_at=NOW, fold=fold),
    ]
    weeks = recent_days(runs, now=NOW, zone=UTC, days=7, whole_since=None)
    assert weeks[-1][-1].title == "Thu 26 Nov: 3 missed, 1 ok"


def test_a_day_before_what_was_read_is_not_called_empty() -> None:
    """It is not known what ran."""
    weeks = recent_days([], now=NOW, zone=UTC, days=7, whole_since=NOW - timedelta(days=2))
    assert [day.known for day in weeks[-1]] == [False, False, True, True]
