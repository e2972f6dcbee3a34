"""The gRPC side of a standby kernel: every call gets an error that says who leads, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2

from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.network.door_addresses import DoorAddresses
from nomaflow_kernel.network.door_certificates import DoorCertificates
from nomaflow_kernel.rpc.endpoints import Endpoints
from nomaflow_kernel.rpc.health import check_service
from nomaflow_kernel.rpc.server import ACCESS, ENROLMENT, GATEWAY, HEALTH, KERNEL, DoorServers
from nomaflow_kernel.store.errors import StoreError, StoreLed

_Status = health_pb2.HealthCheckResponse
_Why = Callable[[], StoreError]


def standby_servers(
    *, addresses: DoorAddresses, certificates: DoorCertificates | None, endpoints: Endpoints, why: _Why
) -> DoorServers:
    """Return servers that answer every call of a service with the reason why this kernel does not work.

    Health is SERVING for the process (the empty name), since it is alive, and NOT_SERVING for each service.

    :param certificates: for the TCP doors; None if there are none
    :param why: returns the error that ends a call, normally NOT_LEADER
    """
    services = {
        service: dict.fromkeys((method.name for method in service.methods), _refusing(service, why))
        for service in (KERNEL, ACCESS, GATEWAY, ENROLMENT)
    }
    return DoorServers(
        addresses=addresses,
        certificates=certificates,
        services={**services, HEALTH: {"Check": _check}},
        endpoints=lambda _: endpoints,
    )


def _refusing(service: ServiceDescriptor, why: _Why) -> Callable[..., Any]:
    def refuse(_request: Any, _caller: Caller) -> Any:
        error = why()
        raise error.for_hosts() if service is GATEWAY and isinstance(error, StoreLed) else error

    return refuse


async def _check(request: health_pb2.HealthCheckRequest, _caller: Caller) -> health_pb2.HealthCheckResponse:
    check_service(request.service)
    return _Status(status=_Status.NOT_SERVING if request.service else _Status.SERVING)
