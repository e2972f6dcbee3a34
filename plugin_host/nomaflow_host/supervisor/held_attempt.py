"""An attempt that this host holds, from its order to its finished event."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import TYPE_CHECKING, Any

from nomaflow_api.v1.letters import Stopping
from nomaflow_api.v1.sealing import fitting
from nomaflow_host.supervisor.attempt_log import AttemptLog
from nomaflow_host.worker.signals import INTERRUPT
from nomaflow_telemetry.process_log import attempt_fields

if TYPE_CHECKING:
    from nomaflow_api.v1.letter_words import FinishedState
    from nomaflow_api.v1.letters import DispatchOrder
    from nomaflow_host.attempt.messages import AttemptSink
    from nomaflow_host.supervisor.values import StopRequest
    from nomaflow_host.supervisor.worker_handle import WorkerHandle

_log = logging.getLogger("nomaflow.host.stop")


class HeldAttempt:
    """One attempt in one worker. The stop ladder acts on it.

    :param counts_as_sync: True if it counts against max_sync, False if against max_async
    :param sink: receives its log, and each rung of the ladder
    """

    def __init__(
        self,
        *,
        order: DispatchOrder,
        worker: WorkerHandle,
        counts_as_sync: bool,
        sink: AttemptSink,
    ) -> None:
        self.order = order
        self.worker = worker
        self.counts_as_sync = counts_as_sync
        self.log = AttemptLog(put=lambda chunk: sink.log(order.attempt_key, chunk), max_bytes=order.max_log_bytes)
        self.gone = asyncio.Event()
        self.unaskable = asyncio.Event()
        """Set once it is known that its code, in a worker of its own, cannot notice a request to stop."""
        self.slot = worker.put_in(self)
        self.started = False
        self.location = ""
        self.cpu_before = 0.0
        self.stop: StopRequest | None = None
        self.returned: FinishedState | None = None
        """How its callable ended, once it has."""
        self.outcome = b""
        """The worker's letter about the end, sealed."""
        self.left = ""
        self.finished: dict[str, Any] | None = None
        self.decided_at = 0.0
        """When it is known whose SIGTERM ended its worker, in the loop's time; 0 if none did."""
        self.deadline: asyncio.TimerHandle | None = None
        self.ladder: asyncio.Task[None] | None = None
        self.stopped_at_us = 0
        """When none of its code ran any more, microseconds since the epoch; 0 if it was not stopped by the ladder."""
        self._sink = sink
        self._began = time.monotonic()
        self._rung = 0

    @property
    def exclusive(self) -> bool:
        """True if no other attempt shares its worker."""
        return self.worker.exclusive

    def ask(self) -> None:
        """Make ``is_cancelled()`` return True, whatever its worker is doing, and cancel its task."""
        self.worker.page.cancelled[self.slot] = 1
        self.worker.link.send({"is": "cancel", "slot": self.slot})

    def interrupt(self) -> str:
        """Send SIGTERM to its child processes, and raise an exception in its threads; return what was done.

        In a shared worker no exception is raised: it might hit a neighbour in the same thread.
        """
        self._spoil()
        if not self.exclusive:
            self._signal_processes(signal.SIGTERM)
            return "SIGTERM to its children"
        self.worker.signal_children(signal.SIGTERM)
        self.worker.signal(INTERRUPT)
        return "SIGTERM to its children, an exception into its threads"

    def terminate(self) -> str:
        """Send SIGTERM to its worker, or kill its child processes if it shares the worker; return what was done."""
        self._spoil()
        if not self.exclusive:
            self._signal_processes(signal.SIGKILL)
            return "its children are killed"
        self.worker.signal(signal.SIGTERM)
        return "SIGTERM to its worker"

    def kill(self, why: str) -> None:
        """Kill its worker's process tree, even if other attempts are in it."""
        self._spoil()
        worker = self.worker
        culprit = self
        blocker = worker.page.blocker
        if worker.blocked_since and blocker is not None and blocker in worker.attempts:
            culprit = worker.attempts[blocker]
        if not worker.exclusive:
            worker.generation.demoted.add(culprit.order.callable)
        worker.kill(why, culprit=culprit)

    def status(self) -> dict[str, Any]:
        """Return its status, for the state dump: the pid is 0 until its worker has started, the rung is 0 for none."""
        running = "RUNNING" if self.started else "DISPATCHED"
        state = "STOPPING" if self.stop is not None or self.ladder is not None else running
        return {
            "attempt_key": self.order.attempt_key,
            "callable": self.order.callable,
            "worker_pid": self.worker.pid,
            "exclusive": self.exclusive,
            "state": "ENDED" if self.finished is not None else state,
            "rung": self._rung,
            "held_seconds": time.monotonic() - self._began,
        }

    def rung(self, number: int, what: str, why: str, *, after: float = 0.0, wait: float | None = None) -> None:
        """Log and report a rung of the ladder that was just taken.

        :param number: 1 asked, 2 SIGTERM to its children, 3 SIGTERM to its worker, 4 SIGKILL
        :param what: what was done
        :param why: why; for a later rung, why the one before was not enough
        :param after: seconds since the first one
        :param wait: seconds until the next one, if the code has not stopped by then; None on the last
        """
        self._rung = number
        self._say(logging.INFO if number == 1 else logging.WARNING, f"{why}: {what} (stage {number} of 4)")
        now_us = time.time_ns() // 1000
        self._sink.stopping(
            self.order.attempt_key,
            Stopping(
                at_us=now_us,
                rung=number,
                what=fitting(what),
                why=fitting(self.worker.masker.now.text(why)),
                after_us=int(after * 1_000_000),
                next_at_us=0 if wait is None else now_us + int(wait * 1_000_000),
            ),
        )

    def stopped(self) -> None:
        """Log and note that the ladder has reached its end."""
        self.stopped_at_us = time.time_ns() // 1000
        self._say(logging.WARNING, "stopped: none of its code runs any more")

    def _say(self, level: int, text: str) -> None:
        self.log.host_line(level, text)
        _log.info("%s", text, extra=attempt_fields(self.order.attempt_key))

    def settle(self) -> None:
        """Cancel timers and the ladder, because none of its code runs any more."""
        self.gone.set()
        self.drop_deadline()

    def drop_deadline(self) -> None:
        """Cancel its deadline, if it has one."""
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def _signal_processes(self, signum: int) -> None:
        self.worker.link.send({"is": "signal_processes", "slot": self.slot, "signum": int(signum)})

    def _spoil(self) -> None:
        self.worker.closed = True
        self.worker.tainted = True
