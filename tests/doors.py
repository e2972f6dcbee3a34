"""The doors of a running kernel, and callers of them without any help of the SDK: raw stubs, keys and requests."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub, EnrolmentServiceStub

__all__ = ["Doors", "HostIdentity", "create_token", "doors_of", "join_as_host", "owner_channel", "tls_channel"]

_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(frozen=True, kw_only=True)
class Doors:
    """The addresses of a kernel's doors, TCP ones without their scheme, and who vouches for them, PEM."""

    owner: str
    clients: str
    hosts: str
    joining: str
    authorities: bytes


@dataclass(frozen=True, kw_only=True)
class HostIdentity:
    """A key and a certificate chain, PEM."""

    key: bytes
    certificate: bytes
    authorities: bytes = b""


class HasLog(Protocol):
    """A kernel process, or what stands for it."""

    project: Path

    @property
    def log(self) -> str:
        """Its output so far."""


def doors_of(process: HasLog, *, words: str = "serving on ") -> Doors:
    """Return the doors that a kernel's log tells of, after these words, as it did last."""
    found: list[tuple[str, str]] = []
    until = time.monotonic() + 20
    while len(found) < 3 and time.monotonic() < until:
        line = process.log.rpartition(words)[2].partition("\n")[0]
        found = re.findall(r"tls://([^\s,;]+) for (clients|hosts|joining)", line)
        time.sleep(0.01)
    addresses = {door: address for address, door in found}
    authorities = (process.project / ".nomaflow" / "pki" / "authorities.pem").read_bytes()
    return Doors(owner=line.partition(", ")[0], authorities=authorities, **addresses)


def owner_channel(doors: Doors) -> grpc.aio.Channel:
    """Return a channel to the owner's door."""
    return grpc.aio.insecure_channel(doors.owner, options=_OWN_CONNECTION)


def tls_channel(address: str, authorities: bytes, *, identity: HostIdentity | None = None) -> grpc.aio.Channel:
    """Return a channel to a TCP door, as a host if there is an identity."""
    credentials = grpc.ssl_channel_credentials(
        authorities, identity.key if identity else None, identity.certificate if identity else None
    )
    return grpc.aio.secure_channel(address, credentials, options=_OWN_CONNECTION)


def signing_request() -> tuple[bytes, str]:
    """Return a new key, PEM, and a signing request with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, request.public_bytes(serialization.Encoding.PEM).decode()


async def create_token(doors: Doors, **fields: Any) -> str:
    """Return the secret of a new token, or the join string, made by the owner."""
    async with owner_channel(doors) as channel:
        request = access.CreateTokenRequest(**fields)
        stub: Any = AccessServiceStub(channel)
        return str((await stub.CreateToken(request, timeout=20)).secret)


async def join_as_host(doors: Doors, secret: str) -> tuple[HostIdentity, access.EnrolResponse]:
    """Use the secret of a join string and return the host's identity, with the answer."""
    key, request = signing_request()
    async with tls_channel(doors.joining, doors.authorities) as channel:
        stub: Any = EnrolmentServiceStub(channel)
        answer = await stub.Enrol(access.EnrolRequest(secret=secret, csr_pem=request), timeout=20)
    identity = HostIdentity(
        key=key, certificate=answer.certificate_pem.encode(), authorities=answer.authorities_pem.encode()
    )
    return identity, answer
