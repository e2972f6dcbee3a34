"""The kernel's gRPC side: services for clients, admission, errors, the server itself."""

from __future__ import annotations

from nomaflow_kernel.rpc.access_calls import AccessCalls
from nomaflow_kernel.rpc.admission import Admission
from nomaflow_kernel.rpc.audit_calls import AuditCalls
from nomaflow_kernel.rpc.authority_calls import AuthorityCalls
from nomaflow_kernel.rpc.catalogue_calls import CatalogueCalls
from nomaflow_kernel.rpc.endpoints import Endpoints
from nomaflow_kernel.rpc.enrolment import Enrolment
from nomaflow_kernel.rpc.health import Health
from nomaflow_kernel.rpc.kernel_service import KernelIdentity, KernelService
from nomaflow_kernel.rpc.server import SERVICES, AddressTaken, Door, DoorServers
from nomaflow_kernel.rpc.services import served_services
from nomaflow_kernel.rpc.standby import StandbyServer

__all__ = [
    "SERVICES",
    "AccessCalls",
    "AddressTaken",
    "Admission",
    "AuditCalls",
    "AuthorityCalls",
    "CatalogueCalls",
    "Door",
    "DoorServers",
    "Endpoints",
    "Enrolment",
    "Health",
    "KernelIdentity",
    "KernelService",
    "StandbyServer",
    "served_services",
]
