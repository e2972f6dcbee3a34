"""Tokens, certificates and the kernel's authority: never with a secret, except where one is made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from nomaflow.client.values.shapes import HIDDEN, NullableText, Shaped

__all__ = ["AuthorityView", "CertificateView", "IssuedToken", "TokenView", "WithdrawnView"]


class TokenView(Shaped, frozen=True, kw_only=True):
    """A token: a credential for calls, or a join string.

    :param kind: ``user``, ``service`` or ``host``
    :param name: of the principal
    :param joins: True for a join string
    :param grants: ``VERB SCOPE`` each, those of its roles included
    :param last_used_at: to the minute; None if it never was
    :param uses_left: how often a join string can still be used; None for other tokens
    :param joined_with: the join string that it was obtained with; empty for one that an administrator was given
    :param ids: the job ids that are reserved for a host, ``ID`` or ``PREFIX*`` each
    """

    token_id: str
    kind: Annotated[str, str.lower]
    name: str
    joins: bool = False
    roles: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    created_at: datetime | None = None
    created_by: str = ""
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    uses_left: int | None = None
    revoked_at: datetime | None = None
    joined_with: NullableText = ""
    ids: tuple[str, ...] = ()
    instance_seconds: int = 0

    @property
    def state(self) -> str:
        """The state: ``good``, ``revoked``, ``expired`` or ``used up``."""
        state = _state(self)
        return "used up" if state == "good" and self.uses_left == 0 else state


class IssuedToken(Shaped, frozen=True, kw_only=True):
    """A new token, and its secret, which is shown this once."""

    token: TokenView
    secret: str

    def __repr__(self) -> str:
        return f"IssuedToken(token={self.token!r})"


class CertificateView(Shaped, frozen=True, kw_only=True):
    """A certificate that the kernel's authority issued to a host.

    :param issued_to: the address that asked for it
    :param token_id: the join string that it, or the first of its line, was issued for
    :param line: serial of the first certificate, which this one renews directly or through others
    :param ids: the job ids that are reserved for the host, as its join string said
    :param instance: whether it is for one instance, whose name is ``token_id``
    """

    serial: str
    host: str
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    issued_to: str = ""
    token_id: NullableText = ""
    revoked_at: datetime | None = None
    line: NullableText = ""
    ids: tuple[str, ...] = ()
    instance: bool = False

    @property
    def state(self) -> str:
        """The state: ``good``, ``revoked`` or ``expired``."""
        return _state(self)


def _state(credential: TokenView | CertificateView) -> str:
    if credential.revoked_at is not None:
        return "revoked"
    return "expired" if credential.expires_at is not None and credential.expires_at <= datetime.now(UTC) else "good"


class WithdrawnView(Shaped, frozen=True, kw_only=True):
    """The credentials that a withdrawal has ended, including those obtained with the named one."""

    token_ids: tuple[str, ...] = ()
    serials: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.token_ids or self.serials)


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
