"""A kernel's services and doors in this process, on a real store; the engine is of whoever puts it together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio

from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.credentials import Credentials
from nomaflow_kernel.access.principals import Principal
from nomaflow_kernel.access.quotas import Quotas
from nomaflow_kernel.catalogue.service import CatalogueService
from nomaflow_kernel.domain.clock import SystemClock
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.hosts.registry import SessionRegistry
from nomaflow_kernel.network.door_addresses import DoorAddresses
from nomaflow_kernel.process.settings import KernelSettings
from nomaflow_kernel.rpc.endpoints import Endpoints
from nomaflow_kernel.rpc.guard import Guard
from nomaflow_kernel.rpc.health import Health
from nomaflow_kernel.rpc.parts import KernelParts
from nomaflow_kernel.rpc.server import DoorServers
from nomaflow_kernel.rpc.services import door_servers
from nomaflow_kernel.store.sql_store import Store, open_store
from nomaflow_project.models.settings_file import QuotaSection

_NO_SCHEDULER: Any = None


class ServedKernel:
    """A kernel around an engine."""

    store: Store
    info: StoreInfo
    feed: EventFeed
    catalogue: CatalogueService
    sessions: SessionRegistry
    audit: AuditLog
    health: Health
    credentials: Credentials
    parts: KernelParts

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.jobs_file: Path | None = None
        self.clock = SystemClock()
        self._servers: list[DoorServers] = []
        self._channels: list[grpc.aio.Channel] = []

    async def open(self, sessions: SessionRegistry, **health: float) -> None:
        """Open the history, and make the parts that need no engine."""
        self.store = open_store(f"sqlite:///{self.directory}/kernel.db")
        self.info = await self.store.open()
        self.feed = EventFeed(self.info.last_event_seq)
        self.sessions = sessions
        self.catalogue = CatalogueService(store=self.store, clock=self.clock, feed=self.feed, jobs_file=self.jobs_file)
        self.audit = AuditLog(store=self.store, clock=self.clock)
        self.health = Health(store=self.store, **health)
        self.credentials = Credentials(
            store=self.store, clock=self.clock, roles={}, withdrawn=self.directory / "withdrawn"
        )

    def put_together(self, engine: Any) -> None:
        """Put the parts together, around an engine."""
        quotas = Quotas(limits=QuotaSection(), clock=self.clock)
        self.parts = KernelParts(
            settings=KernelSettings(project=self.directory),
            info=self.info,
            clock=self.clock,
            store=self.store,
            feed=self.feed,
            catalogue=self.catalogue,
            engine=engine,
            scheduler=_NO_SCHEDULER,
            sessions=self.sessions,
            health=self.health,
            credentials=self.credentials,
            guard=Guard(
                catalogue=self.catalogue, sessions=self.sessions, subjects=self.store.run_subjects, quotas=quotas
            ),
            audit=self.audit,
            quotas=quotas,
            reached=lambda: self._at("owner"),
        )

    async def serve(self, name: str, identify: Callable[..., Principal], **limits: Any) -> grpc.aio.Channel:
        """Open a door on a Unix socket, and return a channel through it."""
        endpoints = Endpoints(
            identify=identify, guard=self.parts.guard, audit=self.audit, on_error=self.health.note, **limits
        )
        server = door_servers(self.parts, self._at(name), endpoints=lambda _: endpoints)
        self._servers.append(server)
        (address,) = (await server.start()).owner
        self._channels.append(grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)))
        return self._channels[-1]

    async def close_channels(self) -> None:
        """Close the channels, as clients do that leave."""
        while self._channels:
            await self._channels.pop().close()

    async def stop_servers(self, grace_seconds: float | None = None) -> None:
        """Stop the servers, and what watches the store for them."""
        while self._servers:
            await self._servers.pop().stop(grace_seconds)
        await self.health.stop()

    def _at(self, name: str) -> DoorAddresses:
        return DoorAddresses(owner=(f"unix:{self.directory}/{name}.sock",))
