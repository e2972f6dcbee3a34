"""Finds the step that blocks a shared worker's event loop."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from nomaflow_api.time_spans import time_span
from nomaflow_host.supervisor.thread_dumps import threads_of
from nomaflow_telemetry.process_log import attempt_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nomaflow_host.supervisor.held_attempt import HeldAttempt
    from nomaflow_host.supervisor.thread_dumps import DumpedThread
    from nomaflow_host.supervisor.worker_handle import WorkerHandle

_log = logging.getLogger("nomaflow.host.watchdog")


def watch_loops(workers: Iterable[WorkerHandle], *, blocked_seconds: float) -> None:
    """Check the beat of every shared worker; ask a silent one for its stacks, and log whose code blocks the loop.

    Called a few times a second.

    :param blocked_seconds: how long a loop may be blocked
    """
    now = time.monotonic_ns()
    for worker in workers:
        if worker.exclusive or not worker.ready:
            continue
        beat = worker.page.beat_ns
        if not beat or not worker.attempts or now - beat < blocked_seconds * 1e9:
            worker.blocked_since = worker.next_dump = 0.0
            worker.dump_asked = False
        elif worker.dump_asked:
            worker.dump_asked = False
            _report(worker)
        elif time.monotonic() >= worker.next_dump:
            _ask(worker, beat)


def _ask(worker: WorkerHandle, beat_ns: int) -> None:
    """Ask the worker for its stacks, and note since when its loop is blocked."""
    first = worker.blocked_since == 0.0
    worker.blocked_since = beat_ns / 1e9
    blocked_for = time.monotonic() - worker.blocked_since
    worker.next_dump = time.monotonic() + (5.0 if first else blocked_for)
    worker.page.blocker = None
    worker.dump_asked = True
    worker.dump_stacks()


def _report(worker: WorkerHandle) -> None:
    main = threads_of(worker.dump())[-1:]
    blocker = _blocker(worker, main)
    if blocker is not None:
        worker.page.blocker = blocker.slot
    seconds = time.monotonic() - worker.blocked_since
    since = time.strftime("%H:%M:%S", time.gmtime(time.time() - seconds))
    stack = main[0].text if main else ""
    who = "a step" if blocker is None else f"step {blocker.order.step!r} ({blocker.order.callable})"
    text = (
        f"{who} has blocked the event loop of shared worker {worker.pid} since {since} UTC ({time_span(seconds)}); the "
        f'other steps in it wait (use await, asyncio.to_thread or isolation = "exclusive")\n{stack}'
    )
    for attempt in [blocker] if blocker is not None else list(worker.attempts.values()):
        attempt.log.host_line(logging.WARNING, text)
    fields = {} if blocker is None else attempt_fields(blocker.order.attempt_key)
    _log.warning("%s", text, extra=fields)


def _blocker(worker: WorkerHandle, main: Sequence[DumpedThread]) -> HeldAttempt | None:
    """Return the attempt whose code is on the loop: by the worker's note, else the only one, else by stack."""
    noted = worker.page.blocker
    if noted is not None:
        return worker.attempts.get(noted)
    if len(worker.attempts) == 1:
        return next(iter(worker.attempts.values()))
    found = [attempt for attempt in worker.attempts.values() if any(each.runs(attempt) for each in main)]
    return found[0] if len(found) == 1 else None
