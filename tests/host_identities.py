"""Identities of hosts for the suite, as joining leaves them, made without a kernel."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

from certificate_authority import Authority
from nomaflow_host.identity.files import Identity, IdentityFile
from nomaflow_host.identity.requests import read_certificate, signing_request

__all__ = ["identity_of", "joined"]


def identity_of(
    authority: Authority,
    host: str,
    *,
    begins_in: timedelta = timedelta(seconds=0),
    ends_in: timedelta = timedelta(days=30),
) -> Identity:
    """Return a host's identity with a certificate of this authority."""
    request = signing_request(host)
    chain = authority.sign_host(request.csr, host, begins_in=begins_in, ends_in=ends_in)
    facts = read_certificate(chain, host=host, key=request.key)
    return Identity(
        host=host, kernel_id="kernel-1", addresses=("tls://127.0.0.1:9",), serial=facts.serial,
        issued_at=facts.issued_at, expires_at=facts.expires_at, joined_with=f"{time.time_ns():x}", joined_at=(),
        joining_authorities="", key=request.key, certificate=chain,
        authorities=authority.file.read_text(),
    )  # fmt: skip


def joined(folder: Path, identity: Identity) -> IdentityFile:
    """Keep an identity in a project's folder and return its place."""
    place = IdentityFile(folder / ".nomaflow" / "identity.json")
    place.write(identity)
    return place
