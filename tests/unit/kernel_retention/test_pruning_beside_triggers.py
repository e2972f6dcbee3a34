"""Retention has much to remove, and triggers are acknowledged all the while."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "kernel_runs"))

from rig import Rig, job, step

from nomaflow_kernel.upkeep.retention import RetentionSweeper
from nomaflow_project.jobs.definitions import RetentionPolicy

OLD = 10_000
SLOW_SECONDS = 10.0
_COPIES = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)"


class NoHosts:
    """A catalogue without a policy of its own."""

    def hosts(self) -> list[object]:
        """Return nothing."""
        return []


def fill(database: Path, run_id: str, count: int) -> None:
    """Insert copies of a finished run, older than it, with their attempts and events."""
    with closing(sqlite3.connect(database)) as connection:
        for table in ("runs", "attempts", "events"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            new = {"run_id": "printf('run_%026d', n.i)", "request_id": "''", "slot": "''"}
            if table == "events":
                new["seq"] = "(SELECT last_event_seq FROM kernel) + n.i * 100 + t.seq"
            values = ", ".join(new.get(column, f"t.{column}") for column in columns)
            into = f"INSERT INTO {table} ({', '.join(columns)}) {_COPIES}"
            connection.execute(f"{into} SELECT {values} FROM n, {table} t WHERE t.run_id = ?", (count, run_id))
        connection.execute("UPDATE kernel SET last_event_seq = (SELECT max(seq) FROM events)")
        connection.commit()


async def test_triggers_go_on_at_their_pace_while_much_is_pruned(tmp_path: Path) -> None:
    """A trigger waits for at most one page of removals, and many are acknowledged before the sweep is over."""
    rig = Rig(tmp_path / "kernel.db")
    await rig.open()
    try:
        rig.jobs.add(job("a", step("off", enabled=False), overlap="allow"))
        model = (await rig.trigger("a")).run_id
        await rig.settle()
        await rig.close()
        fill(tmp_path / "kernel.db", model, OLD)
        await rig.open()
        await rig.advance(3 * 86_400)
        sweeper = RetentionSweeper(
            store=rig.store, clock=rig.clock, catalogue=NoHosts(), default=RetentionPolicy(days=2)
        )
        sweeping = asyncio.create_task(sweeper.sweep())
        waits: list[float] = []
        while not sweeping.done():
            began = time.monotonic()
            await rig.trigger("a")
            waits.append(time.monotonic() - began)
        assert await sweeping == OLD + 1
        assert len(waits) >= 50, "they took turns"
        assert max(waits) < SLOW_SECONDS, f"one of {len(waits)} triggers waited {max(waits):.1f} s"
        assert sorted(waits)[len(waits) // 2] < SLOW_SECONDS / 10
    finally:
        await rig.close()
    with closing(sqlite3.connect(tmp_path / "kernel.db")) as left:
        for table in ("runs", "attempts"):
            (old,) = left.execute(f"SELECT count(*) FROM {table} WHERE run_id <= ?", (model,)).fetchone()
            assert old == 0, table
        (orphans,) = left.execute(
            "SELECT count(*) FROM events WHERE run_id <> '' AND run_id NOT IN (SELECT run_id FROM runs)"
        ).fetchone()
        assert orphans == 0
