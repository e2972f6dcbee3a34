"""Procrastinate on PostgreSQL: one worker of its command line, 20 jobs at once, woken by LISTEN, jobs kept."""

from __future__ import annotations

import functools
import time

import psycopg
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from bench.peers.programs.asked import BATCH

__all__ = ["app", "batched", "nothing", "one_at_a_time", "start"]

OPEN = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
DONE = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
OVER = "SELECT count(*) FROM procrastinate_jobs WHERE id = %s AND status = 'succeeded'"

app = App(connector=PsycopgConnector(max_size=20))  # where the server is, libpq's variables tell
calling = app.with_connector(SyncPsycopgConnector())


@app.task
async def nothing() -> None:
    """Do nothing."""


def start() -> None:
    """Make the tables."""
    calling.open()
    calling.schema_manager.apply_schema()


@functools.cache
def _look() -> psycopg.Connection:
    return psycopg.connect(autocommit=True)


def _count(query: str, *values: int) -> int:
    found = _look().execute(query, values).fetchone()
    assert found is not None
    return int(found[0])


def batched(runs: int) -> float:
    """Defer batches, wait until no job is open."""
    before = _count(DONE)
    began = time.perf_counter()
    with app.replace_connector(calling.connector):
        for first in range(0, runs, BATCH):
            nothing.batch_defer(*({} for _ in range(min(BATCH, runs - first))))
    while _count(OPEN):
        time.sleep(0.01)  # seldom, as it looks at all jobs
    took = time.perf_counter() - began
    assert _count(DONE) - before == runs
    return took


def one_at_a_time(runs: int) -> list[float]:
    """Defer a job, look until it has succeeded; Procrastinate has no call that waits."""
    took = []
    with app.replace_connector(calling.connector):
        for _ in range(runs):
            began = time.perf_counter()
            job = nothing.defer()
            while not _count(OVER, job):
                time.sleep(0.001)
            took.append((time.perf_counter() - began) * 1000)
    return took
