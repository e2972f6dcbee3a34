"""The calls of AccessService about tokens and certificates, and about the kernel's own authority."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from google.protobuf.message import Message

from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1.message_codec import encode
from nomaflow_kernel.access.credential_ends import credentials_meant, hosts_shut_out, is_good
from nomaflow_kernel.access.grants import Grant, grants_of_role
from nomaflow_kernel.access.principals import Caller, NotPermitted
from nomaflow_kernel.access.token_orders import INSTANCE_SECONDS, TokenOrder, check_host_name
from nomaflow_kernel.domain.errors import BadRequest, FileUnusable
from nomaflow_kernel.history.access_records import CertificateRecord, TokenRecord
from nomaflow_kernel.network.certificates import CertificateRefused
from nomaflow_kernel.rpc.pages import Page, page_key, page_size, page_token
from nomaflow_kernel.rpc.parts import Calls, KernelParts
from nomaflow_kernel.rpc.requests import own_request_id

_LOG = logging.getLogger(__name__)
M = TypeVar("M", bound=Message)
R = TypeVar("R", TokenRecord, CertificateRecord)
_LISTED = 1_000
_KINDS = {access.TOKEN_KIND_USER: "user", access.TOKEN_KIND_SERVICE: "service", access.TOKEN_KIND_HOST: "host"}


class AccessCalls(Calls):
    """Serves these calls. Nobody can grant, or gain by a rotation, more than they have.

    :param join_string: puts a join string together from its token and its secret
    """

    def __init__(self, parts: KernelParts, join_string: Callable[[TokenRecord, str], str]) -> None:
        super().__init__(parts)
        self._credentials, self._join_string = parts.credentials, join_string

    async def create_token(self, request: access.CreateTokenRequest, caller: Caller) -> access.CreateTokenResponse:
        """Make a token, or a join string; its secret is in this answer and nowhere else.

        :raises KernelError: if nobody could use the join string
        """
        kind = _KINDS.get(request.kind)
        if kind is None:
            raise BadRequest(f"kind is number {request.kind}, expected USER, SERVICE or HOST", field="kind")
        order = TokenOrder(
            kind=kind,
            name=request.name,
            joins=request.joins or kind == "host",
            roles=tuple(request.roles),
            grants=tuple(request.grants),
            lifetime_seconds=request.lifetime_seconds,
            uses=request.uses,
            ids=tuple(dict.fromkeys(request.ids)),
            request=_repeatable(request, caller),
        )
        order.check()
        # Whoever joins as a host gets the orders of its jobs, with their params, and decides how they end.
        given = grants_of_role(f"operator host:{order.name}") if kind == "host" else ()
        _require_no_more(given or self._credentials.grants_of(order.roles, order.grants), caller)
        record, secret = await self._made(order, caller)
        return access.CreateTokenResponse(token=self._token(record), secret=secret)

    async def invite_instance(
        self, request: access.InviteInstanceRequest, caller: Caller
    ) -> access.InviteInstanceResponse:
        """Make a join string for one instance of a host.

        :raises KernelError: if nobody needs one here
        """
        check_host_name(request.host, "host")
        order = TokenOrder(
            kind="host",
            name=request.host,
            joins=True,
            lifetime_seconds=request.lifetime_seconds,
            instance_seconds=request.instance_seconds or INSTANCE_SECONDS,
            request=_repeatable(request, caller),
        )
        order.check()
        record, secret = await self._made(order, caller)
        return access.InviteInstanceResponse(token=self._token(record), secret=secret)

    async def _made(self, order: TokenOrder, caller: Caller) -> tuple[TokenRecord, str]:
        """Make a token; return it, and its secret or its join string."""
        if order.joins:
            self._parts.tcp_certificates()
        record, secret = await self._credentials.create(order, created_by=caller.signed(""))
        return record, self._join_string(record, secret) if order.joins else secret

    async def list_tokens(self, request: access.ListTokensRequest, _caller: Caller) -> access.ListTokensResponse:
        """Return a page of the tokens, without secrets."""
        now, ended_too = self._clock.now_us(), request.include_ended
        kept = {
            (_digits(each.created_at_us), each.token_id): each
            for each in self._credentials.tokens()
            if request.name in ("", each.name) and (ended_too or (is_good(each, now) and each.uses_left != 0))
        }
        tokens, more = _page(kept, self._token, request)
        return access.ListTokensResponse(tokens=tokens, next_page_token=more)

    async def revoke_tokens(self, request: access.RevokeTokensRequest, _caller: Caller) -> access.RevokeTokensResponse:
        """Withdraw tokens and certificates; the jobs of a host that has none left go off their schedules."""
        try:
            token_ids, serials = await self._credentials.revoke(request.target)
        finally:  # what was withdrawn holds, even if it could not be stored
            certificates = self._credentials.certificates()
            _, withdrawn = credentials_meant(request.target, (), certificates)
            for host in sorted(hosts_shut_out(withdrawn, certificates, now_us=self._clock.now_us())):
                if self._sessions.shut_out(host):
                    await self._catalogue.shut_out(host)
        return access.RevokeTokensResponse(token_ids=token_ids, serials=serials)

    async def rotate_token(self, request: access.RotateTokenRequest, caller: Caller) -> access.RotateTokenResponse:
        """Make a new secret for a token."""
        repeatable = _repeatable(request, caller, token_id=request.token_id)
        old = self._credentials.to_rotate(request.token_id, repeatable)
        _require_no_more(self._credentials.given_by(old), caller)
        record, secret = await self._credentials.rotate(
            old.token_id, overlap_seconds=request.overlap_seconds, created_by=caller.signed(""), request=repeatable
        )
        return access.RotateTokenResponse(token=self._token(record), secret=secret)

    async def list_certificates(
        self, request: access.ListCertificatesRequest, _caller: Caller
    ) -> access.ListCertificatesResponse:
        """Return a page of the certificates that were issued to hosts."""
        now = self._clock.now_us()
        kept = {
            (_digits(each.issued_at_us), each.serial): each
            for each in self._credentials.certificates()
            if request.host in ("", each.host) and (request.include_ended or is_good(each, now))
        }
        certificates, more = _page(kept, partial(encode, access.Certificate), request)
        return access.ListCertificatesResponse(certificates=certificates, next_page_token=more)

    async def get_authority(self, _request: access.GetAuthorityRequest, _caller: Caller) -> access.GetAuthorityResponse:
        """Return the authority, and the certificate that clients see.

        :raises KernelError: if there is none
        """
        return access.GetAuthorityResponse(authority=self._authority())

    async def renew_authority(
        self, request: access.RenewAuthorityRequest, caller: Caller
    ) -> access.RenewAuthorityResponse:
        """Renew the certificate of the kernel's own authority, or replace the authority; return what is served now.

        :raises KernelError: if there is none
        :raises BadRequest: if the authority has ended, and is not to be replaced
        :raises FileUnusable: if the new one cannot be written
        """
        authority, repeatable = self._parts.tcp_certificates().authority, own_request_id(request.request_id, caller)
        renew = partial(authority.replace, repeatable) if request.replace else authority.renew
        try:
            await asyncio.to_thread(renew)
        except OSError as error:
            what = f"cannot write this kernel's authority into {str(authority.cert.parent)!r}"
            raise FileUnusable(what, error, fix="correct that, and renew again") from None
        except CertificateRefused as error:
            raise BadRequest(str(error), field="replace") from None
        _LOG.info("%s %s", caller.principal, "replaced the authority" if request.replace else "renewed the certificate")
        return access.RenewAuthorityResponse(authority=self._authority())

    def _authority(self) -> access.Authority:
        certificates = self._parts.tcp_certificates()
        authority, files = certificates.authority, certificates.for_clients
        served = files.current()
        return encode(
            access.Authority,
            authority,
            authority_expires_at=authority.expires_at,
            certificate_names=served.names,
            certificate_expires_at=served.expires_at * 1_000_000,
            own=certificates.given is None,
        )

    def _token(self, record: TokenRecord) -> access.Token:
        return encode(access.Token, record, grants=list(map(str, self._credentials.given_by(record))))


def _repeatable(
    request: access.CreateTokenRequest | access.InviteInstanceRequest | access.RotateTokenRequest,
    caller: Caller,
    *,
    token_id: str = "",
) -> str:
    """Return the name of a call that a repeat repeats; empty if its request has no id.

    :param token_id: what is rotated, as the caller names it: the id of the request is one for each
    :raises BadRequest: if the id is malformed
    """
    request_id = own_request_id(request.request_id, caller)
    return f"{request.DESCRIPTOR.name}/{token_id}/{request_id}" if request_id else ""


def _digits(at_us: int) -> str:
    """Return a time as a text that sorts like it."""
    return f"{at_us:020d}"


def _page(
    kept: Mapping[tuple[str, str], R],
    message_of: Callable[[R], M],
    request: access.ListTokensRequest | access.ListCertificatesRequest,
) -> tuple[list[M], str]:
    """Return the messages of the page that a request asks for, and the token of the next one.

    :param kept: by creation time and id, which is also the order of the list
    """
    most, after = page_size(request.page_size, _LISTED), page_key(request.page_token, 2)
    keys = sorted(key for key in kept if after is None or key > after)
    page: Page[M] = Page()
    page.take(message_of(kept[key]) for key in keys[:most])
    given = len(page.entries)
    return page.entries, "" if given == len(keys) else page_token(keys[given - 1])


def _require_no_more(grants: Iterable[Grant], caller: Caller) -> None:
    for grant in grants:
        if not caller.principal.holds(grant):
            raise NotPermitted(caller.principal, "give", str(grant))
