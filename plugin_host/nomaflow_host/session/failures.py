"""Classification of failed calls to the kernel."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import grpc
import grpc.aio
from msgspec import Struct, field

from nomaflow_api.v1.reason_statuses import read_details


class SessionDropped(Exception):
    """Raised when a session ends and the next must be opened. Its text says why."""


class FailureKind(enum.Enum):
    """The reaction to a failed call."""

    TRY_AGAIN = "try again"
    """The kernel is away, busy or full: send the same again a little later."""
    ATTACH_AGAIN = "attach again"
    """The kernel no longer knows the session: open another."""
    REFUSED = "refused"
    """The kernel does not let this host in."""
    WRONG_PROTOCOL = "wrong protocol"
    """No version in common."""
    NOT_LEADER = "not leader"
    """Another kernel leads."""
    NOT_NEEDED = "not needed"
    """The attempt that this host was started for is over, or another's."""
    MALFORMED = "malformed"
    """The kernel could not accept this particular message."""


class CallFailure(Struct, frozen=True, kw_only=True):
    """A failed call, read once.

    :param reason: the stable word of the error's details, upper case; empty if it has none
    :param metadata: the other values of the details
    """

    kind: FailureKind
    code: grpc.StatusCode
    text: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> CallFailure:
        """Return the meaning of a call's error."""
        details, code = read_details(error.trailing_metadata()), error.code()
        return cls(
            kind=_kind(code, details.reason),
            code=code,
            text=_shortened(error.details() or code.name.lower()),
            reason=details.reason,
            metadata=details.metadata,
        )

    def __str__(self) -> str:
        return f"{self.reason or self.code.name}: {self.text}"


def _shortened(text: str) -> str:
    """Return the last part of gRPC's text about a failed connection; it repeats the address three times."""
    if not text.startswith("failed to connect"):
        return text
    return f"nothing answers there ({text.rpartition('error: ')[2].lower()})"


def _kind(code: grpc.StatusCode, reason: str) -> FailureKind:
    if reason == "PROTOCOL_UNSUPPORTED":
        return FailureKind.WRONG_PROTOCOL
    if reason == "NOT_LEADER":
        return FailureKind.NOT_LEADER
    if reason in ("ATTEMPT_NOT_WANTED", "ATTEMPT_TAKEN"):
        return FailureKind.NOT_NEEDED
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return FailureKind.REFUSED
    if code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED, grpc.StatusCode.UNIMPLEMENTED):
        return FailureKind.ATTACH_AGAIN
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.OUT_OF_RANGE):
        return FailureKind.MALFORMED
    return FailureKind.TRY_AGAIN
