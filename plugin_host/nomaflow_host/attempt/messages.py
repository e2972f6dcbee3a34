"""The interface between the supervisor and the receiver of attempts' events, and lines that the host itself logs."""

from __future__ import annotations

import time
from typing import Protocol

from nomaflow_api.v1.letters import Finished, LogChunk, Progress, Started, Stopping
from nomaflow_api.v1.log_lines import encode_line

_HOST_LOGGER = "nomaflow.host"


def host_line(level: int, text: str) -> bytes:
    """Return a line that the host itself writes to an attempt's log, encoded, without its line feed."""
    return encode_line(level, time.time_ns() // 1000, _HOST_LOGGER, text).rstrip(b"\n")


class AttemptSink(Protocol):
    """The receiver of the supervisor's events of attempts. The session's outbox is one.

    Calls come from the event loop's thread, in order within an attempt: ``started``, any number of ``log``,
    ``progress`` and ``stopping``, ``finished`` exactly once. ``started`` is left out if an attempt fails before its
    callable is called.
    """

    def started(self, attempt_key: str, event: Started) -> None:
        """Record that the callable is about to be called."""

    def log(self, attempt_key: str, event: LogChunk) -> None:
        """Add lines to the attempt's log."""

    def progress(self, attempt_key: str, event: Progress) -> None:
        """Record the newest progress; only the last one before a report matters."""

    def stopping(self, attempt_key: str, event: Stopping) -> None:
        """Record a rung of the ladder by which the attempt is being stopped."""

    def finished(self, attempt_key: str, event: Finished) -> None:
        """Record the outcome."""

    def may_read(self, *, exclusive: bool) -> bool:
        """Return False while the spill file is at its cap: the supervisor then leaves lines in the rings and pipes.

        Exclusive workers are held back first.
        """
