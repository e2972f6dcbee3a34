"""Coming fires: the table of ``schedule`` and the answers of ``cron``."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from nomaflow_project.check.planning import cron_batch, cron_fires, schedule_table
from nomaflow_project.cron import CronError
from nomaflow_project.jobs.definitions import JobDefinition, PresetDefinition

START = datetime(2026, 10, 24, 12, tzinfo=UTC)


def _answers(*lines: str) -> list[dict[str, object]]:
    return [json.loads(answer) for answer in cron_batch(lines, now=lambda: START)]


def test_the_table_has_every_fire_in_order_with_collisions_marked() -> None:
    """The table has jobs and presets of several zones; simultaneous fires name each other."""
    jobs = [
        JobDefinition(id="a", schedule="30 2 * * *", timezone="Europe/Paris", steps=()),
        JobDefinition(
            id="b", schedule="30 0 * * *", presets=(PresetDefinition(name="p", schedule="0 6 * * *"),), steps=()
        ),
        JobDefinition(id="off", schedule="0 6 * * *", enabled=False, steps=()),
        JobDefinition(id="manual", steps=()),
    ]
    table = schedule_table(jobs, START, START + timedelta(days=1))
    assert [(f"{fire.at:%d %H:%M}", fire.job_id, fire.preset, fire.collides_with) for fire in table.fires] == [
        ("25 00:30", "a", "", ("b",)),
        ("25 00:30", "b", "", ("a",)),
        ("25 06:00", "b", "p", ()),
    ]
    assert table.fires[0].local.hour == 2
    assert json.loads(json.dumps(table.to_json()))["fires"][0]["at"] == "2026-10-25T00:30:00Z"


def test_schedules_that_fire_all_the_time_are_summed_up() -> None:
    """A job of every second does not fill the table, nor take long over a year."""
    jobs = [
        JobDefinition(id="busy", schedule="* * * * * *", steps=()),
        JobDefinition(id="daily", schedule="@daily", steps=()),
    ]
    table = schedule_table(jobs, START, START + timedelta(days=366))
    assert [each.job_id for each in table.frequent] == ["busy"]
    assert table.frequent[0].first == START.replace(second=1)
    assert len(table.fires) == 366


def test_a_thousand_jobs_at_one_instant_are_named_in_part() -> None:
    """The count is exact, the list of names is short."""
    table = schedule_table(
        [JobDefinition(id=f"j{n:04}", schedule="@daily", steps=()) for n in range(1000)],
        START,
        START + timedelta(days=1),
    )
    assert {fire.at_once for fire in table.fires} == {1000}
    assert max(len(fire.collides_with) for fire in table.fires) == 10


def test_fires_are_iso_instants() -> None:
    """Fires are ISO instants in UTC, whatever the zone."""
    assert cron_fires("30 2 * * *", "Europe/Paris", START, 2) == ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    with pytest.raises(CronError):
        cron_fires("x", "UTC", START, 1)
    with pytest.raises(ValueError, match="from 1 to 10000"):
        cron_fires("@daily", "UTC", START, 0)


def test_a_batch_answers_each_line() -> None:
    """A batch handles defaults, zones, offsets; a bad line gets an error and the next one is read."""
    answers = _answers(
        '{"expr": "@daily", "tz": "Europe/Paris", "from": "2026-03-28T00:00:00Z", "n": 2}',
        "",
        '{"expr": "@hourly"}',
        '{"expr": "0 12 * * *", "from": "2026-01-01T12:00:00+02:00"}',
        '{"expr": "0 12 * * *", "from": "2026-01-01T11:00:00"}',
        '{"expr": "0 0 30 2 *"}',
        '{"expr": "@daily", "tz": "Mars/Base"}',
    )
    assert answers[:4] == [
        {"fires": ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"]},
        {"fires": ["2026-10-24T13:00:00Z"]},
        {"fires": ["2026-01-01T12:00:00Z"]},
        {"fires": ["2026-01-01T12:00:00Z"]},
    ]
    assert ["error" in answer for answer in answers[4:]] == [True, True]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "{}",
        '{"expr": 5}',
        '{"expr": "@daily", "n": 0}',
        '{"expr": "@daily", "n": true}',
        '{"expr": "@daily", "n": "3"}',
        '{"expr": "@daily", "n": 1e9}',
        '{"expr": "@daily", "tz": 5}',
        '{"expr": "@daily", "from": "soon"}',
        '{"expr": "@daily", "from": 5}',
        '{"expr": "@daily", "n": ' + "9" * 5000 + "}",
        "[" * 100_000,
    ],
)
def test_bad_lines_are_answered_with_an_error(line: str) -> None:
    """Any line gets exactly one answer and no exception."""
    (answer,) = _answers(line)
    assert list(answer) == ["error"]
    assert answer["error"]


def test_the_edges_of_the_calendar_are_answered() -> None:
    """Starts in the years 1 and 9999, also with offsets that lead beyond."""
    answers = _answers(
        '{"expr": "@daily", "from": "9999-12-31T23:59:59Z"}',
        '{"expr": "@daily", "from": "0001-01-01T00:00:00+14:00"}',
        '{"expr": "@daily", "tz": "Asia/Tokyo", "from": "9999-12-31T23:59:59-12:00"}',
    )
    assert all("fires" in answer or "error" in answer for answer in answers)
