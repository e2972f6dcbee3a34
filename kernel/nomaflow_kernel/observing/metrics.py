"""A kernel's metrics: counters fed by commits, and values read from the kernel at each scrape.

No label has the name of a job: there may be thousands, they come and go with what teams deploy, and each would be a
time series for every state. Hosts are as few as teams. For figures by job, read the history or the events.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Sequence

from nomaflow_api.version import VERSION
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.history.lookups import ApplyResult
from nomaflow_kernel.history.records import TriggerKind
from nomaflow_kernel.history.states import ATTEMPT_TERMINAL, RUN_TERMINAL, AttemptState
from nomaflow_kernel.history.transitions import AppendLog, QueueRun, StartRun, Transition
from nomaflow_kernel.rpc.parts import KernelParts
from nomaflow_telemetry.metrics import LATENCY_BUCKETS, LONG_BUCKETS, SIZE_BUCKETS, Histogram, Metric, Reading

_HOST_STATES = ("ATTACHED", "LOADING", "DRAINING", "AWAITED", "DETACHED", "UNREACHABLE")

KERNEL_METRICS = (
    Metric(name="nomaflow_kernel_info", kind="gauge", labels=("version", "python"), help="1, for its labels."),
    Metric(name="nomaflow_leader", kind="gauge", help="1 while this kernel leads, 0 while it stands by."),
    Metric(name="nomaflow_epoch", kind="gauge", help="The epoch it leads with; 0 while it stands by."),
    Metric(name="nomaflow_runs", kind="gauge", labels=("state",), help="Runs that are not terminal."),
    Metric(name="nomaflow_runs_triggered_total", kind="counter", labels=("trigger",), help="Runs queued, by trigger."),
    Metric(name="nomaflow_runs_finished_total", kind="counter", labels=("state",), help="Runs that became terminal."),
    Metric(name="nomaflow_attempts", kind="gauge", labels=("state",), help="Attempts in hand."),
    Metric(
        name="nomaflow_attempts_finished_total", kind="counter", labels=("state",),
        help="Attempts that became terminal.",
    ),
    Metric(name="nomaflow_queue_depth", kind="gauge", labels=("host",), help="QUEUED runs, by the host they wait for."),
    Metric(
        name="nomaflow_attempts_waiting", kind="gauge", labels=("host",),
        help="Attempts that are due and that one more instance of the host, any instance, could run.",
    ),
    Metric(name="nomaflow_schedules", kind="gauge", help="Schedules that have a next fire."),
    Metric(
        name="nomaflow_schedule_lag_seconds",
        kind="histogram",
        unit="seconds",
        help="From the instant a schedule names until its run is durable.",
    ),
    Metric(
        name="nomaflow_dispatch_latency_seconds",
        kind="histogram",
        unit="seconds",
        help="From the queueing of a run until its first step is sent to a host.",
    ),
    Metric(
        name="nomaflow_commit_latency_seconds",
        kind="histogram",
        unit="seconds",
        help="From handing a batch to the store until it is durable.",
    ),
    Metric(name="nomaflow_commit_operations", kind="histogram", help="Changes of runs and attempts in a commit."),
    Metric(name="nomaflow_commit_failures_total", kind="counter", help="Commits of the engine that failed."),
    Metric(
        name="nomaflow_refused_calls_total", kind="counter", labels=("reason",),
        help="Calls that the audit records as refused, since this kernel began to lead.",
    ),
    Metric(name="nomaflow_store_waiting", kind="gauge", help="Operations that wait for the store's writer."),
    Metric(name="nomaflow_log_lines_total", kind="counter", help="Lines of runs' logs received."),
    Metric(name="nomaflow_log_bytes_total", kind="counter", unit="bytes", help="Their size as stored, compressed."),
    Metric(name="nomaflow_hosts", kind="gauge", labels=("state",), help="Instances of hosts."),
    Metric(name="nomaflow_host_attempts", kind="gauge", labels=("host",), help="Attempts that its instances hold."),
    Metric(
        name="nomaflow_host_workers", kind="gauge", labels=("host", "kind"),
        help="Its worker processes, from heartbeats.",
    ),
    Metric(
        name="nomaflow_host_spill_bytes", kind="gauge", unit="bytes", labels=("host",),
        help="Reports that its instances keep in files, from heartbeats.",
    ),
    Metric(name="nomaflow_timers", kind="gauge", help="Timers of the engine."),
    Metric(name="nomaflow_engine_turns", kind="gauge", help="Inputs that wait for the engine's loop."),
    Metric(name="nomaflow_watchers", kind="gauge", help="Streams that wait for events."),
)  # fmt: skip


class KernelMetrics:
    """Counters over the life of the process, through all its terms of leadership."""

    def __init__(self) -> None:
        self._triggered: Counter[str] = Counter()
        self._runs: Counter[str] = Counter()
        self._attempts: Counter[str] = Counter()
        self._log_lines = 0
        self._log_bytes = 0
        self._failures = 0
        self._lag = Histogram(LONG_BUCKETS)
        self._dispatch = Histogram(LONG_BUCKETS)
        self._commit = Histogram(LATENCY_BUCKETS)
        self._operations = Histogram(SIZE_BUCKETS)
        self._queued_at: Callable[[str], int | None] = lambda _: None

    def begin(self, view: KernelParts) -> None:
        """Start counting for a kernel that begins to lead."""
        self._queued_at = view.engine.queued_at_us

    def failed(self) -> None:
        """Count a commit that failed."""
        self._failures += 1

    def applied(self, transitions: Sequence[Transition], result: ApplyResult, seconds: float) -> None:
        """Count the effects of a commit."""
        self._commit.observe(seconds)
        self._operations.observe(len(transitions))
        for index, transition in enumerate(transitions):
            if isinstance(transition, AppendLog | QueueRun | StartRun) and index not in result.lost:
                self._count(transition, seconds)
        for event in result.events:
            if event.kind == "run.queued":
                self._triggered[str(event.data["trigger"])] += 1
            elif event.kind == "run.finished":
                self._runs[event.state] += 1
            elif event.kind == "attempt.finished":
                self._attempts[event.state] += 1

    def _count(self, change: AppendLog | QueueRun | StartRun, seconds: float) -> None:
        if isinstance(change, AppendLog):
            self._log_lines += change.chunk.line_count
            self._log_bytes += len(change.chunk.body)
        elif isinstance(change, QueueRun):
            run = change.run
            if run.trigger.kind is TriggerKind.CRON and run.state not in RUN_TERMINAL:
                self._lag.observe((run.queued_at_us - run.trigger.at_us) / 1e6 + seconds)
        elif (queued_at := self._queued_at(change.run_id)) is not None:  # otherwise it had nothing to do, and has ended
            self._dispatch.observe((change.at_us - queued_at) / 1e6 + seconds)

    def reading(self, view: KernelParts | None) -> Reading:
        """Return the current values of all ``KERNEL_METRICS``. Called on the event loop.

        A kernel that stands by has no series of what only a leader has.
        """
        counted: Reading = {
            "nomaflow_kernel_info": {(VERSION, platform.python_version()): 1},
            "nomaflow_leader": {(): view is not None},
            "nomaflow_epoch": {(): 0 if view is None else view.info.epoch},
            "nomaflow_runs_triggered_total": {(str(kind),): self._triggered[kind] for kind in TriggerKind},
            "nomaflow_runs_finished_total": {(str(state),): self._runs[state] for state in RUN_TERMINAL},
            "nomaflow_attempts_finished_total": {(str(state),): self._attempts[state] for state in ATTEMPT_TERMINAL},
            "nomaflow_schedule_lag_seconds": self._lag.copy(),
            "nomaflow_dispatch_latency_seconds": self._dispatch.copy(),
            "nomaflow_commit_latency_seconds": self._commit.copy(),
            "nomaflow_commit_operations": self._operations.copy(),
            "nomaflow_commit_failures_total": {(): self._failures},
            "nomaflow_store_waiting": {(): 0 if view is None else view.store.waiting},
            "nomaflow_log_lines_total": {(): self._log_lines},
            "nomaflow_log_bytes_total": {(): self._log_bytes},
        }
        if view is None:
            return {metric.name: counted.get(metric.name, {}) for metric in KERNEL_METRICS}
        return {**counted, **_held(view)}


def _held(view: KernelParts) -> Reading:
    """Return the gauges of a kernel's contents."""
    seen = view.engine.overview()
    states = Counter(each.state for each in seen.instances)
    attached = [each for each in seen.instances if each.state in ("ATTACHED", "LOADING", "DRAINING")]
    return {
        "nomaflow_runs": {("QUEUED",): sum(seen.queued.values()), ("RUNNING",): seen.running},
        "nomaflow_attempts": {
            (str(state),): seen.attempts.get(state, 0) for state in AttemptState if state not in ATTEMPT_TERMINAL
        },
        "nomaflow_queue_depth": {(host,): count for host, count in seen.queued.items()},
        "nomaflow_attempts_waiting": _demand(view, seen.instances),
        "nomaflow_schedules": {(): len(view.scheduler)},
        "nomaflow_hosts": {(state,): states[state] for state in _HOST_STATES},
        "nomaflow_host_attempts": _by_host(seen.instances, lambda each: each.running),
        "nomaflow_host_workers": _workers(attached),
        "nomaflow_host_spill_bytes": _by_host(attached, lambda each: each.heartbeat.spilled_bytes),
        "nomaflow_timers": {(): seen.timers},
        "nomaflow_engine_turns": {(): seen.turns},
        "nomaflow_watchers": {(): view.feed.watcher_count},
        "nomaflow_refused_calls_total": {(reason,): count for reason, count in view.audit.refused_total.items()},
    }


def _demand(view: KernelParts, instances: Sequence[Instance]) -> dict[tuple[str, ...], float]:
    """Return the waiting attempts by host; 0 for a host that has instances and none."""
    counts: Counter[tuple[str, ...]] = Counter({(each.host,): 0 for each in instances})
    for wanted in view.engine.demand():
        if wanted.attempt_key:
            continue  # one more instance of the host would not help it
        counts[(wanted.host,)] += wanted.attempts
    return dict(counts)


def _workers(instances: Sequence[Instance]) -> dict[tuple[str, ...], float]:
    counts: Counter[tuple[str, ...]] = Counter()
    for each in instances:
        for worker in each.heartbeat.workers or ():
            counts[(each.hello.host, "exclusive" if worker.exclusive else "shared")] += 1
    return dict(counts)


def _by_host(instances: Sequence[Instance], value: Callable[[Instance], int]) -> dict[tuple[str, ...], float]:
    sums: Counter[tuple[str, ...]] = Counter()
    for each in instances:
        sums[(each.hello.host,)] += value(each)
    return dict(sums)
