"""The gRPC side of a standby kernel: every call gets an error that says who leads, and where."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2

from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.network.door_addresses import DoorAddresses
from nomaflow_kernel.network.door_certificates import DoorCertificates
from nomaflow_kernel.rpc.endpoints import Endpoints
from nomaflow_kernel.rpc.errors import UnknownService
from nomaflow_kernel.rpc.handlers import EXCHANGES
from nomaflow_kernel.rpc.server import ACCESS, ENROLMENT, GATEWAY, KERNEL, SERVICES, DoorServers
from nomaflow_kernel.store.errors import StoreError, StoreLed

_Status = health_pb2.HealthCheckResponse


class StandbyServer:
    """Answers every call of a service with the reason why this kernel does not work.

    Health is SERVING for the process (the empty name), since it is alive, and NOT_SERVING for each service.

    :param why: the error that ends every call, normally NOT_LEADER; may be replaced at any time
    :param certificates: for the TCP doors; None if there are none
    """

    def __init__(
        self,
        *,
        addresses: DoorAddresses,
        endpoints: Endpoints,
        why: StoreError,
        certificates: DoorCertificates | None = None,
    ) -> None:
        self.why = why
        self._servers = DoorServers(
            addresses=addresses,
            certificates=certificates,
            services={
                service: {method.name: self._refusing(service, method) for method in service.methods}
                for service in (KERNEL, ACCESS, GATEWAY, ENROLMENT)
            },
            health={"Check": self._check},
            endpoints=lambda _: endpoints,
        )

    async def start(self) -> DoorAddresses:
        """Listen and answer; return the addresses, with the actual port in place of 0.

        :raises AddressInUse: if one is taken; the others of `why_not_listened` likewise
        """
        return await self._servers.start()

    async def stop(self) -> None:
        """Stop at once: nothing needs to finish."""
        await self._servers.stop(None)

    def _refusing(self, service: ServiceDescriptor, method: MethodDescriptor) -> Callable[..., Any]:
        def refusal() -> StoreError:
            return self.why.for_hosts() if service is GATEWAY and isinstance(self.why, StoreLed) else self.why

        async def call(_request: Any, _caller: Caller) -> Any:
            raise refusal()

        async def stream(_request: Any, _caller: Caller) -> AsyncIterator[Any]:
            raise refusal()
            yield  # makes it a generator

        return stream if method.server_streaming and method.name not in EXCHANGES else call

    async def _check(self, request: health_pb2.HealthCheckRequest, _caller: Caller) -> health_pb2.HealthCheckResponse:
        if request.service and request.service not in SERVICES:
            raise UnknownService(request.service)
        return _Status(status=_Status.NOT_SERVING if request.service else _Status.SERVING)
