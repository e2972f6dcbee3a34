"""Fills the store of a kernel that is not running with copies of finished runs, spread over the days before them."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from nomaflow_kernel.history.ids import RunIds

__all__ = ["DAYS", "copies"]

DAYS = 30
"""The days over which copies are spread, so that a list or a tally of some time finds a part of them."""
_TABLES = ("runs", "attempts", "log_chunks", "events")
_BLOCK = 50_000
_FAILED = 50
"""One copy in so many is of the failed run."""
_TIMES = (
    "queued_at_us",
    "dispatched_at_us",
    "started_at_us",
    "finished_at_us",
    "trigger_at_us",
    "at_us",
    "first_at_us",
    "last_at_us",
)
_MARGIN_US = 60_000_000
"""Copies are older than the run that they copy by at least that."""


def copies(
    database: Path, *, run_id: str, count: int, jobs: Sequence[str] = (), failed: str = "", days: float = DAYS
) -> str:
    """Insert so many copies of a run, older than every run there, with their attempts, logs and events.

    Each gets an id of its own time, which its other times follow. Return the id of the one in the middle.

    :param jobs: the jobs that the copies are of by turns; the run's own if there are none
    :param failed: a failed run, of which one in fifty copies is made
    """
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -262144")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("CREATE TEMP TABLE copied (i INTEGER PRIMARY KEY, run_id, of, job_id, shift_us)")
        (newest,) = connection.execute("SELECT queued_at_us FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        spans = {
            each: connection.execute(
                "SELECT min(seq), max(seq) - min(seq) + 1 FROM events WHERE run_id = ?", (each,)
            ).fetchone()
            for each in filter(None, (run_id, failed))
        }
        rows = _rows(run_id, count=count, jobs=jobs, failed=failed, days=days, newest_us=newest)
        middle = ""
        while block := list(islice(rows, _BLOCK)):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM copied")
            connection.executemany("INSERT INTO copied VALUES (?, ?, ?, ?, ?)", block)
            for table in _TABLES:
                _insert(connection, table, spans)
            connection.execute("UPDATE kernel SET last_event_seq = (SELECT max(seq) FROM events)")
            connection.execute("COMMIT")
            if block[0][0] <= count // 2 <= block[-1][0]:
                middle = block[count // 2 - block[0][0]][1]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return middle


def _rows(
    run_id: str, *, count: int, jobs: Sequence[str], failed: str, days: float, newest_us: int
) -> Iterator[tuple[int, str, str, str | None, int]]:
    """Yield for each copy its number, its id, the run that it copies, its job, and by how much its times differ."""
    step_us = int(days * 86_400_000_000) // max(count, 1)
    now_ms = 0
    ids = RunIds(now_ms=lambda: now_ms, random_bits=secrets.randbits)
    for number in range(count):
        shift_us = -_MARGIN_US - (count - number) * step_us
        now_ms = (newest_us + shift_us) // 1000
        of = failed if failed and number % _FAILED == _FAILED - 1 else run_id
        yield number, ids.new(), of, jobs[number % len(jobs)] if jobs else None, shift_us


def _insert(connection: sqlite3.Connection, into: str, spans: Mapping[str, tuple[int, int]]) -> None:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({into})")]
    given = {"run_id": "c.run_id", "request_id": "'copy-' || c.run_id", "job_id": "coalesce(c.job_id, t.job_id)"}
    given |= {name: f"t.{name} + c.shift_us" for name in _TIMES}
    if into == "events":
        # As far apart as the events of the runs that they copy are: each copy has room for the longest of them.
        width = max(width for _, width in spans.values())
        first = " ".join(f"WHEN '{each}' THEN {low}" for each, (low, _) in spans.items())
        start = "(SELECT last_event_seq FROM kernel) + (c.i - (SELECT min(i) FROM copied))"
        given["seq"] = f"{start} * {width} + t.seq - CASE c.of {first} END + 1"
    chosen = ", ".join(given.get(column, f"t.{column}") for column in columns)
    connection.execute(
        f"INSERT INTO {into} ({', '.join(columns)}) SELECT {chosen} FROM copied c CROSS JOIN {into} t"
        " ON t.run_id = c.of ORDER BY c.i"
    )
