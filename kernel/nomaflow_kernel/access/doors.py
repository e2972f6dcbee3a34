"""Doors: each has its own server and its own proof of who calls."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from nomaflow_kernel.access.credentials import Credentials
from nomaflow_kernel.access.principals import ANYONE, OWNER, Principal


class Shown(Struct, frozen=True, kw_only=True):
    """The proofs that a caller shows of itself.

    :param peer: its address, as gRPC writes it
    :param authorization: the metadata of that name; empty for none
    :param certificate: its certificate, PEM, verified at the handshake; empty for none
    """

    peer: str
    authorization: str = ""
    certificate: bytes = b""


Identify = Callable[[Shown], Principal]
"""A door's check: it returns who calls, ``ANYONE`` if no good proof is shown."""


def owners_door(_shown: Shown) -> Principal:
    """Return the owner: whoever reaches the Unix socket has entered its directory."""
    return OWNER


def clients_door(credentials: Credentials) -> Identify:
    """Return the proof of the clients' door: a token."""
    return lambda shown: credentials.of_token(shown.authorization)


def hosts_door(credentials: Credentials) -> Identify:
    """Return the proof of the hosts' door: a certificate that names a host and was not withdrawn."""
    # Imported here: only a kernel with TCP has this door, and cryptography takes a while to load.
    from nomaflow_kernel.network.authority import host_of

    def identify(shown: Shown) -> Principal:
        found = host_of(shown.certificate)
        return ANYONE if found is None else credentials.of_certificate(host=found[0], serial=found[1])

    return identify


def joining_door(_shown: Shown) -> Principal:
    """Return nobody: a caller that joins has no credential yet, but a secret, which the service checks."""
    return ANYONE
