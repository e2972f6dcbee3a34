"""A host's metrics: counts of the supervisor's events, and values read from the host at each scrape."""

from __future__ import annotations

import platform
import time
from collections import Counter

from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import Finished, LogChunk, Started
from nomaflow_host.session.reconnecting import HostSession
from nomaflow_host.supervisor.supervisor import Supervisor
from nomaflow_telemetry.metrics import LONG_BUCKETS, Histogram, Metric, Reading

HOST_METRICS = (
    Metric(name="nomaflow_host_info", kind="gauge", labels=("host", "version", "python"), help="1, for its labels."),
    Metric(name="nomaflow_host_attached", kind="gauge", help="1 while it has a session with a kernel, else 0."),
    Metric(name="nomaflow_generation", kind="gauge", help="The load of code that new attempts go to; 0 for none."),
    Metric(
        name="nomaflow_generation_loaded_timestamp_seconds", kind="gauge", unit="seconds",
        help="When it was loaded, in Unix time; 0 for never.",
    ),
    Metric(name="nomaflow_code_newer", kind="gauge", help="1 while the code on disk is newer than what is loaded."),
    Metric(name="nomaflow_attempts_running", kind="gauge", help="Attempts that it holds."),
    Metric(name="nomaflow_slots", kind="gauge", labels=("kind",), help="Attempts that it takes at once."),
    Metric(
        name="nomaflow_attempts_ended_total", kind="counter", labels=("state",), help="Attempts that ended, by outcome."
    ),
    Metric(
        name="nomaflow_attempt_duration_seconds", kind="histogram", unit="seconds",
        help="From the call of a callable until none of its code ran.",
    ),
    Metric(name="nomaflow_workers", kind="gauge", labels=("kind",), help="Worker processes."),
    Metric(name="nomaflow_worker_log_lines_total", kind="counter", help="Lines of attempts' logs."),
    Metric(
        name="nomaflow_worker_log_bytes_total", kind="counter", unit="bytes", help="Their size as sent, compressed."
    ),
    Metric(name="nomaflow_outbox_attempts", kind="gauge", help="Attempts not yet reported to their end."),
    Metric(
        name="nomaflow_outbox_bytes", kind="gauge", unit="bytes", help="Reports in memory, not acknowledged yet."
    ),
    Metric(name="nomaflow_spill_bytes", kind="gauge", unit="bytes", help="Reports in files, not acknowledged yet."),
    Metric(name="nomaflow_spill_saturated", kind="gauge", help="1 while its files are at their cap or the disk full."),
)  # fmt: skip


class HostMetrics:
    """Counts over the life of the host. It is notified of the starts, logs and ends of attempts."""

    def __init__(self) -> None:
        self._ended: Counter[str] = Counter()
        self._lines = 0
        self._bytes = 0
        self._duration = Histogram(LONG_BUCKETS)
        self._started: dict[str, int] = {}

    def started(self, attempt_key: str, event: Started) -> None:
        """Record the time at which the callable was called."""
        self._started[attempt_key] = event.at_us

    def log(self, event: LogChunk) -> None:
        """Count lines."""
        self._lines += event.line_count
        self._bytes += len(event.body)

    def finished(self, attempt_key: str, event: Finished) -> None:
        """Count the outcome."""
        self._ended[event.state] += 1
        started_us = self._started.pop(attempt_key, None)
        if started_us is not None:
            self._duration.observe((time.time_ns() // 1000 - started_us) / 1e6)

    def reading(self, supervisor: Supervisor, session: HostSession) -> Reading:
        """Return the current value of every metric in ``HOST_METRICS``. Called on the event loop."""
        me, outbox, generation = session.identity, session.outbox, supervisor.loader.serving
        loaded_us = 0 if generation is None else generation.loaded_at_us
        kinds = Counter("exclusive" if each.exclusive else "shared" for each in supervisor.pool.statuses())
        return {
            "nomaflow_host_info": {(me.host, me.version, platform.python_version()): 1},
            "nomaflow_host_attached": {(): session.attached.is_set()},
            "nomaflow_generation": {(): 0 if generation is None else generation.number},
            "nomaflow_generation_loaded_timestamp_seconds": {(): loaded_us / 1e6},
            "nomaflow_code_newer": {(): bool(supervisor.loader.newer_files())},
            "nomaflow_attempts_running": {(): len(supervisor.attempts)},
            "nomaflow_slots": {("shared",): me.max_async, ("exclusive",): me.max_sync},
            "nomaflow_attempts_ended_total": {(str(state),): self._ended[state] for state in FinishedState},
            "nomaflow_attempt_duration_seconds": self._duration.copy(),
            "nomaflow_workers": {(kind,): kinds[kind] for kind in ("shared", "exclusive")},
            "nomaflow_worker_log_lines_total": {(): self._lines},
            "nomaflow_worker_log_bytes_total": {(): self._bytes},
            "nomaflow_outbox_attempts": {(): outbox.attempts},
            "nomaflow_outbox_bytes": {(): outbox.memory_bytes},
            "nomaflow_spill_bytes": {(): outbox.spilled_bytes},
            "nomaflow_spill_saturated": {(): outbox.saturated},
        }
