"""The client's calls about tokens, certificates and the kernel's authority."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from nomaflow.client import values
from nomaflow.client.calls import Calls
from nomaflow.client.errors import InvalidRequest
from nomaflow.client.requests import new_request_id
from nomaflow_api.v1.message_codec import decode


class AccessCalls(Calls):
    """Makes, lists, rotates and withdraws tokens, lists certificates, and reads and renews the kernel's authority.

    Each call needs the verb admin, except an invitation and a look at the authority.
    """

    async def create_token(
        self,
        name: str,
        *,
        kind: str = "user",
        roles: Iterable[str] = (),
        grants: Iterable[str] = (),
        joins: bool = False,
        lifetime: timedelta | None = None,
        uses: int = 0,
        ids: Iterable[str] = (),
        request_id: str = "",
    ) -> values.IssuedToken:
        """Make a token, or a join string, and return it with its secret.

        :param kind: ``user``, ``service`` or ``host``
        :param roles: ``ROLE`` or ``ROLE SCOPE`` each
        :param grants: ``VERB SCOPE`` each, besides those of the roles
        :param joins: whether to make a join string; a host's always is one
        :param lifetime: None for 90 days, or 1 hour for a join string
        :param uses: how often a join string can be used; 0 for once
        :param ids: job ids to reserve for a host, ``ID`` or ``PREFIX*`` each
        :param request_id: the idempotency key, until the secret is used; if empty a new one is made, so that the client
            may repeat the call. A repeat returns the same token with a new secret, and ends the secret before
        """
        reply = await self._ask(
            "CreateToken",
            kind=kind,
            name=name,
            joins=joins,
            roles=roles,
            grants=grants,
            lifetime_seconds=_lifetime(lifetime),
            uses=uses,
            ids=ids,
            request_id=request_id or new_request_id(),
        )
        return decode(values.IssuedToken, reply)

    async def invite_instance(
        self,
        host: str,
        *,
        lifetime: timedelta | None = None,
        instance_lifetime: timedelta | None = None,
        request_id: str = "",
    ) -> values.IssuedToken:
        """Make a join string for one instance of a host, good once, and return it. Needs the verb launch on that host.

        :param lifetime: how long it can be used; None for 1 hour
        :param instance_lifetime: how long the certificate that it is exchanged for lasts; None for 1 day
        :param request_id: as for `create_token`
        """
        reply = await self._ask(
            "InviteInstance",
            host=host,
            lifetime_seconds=_lifetime(lifetime),
            instance_seconds=_lifetime(instance_lifetime),
            request_id=request_id or new_request_id(),
        )
        return decode(values.IssuedToken, reply)

    async def list_tokens(self, name: str = "", *, include_ended: bool = False) -> list[values.TokenView]:
        """Return the tokens in the order in which they were created.

        :param name: keeps those of a user, a service or a host
        :param include_ended: include those that were revoked, were used up or have expired
        """
        whole = await self._whole("ListTokens", name=name, include_ended=include_ended)
        return [decode(values.TokenView, one) for one in whole.tokens]

    async def rotate_token(
        self, token: str, *, overlap: timedelta | None = None, request_id: str = ""
    ) -> values.IssuedToken:
        """Make a new token in place of another and return it with its secret.

        :param token: its id, or the name of a user or service that has one good token
        :param overlap: how long the old secret still works; None for not at all
        :param request_id: as for `create_token`
        """
        seconds = 0 if overlap is None else max(0, round(overlap.total_seconds()))
        key = request_id or new_request_id()
        reply = await self._ask("RotateToken", token_id=token, overlap_seconds=seconds, request_id=key)
        return decode(values.IssuedToken, reply)

    async def revoke(self, target: str) -> values.WithdrawnView:
        """Withdraw credentials; streams that use them end within 5 s. Returns what was good until then.

        A join string takes with it the tokens and certificates obtained with it; a serial, every certificate of its
        line.

        :param target: a token's id, a certificate's serial, the name of a user or service, ``host:NAME``, or
            ``host:NAME/TOKEN_ID`` for one instance
        """
        return decode(values.WithdrawnView, await self._ask("RevokeTokens", target=target))

    async def list_certificates(self, host: str = "", *, include_ended: bool = False) -> list[values.CertificateView]:
        """Return the certificates that were issued to hosts, in the order of issue."""
        whole = await self._whole("ListCertificates", host=host, include_ended=include_ended)
        return [decode(values.CertificateView, one) for one in whole.certificates]

    async def get_authority(self) -> values.AuthorityView:
        """Return the authority that vouches for the kernel, and the certificate that clients see."""
        return decode(values.AuthorityView, (await self._ask("GetAuthority")).authority)

    async def renew_authority(self, *, replace: bool = False, request_id: str = "") -> values.AuthorityView:
        """Renew the certificate of the kernel's own authority; return what is served now.

        :param replace: make a new authority; the old one vouches for it until the old one ends
        :param request_id: the idempotency key of a replacement; if empty a new one is made, so that the client may
            repeat the call
        """
        reply = await self._ask("RenewAuthority", replace=replace, request_id=request_id or new_request_id())
        return decode(values.AuthorityView, reply.authority)


def _lifetime(span: timedelta | None) -> int:
    """Return a lifetime for a request, in which 0 stands for the default.

    :raises InvalidRequest: if it is shorter than a second
    """
    seconds = None if span is None else span.total_seconds()
    if seconds is not None and seconds < 1:
        raise InvalidRequest(f"the lifetime is {seconds:g} s, expected at least 1 s", fix="give a longer one, or none")
    return round(seconds or 0)
