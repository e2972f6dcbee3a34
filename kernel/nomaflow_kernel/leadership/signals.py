"""Requests to a kernel's process: stop, stop faster, read its files again, dump its state, give up the lead."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from nomaflow_kernel.store.errors import LeadLost, StoreError

_GIVE_UP_SECONDS = 1.0
_T = TypeVar("_T")


class Requests:
    """Collects requests, and wakes the task that waits for them.

    :param dump: called for SIGUSR1, even while the kernel stands by
    :ivar over: set once the process is to stop, or no longer leads
    :ivar hurry: set by a second request to stop: open calls get no more time
    :ivar why: why the process stops, empty while it does not
    :ivar exit_code: of the process
    :ivar lost: why the kernel no longer leads, None while it does
    """

    def __init__(self, *, dump: Callable[[], None]) -> None:
        self._dump = dump
        self.over = asyncio.Event()
        self.hurry = asyncio.Event()
        self.why = ""
        self.exit_code = 0
        self.lost: StoreError | None = None
        self._wake = asyncio.Event()

    def install(self) -> None:
        """Take over SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._wake.set)
        loop.add_signal_handler(signal.SIGUSR1, self._dump)
        loop.add_signal_handler(signal.SIGUSR2, self._orphaned)

    def engine_ended(self, error: Exception) -> None:
        """Stop because the engine has ended: it is fenced, or it has failed."""
        if isinstance(error, LeadLost):
            self.lead_lost(error)
            return
        self.exit_code = os.EX_SOFTWARE
        self.why = self.why or "the engine has failed"
        self.over.set()
        self._wake.set()

    def lead_lost(self, error: StoreError) -> None:
        """Stop working: another kernel leads, or may lead."""
        self.lost = self.lost or error
        self.over.set()
        self._wake.set()

    def lead_again(self) -> None:
        """Forget that the lead was lost, however often that was told."""
        self.lost = None
        if not self.why:
            self.over.clear()
            self._wake.clear()

    async def unless_over(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """Return the result of some work; give it up for None when it is over: a hanging database may never answer."""
        task, over = asyncio.create_task(work), asyncio.create_task(self.over.wait())
        try:
            await asyncio.wait((task, over), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            over.cancel()
            task.cancel()
            await asyncio.wait((task, over), timeout=_GIVE_UP_SECONDS)

    async def next(self) -> bool:
        """Wait for a request; return True for the end of the work, False for a reload."""
        await self._wake.wait()
        self._wake.clear()
        return bool(self.why) or self.lost is not None

    async def stop_within(self, seconds: float) -> bool:
        """Wait for ``seconds``; return True as soon as the process is to stop. A reload has no effect meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                while not self.why:
                    await self._wake.wait()
                    self._wake.clear()
        except TimeoutError:
            return False
        return True

    def _stop(self, number: signal.Signals) -> None:
        if self.why:
            self.hurry.set()
        self.over.set()
        self.why = self.why or f"got {number.name}"
        self._wake.set()

    def _orphaned(self) -> None:
        """Stop because the parent process has died; repeated signals of this do not hurry the stop."""
        if not self.why:
            self._stop(signal.SIGUSR2)
