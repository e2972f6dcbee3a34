"""The parts of a leading kernel, put together for its services and for whoever observes it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.credentials import Credentials
from nomaflow_kernel.access.quotas import Quotas
from nomaflow_kernel.catalogue.service import CatalogueService
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.engine.engine import Engine
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.hosts.registry import SessionRegistry
from nomaflow_kernel.network.door_addresses import DoorAddresses
from nomaflow_kernel.network.door_certificates import DoorCertificates
from nomaflow_kernel.process.settings import KernelSettings
from nomaflow_kernel.rpc.guard import Guard
from nomaflow_kernel.rpc.health import Health
from nomaflow_kernel.rpc.shown_runs import ShownRuns
from nomaflow_kernel.scheduler.scheduler import Scheduler
from nomaflow_kernel.store.sql_store import Store


class KernelParts(Struct, frozen=True, kw_only=True):
    """The parts of a kernel for one term of leadership.

    :param certificates: of the TCP doors; None if there is no such door
    :param reached: returns the addresses at which others reach the doors, once they are listened on
    """

    settings: KernelSettings
    info: StoreInfo
    clock: Clock
    store: Store
    feed: EventFeed
    catalogue: CatalogueService
    engine: Engine
    scheduler: Scheduler
    sessions: SessionRegistry
    health: Health
    credentials: Credentials
    guard: Guard
    audit: AuditLog
    quotas: Quotas
    certificates: DoorCertificates | None = None
    reached: Callable[[], DoorAddresses]

    def tcp_certificates(self) -> DoorCertificates:
        """Return the certificates of the TCP doors.

        :raises KernelError: if there is no such door
        """
        if self.certificates is None:
            raise KernelError(
                "this kernel listens on its Unix socket only, so nobody can join it and it has no authority; "
                'write [kernel] listen = "unix:, tls://HOST:PORT" and start it again',
                reason="NOT_ON_TCP",
            )
        return self.certificates


class Calls:
    """Serves some of the calls of a service, on top of the parts of a kernel."""

    def __init__(self, parts: KernelParts) -> None:
        self._parts, self._clock, self._guard = parts, parts.clock, parts.guard
        self._engine, self._store, self._feed = parts.engine, parts.store, parts.feed
        self._catalogue, self._sessions = parts.catalogue, parts.sessions
        self._sight = ShownRuns(guard=parts.guard, engine=parts.engine)
