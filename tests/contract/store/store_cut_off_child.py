"""A kernel's store that reaches its server by TCP, in a network of its own, which is cut: python … URL SOCKET.

Prints how many seconds a write and a read needed to fail, and whether the store works again.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Awaitable

from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_kernel.store.lease_row import LeasePolicy
from nomaflow_kernel.store.sql_store import open_store

PATIENCE = 60.0


async def main(url: str, server: str) -> None:
    """Open the store, cut the network, and mend it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(server)
        with contextlib.suppress(asyncio.CancelledError):  # at the end
            await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

    network("up")
    line = await asyncio.start_server(serve, "127.0.0.1", 5432)
    store = open_store(url, lease=LeasePolicy(ttl_seconds=3600))
    await store.open()
    await asyncio.gather(store.ping(), store.pauses())
    network("down")
    print(*await asyncio.gather(seconds_to_fail(store.ping()), seconds_to_fail(store.pauses())))
    network("up")
    await asyncio.gather(store.ping(), store.pauses())
    print("works")
    await store.close()
    line.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what arrives."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


def network(state: str) -> None:
    """Bring the only network up, or cut it: nothing arrives, and nobody is told."""
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


async def seconds_to_fail(work: Awaitable[object]) -> float:
    """Return how long it takes until the store says that it cannot be reached; the patience if it does not."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE):
            await work
    except (StoreUnavailable, TimeoutError):
        return time.monotonic() - began
    raise AssertionError("the network was not cut")


asyncio.run(main(*sys.argv[1:]))
