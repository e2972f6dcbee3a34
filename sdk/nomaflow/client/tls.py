"""TLS for callers: the trusted authorities, and explanations of failed handshakes."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import grpc
import grpc.aio

from nomaflow.client.errors import NotTrusted
from nomaflow_api.addresses import TLS_SCHEME, is_tcp

__all__ = ["handshake_failure", "open_channel"]

_UNKNOWN_AUTHORITY = (
    "nobody trusted has signed the certificate of the kernel at {address}",
    "name the authority that has: --ca FILE, NOMAFLOW_CA, or [host] kernel_ca for a host",
)
_FAILURES: Sequence[tuple[str, str, str]] = (
    (
        "certificate has expired",
        "the certificate of the kernel at {address} has expired",
        "renew it on the kernel's machine, and look at this machine's clock",
    ),
    (
        "certificate is not yet valid",
        "the certificate of the kernel at {address} is not valid yet",
        "look at the clocks of both machines",
    ),
    (
        "hostname verification",
        "the certificate of the kernel at {address} is for another name",
        "use a name that is in the certificate, or have one made for this name",
    ),
    ("certificate_verify_failed", *_UNKNOWN_AUTHORITY),
    ("certificate signature failure", *_UNKNOWN_AUTHORITY),  # an authority of the same name, with another key
    (
        "wrong_version_number",
        "what listens at {address} does not speak TLS",
        "give the kernel a certificate, or on its own machine leave out tls:// and --ca",
    ),
    (
        "tls handshake failed",
        "the TLS handshake with {address} failed",
        "see whether a nomaflow kernel listens there, and what its log says",
    ),
)
"""What gRPC's text has in it, lower case, the first that fits; what it means; the way out."""

_ATTEMPT = ("grpc.min_reconnect_backoff_ms", 10_000)
"""How long one attempt to connect may take: a handshake goes to and fro several times, perhaps round the world."""


def open_channel(address: str, *, ca: Path | None, options: Sequence[tuple[str, int]]) -> grpc.aio.Channel:
    """Return a channel to an address, with TLS if the address or the authorities ask for it.

    :param ca: PEM, read now; None for the system's authorities
    :raises NotTrusted: if that file cannot be used
    """
    if not is_tcp(address):
        return grpc.aio.insecure_channel(address, options=list(options))
    roots = _read_authorities(ca) if ca is not None else _system_authorities()
    others = (option for option in options if option[0] != _ATTEMPT[0])
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    return grpc.aio.secure_channel(address.removeprefix(TLS_SCHEME), credentials, options=[*others, _ATTEMPT])


def handshake_failure(details: str, *, address: str, with_ca: bool) -> NotTrusted | None:
    """Return the TLS error in gRPC's text about a failed connection, or None if the text is about something else."""
    text, found = details.lower(), None
    if is_tcp(address):
        found = next(((message, fix) for mark, message, fix in _FAILURES if mark in text), None)
    if found is None:
        return None
    message, fix = (part.format(address=address.removeprefix(TLS_SCHEME)) for part in found)
    return NotTrusted(message, fix=fix)


def _read_authorities(ca: Path) -> bytes:
    try:
        text = ca.read_bytes()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text.decode("ascii"))
    except OSError as error:
        # An SSLError is an OSError too: the file then holds no certificate.
        why = "it holds no certificate" if isinstance(error, ssl.SSLError) else (error.strerror or str(error)).lower()
    except ValueError:
        why = "it holds no certificate"
    else:
        return text
    raise NotTrusted(
        f"cannot use the authorities in {str(ca)!r}: {why}",
        reason="CA_UNUSABLE",
        fix="name a readable PEM file, -----BEGIN CERTIFICATE-----",
    )


def _system_authorities() -> bytes | None:
    """Return the system's authorities, or None, which stands for gRPC's, if the system has no file of them."""
    context = ssl.create_default_context()
    found = context.get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode("ascii") if found else None
