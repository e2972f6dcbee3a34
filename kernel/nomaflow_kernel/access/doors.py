"""Doors: each has its own server and its own proof of who calls."""

from __future__ import annotations

from collections.abc import Callable

from nomaflow_kernel.access.credentials import Credentials
from nomaflow_kernel.access.principals import ANYONE, OWNER, Principal

Identify = Callable[[str, bytes], Principal]
"""A door's check of the proofs that a caller shows of itself, ``ANYONE`` if none is good.

They are the metadata ``authorization``, and the caller's certificate, PEM, verified at the handshake; empty for none.
"""


def owners_door(_authorization: str, _certificate: bytes) -> Principal:
    """Return the owner: whoever reaches the Unix socket has entered its directory."""
    return OWNER


def clients_door(credentials: Credentials) -> Identify:
    """Return the proof of the clients' door: a token."""
    return lambda authorization, _certificate: credentials.of_token(authorization)


def hosts_door(credentials: Credentials) -> Identify:
    """Return the proof of the hosts' door: a certificate that names a host and was not withdrawn."""
    # Imported here: only a kernel with TCP has this door, and cryptography takes a while to load.
    from nomaflow_kernel.network.host_proofs import host_of

    def identify(_authorization: str, certificate: bytes) -> Principal:
        found = host_of(certificate)
        return ANYONE if found is None else credentials.of_certificate(host=found[0], serial=found[1])

    return identify


def joining_door(_authorization: str, _certificate: bytes) -> Principal:
    """Return nobody: a caller that joins has no credential yet, but a secret, which the service checks."""
    return ANYONE
