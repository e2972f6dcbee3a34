"""Things that may become incidents as time passes: open runs, expected runs, absent hosts, failures in a row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from nomaflow_alerts.ledger.records import OpenRun

_MOST_RUNS = 200


class Watched:
    """The watched things inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection.execute

    # --- failures in a row ----------------------------------------------------------------------------------------

    def failed_again(self, job_id: str, preset: str, at: float) -> tuple[int, float]:
        """Count one more failure in a row; return how many there are, and since when."""
        self._sql(
            "INSERT INTO streak VALUES (?, ?, 1, ?) ON CONFLICT (job_id, preset) DO UPDATE SET failures = failures + 1",
            (job_id, preset, at),
        )
        row = self._sql("SELECT failures, since FROM streak WHERE job_id = ? AND preset = ?", (job_id, preset))
        failures, since = row.fetchone()
        return int(failures), float(since)

    def succeeded(self, job_id: str, preset: str) -> None:
        """End a row of failures."""
        self._sql("DELETE FROM streak WHERE job_id = ? AND preset = ?", (job_id, preset))

    # --- open runs ------------------------------------------------------------------------------------------------

    def run_queued(self, run: OpenRun) -> None:
        """Watch a run that waits."""
        values = (run.run_id, run.job_id, run.host, run.queued_at, run.started_at, run.check_at)
        self._sql("INSERT OR REPLACE INTO open_run VALUES (?, ?, ?, ?, ?, ?)", values)

    def run_started(self, run_id: str, *, at: float, check_at: float | None) -> None:
        """Watch a run that has started."""
        self._sql("UPDATE open_run SET started_at = ?, check_at = ? WHERE run_id = ?", (at, check_at, run_id))

    def run_ended(self, run_id: str) -> None:
        """Watch a run no longer."""
        self._sql("DELETE FROM open_run WHERE run_id = ?", (run_id,))

    def run_checked(self, run_id: str) -> None:
        """Look at a run no more until it starts or ends."""
        self._sql("UPDATE open_run SET check_at = NULL WHERE run_id = ?", (run_id,))

    def runs_due(self, now: float) -> list[OpenRun]:
        """Return runs that have waited or run for too long, the oldest first."""
        return self._runs("check_at <= ? ORDER BY check_at LIMIT ?", (now, _MOST_RUNS))

    def waits_too_long(self, job_id: str) -> bool:
        """Return whether a run of a job waits that was found to wait too long already."""
        return bool(self._runs("job_id = ? AND started_at IS NULL AND check_at IS NULL", (job_id,)))

    def open_runs(self) -> list[OpenRun]:
        """Return all runs that are watched."""
        return self._runs("true", ())

    def count_runs(self) -> tuple[int, int]:
        """Return how many runs wait, and how many have started."""
        row = self._sql("SELECT count(*) - count(started_at), count(started_at) FROM open_run").fetchone()
        return int(row[0]), int(row[1])

    def forget_all(self) -> None:
        """Watch nothing: the history is another one."""
        for table in ("open_run", "expectation", "streak", "absence"):
            self._sql(f"DELETE FROM {table}")  # noqa: S608  # our own names

    def _runs(self, where: str, values: tuple[object, ...]) -> list[OpenRun]:
        rows = self._sql(f"SELECT * FROM open_run WHERE {where}", values)  # noqa: S608  # our own conditions
        return [OpenRun(**{name: row[name] for name in row.keys()}) for row in rows]  # noqa: SIM118

    # --- expected runs --------------------------------------------------------------------------------------------

    def expect(self, job_id: str, preset: str, slot: float, *, late_at: float) -> None:
        """Expect a run of a due instant to succeed before a time."""
        self._sql("INSERT OR IGNORE INTO expectation VALUES (?, ?, ?, ?, '')", (job_id, preset, slot, late_at))

    def last_expected(self, job_id: str, preset: str) -> float:
        """Return the newest expected instant of a schedule; 0 for none."""
        row = self._sql("SELECT max(slot) FROM expectation WHERE job_id = ? AND preset = ?", (job_id, preset))
        return float(row.fetchone()[0] or 0.0)

    def met(self, job_id: str, preset: str, *, started_at: float) -> None:
        """Note that a run succeeded: it is what was expected for every instant up to its start."""
        self._sql("DELETE FROM expectation WHERE job_id = ? AND preset = ? AND slot <= ?", (job_id, preset, started_at))

    def note_outcome(self, job_id: str, preset: str, slot: float, outcome: str) -> None:
        """Note how the run of an instant ended, if it is expected: FAILED, MISSED, SKIPPED."""
        self._sql(
            "UPDATE expectation SET outcome = ? WHERE job_id = ? AND preset = ? AND slot = ?",
            (outcome, job_id, preset, slot),
        )

    def unmet(self, now: float) -> list[tuple[str, str, float, str]]:
        """Take out the expectations whose time is over: job, preset, instant, and how its run has ended so far."""
        rows = self._sql("SELECT * FROM expectation WHERE late_at <= ? ORDER BY slot", (now,)).fetchall()
        self._sql("DELETE FROM expectation WHERE late_at <= ?", (now,))
        return [(row["job_id"], row["preset"], row["slot"], row["outcome"]) for row in rows]

    def expect_no_more(self, job_id: str, preset: str, *, after: float) -> None:
        """Drop the expectations of a schedule from a time on: it has changed, or is gone."""
        self._sql("DELETE FROM expectation WHERE job_id = ? AND preset = ? AND slot > ?", (job_id, preset, after))

    def expected_schedules(self) -> set[tuple[str, str]]:
        """Return the schedules with an expectation."""
        return {(row[0], row[1]) for row in self._sql("SELECT DISTINCT job_id, preset FROM expectation")}

    # --- absent hosts ---------------------------------------------------------------------------------------------

    def host_left(self, host: str, *, at: float, check_at: float) -> None:
        """Watch a host one of whose instances has gone."""
        self._sql("INSERT OR IGNORE INTO absence VALUES (?, ?, ?)", (host, at, check_at))

    def host_back(self, host: str) -> None:
        """Watch a host no longer."""
        self._sql("DELETE FROM absence WHERE host = ?", (host,))

    def hosts_due(self, now: float) -> Iterable[tuple[str, float]]:
        """Return the hosts that have been away for too long, each with since when."""
        rows = self._sql("SELECT host, since FROM absence WHERE check_at <= ?", (now,)).fetchall()
        return [(row[0], row[1]) for row in rows]

    def next_check_at(self) -> float | None:
        """Return when the next of all these is due, or None."""
        found = [
            self._sql(f"SELECT min({column}) FROM {table}").fetchone()[0]  # noqa: S608  # our own names
            for column, table in (("check_at", "open_run"), ("late_at", "expectation"), ("check_at", "absence"))
        ]
        return min((float(each) for each in found if each is not None), default=None)
