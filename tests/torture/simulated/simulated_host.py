"""A played host instance: the real session, outbox, spill files and clocks; only the code that it runs is played."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

from simulated_ledger import Execution, Ledger, rows_of
from simulated_network import Wire
from simulated_time import START_US

from nomaflow_api.v1.letter_words import FinishedState, LogCodec, TimeoutKind
from nomaflow_api.v1.letters import CallOutcome, CancelOrder, DispatchOrder, Finished, LogChunk, Progress, Started
from nomaflow_api.v1.sealing import seal
from nomaflow_host.identity.files import IdentityFile
from nomaflow_host.outbox.event_storage import SpillStore
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.process.errors import NotNeeded
from nomaflow_host.session.facts import HostIdentity, HostStatus
from nomaflow_host.session.reconnecting import HostSession
from nomaflow_host.supervisor.values import LoadOutcome, Refused

__all__ = ["PlayedCode", "SimulatedHost"]

_MAX_ASYNC, _MAX_SYNC = 4, 1


class _Stop:
    """The reason for a stop of code, and the time of its effect."""

    def __init__(self, state: FinishedState, code: str, reason: str) -> None:
        self.state, self.code, self.reason = state, code, reason


class PlayedCode:
    """A ``Runner`` that plays the callables: ``m:quick``, ``m:logs``, ``m:slow``, ``m:flaky``, ``m:sync``.

    Each start is written into the ledger as it happens, and each end before anybody is told.
    """

    newest_load: LoadOutcome | None = None
    serving: None = None

    def __init__(self, *, ledger: Ledger, rng: random.Random, outbox: Outbox, incarnation: str, refuses: float) -> None:
        self._ledger = ledger
        self._rng = rng
        self._outbox = outbox
        self._incarnation = incarnation
        self._refuses = refuses
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stops: dict[str, _Stop] = {}
        self._asked: dict[str, asyncio.Event] = {}
        self._executions: dict[str, Execution] = {}

    def accept(self, order: DispatchOrder) -> None:
        """Start an attempt, or refuse it."""
        if self._rng.random() < self._refuses:
            raise Refused("host_full", "simulated: no room")
        key = order.attempt_key
        self._asked[key] = asyncio.Event()
        self._running[key] = asyncio.get_running_loop().create_task(self._execute(order))

    def cancel(self, order: CancelOrder) -> None:
        """Ask an attempt to stop."""
        self._stop(order.attempt_key, _Stop(FinishedState.CANCELED, order.reason_code, "canceled"))

    def kill(self, attempt_key: str, reason_code: str, reason: str) -> None:
        """Stop an attempt at once."""
        self._stop(attempt_key, _Stop(FinishedState.FAILED, reason_code, reason), at_once=True)

    async def look_at_disk(self) -> None:
        """Do nothing: it has no files."""

    def status(self) -> HostStatus:
        """Return how many attempts run."""
        return HostStatus(running=len(self._running), generation=1)

    async def another(self, _than: None) -> None:
        """Wait for ever: there is no manifest to introduce."""
        await asyncio.Event().wait()

    async def reload(self, *, force: bool) -> LoadOutcome:
        """Refuse."""
        return LoadOutcome(accepted=False, generation=1, digest="", reasons=("simulated",))

    async def settled(self, seconds: float) -> bool:
        """Return True: nothing is ever loaded."""
        return True

    async def check(self, steps: bytes, seconds: float) -> bytes | None:
        """Find nothing wrong."""
        return b""

    async def drain(self, deadline_s: float) -> None:
        """Do nothing."""

    def die(self) -> None:
        """End all code, as the reaper does when the main process is gone."""
        now = asyncio.get_running_loop().time()
        for task in self._running.values():
            task.cancel()
        for execution in self._executions.values():
            if execution.ended is None:
                execution.ended = now
        self._running.clear()

    def _stop(self, key: str, stop: _Stop, *, at_once: bool = False) -> None:
        if key not in self._running:
            return
        self._stops.setdefault(key, stop)
        delay = 0.0 if at_once or self._rng.random() < 0.3 else self._rng.uniform(0, 6)
        asyncio.get_running_loop().call_later(delay, self._asked[key].set)

    async def _execute(self, order: DispatchOrder) -> None:
        key, loop = order.attempt_key, asyncio.get_running_loop()
        started = False
        if not await self._asked_within(key, self._rng.uniform(0.001, 0.3)):
            started = True
            await self._run_code(order)
        self._running.pop(key)
        self._asked.pop(key)
        stop = self._stops.pop(key, None)
        execution = self._executions.get(key)
        finished = self._outcome(order, stop, started=started)
        if execution is not None and started:
            execution.ended, execution.state = loop.time(), finished.state
        self._ledger.say(f"{self._incarnation}: {key} ends {finished.state} {finished.reason_code}")
        self._outbox.finished(key, finished)

    async def _run_code(self, order: DispatchOrder) -> None:
        key, loop = order.attempt_key, asyncio.get_running_loop()
        execution = Execution(attempt_key=key, incarnation=self._incarnation, started=loop.time())
        self._ledger.executions.append(execution)
        self._executions[key] = execution
        self._ledger.say(f"{self._incarnation}: {key} starts")
        if order.timeout_ms:
            self._set_deadline(order)
        self._outbox.started(key, Started(at_us=_now_us(), worker_pid=77, generation=1, exclusive=False))
        seconds, chunks = self._shape(order.callable)
        for number in range(chunks + 1):
            if await self._asked_within(key, seconds / (chunks + 1)):
                self._log(execution, f"{key} is asked to stop")
                return
            if number < chunks:
                self._log(execution, f"{key} line {number}")
                if self._rng.random() < 0.2:
                    self._outbox.progress(key, Progress(at_us=_now_us(), done=number, total=chunks))

    def _shape(self, callable: str) -> tuple[float, int]:
        match callable:
            case "m:logs":
                return self._rng.uniform(1, 12), self._rng.randint(3, 12)
            case "m:slow":
                return self._rng.uniform(5, 60), self._rng.randint(1, 4)
            case _:
                return self._rng.uniform(0.001, 1.5), self._rng.randint(0, 2)

    def _set_deadline(self, order: DispatchOrder) -> None:
        code = "job_timed_out" if order.timeout_kind is TimeoutKind.JOB else "timed_out"
        stop = _Stop(FinishedState.FAILED, code, "it took too long")
        asyncio.get_running_loop().call_later(order.timeout_ms / 1000, self._stop, order.attempt_key, stop)

    def _log(self, execution: Execution, line: str) -> None:
        body = f'{{"m":"{line}"}}\n'.encode() * self._rng.randint(1, 3)
        execution.lines.append(body)
        chunk = LogChunk(
            line_count=body.count(b"\n"),
            first_at_us=_now_us(),
            last_at_us=_now_us(),
            levels=4,
            codec=LogCodec.JSONL,
            body=body,
        )
        self._outbox.log(execution.attempt_key, chunk)

    def _outcome(self, order: DispatchOrder, stop: _Stop | None, *, started: bool) -> Finished:
        if stop is not None:
            return Finished(
                at_us=_now_us(), state=stop.state, reason_code=stop.code, reason=stop.reason, not_started=not started
            )
        failing = {"m:flaky": 0.5, "m:slow": 0.05}.get(order.callable, 0.03)
        if self._rng.random() < failing:
            outcome = CallOutcome(
                state=FinishedState.FAILED,
                reason_code="step_failed",
                reason="it failed",
                error="boom",
                exception_types=("builtins.ValueError",),
            )
        else:
            outcome = CallOutcome(
                state=FinishedState.SUCCEEDED,
                rows_affected=rows_of(order.attempt_key),
                extras_json=b"{}",
                has_result=True,
            )
        return Finished(at_us=_now_us(), state=outcome.state, outcome=seal(outcome))

    async def _asked_within(self, key: str, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._asked[key].wait()
        except TimeoutError:
            return False
        return True


def _now_us() -> int:
    return START_US + int(asyncio.get_running_loop().time() * 1_000_000)


class _OneAddress:
    def __init__(self, address: str) -> None:
        self._address = address

    async def wait(self) -> tuple[str, ...]:
        return (self._address,)

    async def changed(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SimulatedHost:
    """One instance, from its start to its death.

    :param address: by which the session finds the wire
    :param ended: incarnations that it knows to be gone
    :param for_attempt: the key of the one attempt that it takes; empty for any
    :param on_left: called when it has ended by itself, as one for an attempt does
    """

    def __init__(
        self,
        *,
        incarnation: str,
        address: str,
        wire: Wire,
        ledger: Ledger,
        rng: random.Random,
        directory: Path,
        ended: tuple[str, ...],
        small_memory: bool,
        refuses: Callable[[], float],
        for_attempt: str,
        on_left: Callable[[], None],
    ) -> None:
        if for_attempt:
            ledger.own_instances[incarnation] = for_attempt
        self._on_left = on_left
        self.incarnation = incarnation
        self.address = address
        self.wire = wire
        clock = asyncio.get_running_loop().time
        store = SpillStore(directory=directory, memory_cap_bytes=200 if small_memory else 32 << 20, clock=clock)
        self.outbox = Outbox(store=store, clock=clock)
        self.code = PlayedCode(ledger=ledger, rng=rng, outbox=self.outbox, incarnation=incarnation, refuses=refuses())
        identity = HostIdentity(
            host="demo",
            incarnation=incarnation,
            machine="machine",
            pid=4242,
            version="0.1.0",
            max_async=_MAX_ASYNC,
            max_sync=_MAX_SYNC,
            ended_incarnations=ended,
            for_attempt=for_attempt,
        )
        self._session = HostSession(
            identity=identity,
            addresses=_OneAddress(address),  # type: ignore[arg-type]  # has what a session asks of it
            identity_file=IdentityFile(Path("/nowhere")),
            runner=self.code,
            outbox=self.outbox,
            boot_clock=clock,
        )
        life = self._serve_one() if for_attempt else self._session.run()
        self.task = asyncio.get_running_loop().create_task(life)

    async def _serve_one(self) -> None:
        """Run until the attempt has ended and the kernel has all of it, or until the kernel refuses the instance."""
        loop, session = asyncio.get_running_loop(), self._session
        run, given = loop.create_task(session.run()), loop.create_task(session.given.wait())
        try:
            await asyncio.wait([run, given], return_when=asyncio.FIRST_COMPLETED)
            while not run.done() and (self.code.status().running or not session.outbox.empty):
                await asyncio.sleep(0.2)
            if run.done():
                run.result()
            await session.say_goodbye()
        except NotNeeded:
            pass
        finally:
            run.cancel()
            given.cancel()
        self.code.die()
        self.wire.reset()
        self.outbox.close()
        self._on_left()

    def die(self) -> None:
        """End: main process, code and connections at once."""
        self.task.cancel()
        self.code.die()
        self.wire.reset()
        self.outbox.close()
