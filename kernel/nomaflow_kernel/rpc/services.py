"""The services of a leading kernel, and the servers of its doors."""

from __future__ import annotations

from collections.abc import Callable

from nomaflow_kernel.access.doors import Identify, clients_door, hosts_door, joining_door, owners_door
from nomaflow_kernel.network.door_addresses import DoorAddresses
from nomaflow_kernel.rpc.access_calls import AccessCalls
from nomaflow_kernel.rpc.audit_calls import AuditCalls
from nomaflow_kernel.rpc.callable_calls import CallableCalls
from nomaflow_kernel.rpc.catalogue_calls import CatalogueCalls
from nomaflow_kernel.rpc.endpoints import Endpoints
from nomaflow_kernel.rpc.enrolment import Enrolment
from nomaflow_kernel.rpc.event_pages import EventPages
from nomaflow_kernel.rpc.figure_calls import FigureCalls
from nomaflow_kernel.rpc.fire_calls import FireCalls
from nomaflow_kernel.rpc.handlers import methods_of
from nomaflow_kernel.rpc.host_gateway import HostGateway
from nomaflow_kernel.rpc.inspect_calls import InspectCalls
from nomaflow_kernel.rpc.job_pages import JobPages
from nomaflow_kernel.rpc.kernel_service import KernelService
from nomaflow_kernel.rpc.log_reading import LogCalls
from nomaflow_kernel.rpc.parts import KernelParts
from nomaflow_kernel.rpc.run_pages import RunPages
from nomaflow_kernel.rpc.server import ACCESS, ENROLMENT, GATEWAY, HEALTH, KERNEL, Door, DoorServers, Services
from nomaflow_kernel.rpc.watching import Watching


def door_servers(
    parts: KernelParts, addresses: DoorAddresses, *, endpoints: Callable[[Door], Endpoints] | None = None
) -> DoorServers:
    """Return the servers of all doors, not yet listening.

    :param addresses: where to listen
    :param endpoints: returns those of a door; None for the usual ones
    """
    return DoorServers(
        addresses=addresses,
        certificates=parts.certificates,
        services=_services(parts),
        endpoints=endpoints or (lambda door: _endpoints(parts, door)),
        reflection=parts.settings.reflection,
    )


def _services(parts: KernelParts) -> Services:
    """Return the methods of the kernel's services, and of the health service."""
    enrolment, catalogue = Enrolment(parts), CatalogueCalls(parts)
    return {
        KERNEL: methods_of(
            KERNEL,
            KernelService(parts, catalogue),
            catalogue,
            JobPages(parts),
            CallableCalls(parts, catalogue),
            Watching(parts),
            LogCalls(parts),
            InspectCalls(parts),
            RunPages(parts),
            EventPages(parts),
            FireCalls(parts),
            FigureCalls(parts),
        ),
        ACCESS: methods_of(ACCESS, AccessCalls(parts, enrolment.join_string), AuditCalls(parts)),
        GATEWAY: methods_of(GATEWAY, HostGateway(parts), enrolment),
        ENROLMENT: methods_of(ENROLMENT, enrolment),
        HEALTH: methods_of(HEALTH, parts.health),
    }


def _endpoints(parts: KernelParts, door: Door) -> Endpoints:
    identify: Identify = owners_door
    if door is Door.CLIENTS:
        identify = clients_door(parts.credentials)
    elif door is not Door.OWNER:
        identify = hosts_door(parts.credentials) if door is Door.HOSTS else joining_door
    return Endpoints(identify=identify, guard=parts.guard, audit=parts.audit, on_error=parts.health.note)
