"""Credentials of a kernel on a real store, read again as often as a test wants."""

from __future__ import annotations

from pathlib import Path

from nomaflow_kernel.access.credentials import Credentials
from nomaflow_kernel.access.token_orders import TokenOrder
from nomaflow_kernel.domain.clock import SystemClock
from nomaflow_kernel.store.sql_store import Store, open_store

DAY = 86_400
SERIAL = "ab" * 20
CI = TokenOrder(kind="service", name="ci", roles=("viewer\n",), grants=(" trigger job:nightly\n",))
HOST = TokenOrder(kind="host", name="teamb", joins=True)


class HandClock(SystemClock):
    """A clock whose wall time a test sets forward."""

    ahead_us = 0

    def now_us(self) -> int:
        """Return the machine's time, and what was added."""
        return super().now_us() + self.ahead_us

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass."""
        self.ahead_us += round(seconds * 1_000_000)


class Kernel:
    """Credentials that are read again from the store as often as a test wants."""

    def __init__(self, directory: Path, roles: dict[str, list[str]] | None = None) -> None:
        self.directory = directory
        self.clock = HandClock()
        self.roles = roles or {}
        self.store: Store
        self.credentials: Credentials
        self.shut_out: set[str] = set()

    async def start(self) -> Credentials:
        """Open the store and read it."""
        self.store = open_store(f"sqlite:///{self.directory / 'kernel.db'}", holder="test")
        await self.store.open()
        self.credentials = Credentials(
            store=self.store, clock=self.clock, roles=self.roles, withdrawn=self.directory / "withdrawn"
        )
        self.shut_out = await self.credentials.start()
        return self.credentials

    async def stop(self) -> None:
        """Close the store."""
        await self.credentials.stop()
        await self.store.close()

    async def again(self) -> Credentials:
        """Start again."""
        await self.stop()
        return await self.start()
