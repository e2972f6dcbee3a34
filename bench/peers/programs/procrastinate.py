"""Procrastinate on PostgreSQL: one worker of its command line, 20 jobs at once, woken by LISTEN, jobs kept."""

from __future__ import annotations

import functools
import time

import psycopg
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from bench.peers.programs.asked import BATCH

__all__ = ["app", "batched", "nothing", "one_at_a_time", "start"]

POLL = 0.001  # seconds between two looks for the end of jobs
OPEN = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
DONE = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"

app = App(connector=PsycopgConnector())  # where the server is, libpq's variables tell
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


def _count(query: str) -> int:
    found = _look().execute(query).fetchone()
    assert found is not None
    return int(found[0])


def _until_over() -> None:
    while _count(OPEN):
        time.sleep(POLL)


def batched(runs: int) -> float:
    """Defer batches, wait until no job is open."""
    before = _count(DONE)
    began = time.perf_counter()
    with app.replace_connector(calling.connector):
        for first in range(0, runs, BATCH):
            nothing.batch_defer(*({} for _ in range(min(BATCH, runs - first))))
    _until_over()
    took = time.perf_counter() - began
    assert _count(DONE) - before == runs
    return took


def one_at_a_time(runs: int) -> list[float]:
    """Defer a job, wait until it is no longer open; Procrastinate has no call that waits."""
    took = []
    with app.replace_connector(calling.connector):
        for _ in range(runs):
            began = time.perf_counter()
            nothing.defer()
            _until_over()
            took.append((time.perf_counter() - began) * 1000)
    return took
