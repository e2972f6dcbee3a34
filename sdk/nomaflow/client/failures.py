"""Translates gRPC statuses, with the details that a kernel sends along, into the client's errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from nomaflow.client import errors

__all__ = ["STATUS_ERRORS", "client_error", "retryable"]

_DETAILS = "grpc-status-details-bin"

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
"""OK apart, every code that gRPC has."""

_FIXES: Mapping[type[errors.ClientError], str] = {
    errors.KernelUnreachable: "start one with: nomaflow up DIR; or name another with --address",
    errors.ReplyTimeout: "try again; a trigger with the same key starts no second run",
    errors.Unauthenticated: "give the token with --token, NOMAFLOW_TOKEN or NOMAFLOW_TOKEN_FILE; "
    "the kernel of a project keeps it in DIR/.nomaflow/token",
    errors.KernelFailed: "the kernel's log has the cause",
}

_REFUSALS = frozenset({"HOST_LOADING"})
"""Reasons of a kernel that is there and says when to come back: whoever asks decides whether to."""

_ANSWERED: Mapping[str, str] = {
    "STORE_UNAVAILABLE": "the kernel runs, and tries its store again until it answers: see to that"
}
"""What mends it where a kernel answered that something of its own is away."""


@dataclass(slots=True)
class _Details:
    """The decoded details of a status."""

    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    retry_after: float | None = None


def retryable(error: grpc.aio.AioRpcError) -> bool:
    """Return True if the same call may be sent again: the kernel was away, slow, or said when to come back."""
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE and _details(error).reason in _REFUSALS:
        return False
    # A server that stops ends its streams with CANCELLED; our own cancel raises asyncio.CancelledError instead.
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return True
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return not _details(error).reason  # with a reason it is the kernel's answer, otherwise the kernel is silent
    return code is grpc.StatusCode.RESOURCE_EXHAUSTED and _details(error).retry_after is not None


def client_error(error: grpc.aio.AioRpcError, *, address: str) -> errors.ClientError:
    """Return the client's error for a failed call to the kernel at ``address``."""
    details = _details(error)
    kind = errors.Refused if details.reason in _REFUSALS else STATUS_ERRORS.get(error.code(), errors.KernelFailed)
    fix = details.metadata.pop("fix", "") or _ANSWERED.get(details.reason, "") or _FIXES.get(kind, "")
    message = error.details() or error.code().name.lower()
    if issubclass(kind, errors.KernelUnreachable) and not details.reason:
        message = _unreachable(kind, address)
    common = {
        "reason": details.reason,
        "fix": fix,
        "metadata": details.metadata,
        "retry_after": details.retry_after,
    }
    if kind is errors.InvalidRequest:
        return errors.InvalidRequest(_with_fields(message, details.fields), **common, fields=details.fields)  # type: ignore[arg-type]  # the dict holds exactly these keywords
    return kind(message, **common)  # type: ignore[arg-type]  # the dict holds exactly these keywords


def _unreachable(kind: type[errors.ClientError], address: str) -> str:
    if kind is errors.ReplyTimeout:
        return f"the kernel at {address} did not answer in time"
    return f"no kernel answers at {address}"


def _with_fields(message: str, fields: Mapping[str, str]) -> str:
    extra = [f"{name}: {text}" for name, text in fields.items() if text not in message]
    return "; ".join([message, *extra])


def _details(error: grpc.aio.AioRpcError) -> _Details:
    found = _Details()
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            _read_status(value, found)
    return found


def _read_status(body: bytes, found: _Details) -> None:
    try:
        status = status_pb2.Status.FromString(body)
    except DecodeError:
        return  # A proxy's own details: the code and the text are still used.
    for packed in status.details:
        _read_detail(packed, found)


def _read_detail(packed: object, found: _Details) -> None:
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    unpack = getattr(packed, "Unpack")  # noqa: B009  # google.rpc has no type stubs
    if unpack(info):
        found.reason = info.reason
        found.metadata = dict(info.metadata)
    elif unpack(bad):
        found.fields = {one.field: one.description for one in bad.field_violations}
    elif unpack(retry):
        found.retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
