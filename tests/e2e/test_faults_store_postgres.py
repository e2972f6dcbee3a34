"""A kernel whose PostgreSQL ends its sessions, loses its answers and is started again while it is written to."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from commit_cutter import CommitCutter
from fault_stage import ledger, start
from project_system import ProjectSystem, open_system

from nomaflow.client import TriggerOrder
from postgres_server import SUPERUSER, PostgresServer
from real_system import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.postgres]

JOBS = """
[[jobs]]
id = "quick"
overlap = "allow"
  [[jobs.steps]]
  callable = "team.code:quick"
  op_kwargs = { ledger = "@HERE@/ledger" }
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of the test's own, since it is stopped on the way."""
    started = PostgresServer()
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture
def cutter(server: PostgresServer, tmp_path: Path) -> Iterator[CommitCutter]:
    """A line to the server that loses every tenth answer to a commit."""
    made = CommitCutter(folder=tmp_path, target=server.folder, share=0.1, chance=random.Random(14))
    yield made
    made.close()


@pytest.fixture
def system(tmp_path: Path, server: PostgresServer, cutter: CommitCutter) -> Iterator[ProjectSystem]:
    """A kernel that keeps its history there, and a host."""
    for opened in open_system(tmp_path, forks_templates=True):
        url = server.url("postgres").replace(str(server.folder), str(tmp_path))
        start(opened, "--store", url, jobs=JOBS)
        yield opened


def end_sessions(server: PostgresServer) -> None:
    """End every session of the kernel, in the middle of whatever it does."""

    async def end() -> None:
        connection = await asyncpg.connect(host=str(server.folder), user=SUPERUSER, database="postgres")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'nomaflow%' AND pid <> pg_backend_pid()"
        )
        await connection.close()

    asyncio.run(end())


def test_a_database_that_breaks_off(system: ProjectSystem, server: PostgresServer, cutter: CommitCutter) -> None:
    """Each acknowledged trigger is one run with one attempt that started once, whatever the database does meanwhile."""
    answers: dict[str, str] = {}
    stop = threading.Event()

    def insist(caller: int) -> None:
        with system.client() as client:
            number = 0
            while not stop.is_set():
                key = f"{caller}-{number}"
                answers[key] = client.trigger(TriggerOrder(job_id="quick", request_id=key)).run_id
                number += 1

    callers = [threading.Thread(target=insist, args=(number,)) for number in range(3)]
    for thread in callers:
        thread.start()
    try:
        for disturb in (end_sessions, end_sessions, PostgresServer.restart, end_sessions, crash):
            wanted = len(answers) + 20
            eventually(lambda: len(answers) >= wanted)  # noqa: B023  # asked at once
            disturb(server)
        wanted = len(answers) + 20
        eventually(lambda: len(answers) >= wanted)
    finally:
        stop.set()
        for thread in callers:
            thread.join()
    assert cutter.cuts >= 3, "no answer was lost, so nothing was shown"
    until = time.monotonic() + 40
    with system.client() as client:
        eventually(lambda: all(run.terminal for run in client.list_runs(job_id="quick")))
        runs = {run.run_id: run for run in client.list_runs(job_id="quick")}
        assert time.monotonic() < until
        assert sorted(runs) == sorted(answers.values())
        assert {run.state for run in runs.values()} == {"SUCCEEDED"}
    starts = [entry["key"] for entry in ledger(system.project / "ledger", "start")]
    assert sorted(starts) == sorted(f"{run_id}/quick/1" for run_id in runs)
    assert not system.kernel.ended


def crash(server: PostgresServer) -> None:
    """Have the server end without shutting down, and start again from its log."""
    server.restart(signal.SIGQUIT)
