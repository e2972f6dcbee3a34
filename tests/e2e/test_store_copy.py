"""A kernel that moves to another database: its hosts, watchers and schedules notice only a restart."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from faults_system import FaultSystem, open_faults

from postgres_server import SUPERUSER, PostgresServer
from real_system import CLOCKS, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.postgres]

YEARLY = """
[[jobs]]
id = "yearly"
schedule = "0 0 1 1 *"
params = { ledger = "", until = "" }
steps = [{ callable = "faulty.steps:ticks" }]
"""


@dataclass(frozen=True, kw_only=True)
class Move:
    """A system, and the database that it moves to."""

    system: FaultSystem
    server: PostgresServer

    @property
    def url(self) -> str:
        """The database, as a store."""
        return self.server.url("moved")

    def schedules(self) -> list[tuple[object, ...]]:
        """Return the next fires that are kept in the database."""
        return asyncio.run(ask(self.server, "moved", "SELECT job_id, next_fire_us FROM schedules"))


@pytest.fixture
def move(postgres_server: PostgresServer) -> Iterator[Move]:
    """Start a kernel on SQLite with a host."""
    root = Path(tempfile.mkdtemp(prefix="nf-"))
    asyncio.run(ask(postgres_server, "postgres", "CREATE DATABASE moved"))
    with open_faults(root) as system:
        system.counting_project("team", more_jobs=YEARLY)
        system.start_host("team")
        yield Move(system=system, server=postgres_server)
    asyncio.run(ask(postgres_server, "postgres", "DROP DATABASE moved WITH (FORCE)"))
    shutil.rmtree(root)


async def ask(server: PostgresServer, database: str, statement: str) -> list[tuple[object, ...]]:
    """Execute a statement and return its rows."""
    connection = await asyncpg.connect(host=str(server.folder), user=SUPERUSER, database=database)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


def test_a_kernel_goes_on_in_another_database(move: Move) -> None:
    """Runs and logs are there, a step runs on in its worker, watchers miss nothing; the old store starts no kernel."""
    system = move.system
    client = system.api
    ended = system.work("ticks").under_way()
    run = ended.succeeds_whole()
    going = system.work("sync_ticks").under_way()
    eventually(lambda: going.run().log_lines)
    seen = system.last_event()
    system.stop("kernel")
    with closing(sqlite3.connect(system.kernel_project / ".nomaflow" / "kernel.db")) as raw:
        fires = raw.execute("SELECT job_id, next_fire_us FROM schedules").fetchall()
    assert [job for job, _ in fires] == ["yearly"]
    done = system.command("store", "copy", "sqlite:///.nomaflow/kernel.db", move.url, "-o", "json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["rows"]["runs"] == 2
    system.kernel_flags = (*CLOCKS, "--store", move.url)
    system.start_kernel()
    eventually(lambda: system.instance("team"))
    assert client.get_run(ended.run_id) == run
    ended.is_whole()
    going.succeeds_whole()
    assert move.schedules() == fires
    watched = system.events(seen, lambda event: event.kind == "run.finished")
    assert [event.seq for event in watched] == list(range(seen + 1, seen + 1 + len(watched)))
    assert watched[-1].run_id == going.run_id
    assert not client.list_jobs().problems
    system.stop("kernel")
    system.kernel_flags = CLOCKS
    with pytest.raises(AssertionError, match=r"(?s)ended with 78: .*the history was moved to"):
        system.start_kernel()
    found = system.command("doctor", "-o", "json")
    assert "store.moved" in {one["check"] for one in json.loads(found.out)["findings"]}
    with_password = move.url.replace(f"{SUPERUSER}@", f"{SUPERUSER}:hunter2@")
    done = system.command("store", "copy", with_password, "sqlite:///another.db")
    assert "hunter2" not in done.out
    _, _, way_back = done.out.strip().partition("to undo the move, with its password in PGPASSWORD: nomaflow ")
    assert "***" not in way_back
    undone = system.command(*shlex.split(way_back))
    assert (undone.code, "a kernel may start on it again" in undone.out) == (0, True), undone.err
