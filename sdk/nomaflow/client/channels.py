"""Channels to a kernel: plain on a Unix socket, TLS on TCP; and explanations of handshakes that fail."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from nomaflow.client.errors import NotTrusted
from nomaflow_api.addresses import TLS_SCHEME, is_tcp
from nomaflow_project.reading.regular_files import reason_of

# Read by gRPC with its first channel. Its own handlers at a fork may hold the child for ever if another thread is in a
# call, and help nobody here: a forked process is refused a client (https://github.com/grpc/grpc/issues/22624).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

_UNKNOWN_AUTHORITY = (
    "what listens at {address} is not the kernel that this side trusts: nobody trusted has signed its certificate",
    "join or log in with a string of this kernel; commands may name the authority that signed it: --ca, NOMAFLOW_CA",
)
_FAILURES: Sequence[tuple[str, str, str]] = (
    (
        "certificate has expired",
        "the certificate of the kernel at {address} has expired",
        "renew it on the kernel's machine, by `nomaflow pki renew` or in tls_cert; look at this machine's clock too",
    ),
    (
        "certificate is not yet valid",
        "the certificate of the kernel at {address} is not valid yet",
        "look at the clocks of both machines",
    ),
    (
        "hostname verification",
        "the certificate of the kernel at {address} is for another name",
        "use a name that `nomaflow pki show` prints on the kernel's machine, or add this one: [kernel] advertise",
    ),
    ("certificate_verify_failed", *_UNKNOWN_AUTHORITY),
    ("certificate signature failure", *_UNKNOWN_AUTHORITY),  # an authority of the same name, with another key
    (
        "wrong_version_number",
        "what listens at {address} does not speak TLS, so it is not a kernel",
        "check which program listens there",
    ),
    (
        "tls handshake failed",
        "the TLS handshake with {address} failed",
        "check whether a nomaflow kernel listens there, and what its log says",
    ),
)
"""A part of gRPC's text, in lower case, of which the first match counts; what it means; the way out."""

_CUT_OFF = (
    "what listens at {address} ends the connection at once",
    "the hosts' door does so with anybody without a good certificate; commands use the clients' door",
)
_NOT_TAKEN = (
    "what listens at {address} ends the connection at once, as a kernel does if it does not accept {shown}",
    "if that persists, join again: `nomaflow token create --host NAME` on the kernel's machine makes a string for it",
)
_OPTIONS: Mapping[str, int] = {
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.http2.ping_timeout_ms": 5_000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.max_pings_without_data": 0,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_http_proxy": 0,  # of the environment: neither a host nor a login goes through one
}
"""Those of each channel. Without the ping timeout a frozen peer is noticed only after 70 s."""
_ATTEMPT: Mapping[str, int] = {"grpc.min_reconnect_backoff_ms": 10_000}
"""How long one attempt to connect may take: a handshake goes to and fro several times, perhaps round the world."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A certificate to show, PEM, with those between it and its root, and its key."""

    certificate: bytes
    key: bytes = field(repr=False)


def open_channel(
    address: str, *, ca: Path | bytes | None, options: Mapping[str, int], pair: Pair | None = None
) -> grpc.aio.Channel:
    """Return a channel to an address: in plaintext on a Unix socket, with TLS on TCP.

    :param ca: the trusted authorities, PEM, or a file of them, read now; None for the system's
    :param options: further options of gRPC
    :param pair: a certificate to show; None for none
    :raises NotTrusted: if that file cannot be used
    """
    if not is_tcp(address):
        return grpc.aio.insecure_channel(address, options=[*{**_OPTIONS, **options}.items()])
    roots = _read_authorities(ca) if ca is not None else _system_authorities()
    credentials = grpc.ssl_channel_credentials(
        root_certificates=roots,
        private_key=pair.key if pair else None,
        certificate_chain=pair.certificate if pair else None,
    )
    every = {**_OPTIONS, **options, **_ATTEMPT}
    return grpc.aio.secure_channel(address.removeprefix(TLS_SCHEME), credentials, options=[*every.items()])


def is_name_unknown(details: str) -> bool:
    """Return whether gRPC's text about a failed connection is about a name that this machine does not know."""
    return "hostname lookup" in details or "DNS resolution" in details  # the second up to grpcio 1.78


def handshake_failure(details: str, *, address: str, shown: str = "") -> NotTrusted | None:
    """Return the TLS error in gRPC's text about a failed connection, or None if the text is about something else.

    :param shown: what the caller calls the certificate that it has shown; empty for none
    """
    if not is_tcp(address):
        return None
    text = details.lower()
    found = next(((message, fix) for mark, message, fix in _FAILURES if mark in text), None)
    if found is None and text.startswith("failed to connect") and "socket closed" in text:
        found = _NOT_TAKEN if shown else _CUT_OFF
    if found is None:
        return None
    message, fix = (part.format(address=address.removeprefix(TLS_SCHEME), shown=shown) for part in found)
    return NotTrusted(message, fix=fix)


def _read_authorities(ca: Path | bytes) -> bytes:
    place = f" in {str(ca)!r}" if isinstance(ca, Path) else ""
    try:
        text = ca.read_bytes() if isinstance(ca, Path) else ca
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text.decode("ascii"))
    except OSError as error:
        # An SSLError is an OSError too: the file then holds no certificate.
        why = "it holds no certificate" if isinstance(error, ssl.SSLError) else reason_of(error)
    except ValueError:
        why = "it holds no certificate"
    else:
        return text
    raise NotTrusted(
        f"cannot use the authorities{place}: {why}",
        reason="CA_UNUSABLE",
        fix="name a readable PEM file, -----BEGIN CERTIFICATE-----",
    )


def _system_authorities() -> bytes | None:
    """Return the system's authorities, or None, which stands for gRPC's, if the system has no file of them."""
    context = ssl.create_default_context()
    found = context.get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode("ascii") if found else None
