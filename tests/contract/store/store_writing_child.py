"""A process that writes to a store and prints each run id once the store has said that it is kept."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from functools import partial
from typing import Any

import asyncpg
from store_histories import finish, finished, opened, queue, start

from nomaflow_kernel.history.ids import RunIds
from nomaflow_kernel.store.errors import StoreFull
from nomaflow_kernel.store.lease_row import LeasePolicy
from nomaflow_kernel.store.sql_store import open_store


async def write_forever(url: str) -> None:
    """Write from several tasks at once until killed."""
    store = open_store(url)
    await store.open()
    ids = RunIds(now_ms=lambda: time.time_ns() // 1_000_000)

    async def write() -> None:
        while True:
            run_id = ids.new()
            await store.apply([queue(run_id), start(run_id), opened(run_id)], at_us=1)
            os.write(1, f"queued {run_id}\n".encode())
            await store.apply([finished(run_id), finish(run_id)], at_us=2)
            os.write(1, f"finished {run_id}\n".encode())

    await asyncio.gather(*(write() for _ in range(20)))


async def hold(url: str, ttl_seconds: str = "15") -> None:
    """Open the store, say so, and keep it until standard input ends."""
    store = open_store(url, lease=LeasePolicy(ttl_seconds=float(ttl_seconds)))
    await store.open()
    os.write(1, b"open\n")
    await asyncio.to_thread(sys.stdin.read)
    await store.close()


async def freeze(url: str, ttl_seconds: str) -> None:
    """Stop this process within a statement of a write: the server has parsed it, and waits for its parameters."""
    store = open_store(url, lease=LeasePolicy(ttl_seconds=float(ttl_seconds)))
    await store.open()
    introduce = partial(store.introduce_manifest, "team", manifest={}, explicit=False, at_us=1)
    await introduce(digest="1", job_ids=[])  # the driver asks for types that it does not know, only once
    prepare = asyncpg.Connection.prepare

    async def prepare_and_freeze(connection: asyncpg.Connection, query: str, **options: Any) -> Any:
        prepared = await prepare(connection, query, **options)
        if "INSERT" in query:
            os.kill(os.getpid(), signal.SIGSTOP)
        return prepared

    asyncpg.Connection.prepare = prepare_and_freeze
    os.write(1, b"open\n")
    await introduce(digest="2", job_ids=["job"])


async def fill(url: str) -> None:
    """Write against a limit on the size of files until the store is full, then lift the limit and continue."""
    store = open_store(url)
    await store.open()
    ids = RunIds(now_ms=lambda: time.time_ns() // 1_000_000)
    kept = 0
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        while True:
            await store.apply([queue(ids.new(), error="x" * 50_000)], at_us=1)
            kept += 1
    except StoreFull as error:
        os.write(1, f"full {error}\n".encode())
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await store.apply([queue(ids.new())], at_us=1)
    events = (await store.events_after(0, limit=10_000)).events
    os.write(1, f"kept {kept + 1} {len(events)} {events[-1].seq}\n".encode())
    await store.close()


if __name__ == "__main__":
    asyncio.run({"write": write_forever, "hold": hold, "freeze": freeze, "fill": fill}[sys.argv[1]](*sys.argv[2:]))
