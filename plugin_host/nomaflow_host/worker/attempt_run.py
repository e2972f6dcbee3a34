"""Runs one attempt."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import time
import traceback
from asyncio import sleep  # the original, before any plugin patches it
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from nomaflow import StepFailed
from nomaflow.calls import StepOutcome
from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import CallOutcome
from nomaflow_api.v1.sealing import seal
from nomaflow_host.generation.calls import PreparedCall
from nomaflow_host.injection.credentials_to_mask import may_refer, references_of
from nomaflow_host.injection.errors import PreparationFailed
from nomaflow_host.worker.forks import AuthorCode
from nomaflow_host.worker.leftovers import (
    describe_leftovers,
    has_library_threads,
    has_processes,
    left_after_a_moment,
    left_tasks,
    left_threads,
    signal_left,
)
from nomaflow_host.worker.outcome import (
    author_traceback,
    masked,
    outcome_of_exception,
    outcome_of_unawaited,
)
from nomaflow_host.worker.progress import ProgressReporter
from nomaflow_host.worker.scope import CURRENT, AttemptScope
from nomaflow_host.worker.signals import interrupt_thread
from nomaflow_host.worker.stacks import attempt_stacks
from nomaflow_host.worker.usage import count_peak_from_here, cpu_seconds, peak_rss_bytes
from nomaflow_project.reading.sources import VARIABLE
from nomaflow_project.reading.worker_environment import withheld_hint
from nomaflow_telemetry.tracing import attach

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nomaflow_api.v1.letters import AttemptOrder
    from nomaflow_host.channel.async_link import AsyncLink
    from nomaflow_host.channel.ring.page import RingPage
    from nomaflow_host.connectors.registry import HostConnectorRegistry
    from nomaflow_host.generation.generation import Generation
    from nomaflow_host.injection.reference_values import GivenValues
    from nomaflow_host.worker.emitter import Emitter
    from nomaflow_host.worker.streams import WorkerStreams
    from nomaflow_project.reading.environment import Values

_RECHECK_SECONDS = 0.02
_STEP_LOGGER = "nomaflow.step"
_UNTOLD = "the code raised or returned something that cannot be looked at"


class WorkerServices(Struct, frozen=True, kw_only=True):
    """The services that all attempts of a worker share.

    :param link: the connection to the host's main process; only for the loop's thread
    :param restore: restores the streams, signal handlers and filters of warnings that a step has changed
    :param exclusive: True if this worker runs one attempt at a time
    """

    loop: asyncio.AbstractEventLoop
    link: AsyncLink
    page: RingPage
    emitter: Emitter
    streams: WorkerStreams
    restore: Callable[[], None]
    generation: Generation
    connectors: HostConnectorRegistry
    environ: Mapping[str, str]
    exclusive: bool


class _Ending(Struct, frozen=True, kw_only=True):
    """The end of the author's code."""

    value: Any = None
    error: BaseException | None = None


class AttemptRun:
    """One attempt from its order to its finished frame.

    :param slot: its number in the ring, and in frames
    :param traceparent: the trace context of the call; empty for none
    :param is_alone: returns True if no other attempt runs in this worker
    """

    def __init__(
        self,
        *,
        order: AttemptOrder,
        slot: int,
        traceparent: str,
        services: WorkerServices,
        is_alone: Callable[[], bool],
    ) -> None:
        self._order = order
        self._slot = slot
        self._services = services
        self._is_alone = is_alone
        self._asked = False
        self._inner: asyncio.Task[_Ending] | None = None
        self._values: Values = services.environ
        self._values_wanted: asyncio.Future[GivenValues | None] | None = None
        self._thread: threading.Thread | None = None
        level = logging.getLevelNamesMapping().get(order.log_level.upper(), logging.INFO)
        self.scope = AttemptScope(order=order, slot=slot, level=level, emitter=services.emitter)
        self._context = contextvars.copy_context()
        self._context.run(CURRENT.set, self.scope)
        if traceparent:
            self._context.run(attach, traceparent)
        self._progress = ProgressReporter(loop=services.loop, send=services.link.send, slot=slot)

    async def run(self) -> None:
        """Run it. Never raises; the last thing sent is the finished frame, once none of its code runs."""
        if self._services.exclusive:
            count_peak_from_here()
        cpu_before = cpu_seconds()
        if self._is_alone():
            self._services.restore()
        try:
            outcome = await self._work(cpu_before)
            letter = seal(outcome)
        except BaseException:  # noqa: BLE001  # looking at what hostile code has raised or returned runs it again
            self._say(logging.ERROR, "\n".join([_UNTOLD, *traceback.format_tb(sys.exc_info()[2])]))
            outcome = CallOutcome(state=FinishedState.FAILED, reason_code="step_failed", reason=_UNTOLD, error=_UNTOLD)
            letter = seal(outcome)
        clean = await self._settle(outcome.state, letter)
        # Some step may have broken what the worker itself needs, and all later ones would end in the same way.
        self._finish(outcome.state, letter, cpu_before, clean=clean and outcome.reason != _UNTOLD)

    def ask_to_stop(self) -> None:
        """Take the first rung of the stop ladder: cancel the task. ``is_cancelled()`` is already True, by the ring."""
        self._asked = True
        self.take_values(None)
        if self._inner is not None:
            self._inner.cancel()

    def take_values(self, values: GivenValues | None) -> None:
        """Take the values of the order's references, which the host's main process has sent; None for none."""
        if self._values_wanted is not None and not self._values_wanted.done():
            self._values_wanted.set_result(values)

    def interrupt(self) -> None:
        """Take the second rung: raise in the step's threads. In the main thread the signal's handler does so.

        Called by that handler, so it must not touch the loop.
        """
        thread = self._thread
        idents = left_threads(self.scope)
        if thread is not None and thread.is_alive() and thread.ident is not None:
            idents.append(thread.ident)
        interrupt_thread(idents)

    def signal_processes(self, signum: int) -> None:
        """Send a signal to the step's child processes, and to all below them, beside other steps in this worker."""
        signal_left(self.scope, signum, alone=self._is_alone())

    def stacks(self) -> list[dict[str, Any]]:
        """Return the stacks of its tasks and threads, and those of other threads if no other attempt runs here."""
        services = self._services
        return attempt_stacks(
            self.scope,
            task=self._inner,
            thread=self._thread,
            alone=self._is_alone(),
            root=services.generation.spec.root,
            mask=self._mask,
        )

    @property
    def _is_asked(self) -> bool:
        return self._asked or self._services.page.cancelled[self._slot] != 0

    def _mask(self, text: str) -> str:
        return self._services.emitter.masker.now.text(text)

    async def _work(self, cpu_before: float) -> CallOutcome:
        """Prepare the call and make it; return how it ended."""
        services = self._services
        try:
            if may_refer(self._order) or services.connectors.deferred:
                await self._fetch_values()
            prepared = self._context.run(self._prepare)
        except PreparationFailed as error:
            message = error.message
            failed = CallOutcome(
                state=FinishedState.FAILED, reason_code=error.reason_code, reason=message, error=message
            )
            self._say(logging.ERROR, message)
        except BaseException as error:  # noqa: BLE001  # whatever a plugin's hook raises fails this attempt only
            failed = self._outcome_of(error)
        else:
            return await self._call(prepared, cpu_before)
        return masked(replace(failed, not_started=True), services.emitter.masker.now)

    async def _fetch_values(self) -> None:
        """Ask the host's main process for the values of the order's references, and wait for them."""
        services, known = self._services, self._services.environ
        wanted = any(each.scheme != VARIABLE or each.rest not in known for each in references_of(self._order))
        connectors = services.connectors.deferred and services.generation.may_take_connectors(self._order.callable)
        if self._is_asked or not (wanted or connectors):
            return
        self._values_wanted = services.loop.create_future()
        services.link.send({"is": "values_wanted", "slot": self._slot, "connectors": connectors})
        given = await self._values_wanted
        if given is None:
            return
        self._values = given
        if connectors:
            services.emitter.masker.learn(given.secrets())
            await services.connectors.renew(given)

    def _prepare(self) -> PreparedCall:
        services = self._services
        credentials = services.generation.credentials_of(self._order, self._values)
        if credentials:
            services.emitter.masker.add(self._slot, credentials)
            # Before any of the author's code runs: the host masks what the code prints.
            services.link.send({"is": "credentials", "slot": self._slot, "credentials": sorted(credentials)})
        cancelled, slot, progress = services.page.cancelled, self._slot, self._progress
        return services.generation.prepare(
            self._order,
            environ=self._values,
            connectors=services.connectors,
            # Functions, since a copy of ctx, such as dataclasses.asdict makes, copies any other object, and its loop.
            cancel_check=lambda: cancelled[slot] != 0,
            progress_sink=lambda done, total, message: progress(done, total, message),
        )

    async def _call(self, prepared: PreparedCall, cpu_before: float) -> CallOutcome:
        if self._is_asked:
            return CallOutcome(state=FinishedState.CANCELED, cancelled_error=True, not_started=True)
        services, started = self._services, time.monotonic()
        # Before any of the author's code runs: code on the loop is scheduled further down.
        send = services.link.send_soon if prepared.kind == "async" and not services.exclusive else services.link.send
        send(
            {
                "is": "started",
                "slot": self._slot,
                "at_us": time.time_ns() // 1000,
                "location": prepared.location,
                "cpu_seconds": cpu_before,
                "askable": prepared.askable,
            }
        )
        self._context.run(services.generation.calls.observe, prepared.info)
        ending = await (self._await(prepared) if prepared.kind == "async" else self._in_thread(prepared))
        outcome = masked(self._context.run(self._outcome, ending, prepared), services.emitter.masker.now)
        observed = StepOutcome(
            state=outcome.state.value,
            rows_affected=outcome.rows_affected,
            error=outcome.error,
            reason_code=outcome.reason_code,
            seconds=time.monotonic() - started,
        )
        self._context.run(services.generation.calls.observe, prepared.info, observed)
        return outcome

    async def _await(self, prepared: PreparedCall) -> _Ending:
        async def guarded() -> _Ending:
            try:
                with AuthorCode():
                    return _Ending(value=await prepared.call())
            except BaseException as error:  # noqa: BLE001  # SystemExit must not end the loop, nor anything else
                return _Ending(error=error)

        self._inner = self._services.loop.create_task(guarded(), context=self._context)
        if self._asked:
            self._inner.cancel()
        try:
            return await self._inner
        except asyncio.CancelledError as error:  # before its first step
            return _Ending(error=error)

    async def _in_thread(self, prepared: PreparedCall) -> _Ending:
        loop = self._services.loop
        done: asyncio.Future[_Ending] = loop.create_future()

        def body() -> None:
            try:
                with AuthorCode():
                    ending = _Ending(value=prepared.call())
            except BaseException as error:  # noqa: BLE001  # reported as the attempt's outcome
                ending = _Ending(error=error)
            loop.call_soon_threadsafe(done.set_result, ending)

        self._thread = threading.Thread(
            target=self._context.copy().run, args=(body,), name=self._order.step, daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError as error:  # the system gives this process no further thread
            return _Ending(error=error)
        return await done

    def _outcome(self, ending: _Ending, prepared: PreparedCall) -> CallOutcome:
        if ending.error is not None:
            return self._outcome_of(ending.error)
        try:
            outcome = self._services.generation.calls.normalise(ending.value, call=prepared.info)
        except StepFailed as error:
            failed = outcome_of_exception(error, self._mask)
            self._say(logging.ERROR, failed.error)
            return replace(failed, reason_code=getattr(error, "reason_code", failed.reason_code))
        except BaseException as error:  # noqa: BLE001  # a value's own methods may raise anything
            return self._outcome_of(error)
        if self.scope.unawaited:
            forgotten = outcome_of_unawaited(self.scope.unawaited)
            self._say(logging.ERROR, forgotten.error)
            return forgotten
        for warning in outcome.warnings:
            self._say(logging.WARNING, warning)
        return outcome

    def _outcome_of(self, error: BaseException) -> CallOutcome:
        """Return the outcome of an exception, after the log got its traceback or a line about the cancellation."""
        outcome = outcome_of_exception(error, self._mask)
        if hint := withheld_hint(error, self._services.generation.spec.withheld):
            outcome = replace(outcome, reason=outcome.reason + hint, error=outcome.error + hint)
        if outcome.state is FinishedState.FAILED:
            self._say(logging.ERROR, author_traceback(error, self._mask))
        elif self._is_asked:
            self._say(logging.INFO, f"stopped as asked ({outcome.error})")
        elif outcome.cancelled_error:
            self._say(logging.WARNING, f"{outcome.reason}\n{author_traceback(error, self._mask)}")
        else:
            self._say(logging.INFO, f"cancelled by its code: {outcome.error}")
        return outcome

    def _say(self, level: int, text: str) -> None:
        self.scope.flush_printed()  # came before; as the last line it would stay in place of a traceback
        self.scope.emit(level, time.time_ns() // 1000, _STEP_LOGGER, text)

    async def _settle(self, state: FinishedState, letter: bytes) -> bool:
        """Wait until nothing that the step started still runs; return whether its own worker is fit for another."""
        left = await left_after_a_moment(self._left)
        if left:
            self._services.link.send(
                {"is": "returned", "slot": self._slot, "state": state, "left": left}, letter=letter
            )
            self._services.page.cancelled[self._slot] = 1
            asked: set[asyncio.Task[Any]] = set()
            while has_processes(self.scope) or self._left():  # nothing announces the end of adopted child processes
                for task in set(left_tasks(self.scope)) - asked:
                    task.cancel()
                    asked.add(task)
                await sleep(_RECHECK_SECONDS)
        return not self._services.exclusive or (self._services.streams.intact() and not has_library_threads())

    def _left(self) -> str:
        left = describe_leftovers(self.scope, alone=self._is_alone())
        if not left:
            # A library's thread may have started a process meanwhile; from here on it cannot.
            self.scope.may_start = False
            if self.scope.starts_processes:
                left = describe_leftovers(self.scope, alone=self._is_alone())
        return left

    def _finish(self, state: FinishedState, letter: bytes, cpu_before: float, *, clean: bool) -> None:
        self._progress.flush()
        self.scope.flush_printed()
        self.scope.closed = True
        services = self._services
        services.emitter.masker.leave(self._slot)
        # Sent at the end of this turn of the loop, together with other frames, so that the host is woken once.
        send = services.link.send if services.exclusive or self._is_alone() else services.link.send_soon
        send(
            {
                "is": "finished",
                "slot": self._slot,
                "state": state,
                "clean": clean,
                "cpu_seconds": max(0.0, cpu_seconds() - cpu_before),
                "peak_rss_bytes": peak_rss_bytes(),
            },
            letter=letter,
        )
