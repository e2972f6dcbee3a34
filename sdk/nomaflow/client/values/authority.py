"""The kernel's authority and certificate as the client sees them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from nomaflow.client.values.shapes import iso

__all__ = ["AuthorityView"]


class AuthorityView(Struct, frozen=True, kw_only=True):
    """The authority of a kernel, and the certificate that its clients see.

    :param authorities_pem: those that vouch for the kernel, PEM, the newest first
    :param fingerprint: SHA-256 of the newest, ``sha256:`` and 64 hexadecimal digits
    :param certificate_names: the names and addresses that the certificate is for
    :param own: False for a certificate that was given, in ``tls_cert``
    """

    authorities_pem: str
    fingerprint: str
    authority_expires_at: datetime
    certificate_names: tuple[str, ...]
    certificate_expires_at: datetime
    own: bool

    def to_json(self) -> dict[str, Any]:
        """Return the shape of docs/cli.md."""
        return {
            "fingerprint": self.fingerprint,
            "authority_expires_at": iso(self.authority_expires_at),
            "certificate_names": list(self.certificate_names),
            "certificate_expires_at": iso(self.certificate_expires_at),
            "own": self.own,
        }
