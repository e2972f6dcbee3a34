"""Errors of calls: their stable reasons, the gRPC status of each, and the details that a status carries.

A kernel writes the details, clients and hosts read them: ``google.rpc.Status`` in the trailing metadata, with an
ErrorInfo (domain ``nomaflow``, the reason, data), a BadRequest if fields are wrong and a RetryInfo if a later try may
succeed. All of it stays under 4 KiB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "nomaflow"
"""The domain of every ErrorInfo."""

STATUS_KEY = "grpc-status-details-bin"
"""The key of a ``google.rpc.Status`` in trailing metadata."""

_STATUS_BYTES = 3000
_VIOLATIONS_BYTES = 1800
_TEXT_BYTES = 900
_FIELD_BYTES = 200
_Code = grpc.StatusCode
_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """The gRPC status of a reason.

    :param retry_seconds: seconds to wait before trying again; None if another try will not succeed
    """

    code: grpc.StatusCode
    retry_seconds: float | None = None


REASONS: Mapping[str, ErrorRow] = {
    "ATTEMPT_NOT_RUNNING": ErrorRow(_Code.FAILED_PRECONDITION),
    "ATTEMPT_NOT_WANTED": ErrorRow(_Code.FAILED_PRECONDITION),
    "ATTEMPT_TAKEN": ErrorRow(_Code.ALREADY_EXISTS),
    "BAD_REQUEST": ErrorRow(_Code.INVALID_ARGUMENT),
    "CREDENTIAL_NOT_FOUND": ErrorRow(_Code.NOT_FOUND),
    "CURSOR_AHEAD": ErrorRow(_Code.OUT_OF_RANGE),
    "DEADLINE_EXCEEDED": ErrorRow(_Code.DEADLINE_EXCEEDED),
    "FILE_UNUSABLE": ErrorRow(_Code.FAILED_PRECONDITION),
    "HOST_ATTACHED": ErrorRow(_Code.FAILED_PRECONDITION),
    "HOST_LOADING": ErrorRow(_Code.UNAVAILABLE, 1.0),
    "HOST_NOT_ATTACHED": ErrorRow(_Code.FAILED_PRECONDITION),
    "HOST_NOT_FOUND": ErrorRow(_Code.NOT_FOUND),
    "IDEMPOTENCY_KEY_REUSED": ErrorRow(_Code.ALREADY_EXISTS),
    "INTERNAL": ErrorRow(_Code.INTERNAL),
    "JOB_DISABLED": ErrorRow(_Code.FAILED_PRECONDITION),
    "JOB_NOT_FOUND": ErrorRow(_Code.NOT_FOUND),
    "KERNEL_STOPPING": ErrorRow(_Code.UNAVAILABLE, 1.0),
    "NOT_LEADER": ErrorRow(_Code.UNAVAILABLE, 1.0),
    "NOT_ON_TCP": ErrorRow(_Code.FAILED_PRECONDITION),
    "OPERATION_IN_PROGRESS": ErrorRow(_Code.ABORTED),
    "PERMISSION_DENIED": ErrorRow(_Code.PERMISSION_DENIED),
    "PROTOCOL_UNSUPPORTED": ErrorRow(_Code.FAILED_PRECONDITION),
    "QUOTA": ErrorRow(_Code.RESOURCE_EXHAUSTED, 5.0),
    "RELOAD_UNANSWERED": ErrorRow(_Code.DEADLINE_EXCEEDED),
    "RUN_NOT_FOUND": ErrorRow(_Code.NOT_FOUND),
    "RUN_NOT_TERMINAL": ErrorRow(_Code.FAILED_PRECONDITION),
    "SCHEMA_TOO_NEW": ErrorRow(_Code.FAILED_PRECONDITION),
    "SCHEMA_TOO_OLD": ErrorRow(_Code.FAILED_PRECONDITION),
    "SECRETS_UNAVAILABLE": ErrorRow(_Code.FAILED_PRECONDITION),
    "SERVICE_NOT_FOUND": ErrorRow(_Code.NOT_FOUND),
    "STALE_EPOCH": ErrorRow(_Code.FAILED_PRECONDITION),
    "STORE_BUSY": ErrorRow(_Code.UNAVAILABLE, 1.0),
    "STORE_ERROR": ErrorRow(_Code.UNAVAILABLE, 1.0),
    "STORE_FULL": ErrorRow(_Code.RESOURCE_EXHAUSTED, 5.0),
    "STORE_IN_USE": ErrorRow(_Code.FAILED_PRECONDITION),
    "STORE_MOVED": ErrorRow(_Code.FAILED_PRECONDITION),
    "STORE_UNAVAILABLE": ErrorRow(_Code.UNAVAILABLE, 1.0),
    "STORE_UNFINISHED": ErrorRow(_Code.FAILED_PRECONDITION),
    "SUPERSEDED": ErrorRow(_Code.ABORTED),
    "UNAUTHENTICATED": ErrorRow(_Code.UNAUTHENTICATED),
    "UNSUPPORTED_STORE": ErrorRow(_Code.FAILED_PRECONDITION),
    "VALUE_INVALID": ErrorRow(_Code.INVALID_ARGUMENT),
}
"""Every reason of a kernel. ``docs/grpc_api.md`` has the same table; a test compares them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorDetails:
    """The details of a status.

    :param reason: a key of ``REASONS``; empty if the status is not a kernel's
    :param metadata: data that a program may need, by name
    :param fields: the wrong fields of the request, each with its problem
    :param retry_seconds: seconds to wait before trying again; None if the kernel names none
    """

    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    retry_seconds: float | None = None


def write_details(code: grpc.StatusCode, message: str, details: ErrorDetails) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata with the details; those for which there is no room are left out."""
    metadata = {name: cut(value) for name, value in details.metadata.items()}
    parts: list[Message] = [error_details_pb2.ErrorInfo(reason=details.reason, domain=DOMAIN, metadata=metadata)]
    if details.fields:
        parts.append(_violations(details.fields))
    if details.retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(math.ceil(details.retry_seconds * 1000))  # never too early
        parts.append(retry)
    number, _ = code.value
    status = status_pb2.Status(code=number, message=cut(message))
    for part in parts:
        packed = AnyMessage()
        packed.Pack(part)
        status.details.append(packed)
        if status.ByteSize() > _STATUS_BYTES:
            del status.details[-1]
    return ((STATUS_KEY, status.SerializeToString()),)


def read_details(trailing: Iterable[tuple[str, str | bytes]] | None) -> ErrorDetails:
    """Return the details in trailing metadata; empty ones if it has none, or a proxy's own."""
    return details_of(next((value for key, value in trailing or () if key == STATUS_KEY), b""))


def details_of(raw: str | bytes) -> ErrorDetails:
    """Return the details of a ``google.rpc.Status``, of its serialized form; empty ones if it has none."""
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    try:
        for packed in status_pb2.Status.FromString(raw).details:
            next(filter(packed.Unpack, (info, bad, retry)), None)
    except DecodeError:
        return ErrorDetails()
    delay = retry.retry_delay
    return ErrorDetails(
        reason=info.reason,
        metadata=dict(info.metadata),
        fields={one.field: one.description for one in bad.field_violations},
        retry_seconds=delay.seconds + delay.nanos / 1e9 if retry.HasField("retry_delay") else None,
    )


def status_error(raw: bytes) -> grpc.aio.AioRpcError:
    """Return the error that a call raises which ends with a ``google.rpc.Status``, of its serialized form."""
    status = status_pb2.Status.FromString(raw)
    trailing = grpc.aio.Metadata((STATUS_KEY, raw))
    return grpc.aio.AioRpcError(_CODES[status.code], grpc.aio.Metadata(), trailing, details=status.message)


def cut(text: str, size: int = _TEXT_BYTES) -> str:
    """Return a text in at most ``size`` bytes of valid UTF-8."""
    raw = text.encode("utf-8", "replace")
    return raw.decode() if len(raw) <= size else raw[: size - 3].decode("utf-8", "ignore") + "…"


def _violations(fields: Mapping[str, str]) -> error_details_pb2.BadRequest:
    """Return the problem of each field, as far as there is room; the first one in any case."""
    wrong = error_details_pb2.BadRequest()
    for name, description in fields.items():
        wrong.field_violations.add(field=cut(name, _FIELD_BYTES), description=cut(description))
        if wrong.ByteSize() > _VIOLATIONS_BYTES and len(wrong.field_violations) > 1:
            del wrong.field_violations[-1]
            break
    return wrong
