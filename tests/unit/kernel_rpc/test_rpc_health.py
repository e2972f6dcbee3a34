"""Health while the store is in trouble."""

from __future__ import annotations

from typing import Any, cast

from nomaflow_kernel.rpc.health import Health
from nomaflow_kernel.store.errors import StoreFull
from waiting import eventually


async def test_health_stays_down_while_work_fails_beside_pings_that_are_written() -> None:
    """A ping changes one row, which needs no room: with a full tablespace of PostgreSQL nothing else can be written."""
    pings = 0

    class Store:
        async def ping(self) -> None:
            nonlocal pings
            pings += 1
            if pings < 10 and pings % 2:
                health.note(StoreFull("no space left on device"))

    health = Health(store=cast(Any, Store()), ping_seconds=0)
    health.set_ready()
    health.note(StoreFull("no space left on device"))
    await eventually(lambda: health.serving)
    assert pings == 12
