"""The one table from exceptions to gRPC statuses, and the details sent with them.

A status carries ``google.rpc.Status`` with an ErrorInfo (domain ``nomaflow``, a stable reason), a BadRequest if a field
is wrong and a RetryInfo if a later try may succeed. All of it stays under 4 KiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from nomaflow_kernel.domain import errors as domain
from nomaflow_kernel.hosts import errors as hosts
from nomaflow_kernel.store import errors as store

__all__ = [
    "DOMAIN",
    "ERROR_TABLE",
    "CallStatus",
    "ErrorRow",
    "NotAuthenticated",
    "NotPermitted",
    "UnknownService",
    "deadline_status",
    "error_row",
    "internal_status",
    "status_of",
]

DOMAIN = "nomaflow"
"""The domain of every ErrorInfo."""

_MESSAGE_BYTES = 900
_DETAIL_BYTES = 3000
_VIOLATIONS_BYTES = 1800
_VALUE_CHARACTERS = 200
_ADDRESS_BYTES = 1000
_DETAILS_KEY = "grpc-status-details-bin"
_Code = grpc.StatusCode


class NotAuthenticated(domain.KernelError):
    """Raised when a call over TCP carries no valid token. The text is the same whatever the cause."""

    reason = "UNAUTHENTICATED"

    def __init__(self) -> None:
        super().__init__("a valid token is needed: send metadata 'authorization: Bearer TOKEN'")


class NotPermitted(domain.KernelError):
    """Raised when a known caller may not use a method."""

    reason = "PERMISSION_DENIED"

    def __init__(self, method: str) -> None:
        super().__init__(f"this token may not call {method}; clients and hosts have tokens of their own")


class UnknownService(domain.KernelError):
    """Raised when a health check names a service that the kernel does not have."""

    reason = "SERVICE_NOT_FOUND"

    def __init__(self, service: str) -> None:
        super().__init__(f"no service has the name {service[:64]!r}; an empty name asks for the kernel as a whole")


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """The gRPC status of an exception.

    :param retry_seconds: seconds to wait before trying again; None if another try will not succeed
    """

    code: grpc.StatusCode
    reason: str
    retry_seconds: float | None = None


ERROR_TABLE: Mapping[type[domain.KernelError], ErrorRow] = {
    domain.KernelError: ErrorRow(_Code.INTERNAL, "INTERNAL"),
    domain.BadRequest: ErrorRow(_Code.INVALID_ARGUMENT, "BAD_REQUEST"),
    domain.CursorAhead: ErrorRow(_Code.OUT_OF_RANGE, "CURSOR_AHEAD"),
    domain.ValuesRefused: ErrorRow(_Code.INVALID_ARGUMENT, "VALUE_INVALID"),
    domain.UnknownRun: ErrorRow(_Code.NOT_FOUND, "RUN_NOT_FOUND"),
    domain.UnknownJob: ErrorRow(_Code.NOT_FOUND, "JOB_NOT_FOUND"),
    domain.UnknownHost: ErrorRow(_Code.NOT_FOUND, "HOST_NOT_FOUND"),
    domain.JobUnavailable: ErrorRow(_Code.FAILED_PRECONDITION, "JOB_DISABLED"),
    domain.RequestIdReused: ErrorRow(_Code.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED"),
    domain.RunNotTerminal: ErrorRow(_Code.FAILED_PRECONDITION, "RUN_NOT_TERMINAL"),
    domain.QuotaExceeded: ErrorRow(_Code.RESOURCE_EXHAUSTED, "QUOTA", 5.0),
    domain.StaleSession: ErrorRow(_Code.FAILED_PRECONDITION, "STALE_EPOCH"),
    domain.KernelStopping: ErrorRow(_Code.UNAVAILABLE, "KERNEL_STOPPING", 1.0),
    hosts.ProtocolUnsupported: ErrorRow(_Code.FAILED_PRECONDITION, "PROTOCOL_UNSUPPORTED"),
    hosts.SessionSuperseded: ErrorRow(_Code.ABORTED, "SUPERSEDED"),
    hosts.HostNotAttached: ErrorRow(_Code.FAILED_PRECONDITION, "HOST_NOT_ATTACHED"),
    hosts.HostAttached: ErrorRow(_Code.FAILED_PRECONDITION, "HOST_ATTACHED"),
    hosts.HostLoading: ErrorRow(_Code.UNAVAILABLE, "HOST_LOADING", 1.0),
    hosts.OperationInProgress: ErrorRow(_Code.ABORTED, "OPERATION_IN_PROGRESS"),
    hosts.ReloadUnanswered: ErrorRow(_Code.DEADLINE_EXCEEDED, "RELOAD_UNANSWERED"),
    store.StoreError: ErrorRow(_Code.UNAVAILABLE, "STORE_ERROR", 1.0),
    store.StoreFull: ErrorRow(_Code.RESOURCE_EXHAUSTED, "STORE_FULL", 5.0),
    store.StoreBusy: ErrorRow(_Code.UNAVAILABLE, "STORE_BUSY", 1.0),
    store.StoreUnavailable: ErrorRow(_Code.UNAVAILABLE, "STORE_UNAVAILABLE", 1.0),
    store.StoreInUse: ErrorRow(_Code.FAILED_PRECONDITION, "STORE_IN_USE"),
    store.StoreLed: ErrorRow(_Code.UNAVAILABLE, "NOT_LEADER", 1.0),
    store.LeadLost: ErrorRow(_Code.UNAVAILABLE, "NOT_LEADER", 1.0),
    store.StaleEpoch: ErrorRow(_Code.UNAVAILABLE, "NOT_LEADER", 1.0),
    store.SchemaTooNew: ErrorRow(_Code.FAILED_PRECONDITION, "SCHEMA_TOO_NEW"),
    store.SchemaTooOld: ErrorRow(_Code.FAILED_PRECONDITION, "SCHEMA_TOO_OLD"),
    store.StoreMoved: ErrorRow(_Code.FAILED_PRECONDITION, "STORE_MOVED"),
    store.StoreUnfinished: ErrorRow(_Code.FAILED_PRECONDITION, "STORE_UNFINISHED"),
    store.UnsupportedStore: ErrorRow(_Code.FAILED_PRECONDITION, "UNSUPPORTED_STORE"),
    NotAuthenticated: ErrorRow(_Code.UNAUTHENTICATED, "UNAUTHENTICATED"),
    UnknownService: ErrorRow(_Code.NOT_FOUND, "SERVICE_NOT_FOUND"),
    NotPermitted: ErrorRow(_Code.PERMISSION_DENIED, "PERMISSION_DENIED"),
}
"""Every exception of the kernel. ``docs/grpc_api.md`` has the same table; a test compares them."""


@dataclass(frozen=True, slots=True)
class CallStatus:
    """A status, ready to end a call."""

    code: grpc.StatusCode
    reason: str
    message: str
    trailing: tuple[tuple[str, bytes], ...]


def error_row(error: domain.KernelError) -> ErrorRow:
    """Return the row of an error, or of its nearest base class if it has none."""
    for kind in type(error).__mro__:
        if kind in ERROR_TABLE:
            return ERROR_TABLE[kind]
    raise AssertionError("KernelError itself is in the table")


def status_of(error: domain.KernelError) -> CallStatus:
    """Return the status of a kernel error."""
    row = error_row(error)
    return _status(row, error.message, metadata=_metadata(error), extra=_extra_details(error, row))


def internal_status(error_id: str) -> CallStatus:
    """Return the status of an unexpected error: its id, for searching the log, and never its text."""
    message = f"error id {error_id}: the kernel met an error of its own; its log has the details under that id"
    return _status(ErrorRow(_Code.INTERNAL, "INTERNAL"), message, metadata={"error_id": error_id}, extra=())


def deadline_status(method: str, seconds: float) -> CallStatus:
    """Return the status of a call that took longer than the kernel allows; whether it took effect is not known."""
    message = f"{method} took longer than {seconds:g} seconds; it is unknown whether it took effect, so check first"
    return _status(ErrorRow(_Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"), message, metadata={}, extra=())


def _status(row: ErrorRow, message: str, *, metadata: Mapping[str, str], extra: tuple[Message, ...]) -> CallStatus:
    text = _cut(message, _MESSAGE_BYTES)
    info = error_details_pb2.ErrorInfo(reason=row.reason, domain=DOMAIN, metadata=metadata)
    code, _ = row.code.value
    status = status_pb2.Status(code=code, message=text, details=[_packed(info)])
    for detail in extra:
        status.details.append(_packed(detail))
        if status.ByteSize() > _DETAIL_BYTES:
            del status.details[-1]
    return CallStatus(row.code, row.reason, text, ((_DETAILS_KEY, status.SerializeToString()),))


def _extra_details(error: domain.KernelError, row: ErrorRow) -> tuple[Message, ...]:
    details: list[Message] = []
    if isinstance(error, domain.BadRequest):
        details.append(_violations(error.fields))
    if row.retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(row.retry_seconds * 1000))
        details.append(retry)
    return tuple(details)


def _violations(fields: Mapping[str, str]) -> error_details_pb2.BadRequest:
    """Return the problem of each field, as far as there is room; the first one in any case."""
    wrong = error_details_pb2.BadRequest()
    for field, description in fields.items():
        wrong.field_violations.add(field=_cut(field, _VALUE_CHARACTERS), description=_cut(description, _MESSAGE_BYTES))
        if wrong.ByteSize() > _VIOLATIONS_BYTES and len(wrong.field_violations) > 1:
            del wrong.field_violations[-1]
            break
    return wrong


def _metadata(error: domain.KernelError) -> dict[str, str]:
    """Return the facts of an error that a program may need, as text."""
    if isinstance(error, hosts.ProtocolUnsupported):
        return {"min": str(error.kernel_min), "max": str(error.kernel_max)}
    if isinstance(error, domain.UnknownJob):
        return {"near": _cut(",".join(error.near), _VALUE_CHARACTERS)} if error.near else {}
    if isinstance(error, domain.RequestIdReused):
        return {"run_id": error.run_id}
    if isinstance(error, domain.CursorAhead):
        return {"last_event_seq": str(error.last_event_seq)}
    if isinstance(error, store.StoreLed):
        return {"leader": _cut(",".join(error.addresses), _ADDRESS_BYTES)} if error.addresses else {}
    return {}


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


def _cut(text: str, size: int) -> str:
    """Return ``text`` in at most ``size`` bytes of valid UTF-8."""
    raw = text.encode("utf-8", "replace")
    return raw.decode() if len(raw) <= size else raw[: size - 3].decode("utf-8", "ignore") + "…"
