"""Writes weeks of history into the store of a stopped kernel: copies of real runs, at the times of schedules."""

from __future__ import annotations

import random
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from croniter import croniter

from .jobs import JOBS, Job

__all__ = ["forget_hours", "write_history"]

_TIMES = ("queued_at_us", "dispatched_at_us", "started_at_us", "finished_at_us", "not_before_us")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def write_history(database: Path, *, now: datetime) -> None:
    """Replace each job's runs by copies of them: the last three weeks of its schedule, or the last 30 fires.

    A job's first successful run and its first failed one are the patterns; without a failed one nothing fails.
    """
    chance = random.Random(15)
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        runs = [dict(row) for row in connection.execute("SELECT * FROM runs ORDER BY run_id")]
        tries: dict[str, list[dict[str, Any]]] = {}
        for row in connection.execute("SELECT * FROM attempts"):
            tries.setdefault(row["run_id"], []).append(dict(row))
        for table in ("runs", "attempts", "events", "log_chunks"):
            connection.execute(f"DELETE FROM {table}")
        for job in JOBS:
            own = [run for run in runs if run["job_id"] == job.id]
            good = next((run for run in own if run["state"] == "SUCCEEDED"), None)
            bad = next((run for run in own if run["state"] == "FAILED"), None)
            for number, at in enumerate(_fires(job, now)):
                pattern = bad if number in job.fails and bad else good
                if pattern is not None and not (number == 0 and job.id == "month-end"):
                    _copy(
                        connection, pattern, tries[pattern["run_id"]], at, job.usual * chance.uniform(0.8, 1.35), chance
                    )
        connection.commit()


def _fires(job: Job, now: datetime) -> Iterator[datetime]:
    """Yield the past fires of a job, newest first; only those that a kernel could have run until then."""
    if not job.hours or not job.schedule:
        return
    walk = croniter(job.schedule, now.astimezone(ZoneInfo(job.zone)))
    for _ in range(30):
        at: datetime = walk.get_prev(datetime)
        if now - at > timedelta(days=21):
            return
        yield at.astimezone(UTC)


def _run_id(at: datetime) -> str:
    value = (int(at.timestamp() * 1000) << 80) | secrets.randbits(80)
    return "run_" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def _copy(
    connection: sqlite3.Connection,
    run: dict[str, Any],
    tries: list[dict[str, Any]],
    at: datetime,
    seconds: float,
    chance: random.Random,
) -> None:
    """Insert a copy of a run that began at another time and took another time."""
    run_id, fired = _run_id(at), int(at.timestamp() * 1e6)
    begin, end = run["started_at_us"] or run["queued_at_us"], run["finished_at_us"]
    factor = seconds * 1e6 / max(end - begin, 1)
    more = chance.uniform(0.7, 1.3)

    def moved(row: dict[str, Any]) -> dict[str, Any]:
        times = {
            name: fired + 120_000 + int((row[name] - begin) * factor) for name in _TIMES if row.get(name) is not None
        }
        rows = row.get("rows_affected")
        return {**row, **times, "run_id": run_id, "rows_affected": int(rows * more) if rows else rows}

    copy = {
        **moved(run),
        "queued_at_us": fired + 40_000,
        "trigger_kind": "cron",
        "trigger_by": "",
        "trigger_at_us": fired,
    }
    copy.update(request_id="", slot="", log_lines=0)
    _insert(connection, "runs", copy)
    for each in tries:
        _insert(connection, "attempts", moved(each))


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def forget_hours(database: Path, job_id: str, *, hours: int, now: datetime) -> None:
    """Let the kernel find at its start that a job's fires of the last hours did not take place."""
    since = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours)
    with closing(sqlite3.connect(database)) as connection:
        moment = int(since.timestamp() * 1e6)
        connection.execute("UPDATE schedules SET next_fire_us = ? WHERE job_id = ?", (moment, job_id))
        for (run_id,) in list(
            connection.execute("SELECT run_id FROM runs WHERE job_id = ? AND queued_at_us >= ?", (job_id, moment))
        ):
            connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
            connection.execute("DELETE FROM attempts WHERE run_id = ?", (run_id,))
        connection.commit()
