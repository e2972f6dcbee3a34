"""Statuses of failed calls, made from exceptions. ``nomaflow_api.v1.reason_statuses`` has the table of reasons."""

from __future__ import annotations

import grpc
from msgspec import Struct

from nomaflow_api.v1.reason_statuses import REASONS, ErrorDetails, cut, write_details
from nomaflow_kernel.domain.errors import KernelError


class CallStatus(Struct, frozen=True):
    """A status, ready to end a call.

    :param error_id: the id of an error of the kernel's own; empty for others
    :param about: what the error is about, for the audit, if the request does not name it
    """

    code: grpc.StatusCode
    reason: str
    message: str
    trailing: tuple[tuple[str, bytes], ...]
    error_id: str = ""
    about: str = ""


def status_of(error: KernelError) -> CallStatus:
    """Return the status of a kernel error."""
    row = REASONS[error.reason]
    wait = row.retry_seconds if error.retry_seconds is None else error.retry_seconds or None
    details = ErrorDetails(reason=error.reason, metadata=error.metadata, fields=error.fields, retry_seconds=wait)
    return _status(error.message, details, about=error.about)


def late_error(method: str, seconds: float) -> KernelError:
    """Return the error of a call that takes longer than the kernel allows."""
    what = f"{method} took longer than {seconds:g} seconds"
    return KernelError(f"{what}; it is unknown whether it took effect, so check first", reason="DEADLINE_EXCEEDED")


def internal_status(error_id: str) -> CallStatus:
    """Return the status of an unexpected error: its id, for searching the log, and never its text."""
    message = f"error id {error_id}: the kernel met an error of its own; its log has the details under that id"
    return _status(message, ErrorDetails(reason="INTERNAL", metadata={"error_id": error_id}), error_id=error_id)


def _status(message: str, details: ErrorDetails, *, error_id: str = "", about: str = "") -> CallStatus:
    code = REASONS[details.reason].code
    return CallStatus(code, details.reason, cut(message), write_details(code, message, details), error_id, about)
