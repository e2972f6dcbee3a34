"""The services of the leading kernel, and the servers of its doors."""

from __future__ import annotations

import os
from collections.abc import Callable

from msgspec import Struct

from nomaflow_api.addresses import is_tcp
from nomaflow_api.version import VERSION
from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.credentials import Credentials
from nomaflow_kernel.access.doors import Identify, clients_door, hosts_door, joining_door, owners_door
from nomaflow_kernel.access.guard import Guard
from nomaflow_kernel.access.quotas import Quotas
from nomaflow_kernel.catalogue.service import CatalogueService
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.engine import Engine
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.hosts import GatewaySettings, HostGateway, SessionRegistry
from nomaflow_kernel.leadership.targets import Targets
from nomaflow_kernel.network.door_addresses import DoorAddresses
from nomaflow_kernel.network.door_certificates import DoorCertificates
from nomaflow_kernel.process.settings import KernelSettings
from nomaflow_kernel.rpc import (
    AccessCalls,
    Admission,
    AuditCalls,
    AuthorityCalls,
    CatalogueCalls,
    Door,
    DoorServers,
    Endpoints,
    Enrolment,
    Health,
    KernelIdentity,
    KernelService,
    served_services,
)
from nomaflow_kernel.store import Store

__all__ = ["ServedParts", "build_servers"]


class ServedParts(Struct, frozen=True, kw_only=True):
    """The parts of a leading kernel that its services use."""

    engine: Engine
    catalogue: CatalogueService
    sessions: SessionRegistry
    store: Store
    feed: EventFeed
    health: Health
    credentials: Credentials
    certificates: DoorCertificates | None
    audit: AuditLog
    clock: Clock
    info: StoreInfo
    settings: KernelSettings


def build_servers(parts: ServedParts, *, addresses: DoorAddresses, reached: Callable[[], DoorAddresses]) -> DoorServers:
    """Return the servers of all doors, not yet listening.

    :param addresses: where to listen
    :param reached: returns the addresses at which others reach the doors, once they are listened on
    """
    enrolment = Enrolment(
        credentials=parts.credentials,
        certificates=parts.certificates,
        addresses=reached,
        kernel_id=parts.info.store_id,
        clock=parts.clock,
    )
    targets = Targets(catalogue=parts.catalogue, sessions=parts.sessions, store=parts.store)
    quotas = Quotas(limits=parts.settings.access.quotas, clock=parts.clock)
    guard = Guard(
        job=targets.job,
        jobs=targets.jobs,
        run=targets.run,
        runs=targets.runs,
        host=targets.knows_host,
        quotas=quotas,
    )
    tokens = AccessCalls(
        credentials=parts.credentials,
        clock=parts.clock,
        catalogue=parts.catalogue,
        sessions=parts.sessions,
        join_string=None if parts.certificates is None else enrolment.join_string,
    )
    services, health = served_services(
        service=_kernel_service(parts, guard),
        gateway=_gateway(parts, quotas, reached),
        enrolment=enrolment,
        access=(
            tokens,
            AuthorityCalls(parts.certificates),
            AuditCalls(store=parts.store, feed=parts.feed),
        ),
        health=parts.health,
    )
    return DoorServers(
        addresses=addresses,
        certificates=parts.certificates,
        services=services,
        health=health,
        endpoints=_endpoints(parts, guard),
        reflection=parts.settings.reflection,
    )


def _kernel_service(parts: ServedParts, guard: Guard) -> KernelService:
    settings, info = parts.settings, parts.info
    return KernelService(
        engine=parts.engine,
        store=parts.store,
        feed=parts.feed,
        clock=parts.clock,
        admission=Admission(engine=parts.engine, jobs=parts.catalogue, sessions=parts.sessions),
        catalogue_calls=CatalogueCalls(
            engine=parts.engine,
            catalogue=parts.catalogue,
            sessions=parts.sessions,
            store=parts.store,
            clock=parts.clock,
            guard=guard,
        ),
        guard=guard,
        identity=KernelIdentity(
            version=VERSION,
            epoch=info.epoch,
            store=info.kind,
            store_id=info.store_id,
            started_at_us=parts.clock.now_us(),
            lease_seconds=settings.lease_seconds,
            grace_seconds=settings.lost_after_seconds,
            # A name may be any bytes, but the wire carries text.
            project=os.fsencode(settings.project).decode(errors="backslashreplace"),
        ),
    )


def _gateway(parts: ServedParts, quotas: Quotas, reached: Callable[[], DoorAddresses]) -> HostGateway:
    settings = parts.settings
    # Hosts keep what the operator has named, and no name that the kernel has guessed.
    named = settings.advertised_hosts or any(map(is_tcp, settings.advertised))
    return HostGateway(
        engine=parts.engine,
        manifests=parts.catalogue,
        sessions=parts.sessions,
        audit=parts.audit,
        quotas=quotas,
        settings=GatewaySettings(
            epoch=parts.info.epoch,
            kernel_id=parts.info.store_id,
            heartbeat_seconds=settings.heartbeat_seconds,
            lease_seconds=settings.lease_seconds,
            grace_seconds=settings.lost_after_seconds,
            addresses=(lambda: reached().hosts) if named else tuple,
        ),
    )


def _endpoints(parts: ServedParts, guard: Guard) -> Callable[[Door], Endpoints]:
    def endpoints(door: Door) -> Endpoints:
        return Endpoints(
            identify=_proof(door, parts.credentials), guard=guard, audit=parts.audit, on_error=parts.health.note
        )

    return endpoints


def _proof(door: Door, credentials: Credentials) -> Identify:
    if door is Door.OWNER:
        return owners_door
    if door is Door.CLIENTS:
        return clients_door(credentials)
    return hosts_door(credentials) if door is Door.HOSTS else joining_door
