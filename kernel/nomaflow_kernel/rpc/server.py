"""The gRPC servers, one for each door: its options, its services, its addresses."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import starmap
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from msgspec import Struct

from nomaflow_api.addresses import TLS_SCHEME, is_tcp
from nomaflow_api.v1 import access_service_pb2, host_gateway_service_pb2, kernel_service_pb2
from nomaflow_kernel.access.quotas import CallsAtOnce
from nomaflow_kernel.network.certificates import Certificate, CertificateFiles
from nomaflow_kernel.network.door_addresses import DoorAddresses
from nomaflow_kernel.network.door_certificates import DoorCertificates
from nomaflow_kernel.network.listening import why_not_listened
from nomaflow_kernel.process.file_limit import raise_file_limit
from nomaflow_kernel.rpc.endpoints import Endpoints
from nomaflow_kernel.rpc.handlers import elsewhere_methods, service_methods
from nomaflow_kernel.rpc.strangers_server import Methods, server_for_strangers

KERNEL = kernel_service_pb2.DESCRIPTOR.services_by_name["KernelService"]
ACCESS = access_service_pb2.DESCRIPTOR.services_by_name["AccessService"]
GATEWAY = host_gateway_service_pb2.DESCRIPTOR.services_by_name["HostGatewayService"]
ENROLMENT = access_service_pb2.DESCRIPTOR.services_by_name["EnrolmentService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]

SERVICES: tuple[str, ...] = tuple(each.full_name for each in (KERNEL, ACCESS, GATEWAY, ENROLMENT))
"""The kernel's own services, each with a health status."""

Services = Mapping[ServiceDescriptor, Mapping[str, Callable[..., Any]]]
"""For each service, the name of each of its rpcs → the method that serves it."""

_MESSAGE_BYTES = 4 * 1024 * 1024
_ANSWER_BYTES = 64 * 1024 * 1024
"""As much as our clients take: a run may have hundreds of steps with a result of 64 KiB each."""
# design §7; both sides have them. so_reuseport 0: otherwise two kernels bind one port silently.
_OPTIONS: Mapping[str, int] = {
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.http2.ping_timeout_ms": 5_000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.min_ping_interval_without_data_ms": 5_000,
    "grpc.http2.max_pings_without_data": 0,
    "grpc.so_reuseport": 0,
    "grpc.max_receive_message_length": _MESSAGE_BYTES,
    "grpc.max_send_message_length": _ANSWER_BYTES,
    "grpc.max_concurrent_streams": 1000,
    "grpc.max_metadata_size": 16_384,
}
_ON_TCP: Mapping[str, int] = {
    "grpc.max_metadata_size": 8_192,
    "grpc.absolute_max_metadata_size": 16_384,
    "grpc.server_handshake_timeout_ms": 10_000,
    "grpc.http2.settings_timeout": 10_000,
    # A flood of pings is answered no faster than its sender reads. With strikes, gRPC prepares a farewell for each ping
    # and keeps the process's threads busy for seconds, even after the sender has left.
    "grpc.http2.max_ping_strikes": 0,
    # Else what may come of each call before it is read grows with the connection's speed, to many megabytes.
    "grpc.http2.bdp_probe": 0,
}
_BODY_SECONDS = 5.0
_OWN_FILES = 256
"""Open files that are kept for the kernel itself and its owner, whatever connects by TCP."""


class Door(enum.Enum):
    """A way into the kernel, by the name of its addresses."""

    OWNER = "owner"
    CLIENTS = "clients"
    HOSTS = "hosts"
    JOINING = "joining"


class _Plan(Struct, frozen=True, kw_only=True):
    """The services of a door, and its limits.

    :param calls: at once
    :param connections: at once, if enough files can be open; 0 for no limit
    :param share: the part of the files that its connections may take
    """

    services: tuple[ServiceDescriptor, ...]
    calls: int
    connections: int = 0
    share: float = 0.0
    options: Mapping[str, int]


_PLANS: Mapping[Door, _Plan] = {
    Door.OWNER: _Plan(services=(KERNEL, ACCESS, GATEWAY, ENROLMENT), calls=5000, options={}),
    Door.CLIENTS: _Plan(
        services=(KERNEL, ACCESS),
        calls=2000,
        connections=4000,
        share=0.5,
        options={**_ON_TCP, "grpc.max_concurrent_streams": 500, "grpc.max_connection_idle_ms": 300_000},
    ),
    Door.HOSTS: _Plan(
        services=(GATEWAY,),
        calls=5000,
        connections=4000,
        share=0.4,
        options={
            **_ON_TCP,
            "grpc.max_concurrent_streams": 500,
            "grpc.max_connection_idle_ms": 300_000,
            "grpc.http2.lookahead_bytes": 3 << 19,  # a report, however far away the host is
        },
    ),
    Door.JOINING: _Plan(
        services=(ENROLMENT,),
        calls=100,
        connections=200,
        share=0.1,
        options={
            **_ON_TCP,
            "grpc.max_concurrent_streams": 4,
            "grpc.max_connection_idle_ms": 20_000,
            "grpc.max_connection_age_ms": 60_000,
            "grpc.max_receive_message_length": 65_536,
        },
    ),
}


class DoorServers:
    """A server for each door that has an address: a flood at one leaves the others alone.

    :param addresses: checked; Unix sockets are claimed already
    :param certificates: for the TCP doors; None if there are none
    :param endpoints: of each door
    :param reflection: also serve the schema to the owner and to clients
    """

    def __init__(
        self,
        *,
        addresses: DoorAddresses,
        certificates: DoorCertificates | None,
        services: Services,
        endpoints: Callable[[Door], Endpoints],
        reflection: bool = False,
    ) -> None:
        self._certificates = certificates
        self._addresses: dict[Door, tuple[str, ...]] = {door: getattr(addresses, door.value) for door in Door}
        files = raise_file_limit() if addresses.on_tcp else 0
        self._servers: dict[Door, grpc.aio.Server] = {}
        self._endpoints: list[Endpoints] = []
        for door in (door for door, listened in self._addresses.items() if listened):
            parts = endpoints(door)
            if door is not Door.OWNER:
                parts = replace(
                    parts, body_seconds=_BODY_SECONDS, calls=CallsAtOnce(), shows_certificate=door is Door.HOSTS
                )
            self._endpoints.append(parts)
            others = [each for each in (KERNEL, ACCESS, GATEWAY) if each not in _PLANS[door].services]
            methods = {each.full_name: elsewhere_methods(each, parts) for each in others}
            for each in (*_PLANS[door].services, HEALTH):
                methods[each.full_name] = service_methods(each, services[each], parts, may_grow=each is HEALTH)
            if reflection and door in (Door.OWNER, Door.CLIENTS):
                methods |= _reflection(_PLANS[door].services, parts)
            self._servers[door] = _bare_server(door, methods, files=files)

    async def start(self) -> DoorAddresses:
        """Listen and answer; return the addresses, with the actual port in place of 0.

        :raises CannotStart: if one is taken, this user may not listen there, or this machine does not have it, or does
            not know its name
        """
        served = {
            door.value: tuple(self._listen(door, each) for each in listened)
            for door, listened in self._addresses.items()
        }
        for server in self._servers.values():
            await server.start()
        return DoorAddresses(**served)

    async def stop(self, grace_seconds: float | None) -> None:
        """Stop all servers; open calls get that much time, None for none. May be called again with less."""
        for endpoints in self._endpoints:
            endpoints.end_waiting()
        await asyncio.gather(*(server.stop(grace_seconds) for server in self._servers.values()))

    def _listen(self, door: Door, address: str) -> str:
        server, target = self._servers[door], address.removeprefix(TLS_SCHEME)
        try:
            if not is_tcp(address):
                server.add_insecure_port(address)
                return address
            port = server.add_secure_port(target, self._credentials(door))
        except RuntimeError:
            raise why_not_listened(address) from None
        return f"{TLS_SCHEME}{target.rpartition(':')[0]}:{port}"

    def _credentials(self, door: Door) -> grpc.ServerCredentials:
        """Return credentials that follow the files: gRPC asks for them at every handshake.

        BoringSSL refuses versions of TLS below 1.2 by itself.
        """
        certificates = self._certificates
        assert certificates is not None  # there is a TCP address
        mutual = door is Door.HOSTS
        files: CertificateFiles = certificates.own if mutual else certificates.for_clients
        given = files.current()

        def configuration(found: Certificate) -> grpc.ServerCertificateConfiguration:
            roots = certificates.authority.authorities_pem.encode() if mutual else None
            return grpc.ssl_server_certificate_configuration([(found.key, found.chain)], root_certificates=roots)

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            found = files.current()
            if found == given:
                return None
            given = found
            return configuration(found)

        return grpc.dynamic_ssl_server_credentials(
            configuration(given),
            renewed,  # type: ignore[arg-type]  # None means no change, as gRPC documents
            require_client_authentication=mutual,
        )


def _bare_server(door: Door, methods: Methods, *, files: int) -> grpc.aio.Server:
    plan = _PLANS[door]
    options = {**_OPTIONS, **plan.options}
    if door is Door.OWNER:
        server = grpc.aio.server(options=list(options.items()), maximum_concurrent_rpcs=plan.calls)
        server.add_generic_rpc_handlers(tuple(starmap(grpc.method_handlers_generic_handler, methods.items())))
        return server
    most = min(plan.connections, int(max(files - _OWN_FILES, 0) * plan.share))
    options["grpc.max_allowed_incoming_connections"] = max(most, 8)
    return server_for_strangers(methods, options=list(options.items()), calls=plan.calls)


def _reflection(services: Sequence[ServiceDescriptor], endpoints: Endpoints) -> Methods:
    # Imported here: few kernels serve their schema.
    from grpc_reflection.v1alpha import reflection_pb2
    from grpc_reflection.v1alpha.reflection import aio

    descriptor = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
    servicer = aio.ReflectionServicer([each.full_name for each in (*services, HEALTH, descriptor)])
    methods = {"ServerReflectionInfo": servicer.ServerReflectionInfo}
    return {descriptor.full_name: service_methods(descriptor, methods, endpoints, may_grow=True)}
