"""The state of a kernel as one JSON-ready object: counts, and only the first few items of lists."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections import Counter, deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from nomaflow_kernel.engine.active_run import ActiveRun
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.history.lookups import ApplyResult
from nomaflow_kernel.history.transitions import Transition
from nomaflow_kernel.rpc.parts import KernelParts
from nomaflow_telemetry.stacks import process_stacks

_RUNS = 20
_HOSTS = 100
_COMMITS = 20


class CommitLog:
    """Remembers the last twenty commits of the engine, JSON-ready."""

    def __init__(self) -> None:
        self.newest: deque[dict[str, Any]] = deque(maxlen=_COMMITS)
        self.count = 0

    def applied(self, transitions: Sequence[Transition], result: ApplyResult, seconds: float) -> None:
        """Record a commit."""
        self.count += 1
        self.newest.append({"at": time.time(), "seconds": seconds, "transitions": len(transitions)})


def kernel_state(view: KernelParts | None, *, commits: CommitLog) -> dict[str, Any]:
    """Return the state of a kernel.

    :param view: None while it does not lead
    """
    state: dict[str, Any] = {"part": "kernel", "pid": os.getpid(), "leader": view is not None}
    if view is not None:
        state |= _leading(view)
    state["store"] = {
        "waiting": 0 if view is None else view.store.waiting,
        "commits": commits.count,
        "last_commits": [
            {**each, "at": _instant(each["at"]), "seconds": round(each["seconds"], 6)} for each in commits.newest
        ],
    }
    return state | process_stacks()


def _leading(view: KernelParts) -> dict[str, Any]:
    seen = view.engine.overview()
    next_fire = view.scheduler.next_due_us()
    return {
        "epoch": view.info.epoch,
        "store_kind": view.info.kind,
        "runs": {"QUEUED": sum(seen.queued.values()), "RUNNING": seen.running},
        "attempts": dict(seen.attempts),
        "queues": dict(Counter(seen.queued).most_common(_HOSTS)),
        "oldest_running": [_run(run) for run in view.engine.oldest_running(_RUNS)],
        "engine": {"turns_waiting": seen.turns, "rebuilt": seen.rebuilt, "pauses": seen.pauses},
        "timers": {"count": seen.timers, "next_in_seconds": seen.next_timer_seconds},
        "schedules": {"count": len(view.scheduler), "next": None if next_fire is None else _instant(next_fire / 1e6)},
        "hosts": [_instance(each) for each in islice(seen.instances, _HOSTS)],
        "instances": len(seen.instances),
        "sessions": view.sessions.queued_commands(_HOSTS),
        "events": {"last_seq": view.feed.last_seq, "watchers": view.feed.watcher_count},
    }


def _run(run: ActiveRun) -> dict[str, Any]:
    current = run.current
    return {
        "run_id": run.run_id,
        "job_id": run.job_id,
        "host": run.host,
        "started_at": _instant(run.started_at_us / 1e6),
        "step": None if current is None else current.step.name,
        "attempt": None if current is None else current.number,
        "state": None if current is None else str(current.state),
        "cancel_requested": run.cancel is not None,
    }


def _instance(status: Instance) -> dict[str, Any]:
    hello, beat = status.hello, status.heartbeat
    return {
        "host": hello.host,
        "incarnation": hello.incarnation,
        "machine": hello.machine,
        "pid": hello.pid,
        "state": status.state,
        "last_heartbeat": _instant(status.last_heartbeat_us / 1e6),
        "attempts": status.running,
        "workers": len(beat.workers or ()),
        "generation": beat.generation,
        "spilled_bytes": beat.spilled_bytes,
        "saturated": beat.saturated,
        "draining": beat.draining,
    }


def _instant(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
