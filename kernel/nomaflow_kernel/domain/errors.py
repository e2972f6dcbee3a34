"""The kernel's exceptions: one tree. Each has a stable reason; ``reason_statuses.REASONS`` has its gRPC status.

There is a class for what is raised in several places, or told apart; the rest is said where it is raised.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence


class KernelError(Exception):
    """The root of the kernel's errors.

    :param problem: for a person: lower case, the problem and the expectation, and the way out if it is one with them
    :param reason: that of this error, where its class has none of its own
    :param advice: the way out, if it is the same for each such problem: a stored reason has its own
    :param metadata: data that a program may need, by name
    :ivar message: the problem and the way out
    :ivar about: what it is about, for the audit, if the request does not name it
    :ivar fields: the wrong fields of the request, each with its problem
    """

    reason = "INTERNAL"
    about = ""
    fields: Mapping[str, str] = {}
    retry_seconds: float | None = None
    """Seconds after which another try may succeed; None for those of the reason, if it has any."""

    def __init__(
        self, problem: str, *, reason: str = "", advice: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        self.problem = problem
        self.reason = reason or self.reason
        self.message = f"{problem}; {advice}" if advice else problem
        self.metadata = metadata or {}
        super().__init__(self.message)


class CannotStart(Exception):
    """Raised when the kernel cannot start; the text gives the cause and the way out.

    :param exit_code: 78 for what a person must change, 75 while another process has what is needed, 1 for what may pass
    """

    def __init__(self, why: str, *, exit_code: int = os.EX_CONFIG) -> None:
        super().__init__(why)
        self.exit_code = exit_code


class BadRequest(KernelError):
    """Raised when a request breaks a rule; ``fields`` maps the field to the problem."""

    reason = "BAD_REQUEST"

    def __init__(self, message: str, *, field: str) -> None:
        self.fields = {field: message}
        super().__init__(message)


class ValuesRefused(BadRequest):
    """Raised when steps would refuse values of a request; ``fields`` maps each value to its problem."""

    reason = "VALUE_INVALID"

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(fields.values()), field=next(iter(fields)))
        self.fields = dict(fields)


class FileUnusable(KernelError):
    """Raised when a file in the kernel's state folder cannot be read or written.

    :param what: what cannot be done, and what follows from it
    """

    reason = "FILE_UNUSABLE"

    def __init__(self, what: str, error: OSError, *, fix: str) -> None:
        super().__init__(f"{what}: {(error.strerror or type(error).__name__).lower()}; {fix}")


class CursorAhead(KernelError):
    """Raised when a watcher has seen events, or rows of the audit, that the store lacks: it watched another store.

    :param what: what it watches
    """

    reason = "CURSOR_AHEAD"

    def __init__(self, after_seq: int, newest: int, *, what: str = "event") -> None:
        super().__init__(
            f"after_seq is {after_seq}, and the store's newest {what} is {newest}: the cursor belongs to another store "
            "(compare store_id of GetKernel); read from the start, or from now on",
            metadata={"last_event_seq": str(newest)} if what == "event" else {},
        )


class UnknownRun(KernelError):
    """Raised when no run has the id."""

    reason = "RUN_NOT_FOUND"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"no run has the id {run_id[:64]!r}; `nomaflow runs` lists them")


class UnknownJob(KernelError):
    """Raised when no job has the id.

    :param near: ids that look like it
    """

    reason = "JOB_NOT_FOUND"

    def __init__(self, job_id: str, near: Sequence[str] = ()) -> None:
        self.job_id = job_id
        super().__init__(
            "; ".join(filter(None, (f"no job has the id {job_id[:64]!r}", meant(near)))),
            advice="" if near else "`nomaflow jobs` lists them",
            metadata={"near": ",".join(near)} if near else {},
        )


class RemovedJob(KernelError):
    """Raised when a job's host no longer brings it: the job is unknown, as it is to a kernel that starts after that."""

    reason = "JOB_NOT_FOUND"

    def __init__(self, job_id: str, host: str) -> None:
        super().__init__(
            f"no job has the id {job_id[:64]!r}: host {host!r} no longer has it", advice="`nomaflow jobs` lists them"
        )


def meant(near: Sequence[str]) -> str:
    """Return a question for names that look like an unknown one; empty for none."""
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


class JobUnavailable(KernelError):
    """Raised when a job cannot run: it is malformed, or lacks importable callables."""

    reason = "JOB_DISABLED"

    def __init__(self, job_id: str, why: str) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id!r} cannot run: {why}", advice=f"see `nomaflow job {job_id}`")


class RequestIdReused(KernelError):
    """Raised when a request id is used again for a different request."""

    reason = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self, request_id: str, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"request_id {request_id!r} was used for run {run_id} with another request; "
            "send the same request again, or use a new request_id",
            metadata={"run_id": run_id},
        )


class QuotaExceeded(KernelError):
    """Raised when a limit of the kernel is reached; a later try may succeed.

    :param retry_seconds: when; None if that depends on others, 0 if waiting alone does not help
    """

    reason = "QUOTA"

    def __init__(self, message: str, *, retry_seconds: float | None = None) -> None:
        self.retry_seconds = retry_seconds
        super().__init__(message)


class StaleSession(KernelError):
    """Raised when a host uses an epoch or session that is over."""

    reason = "STALE_EPOCH"


class KernelStopping(KernelError):
    """Raised when the kernel is shutting down."""

    reason = "KERNEL_STOPPING"

    def __init__(self) -> None:
        super().__init__("the kernel is stopping; try again when it is back")
