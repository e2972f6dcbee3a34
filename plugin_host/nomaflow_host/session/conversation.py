"""One session with a kernel, from its welcome to its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import grpc.aio

from nomaflow_api.event_loop import happens_within
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.letter_words import VerdictAction
from nomaflow_api.v1.letters import CancelOrder, DispatchOrder
from nomaflow_api.v1.sealing import LetterError, open_cancel, open_dispatch, open_verdicts
from nomaflow_host.session.encoding import heartbeat, load_message, reload_message
from nomaflow_host.session.failures import SessionDropped
from nomaflow_host.session.link import AttachCall, Link, write
from nomaflow_host.session.reporting import Reporter
from nomaflow_host.supervisor.values import Refused, WorkerStatus
from nomaflow_telemetry.process_log import attempt_fields

if TYPE_CHECKING:
    from nomaflow_host.session.reconnecting import HostSession

_log = logging.getLogger(__name__)

_INTRODUCE_SECONDS = 30.0
_CHECK_SECONDS = 2.0
_GOODBYE_SECONDS = 1.0
_SAME_VERSION = "install the same version on both"


@dataclass(eq=False)
class Conversation:
    """Heartbeats, commands and reports of one session. When one of them ends, all end.

    Commands are carried out in order; slow ones run as tasks beside it.

    :param host: has the parts that outlive the session
    """

    host: HostSession
    _: KW_ONLY
    link: Link
    call: AttachCall
    welcome: pb.Welcome

    def __post_init__(self) -> None:
        """Begin with nothing said."""
        self._interval = max(self.welcome.heartbeat_interval_ms, 10) / 1000
        self._writing = asyncio.Lock()
        self._beat_now = asyncio.Event()
        self._leaving = False
        self._workers: tuple[WorkerStatus, ...] | None = None
        self._slow: set[asyncio.Task[None]] = set()

    async def hold(self) -> None:
        """Hold the session until it ends, or another certificate is there for the next one.

        :raises SessionDropped: when it has ended, with the reason
        :raises grpc.aio.AioRpcError: when the kernel ended it with an error
        """
        try:
            self._take_verdicts()
        except LetterError as error:
            raise SessionDropped(f"the kernel's welcome is unreadable: {error}") from None
        host = self.host
        reporter = Reporter(host=host, link=self.link, epoch=self.welcome.epoch)
        try:
            await _first_of(
                self._read(),
                self._beat(),
                host.clock.watch_lease(),
                reporter.run(),
                reporter.run_beside(),
                host.introducer.run(self.link, on_verdict=self.beat_soon),
                host.renewer.run(self.link),
            )
        finally:
            await _stopped(self._slow)  # slow commands go on, without an answer

    def beat_soon(self) -> None:
        """Send a heartbeat now, because its content has changed."""
        self._beat_now.set()

    async def say_goodbye(self) -> None:
        """Close the host's side of the stream, so that the kernel knows that the end is intended."""
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS), self._writing:
                self._leaving = True
                await self.call.done_writing()
        except (TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
            _log.debug("the session ended without a goodbye")

    async def _read(self) -> None:
        while True:
            message = await self.call.read()
            if not isinstance(message, pb.AttachResponse):
                raise SessionDropped("the kernel ended the session")
            kind = message.WhichOneof("message")
            if kind == "heartbeat_ack":
                self.host.clock.heard(message.heartbeat_ack.sent_at_us)
            elif kind == "commands":
                for command in message.commands.commands:
                    self._carry_out(command)
                for answer in message.commands.answers:
                    self.link.take_answer(answer)
            elif kind == "welcome":
                raise SessionDropped("the kernel sent a second welcome")

    async def _beat(self) -> None:
        while True:
            self._beat_now.clear()
            await self.host.runner.look_at_disk()
            status, told = self.host.runner.status(), self._workers
            self._workers = status.workers
            beat = heartbeat(status, self.host.outbox, workers_told=told)
            self.host.clock.sent(beat.sent_at_us)
            await self._write(pb.AttachRequest(heartbeat=beat))
            await self._tell_load()
            await happens_within(self._beat_now, self._interval)

    async def _tell_load(self) -> None:
        """Report the outcome of the newest load, once, and again if the kernel then refuses its manifest."""
        load = self.host.runner.newest_load
        if load is not None and (told := self.host.introducer.verdict(load)) is not self.host.told_load:
            self.host.told_load = told
            await self._write(load_message(told))

    def _take_verdicts(self) -> None:
        """Apply the kernel's decision about each attempt of the inventory.

        :raises LetterError: if it cannot be read
        """
        for verdict in open_verdicts(self.welcome.verdicts) if self.welcome.verdicts else ():
            key = verdict.attempt_key
            if verdict.action is VerdictAction.FORGET:
                self.host.outbox.forget(key)
                continue
            self.host.outbox.rewind(key, verdict.acknowledged_seq)
            if verdict.action is VerdictAction.CANCEL:
                self.host.runner.cancel(verdict.cancel or CancelOrder(attempt_key=key))
            elif verdict.action is VerdictAction.KILL:
                self.host.runner.kill(key, "host_lost", "the kernel has given up this host and reassigned the attempt")

    def _carry_out(self, command: pb.Command) -> None:
        kind = command.WhichOneof("command")
        try:
            if kind == "dispatch":
                self._dispatch(open_dispatch(command.dispatch))
            elif kind == "cancel":
                self.host.runner.cancel(open_cancel(command.cancel))
            elif kind == "reload":
                self._beside(self._reload(command.command_seq, force=command.reload.force), kind)
            elif kind == "check":
                self._beside(self._check(command.command_seq, command.check), kind)
            elif kind == "inspect":
                self._beside(self._inspect(command.command_seq, command.inspect.attempt_key), kind)
            else:
                _log.warning("the kernel sent a command that this host does not know; %s", _SAME_VERSION)
        except LetterError as error:
            _log.warning("the kernel sent a command that this host cannot read; %s: %s", _SAME_VERSION, error)

    def _dispatch(self, order: DispatchOrder) -> None:
        key = order.attempt_key
        if order.epoch < self.welcome.epoch:
            _log.warning("ignoring a dispatch of epoch %d; the current epoch is %d", order.epoch, self.welcome.epoch)
            return
        if not self.host.outbox.accept(order):
            _log.info("dispatched again, reporting its state", extra=attempt_fields(key))
            return
        self.host.given.set()
        try:
            if self.host.outbox.saturated:
                raise Refused("host_full", "the host's spill file or its disk is full")
            self.host.runner.accept(order)
        except Refused as refusal:
            _log.warning("refused: %s", refusal, extra=attempt_fields(key))
            self.host.outbox.refuse(key, str(refusal))

    async def _reload(self, command_seq: int, *, force: bool) -> None:
        # The load itself continues if the session ends meanwhile: half a load would be worse.
        outcome = await asyncio.shield(self.host.runner.reload(force=force))
        if outcome.accepted:
            self.beat_soon()
            settled = await self.host.introducer.settled(_INTRODUCE_SECONDS)
            outcome = self.host.introducer.verdict(outcome) if settled else self.host.introducer.pending(outcome)
        await self._tell_load()
        await self._write(reload_message(command_seq, outcome))

    async def _check(self, command_seq: int, command: pb.CheckCommand) -> None:
        settled = True
        if command.settle:
            began = time.monotonic()
            settled = await self.host.runner.settled(_CHECK_SECONDS)
            left = _CHECK_SECONDS - (time.monotonic() - began)
            settled = settled and await self.host.introducer.settled(max(left, 0.0))
        checked = await self.host.runner.check(command.steps, _CHECK_SECONDS) if command.steps else b""
        result = pb.CheckResult(
            command_seq=command_seq, settled=settled, checked=checked is not None, problems=checked or b""
        )
        await self._write(pb.AttachRequest(check_result=result))

    async def _inspect(self, command_seq: int, attempt_key: str) -> None:
        seen = await self.host.runner.inspect(attempt_key)
        result = pb.InspectResult(command_seq=command_seq, found=seen is not None, response=seen)
        await self._write(pb.AttachRequest(inspect_result=result))

    def _beside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._slow.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._slow.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, (SessionDropped, grpc.aio.AioRpcError)):
            _log.error("%s failed", task.get_name(), exc_info=error)

    async def _write(self, message: pb.AttachRequest) -> None:
        async with self._writing:
            if self._leaving:
                return
            try:
                await write(self.call, message)
            except asyncio.InvalidStateError:
                raise SessionDropped("the stream of the session has ended") from None


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run several coroutines until the first ends, stop the others, and raise the first one's error."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _stopped(tasks)
    for task in done:
        task.result()


async def _stopped(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
