"""The kernel's authority and certificate as the client sees them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from nomaflow.client.values.shapes import HIDDEN, Shaped

__all__ = ["AuthorityView"]


class AuthorityView(Shaped, frozen=True, kw_only=True):
    """The authority of a kernel, and the certificate that its clients see.

    :param authorities_pem: those that vouch for the kernel, PEM, the newest first
    :param fingerprint: SHA-256 of the newest, ``sha256:`` and 64 hexadecimal digits
    :param certificate_names: the names and addresses that the certificate is for
    :param own: False for a certificate that was given, in ``tls_cert``
    """

    authorities_pem: Annotated[str, HIDDEN]
    fingerprint: str
    authority_expires_at: datetime
    certificate_names: tuple[str, ...]
    certificate_expires_at: datetime
    own: bool
