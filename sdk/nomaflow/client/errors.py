"""What a call to a kernel may raise. Loads no gRPC."""

from __future__ import annotations

from collections.abc import Mapping

from nomaflow.errors import NomaflowError

__all__ = [
    "ClientError",
    "InvalidRequest",
    "KernelFailed",
    "KernelUnreachable",
    "NotFound",
    "NotTrusted",
    "PermissionDenied",
    "Refused",
    "ReplyTimeout",
    "Unauthenticated",
]


class ClientError(NomaflowError):
    """Raised when a kernel cannot be asked or does not do what was asked; the base of all errors of the client.

    :param message: what is wrong, for a person
    :param reason: the stable reason of docs/grpc_api.md, such as ``UNKNOWN_JOB``
    :param fix: the way out, may be empty
    :param metadata: what else the kernel said, by name
    :param retry_after: seconds after which a later try may succeed; None where the kernel did not say
    """

    default_reason = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        fix: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.fix = fix
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after


class KernelUnreachable(ClientError):
    """Raised when no kernel answers at the address, also after the retries."""

    default_reason = "KERNEL_UNREACHABLE"


class NotTrusted(KernelUnreachable):
    """Raised when there is no TLS connection: nobody vouches for the kernel, or one side does not speak TLS."""

    default_reason = "NOT_TRUSTED"


class ReplyTimeout(KernelUnreachable):
    """Raised when the kernel did not answer before the deadline: whether it did what was asked is not known."""

    default_reason = "DEADLINE_EXCEEDED"


class NotFound(ClientError):
    """Raised when the kernel knows no run, job or host of that name."""

    default_reason = "NOT_FOUND"


class InvalidRequest(ClientError):
    """Raised when a field of the request cannot be used. ``fields`` names each with what was expected."""

    default_reason = "INVALID_ARGUMENT"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        fix: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, fix=fix, metadata=metadata, retry_after=retry_after)
        self.fields = dict(fields or {})


class Refused(ClientError):
    """Raised when the request is well formed and the kernel's state does not allow it; ``reason`` says which."""

    default_reason = "REFUSED"


class Unauthenticated(ClientError):
    """Raised when the kernel does not know the caller: no token, or one it does not accept."""

    default_reason = "UNAUTHENTICATED"


class PermissionDenied(ClientError):
    """Raised when the kernel knows the caller and does not let it do this."""

    default_reason = "PERMISSION_DENIED"


class KernelFailed(ClientError):
    """Raised when the kernel met an unexpected error; the message carries the id under which its log has it."""

    default_reason = "INTERNAL"
