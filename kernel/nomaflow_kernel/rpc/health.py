"""The health service: NOT_SERVING before the kernel stops, and while its store cannot be written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from grpc_health.v1 import health_pb2

from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.errors import KernelError, KernelStopping
from nomaflow_kernel.rpc.server import SERVICES
from nomaflow_kernel.store.errors import LeadLost, StoreError
from nomaflow_kernel.store.sql_store import Store

_LOG = logging.getLogger(__name__)
_PING_SECONDS = 1.0
_PINGS = 3
"""Pings in a row, with no failure beside them, until the store works again: the kernel tries its own work more often.

A ping needs no room: it can be written while nothing else can.
"""
_SERVICES = frozenset(("", *SERVICES))
"""The names with a health status; the empty one is that of the kernel."""
_Status = health_pb2.HealthCheckResponse


class Health:
    """Tracks whether the kernel can work, and answers health checks and watches.

    :param store: pinged after a failure until it can be written again
    """

    def __init__(self, *, store: Store, ping_seconds: float = _PING_SECONDS) -> None:
        self._store = store
        self._ping_seconds = ping_seconds
        self._ready = False
        self._stopping = False
        self._trouble: StoreError | None = None
        self._failed = False
        self._healing: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        """True if calls can be expected to work."""
        return self._ready and not self._stopping and self._trouble is None

    @property
    def trouble(self) -> str:
        """The store's trouble, and the way out; empty if there is none."""
        return self._trouble.message if self._trouble is not None else ""

    def set_ready(self) -> None:
        """Report SERVING from now on, unless something fails."""
        self._ready = True
        self._tell()

    def note(self, error: KernelError) -> None:
        """Record an error that ended a call: a failing store is pinged until it recovers."""
        if not isinstance(error, StoreError) or self._stopping:
            return
        self._failed = True
        if self._trouble is not None:
            return
        self._trouble = error
        _LOG.error("not serving: %s", error)
        self._tell()
        if not isinstance(error, LeadLost):  # this one does not recover
            self._healing = asyncio.create_task(self._heal(), name="store health")

    async def stop(self) -> None:
        """Report NOT_SERVING from now on. Stopping twice is allowed."""
        self._stopping = True
        self._tell()
        if self._healing is not None:
            self._healing.cancel()
            await asyncio.gather(self._healing, return_exceptions=True)

    async def check(self, request: health_pb2.HealthCheckRequest, _caller: Caller) -> health_pb2.HealthCheckResponse:
        """Return the health of a service.

        :raises KernelError: if there is no service of that name
        """
        check_service(request.service)
        return self._response()

    async def watch(
        self, request: health_pb2.HealthCheckRequest, _caller: Caller
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Yield the health of a service now and on each change."""
        if request.service not in _SERVICES:
            yield _Status(status=_Status.SERVICE_UNKNOWN)
            return
        told: bool | None = None
        while True:
            changed = self._changed
            if self.serving is not told:
                told = self.serving
                yield self._response()
            if self._stopping:
                raise KernelStopping
            await changed.wait()

    def _response(self) -> health_pb2.HealthCheckResponse:
        return _Status(status=_Status.SERVING if self.serving else _Status.NOT_SERVING)

    def _tell(self) -> None:
        # Each change has its own event: a busy watcher misses none.
        self._changed.set()
        self._changed = asyncio.Event()

    async def _heal(self) -> None:
        written = 0
        while written < _PINGS:
            self._failed = False
            await asyncio.sleep(self._ping_seconds)
            try:
                await self._store.ping()
            except StoreError as error:
                self._failed = True
                _LOG.debug("the store is still in trouble: %s", error)
            written = 0 if self._failed else written + 1
        self._trouble = None
        _LOG.warning("serving again: the store can be written")
        self._tell()


def check_service(name: str) -> None:
    """Check the name of a service whose health is asked for.

    :raises KernelError: if there is no service of that name
    """
    if name not in _SERVICES:
        what = f"no service has the name {name[:64]!r}; an empty name asks for the kernel as a whole"
        raise KernelError(what, reason="SERVICE_NOT_FOUND")
