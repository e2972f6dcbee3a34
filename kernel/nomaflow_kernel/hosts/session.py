"""The kernel's end of one host session: its outgoing messages are queued and coalesced, and never block the sender."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1.letters import AttemptAck, CancelOrder, DispatchOrder
from nomaflow_api.v1.sealing import seal
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.engine.host_messages import InstanceHello
from nomaflow_kernel.hosts.errors import HostNotAttached

_LOG = logging.getLogger(__name__)
_BATCH_BYTES = 1024 * 1024
_ANSWER_BYTES = 1024 * 1024
"""Answers to reports that wait to be sent, at most, a hundred bytes each besides their acks."""
_Answer = gateway.ReloadResult | gateway.CheckResult | gateway.InspectResult
_A = TypeVar("_A", gateway.ReloadResult, gateway.CheckResult, gateway.InspectResult)


class Session:
    """One Attach stream of one instance; an ``InstanceLink`` for the engine.

    All commands and answers that are ready when the stream can take a message go into one. Commands are numbered from 1
    in the order in which they were given.

    :param loading: whether the instance has not loaded and introduced its first generation yet
    :ivar reader: reads the host's messages; None before the welcome. It ends with the session, though the call that the
        host reads from lasts until the host has read that
    :ivar reload_by: who asked for the reload that is under way; empty if nobody did
    """

    def __init__(self, *, hello: InstanceHello, loading: bool = False) -> None:
        self.hello = hello
        self.loading = loading
        self.digest = hello.heartbeat.manifest_digest
        self._commands: deque[gateway.Command] = deque()
        self._last_command = 0
        self._answers: list[gateway.ReportAnswer] = []
        self._answer_bytes = 0
        self._heartbeat_ack: int | None = None
        self._ready = asyncio.Event()
        self._ended: KernelError | None = None
        self._host_left = False
        self._asked: dict[int, asyncio.Future[_Answer]] = {}
        self.reader: asyncio.Task[None] | None = None
        self.reload_by = ""

    @property
    def open(self) -> bool:
        """True if commands may still reach the host."""
        return self._ended is None and not self._host_left

    @property
    def queued(self) -> int:
        """The number of commands that wait to be sent."""
        return len(self._commands)

    def send(self, orders: Sequence[DispatchOrder | CancelOrder]) -> None:
        """Queue orders, in order. A session that is over drops them: the reattach settles them."""
        if not self.open:
            return
        for order in orders:
            if isinstance(order, DispatchOrder):
                self._queue(dispatch=seal(order))
            else:
                self._queue(cancel=seal(order))

    def answer(self, number: int, acks: Sequence[AttemptAck]) -> None:
        """Queue the answer to a report, for the same message as the orders that follow from it.

        A host that reports on and never reads ends its session: its answers would fill the kernel's memory.
        """
        if not self.open:
            return
        told = seal(acks)
        self._answer_bytes += 100 + len(told)
        if self._answers and self._answer_bytes > _ANSWER_BYTES:
            self._answers.clear()
            self.end("its host does not read the answers to its reports")
        else:
            self._answers.append(gateway.ReportAnswer(number=number, acks=told))
            self._ready.set()

    def end(self, reason: str) -> None:
        """End the session from the kernel's side; queued messages are dropped. Ending twice is allowed."""
        if self._ended is None:
            host = self.hello.host
            _LOG.info(
                "session of host %s instance %s ends: %s", host, self.hello.incarnation, reason, extra={"host": host}
            )
            self.refuse(KernelError(f"the kernel has ended this session: {reason}", reason="SUPERSEDED"))

    def refuse(self, error: KernelError) -> None:
        """End the session with an error, unless it has ended."""
        if self._ended is None:
            self._ended = error
            self._fail_questions()
            self._ready.set()
            if self.reader is not None:
                self.reader.cancel()

    def leave(self) -> None:
        """Record that the host closed its side, or that the connection is gone."""
        self._host_left = True
        self._fail_questions()
        self._ready.set()

    def acknowledge_heartbeat(self, sent_at_us: int) -> None:
        """Queue the answer to a heartbeat; only the newest is kept."""
        self._heartbeat_ack = sent_at_us
        self._ready.set()

    async def reload(self, *, force: bool, by: str = "") -> gateway.ReloadResult:
        """Ask the host to load its code again and return its answer.

        :raises HostNotAttached: if the session ends before it has answered
        """
        self.reload_by = by  # the host reports the load before it answers
        try:
            return await self._ask(gateway.ReloadResult, reload=gateway.ReloadCommand(force=force))
        finally:
            self.reload_by = ""

    async def check(self, command: gateway.CheckCommand) -> gateway.CheckResult:
        """Ask the host for the checks needed before a run is accepted, and return its answer.

        :raises HostNotAttached: if the session ends before it has answered
        """
        return await self._ask(gateway.CheckResult, check=command)

    async def inspect(self, attempt_key: str) -> gateway.InspectResult:
        """Ask the host what a running attempt does now, and return its answer.

        :raises HostNotAttached: if the session ends before it has answered
        """
        return await self._ask(gateway.InspectResult, inspect=gateway.InspectCommand(attempt_key=attempt_key))

    def take_answer(self, answer: _Answer) -> None:
        """Pass an answer to the caller that waits for it; an answer nobody waits for is ignored."""
        waiting = self._asked.get(answer.command_seq)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def messages(self) -> AsyncIterator[gateway.AttachResponse]:
        """Yield messages as they become ready, until the host leaves.

        :raises KernelError: if the kernel ends the session
        """
        while True:
            await self._ready.wait()
            self._ready.clear()
            if self._ended is not None:
                raise self._ended
            if self._host_left:
                return
            if self._heartbeat_ack is not None:
                ack, self._heartbeat_ack = self._heartbeat_ack, None
                yield gateway.AttachResponse(heartbeat_ack=gateway.HeartbeatAck(sent_at_us=ack))
            while (self._commands or self._answers) and self.open:
                yield self._next_batch()

    def _next_batch(self) -> gateway.AttachResponse:
        """Return the waiting answers and commands, of these up to a mebibyte; more only for a single one."""
        message = gateway.AttachResponse(commands=gateway.CommandBatch(answers=self._answers))
        self._answers.clear()
        self._answer_bytes = 0
        batch = message.commands.commands
        size = 0
        while self._commands:
            size += self._commands[0].ByteSize() + 8
            if size > _BATCH_BYTES and batch:
                break
            batch.append(self._commands.popleft())
        return message

    async def _ask(self, kind: type[_A], **command: Any) -> _A:
        if not self.open:
            raise HostNotAttached(self.hello.host)
        seq = self._queue(**command)
        waiting: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._asked[seq] = waiting
        try:
            answer = await waiting
        except asyncio.CancelledError:
            # A host that never reads would leave all that it was asked in memory: a check may have 2 MiB.
            self._commands = deque(each for each in self._commands if each.command_seq != seq)
            raise
        finally:
            self._asked.pop(seq, None)
        if not isinstance(answer, kind):
            raise HostNotAttached(self.hello.host)  # an answer to another kind of command counts as none
        return answer

    def _queue(self, **command: Any) -> int:
        self._last_command += 1
        self._commands.append(gateway.Command(command_seq=self._last_command, **command))
        self._ready.set()
        return self._last_command

    def _fail_questions(self) -> None:
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(HostNotAttached(self.hello.host))
