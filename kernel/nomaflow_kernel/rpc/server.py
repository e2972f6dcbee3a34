"""The gRPC server: its options, its services, its addresses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2

from nomaflow_api.addresses import uses_tls
from nomaflow_api.v1 import host_gateway_service_pb2, kernel_service_pb2
from nomaflow_kernel.hosts import HostGateway
from nomaflow_kernel.network.certificates import Certificate, CertificateFiles
from nomaflow_kernel.rpc.endpoints import Endpoints, methods_of, service_handler
from nomaflow_kernel.rpc.health import Health
from nomaflow_kernel.rpc.kernel_service import KernelService

__all__ = ["SERVICES", "SERVICE_DESCRIPTORS", "AddressTaken", "bare_server", "build_server", "listen"]

_LOG = logging.getLogger(__name__)
_KERNEL = kernel_service_pb2.DESCRIPTOR.services_by_name["KernelService"]
_GATEWAY = host_gateway_service_pb2.DESCRIPTOR.services_by_name["HostGatewayService"]
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]

SERVICE_DESCRIPTORS: tuple[ServiceDescriptor, ...] = (_KERNEL, _GATEWAY)
"""The kernel's own services."""

SERVICES: tuple[str, ...] = tuple(each.full_name for each in SERVICE_DESCRIPTORS)
"""The services with a health status of their own."""

_MESSAGE_BYTES = 4 * 1024 * 1024
_CONCURRENT_CALLS = 5000
_STREAMS_PER_CONNECTION = 1000
# design §7; both sides have them. so_reuseport 0: otherwise two kernels bind one port silently.
_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", 2 * _MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
    ("grpc.max_metadata_size", 16_384),
)


class AddressTaken(Exception):
    """Raised when an address cannot be listened on; the text gives the address and the reason."""


def build_server(
    *, service: KernelService, gateway: HostGateway, health: Health, endpoints: Endpoints, reflection: bool = False
) -> grpc.aio.Server:
    """Return a server of all services, not yet listening.

    :param reflection: also serve the schema to clients
    """
    services = {
        _KERNEL: methods_of(_KERNEL, service, service.catalogue_calls),
        _GATEWAY: methods_of(_GATEWAY, gateway),
    }
    return bare_server(
        services=services,
        health=methods_of(_HEALTH, health),
        endpoints=endpoints,
        reflection=reflection,
    )


def bare_server(
    *,
    services: Mapping[ServiceDescriptor, Mapping[str, Callable[..., Any]]],
    health: Mapping[str, Callable[..., Any]],
    endpoints: Endpoints,
    reflection: bool = False,
) -> grpc.aio.Server:
    """Return a server of services, each given by the methods that serve its rpcs, not yet listening."""
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_CONCURRENT_CALLS)
    handlers = [service_handler(descriptor, methods, endpoints) for descriptor, methods in services.items()]
    handlers.append(service_handler(_HEALTH, health, endpoints, may_grow=True))
    if reflection:
        handlers.append(_reflection_handler(endpoints))
    server.add_generic_rpc_handlers(tuple(handlers))
    return server


def listen(server: grpc.aio.Server, address: str, certificate: CertificateFiles | None) -> str:
    """Have a server listen on a checked address; return the address with its scheme, and the actual port in place of 0.

    :raises AddressTaken: if it cannot be listened on
    """
    target, scheme = address, ""
    try:
        if certificate is not None and uses_tls(address):
            scheme = "tls://"
            target = address.removeprefix(scheme)
            port = server.add_secure_port(target, _credentials(certificate))
        else:
            port = server.add_insecure_port(address)
    except RuntimeError:
        raise AddressTaken(
            f"cannot listen on {address!r}: the port is taken, or the address is not this machine's; "
            "stop what listens there, or choose another"
        ) from None
    if address.startswith("unix:"):
        return address
    return f"{scheme}{target.rpartition(':')[0]}:{port}"


def _credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    """Return credentials that follow the two files: gRPC asks for them at every handshake.

    BoringSSL refuses versions of TLS below 1.2 by itself.
    """

    def configuration(found: Certificate) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(found.key, found.chain)])

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        found = files.renewed()
        return None if found is None else configuration(found)

    return grpc.dynamic_ssl_server_credentials(configuration(files.current), renewed)  # type: ignore[arg-type]  # None means no change, as gRPC documents


def _reflection_handler(endpoints: Endpoints) -> grpc.GenericRpcHandler:
    # Imported here: few kernels serve their schema.
    from grpc_reflection.v1alpha import reflection_pb2
    from grpc_reflection.v1alpha.reflection import aio

    descriptor = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
    servicer = aio.ReflectionServicer((*SERVICES, _HEALTH.full_name, descriptor.full_name))
    return service_handler(
        descriptor, {"ServerReflectionInfo": servicer.ServerReflectionInfo}, endpoints, may_grow=True
    )
