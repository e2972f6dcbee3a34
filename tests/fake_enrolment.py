"""A scriptable joining door: TLS, one secret, and what becomes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from certificate_authority import Authority
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as pb
from nomaflow_api.v1.access_service_pb2_grpc import (
    EnrolmentServiceServicer,
    add_EnrolmentServiceServicer_to_server,
)
from nomaflow_kernel.network.authority import Authority as KernelAuthority

__all__ = ["FakeEnrolment"]


class FakeEnrolment(EnrolmentServiceServicer):
    """Exchanges a secret once.

    :param addresses: what it tells to call from then on
    :ivar serves: a real kernel's authority, in place of the suite's
    """

    def __init__(self, authority: Authority, *, host: str = "demo", addresses: tuple[str, ...] = ()) -> None:
        self.authority = authority
        self.host = host
        self.addresses = addresses or ("tls://127.0.0.1:9",)
        self.secrets = {"S3CRET"}
        self.requests: list[pb.EnrolRequest] = []
        self.instead: Callable[[pb.EnrolRequest, Any], Awaitable[pb.EnrolResponse]] | None = None
        self.serves: KernelAuthority | None = None
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self, *, by: Authority | None = None, port: int = 0, **valid: Any) -> FakeEnrolment:
        """Listen, with a certificate of another authority where one is given."""
        pair = self.serves or (by or self.authority).issue(f"join{id(self)}", "127.0.0.1", **valid)
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        add_EnrolmentServiceServicer_to_server(self, self._server)
        credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        await self._server.start()
        return self

    async def stop(self) -> None:
        """Go away."""
        if self._server is not None:
            await self._server.stop(None)

    def string(self, *, kind: str = "host", name: str = "", secret: str = "S3CRET", port: int = 0) -> str:
        """Return a join string for this door."""
        return JoinString(
            at=(f"tls://127.0.0.1:{port or self.port}",),
            authorities_pem=self.serves.own_pem if self.serves else self.authority.file.read_text(),
            kind=kind,
            name=name or self.host,
            secret=secret,
        ).encode()

    async def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.EnrolResponse:  # noqa: N802 - the stub's name
        self.requests.append(request)
        if self.instead is not None:
            return await self.instead(request, context)
        if request.secret not in self.secrets:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a valid token is needed")
        self.secrets.discard(request.secret)
        return self.answer(request)

    def answer(self, request: pb.EnrolRequest) -> pb.EnrolResponse:
        """Return what a joiner gets."""
        if self.serves is not None:
            certificate = self.serves.sign_host(request.csr_pem, self.host).chain_pem
            return self._answer(certificate, self.serves.authorities_pem)
        certificate = self.authority.sign_host(request.csr_pem, self.host) if request.csr_pem else ""
        return self._answer(certificate, self.authority.file.read_text())

    def _answer(self, certificate: str, authorities: str) -> pb.EnrolResponse:
        return pb.EnrolResponse(
            certificate_pem=certificate,
            authorities_pem=authorities,
            name=self.host,
            addresses=self.addresses,
            token="" if certificate else "nft1.secret",
            kernel_id="kernel-1",
        )
