"""Joining a kernel: the exchange of a join string's secret for a credential."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final, cast

import grpc
import grpc.aio

from nomaflow.client.channels import handshake_failure, is_name_unknown, open_channel
from nomaflow.client.connection import FAILOVER_SECONDS
from nomaflow.client.errors import ClientError, KernelUnreachable, NotTrusted, Refused, ReplyTimeout
from nomaflow.client.failed_calls import client_error
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as pb
from nomaflow_api.v1.access_service_pb2_grpc import EnrolmentServiceStub
from nomaflow_api.v1.message_codec import decode
from nomaflow_api.v1.reason_statuses import read_details

_SECONDS: Final = 20.0
"""The time limit at each address of a join string."""
_AGAIN_SECONDS: Final = 1.0
_STANDS_BY: Final = "NOT_LEADER"
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class JoinRefused(Refused):
    """Raised when the kernel does not take the secret of a join string, at all or at that door."""

    default_reason = "JOIN_REFUSED"


class NotThatKernel(NotTrusted):
    """Raised when a server other than a join string's kernel listens at its address. Nothing was sent to it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Enrolled:
    """A credential, and what comes with it.

    :param certificate_pem: a host's, and those between it and its root; empty for users and services
    :param authorities_pem: those that vouch for the kernel from now on, PEM
    :param name: the principal
    :param addresses: those to call from now on
    :param token: a user's or service's; empty for a host
    :param kernel_id: the random id of the kernel's history
    :param instance: the one instance that a host's certificate is for; empty for a whole host's, which is renewed
    """

    certificate_pem: str
    authorities_pem: str
    name: str
    addresses: tuple[str, ...]
    kernel_id: str
    token: str = field(repr=False)
    instance: str = ""


async def enrol(join: JoinString, *, csr_pem: str = "") -> Enrolled:
    """Use a join string. Nothing is sent before the server has proved that the string's authority vouches for it.

    Where a kernel stands by, it is asked again for as long as it may take to lead.

    :param csr_pem: a host's signing request, PEM
    :raises NotThatKernel: if the server is not the one that the string is for
    :raises NotTrusted: if its certificate is right, but not valid now or for that address
    :raises JoinRefused: if the string was used up, has expired, was withdrawn or changed, or leads to another door
    :raises ReplyTimeout: if the answer got lost: the string may be used up
    :raises KernelUnreachable: if no kernel that leads answers; the string is as good as before
    """
    until = time.monotonic() + FAILOVER_SECONDS
    while True:
        try:
            return await _enrol_at_any(join, csr_pem)
        except KernelUnreachable as error:
            if error.reason != _STANDS_BY or time.monotonic() > until:
                raise
        await asyncio.sleep(_AGAIN_SECONDS)


async def _enrol_at_any(join: JoinString, csr_pem: str) -> Enrolled:
    untold: ClientError | None = None
    for address in join.at:
        try:
            return await _enrol(address, join, csr_pem)
        except ReplyTimeout:
            raise
        except KernelUnreachable as error:
            # Of several addresses, an answer from somebody else, or from a kernel, says more than none.
            answered = isinstance(error, NotTrusted) or error.reason == _STANDS_BY
            untold = error if untold is None or answered else untold
    assert untold is not None, "a join string has an address"
    raise untold


async def _enrol(address: str, join: JoinString, csr_pem: str) -> Enrolled:
    ca = join.authorities_pem.encode() or None
    async with open_channel(address, ca=ca, options={"grpc.enable_retries": 0}) as channel:
        stub = cast("Any", EnrolmentServiceStub(channel))
        request = pb.EnrolRequest(secret=join.secret, csr_pem=csr_pem)
        try:
            answer: pb.EnrolResponse = await stub.Enrol(request, timeout=_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _translated(error, address, join) from None
    return decode(Enrolled, answer)


def _translated(error: grpc.aio.AioRpcError, address: str, join: JoinString) -> ClientError:
    again = f"nomaflow token create --{join.kind} {join.name}{'' if join.kind == 'host' else ' --role ROLE'}"
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        untrusted = handshake_failure(text, address=address)
        if untrusted is not None:
            return _stranger(untrusted, address, again)
        unknown = is_name_unknown(text)
        if unknown or text.startswith("failed to connect"):
            lost = "; its name is not known here" if unknown else ""
            fix = "correct this machine's DNS" if unknown else "check that it runs and that this port can be reached"
            return KernelUnreachable(
                f"no kernel answers at {address.removeprefix('tls://')}, where the join string says that it can be "
                f"joined{lost}",
                fix=f"{fix}, then try again: the string has not been used yet",
            )
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return JoinRefused(
            "the kernel does not take this join string: it was used already, has expired, was withdrawn, "
            "or has been changed",
            fix=f"ask for another, on the kernel's machine: {again}; "
            f"if none of your people has used it, somebody else may have: nomaflow token list shows its uses",
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return JoinRefused(
            f"what answers at {address.removeprefix('tls://')} takes no join strings: it is not the kernel's door for "
            "joining, but another one, such as that of clients",
            fix="have the address lead to [kernel] listen_join, which is two ports after `listen` by default, then "
            "try again: the string has not been used yet",
        )
    reason = read_details(error.trailing_metadata()).reason
    if reason == _STANDS_BY:
        return KernelUnreachable(
            text,
            reason=reason,
            fix=f"try again once a kernel leads at {' or '.join(join.at)}: the join string has not been used yet; "
            f"or ask for another, on the machine of the kernel that leads: {again}",
        )
    if code in _LOST and not reason:
        return ReplyTimeout(
            f"the kernel's answer to the join string got lost on the way from {address.removeprefix('tls://')}",
            fix=f"try again; if the kernel then says that the string was used, ask for another: {again}",
        )
    return client_error(error, address=address)


def _stranger(untrusted: NotTrusted, address: str, again: str) -> NotTrusted:
    """Return the error about a server that has not proved itself; one about clocks or names stays as it is."""
    if untrusted.message.startswith("the certificate of the kernel"):
        return untrusted
    return NotThatKernel(
        f"what listens at {address.removeprefix('tls://')} is not the kernel that made this join string; "
        "nothing was sent to it",
        fix="if the kernel's authority was replaced, or the string changed on its way, ask for another, "
        f"on the kernel's machine: {again}",
    )
