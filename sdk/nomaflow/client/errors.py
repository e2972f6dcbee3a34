"""Errors that a call to a kernel may raise. Loads no gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from nomaflow.errors import NomaflowError


class ClientError(NomaflowError):
    """Raised when a kernel cannot be asked, or does not do what it was asked. The base of all errors of the client.

    :param message: description of the error, for a person
    :param reason: the stable reason of docs/grpc_api.md, such as ``JOB_NOT_FOUND``
    :param fix: the way out, may be empty
    :param metadata: further values from the kernel, by name
    :param fields: the invalid fields of the request, each with the expected value
    :param retry_after: seconds after which a later try may succeed; None if the kernel did not say
    """

    default_reason = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        fix: str = "",
        metadata: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.fix = fix
        self.metadata = dict(metadata or {})
        self.fields = dict(fields or {})
        self.retry_after = retry_after

    @property
    def advice(self) -> str:
        """The message and the way out, on one line."""
        return "; ".join(filter(None, (self.message, self.fix)))


class KernelUnreachable(ClientError):
    """Raised when no kernel answers at the address, even after retries."""

    default_reason = "KERNEL_UNREACHABLE"


class NotTrusted(KernelUnreachable):
    """Raised when a TLS connection fails: the kernel's certificate is not trusted, or one side does not speak TLS."""

    default_reason = "NOT_TRUSTED"


class ReplyTimeout(KernelUnreachable):
    """Raised when the kernel did not answer before the deadline. It may or may not have done what was asked."""

    default_reason = "DEADLINE_EXCEEDED"


class NotFound(ClientError):
    """Raised when the kernel knows no such run, job or host."""

    default_reason = "NOT_FOUND"


class InvalidRequest(ClientError):
    """Raised when a field of the request is invalid. ``fields`` maps each such field to the expected value."""

    default_reason = "BAD_REQUEST"


class Refused(ClientError):
    """Raised when the request is valid but the kernel's state does not allow it; ``reason`` says which state."""

    default_reason = "REFUSED"


class Unauthenticated(ClientError):
    """Raised when the kernel does not know the caller: the token is missing or not accepted."""

    default_reason = "UNAUTHENTICATED"


class PermissionDenied(ClientError):
    """Raised when the kernel knows the caller but does not permit the call."""

    default_reason = "PERMISSION_DENIED"


class KernelFailed(ClientError):
    """Raised when the kernel met an unexpected error; the message carries the id of its entry in the kernel's log."""

    default_reason = "INTERNAL"


class ClientUnusable(ClientError):
    """Raised when a client is closed, or is used in another process or event loop than that of its first call."""

    default_reason = "CLIENT_UNUSABLE"

    @classmethod
    def closed(cls) -> Self:
        """Return the error about a client that is closed."""
        return cls("the client is closed", fix="make a new one, and close it after its last call")

    @classmethod
    def forked(cls) -> Self:
        """Return the error about a process that was forked while a client was open: gRPC does not work in it."""
        return cls(
            "this process was forked from one with an open client",
            fix="fork before the first client is made, or start processes with the method 'spawn' or 'forkserver'",
        )

    @classmethod
    def of_another_loop(cls) -> Self:
        """Return the error about a client that belongs to another event loop."""
        return cls("the client belongs to another event loop", fix="make a client in each loop, and close it there")
