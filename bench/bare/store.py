"""One thread that writes runs to SQLite, all that waits in one transaction, each transition with its own outcome."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Store"]

_SCHEMA = """
CREATE TABLE runs (run_id TEXT PRIMARY KEY, request_id TEXT, state TEXT) WITHOUT ROWID;
CREATE INDEX runs_by_state ON runs (state);
CREATE UNIQUE INDEX runs_by_request ON runs (request_id);
CREATE TABLE events (seq INTEGER PRIMARY KEY, run_id TEXT, state TEXT, at_us INTEGER);
"""
_INSERT = "INSERT INTO runs (state, run_id, request_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_UPDATE = "UPDATE runs SET state = ? WHERE run_id = ? AND state = ?"


class _Transition(NamedTuple):
    run_id: str
    state: str
    expected: str
    request_id: str


class _Write(NamedTuple):
    transitions: Sequence[_Transition]
    done: asyncio.Future[list[bool]]


class Store:
    """The runs, an id and a state each, and an event of each change. Every call returns once its change is durable."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[_Write] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    async def insert(self, runs: Sequence[tuple[str, str]]) -> list[bool]:
        """Insert runs of an id and a request id as QUEUED, those whose request is new."""
        return await self._write([_Transition(run_id, "QUEUED", "", request_id) for run_id, request_id in runs])

    async def change(self, run_ids: Sequence[str], *, expected: str, state: str) -> list[bool]:
        """Set a state where the expected one is found."""
        return await self._write([_Transition(run_id, state, expected, "") for run_id in run_ids])

    async def _write(self, transitions: Sequence[_Transition]) -> list[bool]:
        done: asyncio.Future[list[bool]] = self._loop.create_future()
        self._inbox.put(_Write(transitions, done))
        return await done

    def _run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        while True:
            batch = [self._inbox.get()]
            while not self._inbox.empty():
                batch.append(self._inbox.get())
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [[_apply(connection, one) for one in write.transitions] for write in batch]
            connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_deliver, batch, outcomes)


def _apply(connection: sqlite3.Connection, one: _Transition) -> bool:
    if one.expected:
        applied = connection.execute(_UPDATE, (one.state, one.run_id, one.expected)).rowcount == 1
    else:
        applied = connection.execute(_INSERT, (one.state, one.run_id, one.request_id)).rowcount == 1
    if applied:
        event = (one.run_id, one.state, time.time_ns() // 1000)
        connection.execute("INSERT INTO events (run_id, state, at_us) VALUES (?, ?, ?)", event)
    return applied


def _deliver(batch: Sequence[_Write], outcomes: Sequence[list[bool]]) -> None:
    for write, outcome in zip(batch, outcomes, strict=True):
        write.done.set_result(outcome)
