"""The attempts that this host holds: their messages, deadlines, stops and ends."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from nomaflow_api.event_loop import happens_within
from nomaflow_api.time_spans import time_span
from nomaflow_api.v1.letter_words import FinishedState, TimeoutKind
from nomaflow_api.v1.letters import Progress, Started
from nomaflow_api.v1.sealing import fitting
from nomaflow_host.injection.reference_values import GivenValues
from nomaflow_host.supervisor.held_attempt import HeldAttempt
from nomaflow_host.supervisor.ladder import climb
from nomaflow_host.supervisor.outcomes import finished_of, last_words, may_be_the_hosts, stop_sentence
from nomaflow_host.supervisor.values import StopRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nomaflow_api.v1.letters import DispatchOrder
    from nomaflow_host.attempt.messages import AttemptSink
    from nomaflow_host.channel.frames import Frame
    from nomaflow_host.supervisor.pool import WorkerPool
    from nomaflow_host.supervisor.serving_generation import ServingGeneration
    from nomaflow_host.supervisor.settings import SupervisorSettings
    from nomaflow_host.supervisor.worker_handle import WorkerHandle

_log = logging.getLogger("nomaflow.host")
_GROUP_SECONDS = 1.0  # between the SIGTERM to a worker and the one to its host, if both got the same signal


class AttemptTable:
    """Holds attempts from their orders to their ends.

    :param sink: receives their events
    :param values_of: returns the values of the references of an order of a generation, and, if the
        flag is set, of its connectors
    """

    def __init__(
        self,
        *,
        settings: SupervisorSettings,
        sink: AttemptSink,
        pool: WorkerPool,
        values_of: Callable[[bytes, ServingGeneration, bool], Awaitable[GivenValues]],
    ) -> None:
        self._settings = settings
        self._sink = sink
        self._pool = pool
        self._values_of = values_of
        self._fetching: set[asyncio.Task[None]] = set()
        self._held: dict[str, HeldAttempt] = {}
        self._counts = {True: 0, False: 0}
        self._waiting: dict[str, Mapping[str, Any] | None] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._to_the_end = False
        self._ending: StopRequest | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._empty_since = time.monotonic()

    def __len__(self) -> int:
        return len(self._held)

    def find(self, key: str) -> HeldAttempt | None:
        """Return the attempt that a key names; None if it is not held, or has ended."""
        attempt = self._held.get(key)
        return attempt if attempt is not None and attempt.finished is None else None

    def held_keys(self) -> list[str]:
        """Return the keys of all held attempts."""
        return list(self._held)

    def statuses(self) -> list[dict[str, Any]]:
        """Return the status of each attempt, oldest first."""
        return [attempt.status() for attempt in self._held.values()]

    def count(self, *, sync: bool) -> int:
        """Return the number of attempts that count against max_sync, or against max_async."""
        return self._counts[sync]

    async def emptied_within(self, seconds: float) -> bool:
        """Wait until no attempt is held; return False if that takes longer."""
        return await happens_within(self._empty, seconds)

    def idle_seconds(self) -> float:
        """Return how long no attempt has been held, in seconds; 0 while one is."""
        return time.monotonic() - self._empty_since if self._empty.is_set() else 0.0

    def read_to_the_end(self) -> None:
        """Read the last lines of stopped workers from now on, even if the sink is full: no more lines will follow.

        That is at most a ring and two pipes per worker, so a stopping host does not wait for a kernel that is away.
        """
        self._to_the_end = True
        self.settle_waiting()

    def host_ends(self, why: StopRequest) -> None:
        """Take *why* for the reason of a worker's death by SIGTERM, from now on or a moment ago.

        Engines and service managers send SIGTERM to a whole group: workers die from it while their host begins to
        drain.
        """
        self._ending = why
        self.settle_waiting()

    def ladder_seconds(self) -> float:
        """Return the longest time, in seconds, that the stop ladder takes for the held attempts."""
        grace = max(map(self._grace, self._held.values()), default=0.0)
        return grace + self._settings.term_seconds + self._settings.kill_seconds

    def begin(self, order: DispatchOrder, worker: WorkerHandle, *, counts_as_sync: bool) -> None:
        """Send an order to a worker, which may still be starting."""
        attempt = HeldAttempt(order=order, worker=worker, counts_as_sync=counts_as_sync, sink=self._sink)
        self._held[order.attempt_key] = attempt
        self._counts[counts_as_sync] += 1
        self._empty.clear()
        worker.link.send_soon({"is": "run", "slot": attempt.slot, "traceparent": order.traceparent}, letter=order.order)
        self._set_deadline(attempt)

    def stop(self, key: str, stop: StopRequest) -> None:
        """Stop an attempt by the ladder, unless it is already being stopped or has ended."""
        attempt = self.find(key)
        if attempt is None or attempt.stop is not None:
            return
        attempt.stop = stop
        if attempt.ladder is None:
            self._climb(attempt, stop_sentence(stop))
        else:
            attempt.ask()  # what it left behind when it returned is already being stopped

    def kill(self, key: str, stop: StopRequest) -> None:
        """Kill an attempt's worker at once."""
        attempt = self.find(key)
        if attempt is None:
            return
        if attempt.stop is None:
            attempt.stop = stop
        if attempt.ladder is not None:
            attempt.ladder.cancel()
        attempt.rung(4, "its worker's process tree is killed at once", stop_sentence(stop))
        attempt.kill(stop.reason)

    # --- messages of workers --------------------------------------------------------------------------------------

    def heard(self, worker: WorkerHandle, frame: Frame) -> None:
        """Process a worker's frame. An attempt that has finished ends at the next `settle_waiting`.

        :raises KeyError: if it lacks a field
        :raises ValueError: if a field makes no sense
        """
        message = frame.message
        if message["is"] == "ready":
            worker.ready = True
            # The worker may report the start of a step before the reaper reports the start of the worker.
            worker.pid = worker.pid or int(message["pid"])
            worker.first_rss = int(message["rss_bytes"])
            return
        if message["is"] == "checked":
            _answer(worker.checks.pop(message["number"], None), frame.letter or None)
            return
        if message["is"] == "stacks":
            _answer(worker.looks.pop(message["number"], None), list(message["stacks"]))
            return
        attempt = worker.attempts.get(message["slot"])
        if attempt is None or attempt.finished is not None:
            return
        match message["is"]:
            case "values_wanted":
                giving = self._give_values(attempt, connectors=bool(message["connectors"]))
                fetching = asyncio.get_running_loop().create_task(giving)
                self._fetching.add(fetching)
                fetching.add_done_callback(self._fetching.discard)
            case "credentials":
                worker.masker.add(attempt.slot, message["credentials"])
            case "started":
                self._started(attempt, message)
            case "progress":
                self._progress(attempt, message)
            case "returned":
                attempt.returned, attempt.outcome = FinishedState(message["state"]), frame.letter
                attempt.left = str(message["left"])
                attempt.drop_deadline()  # it was in time
                if attempt.ladder is None:
                    self._climb(attempt, f"it left {attempt.left} running when it returned")
            case "finished":
                attempt.returned, attempt.outcome = FinishedState(message["state"]), frame.letter
                self._finished(attempt, message)

    def worker_ended(self, worker: WorkerHandle, exited: Mapping[str, Any]) -> None:
        """End every attempt of a worker whose processes are all gone, then forget the worker."""
        note = worker.kill_note
        if note is not None and note.presumed and not exited["killed"]:
            note = worker.kill_note = None
        if (note is None or note.spoilt) and not worker.exclusive and worker.spawned:
            # The code at fault is unknown, so none of these callables shares a worker again.
            worker.generation.demoted.update(attempt.order.callable for attempt in worker.attempts.values())
        for attempt in list(worker.attempts.values()):
            attempt.settle()
            self._waiting[attempt.order.attempt_key] = exited
            if may_be_the_hosts(attempt, exited):
                attempt.decided_at = asyncio.get_running_loop().time() + _GROUP_SECONDS
        if not worker.attempts:
            self._forget(worker)
        self.settle_waiting()

    def settle_waiting(self) -> None:
        """End the attempts that only wait for their last lines to be read."""
        if not self._waiting:
            return
        caught_up: dict[int, bool] = {}
        for key, exited in list(self._waiting.items()):
            attempt = self._held[key]
            number = attempt.worker.number
            if number not in caught_up:
                caught_up[number] = attempt.worker.pump.catch_up(over_cap=self._to_the_end)
            decided = self._ending is not None or asyncio.get_running_loop().time() >= attempt.decided_at
            if caught_up[number] and decided:
                if attempt.decided_at and attempt.stop is None:
                    attempt.stop = self._ending
                del self._waiting[key]
                self._conclude(attempt, exited)
        if self._waiting and self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(0.1, self._settle_again)

    def _settle_again(self) -> None:
        self._retry = None
        self.settle_waiting()

    async def _give_values(self, attempt: HeldAttempt, *, connectors: bool) -> None:
        """Send a worker the values of its order's references. What it may print from now on is masked first.

        :param connectors: whether to send those of the references in connectors.toml too
        """
        worker = attempt.worker
        try:
            given = await self._values_of(attempt.order.order, worker.generation, connectors)
        except Exception:  # noqa: BLE001 - the attempt must not wait for ever
            _log.exception("the values for %s cannot be found", attempt.order.attempt_key)
            given = GivenValues({})
        if worker.attempts.get(attempt.slot) is attempt:
            worker.masker.add(attempt.slot, given.secrets())
            if connectors:
                worker.masker.learn(given.secrets())
            worker.link.send({"is": "values", "slot": attempt.slot, "values": given.to_json()})

    def _started(self, attempt: HeldAttempt, message: dict[str, Any]) -> None:
        worker = attempt.worker
        attempt.started = True
        attempt.location = str(message["location"])
        attempt.cpu_before = float(message["cpu_seconds"])
        if worker.exclusive and not message["askable"]:
            attempt.unaskable.set()
        self._set_deadline(attempt)
        self._sink.started(
            attempt.order.attempt_key,
            Started(
                at_us=int(message["at_us"]),
                worker_pid=worker.pid,
                generation=worker.generation.number,
                exclusive=worker.exclusive,
            ),
        )

    def _progress(self, attempt: HeldAttempt, message: dict[str, Any]) -> None:
        self._sink.progress(
            attempt.order.attempt_key,
            Progress(
                at_us=int(message["at_us"]),
                done=float(message["done"]),
                total=None if message["total"] is None else float(message["total"]),
                message=fitting(attempt.worker.masker.now.text(str(message["message"]))),
            ),
        )

    def _finished(self, attempt: HeldAttempt, message: dict[str, Any]) -> None:
        """Process a worker's report that an attempt's code has stopped; if that is uncertain, kill the worker first."""
        worker = attempt.worker
        attempt.finished = message
        attempt.settle()
        if worker.exclusive and (worker.tainted or not message["clean"]):
            worker.kill("its code may still run")
            return
        self._waiting[attempt.order.attempt_key] = None

    # --- deadlines and stops --------------------------------------------------------------------------------------

    def _set_deadline(self, attempt: HeldAttempt) -> None:
        """Set an attempt's deadline from its start; until that is known, allow for the start of a worker as well."""
        attempt.drop_deadline()
        if attempt.order.timeout_ms and attempt.stop is None:
            seconds = attempt.order.timeout_ms / 1000 + (0 if attempt.started else self._settings.load_seconds)
            attempt.deadline = asyncio.get_running_loop().call_later(seconds, self._timed_out, attempt)

    def _timed_out(self, attempt: HeldAttempt) -> None:
        span = time_span(attempt.order.timeout_ms / 1000)
        if attempt.order.timeout_kind is TimeoutKind.JOB:
            code, reason = "job_timed_out", f"the job did not finish within the {span} left of its timeout"
        else:
            code, reason = "timed_out", f"the step did not finish within its timeout of {span}"
        stop = StopRequest(state=FinishedState.FAILED, reason_code=code, reason=reason)
        self.stop(attempt.order.attempt_key, stop)

    def _grace(self, attempt: HeldAttempt) -> float:
        grace_ms = attempt.order.cancel_grace_ms
        return self._settings.cancel_grace_seconds if grace_ms is None else grace_ms / 1000

    def _climb(self, attempt: HeldAttempt, why: str) -> None:
        # Work that a step left behind when it returned gets the grace: it may be about to end.
        unaskable = attempt.unaskable if attempt.stop is not None else None
        climbing = climb(attempt, why=why, grace=self._grace(attempt), settings=self._settings, unaskable=unaskable)
        attempt.ladder = asyncio.get_running_loop().create_task(climbing)

    def _conclude(self, attempt: HeldAttempt, exited: Mapping[str, Any] | None) -> None:
        """Report the end of an attempt: its last line, its last event."""
        key, worker = attempt.order.attempt_key, attempt.worker
        if attempt.stop is not None and attempt.ladder is not None:
            attempt.stopped()
        if words := last_words(attempt, exited):
            attempt.log.host_line(logging.ERROR, words)
        attempt.log.close()
        worker.take_out(attempt.slot)
        del self._held[key]
        self._counts[attempt.counts_as_sync] -= 1
        self._sink.finished(key, finished_of(attempt, exited))
        if exited is None:
            self._pool.released(worker)
        elif not worker.attempts:
            self._forget(worker)
        if not self._held:
            self._empty.set()
            self._empty_since = time.monotonic()

    def _forget(self, worker: WorkerHandle) -> None:
        worker.close()
        self._pool.remove(worker)


def _answer(question: asyncio.Future[Any] | None, told: Any) -> None:
    """Answer a question to a worker, if somebody still waits for that."""
    if question is not None and not question.done():
        question.set_result(told)
