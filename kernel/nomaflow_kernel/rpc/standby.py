"""The gRPC side of a standby kernel: every call gets an error that says who leads, and where."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2

from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.network.certificates import CertificateFiles
from nomaflow_kernel.rpc.endpoints import Endpoints
from nomaflow_kernel.rpc.errors import UnknownService
from nomaflow_kernel.rpc.server import SERVICE_DESCRIPTORS, bare_server, listen
from nomaflow_kernel.store.errors import StoreError

__all__ = ["StandbyServer"]

_Status = health_pb2.HealthCheckResponse


class StandbyServer:
    """Answers every call of a service with the reason why this kernel does not work.

    Health is SERVING for the process (the empty name), since it is alive, and NOT_SERVING for each service.

    :param why: the error that ends every call, normally NOT_LEADER; may be replaced at any time
    :param certificate: for addresses with TLS
    """

    def __init__(self, *, endpoints: Endpoints, why: StoreError, certificate: CertificateFiles | None = None) -> None:
        self.why = why
        self._certificate = certificate
        services = {
            descriptor: {method.name: self._refusing(method) for method in descriptor.methods}
            for descriptor in SERVICE_DESCRIPTORS
        }
        self._names = frozenset(descriptor.full_name for descriptor in SERVICE_DESCRIPTORS)
        self._server = bare_server(
            services=services,
            health={"Check": self._check},
            endpoints=endpoints,
        )

    async def start(self, addresses: Sequence[str]) -> list[str]:
        """Listen and answer; return the addresses, with the actual port in place of 0.

        :raises AddressTaken: if one cannot be listened on
        """
        served = [listen(self._server, address, self._certificate) for address in addresses]
        await self._server.start()
        return served

    async def stop(self) -> None:
        """Stop at once: nothing needs to finish."""
        await self._server.stop(None)

    def _refusing(self, method: MethodDescriptor) -> Callable[..., Any]:
        async def call(_request: Any, _caller: Caller) -> Any:
            raise self.why

        async def stream(_request: Any, _caller: Caller) -> AsyncIterator[Any]:
            raise self.why
            yield  # makes it a generator

        return stream if method.server_streaming else call

    async def _check(self, request: health_pb2.HealthCheckRequest, _caller: Caller) -> health_pb2.HealthCheckResponse:
        if request.service and request.service not in self._names:
            raise UnknownService(request.service)
        return _Status(status=_Status.NOT_SERVING if request.service else _Status.SERVING)
