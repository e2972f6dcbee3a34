"""Translates gRPC statuses, with the details that a kernel sends along, into the client's errors."""

from __future__ import annotations

import re
from collections.abc import Mapping

import grpc

from nomaflow.client import errors
from nomaflow.client.channels import is_name_unknown
from nomaflow_api.addresses import is_tcp, split_addresses
from nomaflow_api.v1.reason_statuses import read_details

STATUS_ERRORS: Mapping[grpc.StatusCode, type[errors.ClientError]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: errors.Refused,
    grpc.StatusCode.ALREADY_EXISTS: errors.Refused,
    grpc.StatusCode.ABORTED: errors.Refused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Refused,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.UNAVAILABLE: errors.KernelUnreachable,
    grpc.StatusCode.CANCELLED: errors.KernelUnreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.ReplyTimeout,
    grpc.StatusCode.INTERNAL: errors.KernelFailed,
    grpc.StatusCode.UNKNOWN: errors.KernelFailed,
    grpc.StatusCode.DATA_LOSS: errors.KernelFailed,
    grpc.StatusCode.UNIMPLEMENTED: errors.KernelFailed,
}
"""Every code that gRPC has, except OK."""

_FIXES: Mapping[type[errors.ClientError], str] = {
    errors.KernelUnreachable: "start one with: nomaflow up DIR; or name another with --address",
    errors.ReplyTimeout: "try again; a trigger with the same key starts no second run",
    errors.Unauthenticated: "log in with a new join string: nomaflow login FILE; a script gives a token with "
    "--token-file or NOMAFLOW_TOKEN, a service with token_file in nomaflow.toml. On the kernel's machine, "
    "`nomaflow token create` makes both, and `nomaflow token list` shows which are good. The port for joining takes "
    "none: the address must be that of the clients' port",
    errors.KernelFailed: "the kernel's log has the cause",
}

_NO_ENTRY = "log in to the kernel's TCP port, if it has one, with a join string from its owner: nomaflow login FILE"
"""The way out for users who may not enter the folder of a kernel's socket."""

_LOOK_THERE = "check that it runs and that its port can be reached from here; or name another with --address"
_CORRECT_NAME = "correct the name, or this machine's DNS; or name another with --address"
"""The ways out for a kernel on TCP, which is mostly on another machine."""

_TOO_LARGE = re.compile(r"SERVER: Received message larger than max \((\d+) vs\. (\d+)\)")
"""gRPC's own words for a request that the kernel never sees."""

_REFUSALS = frozenset({"HOST_LOADING"})
"""Reasons of a kernel that is up and says when to try again: the caller decides whether to."""

_ANSWERED: Mapping[str, str] = {
    "STORE_UNAVAILABLE": "the kernel runs, and keeps trying its store: check the store",
    "NOT_LEADER": "repeat the command on that kernel's machine, or log in to it: nomaflow login FILE, then --profile",
}
"""The way out if a kernel answered that something it needs is away."""


def retryable(error: grpc.aio.AioRpcError) -> bool:
    """Return True if the same call may be sent again: the kernel was away, slow, or said when to try again."""
    code, details = error.code(), read_details(error.trailing_metadata())
    if code is grpc.StatusCode.UNAVAILABLE and details.reason in _REFUSALS:
        return False
    # A server that stops ends its streams with CANCELLED; our own cancel raises asyncio.CancelledError instead.
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return True
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return not details.reason  # with a reason it is the kernel's answer, otherwise the kernel is silent
    return code is grpc.StatusCode.RESOURCE_EXHAUSTED and details.retry_seconds is not None


def client_error(error: grpc.aio.AioRpcError, *, address: str) -> errors.ClientError:
    """Return the client's error for a failed call to the kernel at ``address``."""
    details = read_details(error.trailing_metadata())
    metadata = dict(details.metadata)
    kind = errors.Refused if details.reason in _REFUSALS else STATUS_ERRORS.get(error.code(), errors.KernelFailed)
    fix = metadata.pop("fix", "") or _ANSWERED.get(details.reason, "") or _FIXES.get(kind, "")
    message = error.details() or error.code().name.lower()
    if issubclass(kind, errors.KernelUnreachable) and not details.reason:
        late = kind is errors.ReplyTimeout
        if message.endswith("Permission denied"):
            return kind(f"this user may not use the socket {address}", fix=_NO_ENTRY)
        lost = "; its name is not known here" if is_name_unknown(message) else ""
        message = f"the kernel at {address} did not answer in time" if late else f"no kernel answers at {address}{lost}"
        if not late and all(map(is_tcp, split_addresses(address))):
            fix = _CORRECT_NAME if lost else _LOOK_THERE
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        message = f"what answers at {address} does not know this call"
        fix = "install the same version of nomaflow on both sides, and check which program listens there"
    if too_large := _TOO_LARGE.fullmatch(message):
        found, most = map(int, too_large.groups())
        message = f"the request has {found:,} bytes, expected at most {most:,}"
        fix = "give large values by reference, such as the name of a file or a table; send many triggers in parts"
    extra = [f"{name}: {text}" for name, text in details.fields.items() if text not in message]
    return kind(
        "; ".join([message, *extra]),
        reason=details.reason,
        fix=fix,
        metadata=metadata,
        fields=details.fields,
        retry_after=details.retry_seconds,
    )
