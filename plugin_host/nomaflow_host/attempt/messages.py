"""The values that the parts of a host exchange about attempts.

The session turns protobuf messages into these and back; the supervisor and the workers know nothing of gRPC.
All times are microseconds since the epoch, by this machine's clock.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol, Self

from nomaflow_api.v1.log_lines import encode_line, pack_lines
from nomaflow_api.value_class import value_class

__all__ = [
    "AttemptOrder",
    "AttemptSink",
    "CancelOrder",
    "Finished",
    "FinishedState",
    "Isolation",
    "LogChunk",
    "Progress",
    "Started",
    "TimeoutKind",
    "host_line",
]

_HOST_LOGGER = "nomaflow.host"


class Isolation(enum.StrEnum):
    """The kind of worker that an attempt gets."""

    BY_KIND = "by_kind"
    """Shared for async callables, exclusive for sync ones."""
    SHARED = "shared"
    EXCLUSIVE = "exclusive"


class TimeoutKind(enum.StrEnum):
    """The owner of the time limit that set an attempt's deadline."""

    NONE = "none"
    STEP = "step"
    JOB = "job"


class FinishedState(enum.StrEnum):
    """The end of an attempt, as far as its host can know it."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


@value_class
class AttemptOrder:
    """One attempt to run, as the kernel dispatched it. JSON texts are kept as text: only the worker reads them.

    :param attempt_key: ``run/step/attempt``, the fencing and idempotency token
    :param kwargs_json: JSON object of all layers merged, environment references unresolved
    :param strict_keys: the keys of ``kwargs_json`` that came from op_kwargs
    :param previous_steps_json: JSON array of ``{"name", "state", "rows_affected", "extras"}``
    :param timeout_ms: milliseconds from the start of the callable; 0 means no limit
    :param cancel_grace_ms: milliseconds between the request to stop and force; None means the host's own setting
    :param grace_ms: milliseconds without contact to the kernel after which an attempt with ``retry_on_lost`` is killed
    """

    attempt_key: str
    epoch: int
    run_id: str
    job_id: str
    step: str
    attempt: int
    callable: str
    kwargs_json: str = "{}"
    strict_keys: tuple[str, ...] = ()
    params_json: str = "{}"
    trigger_kind: str = "api"
    trigger_by: str = ""
    trigger_at_us: int = 0
    prev_rows_affected: int | None = None
    parent_chain: tuple[tuple[str, str], ...] = ()
    previous_steps_json: str = "[]"
    timeout_ms: int = 0
    timeout_kind: TimeoutKind = TimeoutKind.NONE
    cancel_grace_ms: int | None = None
    isolation: Isolation = Isolation.BY_KIND
    log_level: str = "INFO"
    retry_on_lost: bool = False
    grace_ms: int = 0
    max_log_bytes: int = 0
    traceparent: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the order as a JSON-ready dict, for the frame that takes it to a worker; defaults are left out."""
        return {name: value for name, default in _ORDER_DEFAULTS.items() if (value := getattr(self, name)) != default}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Read what `to_json` made."""
        read = {name: convert(values[name]) for name, convert in _ORDER_TYPES.items() if name in values}
        return cls(**{**values, **read})


_ORDER_DEFAULTS = {field.name: field.default for field in fields(AttemptOrder)}
_ORDER_TYPES: Mapping[str, Callable[[Any], Any]] = {
    "strict_keys": tuple,
    "parent_chain": lambda pairs: tuple((job, run) for job, run in pairs),
    "isolation": Isolation,
    "timeout_kind": TimeoutKind,
}


@value_class
class CancelOrder:
    """A request to stop an attempt.

    :param reason_code: becomes the attempt's reason, such as ``canceled_by_user``
    :param by: who asked
    :param why: the reason given, may be empty
    """

    attempt_key: str
    reason_code: str
    by: str = ""
    why: str = ""


@value_class
class Started:
    """The callable is about to be called."""

    at_us: int
    worker_pid: int
    generation: int
    exclusive: bool


@value_class
class LogChunk:
    """A block of consecutive log lines, packed as ``nomaflow_api.v1.log_lines`` describes.

    :param levels: bit n is set if the chunk holds a line of level 10·n up to 10·n+9
    """

    line_count: int
    first_at_us: int
    last_at_us: int
    levels: int
    compressed: bool
    body: bytes

    @classmethod
    def of_lines(cls, lines: Sequence[bytes]) -> LogChunk:
        """Pack one or more encoded lines.

        :raises ValueError: if an entry is not a line; IndexError as well
        """
        packed = pack_lines(lines)
        return cls(
            line_count=packed.line_count,
            first_at_us=packed.first_at_us,
            last_at_us=packed.last_at_us,
            levels=packed.levels,
            compressed=packed.compressed,
            body=packed.body,
        )


def host_line(level: int, text: str) -> bytes:
    """Return a line that the host itself writes to an attempt's log, encoded, without its line feed."""
    return encode_line(level, time.time_ns() // 1000, _HOST_LOGGER, text).rstrip(b"\n")


@value_class
class Progress:
    """The last report of ``ctx.progress``."""

    at_us: int
    done: float
    total: float | None = None
    message: str = ""


@value_class
class Finished:
    """The end of an attempt. Made only after its code has provably stopped.

    :param extras_json: a JSON object in UTF-8, empty for none
    :param exception_types: qualified names of the raised exception's classes, most derived first
    :param not_started: True if it failed before the callable was called
    """

    at_us: int
    state: FinishedState
    rows_affected: int | None = None
    extras_json: bytes = b""
    has_result: bool = False
    error: str = ""
    reason_code: str = ""
    reason: str = ""
    exception_types: tuple[str, ...] = ()
    peak_rss_bytes: int = 0
    cpu_seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    not_started: bool = False


class AttemptSink(Protocol):
    """The receiver of the supervisor's events of attempts. The session's outbox is one.

    Calls come from the event loop's thread, in order within an attempt: ``started``, any number of ``log`` and
    ``progress``, ``finished`` exactly once. ``started`` is left out if an attempt fails before its callable is
    called.
    """

    def started(self, attempt_key: str, event: Started) -> None:
        """Record that the callable is about to be called."""

    def log(self, attempt_key: str, event: LogChunk) -> None:
        """Add lines to the attempt's log."""

    def progress(self, attempt_key: str, event: Progress) -> None:
        """Record the newest progress; only the last one before a report matters."""

    def finished(self, attempt_key: str, event: Finished) -> None:
        """Record the outcome."""

    def may_read(self, *, exclusive: bool) -> bool:
        """Return False while the spill file is at its cap: the supervisor then leaves lines in the rings and pipes.

        Exclusive workers are held back first.
        """
