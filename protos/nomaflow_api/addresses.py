"""Addresses of kernels: ``unix:/path/kernel.sock``, ``host:port`` and ``tls://host:port``."""

from __future__ import annotations

import ipaddress
import re

__all__ = ["TLS_SCHEME", "has_known_form", "host_and_port", "is_loopback", "is_tcp", "split_addresses", "uses_tls"]

TLS_SCHEME = "tls://"
_UNIX = ("unix:", "unix-abstract:")
_COMMA = re.compile(r",\s*(?=unix:|tls://|[^/,]+:\d+\s*(?:,|$))")
"""A comma before an address; one within a path is part of it."""


def split_addresses(text: str) -> tuple[str, ...]:
    """Return the addresses in a text that separates them by commas."""
    return tuple(each.strip() for each in _COMMA.split(text) if each.strip(", "))


def is_tcp(address: str) -> bool:
    """Return whether an address is a TCP address."""
    return not address.startswith(_UNIX)


def host_and_port(address: str) -> tuple[str, str] | None:
    """Return the host and the port of a TCP address, with or without its scheme; None if it is malformed."""
    host, _, port = address.removeprefix(TLS_SCHEME).rpartition(":")
    return (host, port) if host and port.isascii() and port.isdigit() and int(port) < 65536 else None


def has_known_form(address: str) -> bool:
    """Return True for ``unix:/path``, ``host:port`` and ``tls://host:port``, the only forms that can reach a kernel."""
    return host_and_port(address) is not None if is_tcp(address) else address.partition(":")[2] != ""


def is_loopback(host: str) -> bool:
    """Return whether a host, by name or number, is this machine and reachable from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def uses_tls(address: str, *, with_ca: bool = False) -> bool:
    """Return True if connections to an address use TLS.

    ``tls://host:port`` does, and so does any address that other machines can reach, so that no token travels in
    plaintext.

    :param with_ca: True if the caller has authorities; on loopback too they ask for TLS
    """
    if not is_tcp(address):
        return False
    return with_ca or address.startswith(TLS_SCHEME) or not is_loopback(address.rpartition(":")[0])
