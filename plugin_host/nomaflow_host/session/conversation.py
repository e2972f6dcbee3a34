"""One session with a kernel, from its welcome to its end."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import grpc.aio

from nomaflow_api.bounds import WORKERS_OF_INSTANCE
from nomaflow_api.event_loop import happens_within
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.message_codec import encode
from nomaflow_api.v1.sealing import LetterError, fitting
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.session.commands import Commands
from nomaflow_host.session.encoding import load_message, loaded_message
from nomaflow_host.session.facts import HostIdentity
from nomaflow_host.session.failures import SessionDropped
from nomaflow_host.session.introducing import Introducer
from nomaflow_host.session.kernel_clock import KernelClock
from nomaflow_host.session.link import AttachCall, Link, write
from nomaflow_host.session.renewing import Renewer
from nomaflow_host.session.reporting import Reporter
from nomaflow_host.supervisor.values import LoadOutcome, WorkerStatus

if TYPE_CHECKING:
    from nomaflow_host.process.runner import SupervisedRunner

_log = logging.getLogger(__name__)

_INTRODUCE_SECONDS = 30.0
_CHECK_SECONDS = 2.0
_GOODBYE_SECONDS = 1.0


class Conversation:
    """Heartbeats, commands and reports of one session. When one of them ends, all end.

    :param told: the load that the hello reported
    """

    def __init__(
        self,
        *,
        link: Link,
        call: AttachCall,
        welcome: pb.Welcome,
        identity: HostIdentity,
        runner: SupervisedRunner,
        outbox: Outbox,
        clock: KernelClock,
        introducer: Introducer,
        renewer: Renewer,
        told: LoadOutcome | None,
        given: asyncio.Event,
    ) -> None:
        self._link = link
        self._call = call
        self._welcome = welcome
        self._runner = runner
        self._outbox = outbox
        self._clock = clock
        self._introducer = introducer
        self._renewer = renewer
        self._interval = max(welcome.heartbeat_interval_ms, 10) / 1000
        self._writing = asyncio.Lock()
        self._beat_now = asyncio.Event()
        self._told = told
        self._leaving = False
        self._workers: tuple[WorkerStatus, ...] | None = None
        self._commands = Commands(
            runner=runner,
            outbox=outbox,
            epoch=welcome.epoch,
            given=given,
            on_reloaded=lambda: introducer.want(explicit=True),
            answer_reload=self._answer_reload,
            answer_check=self._answer_check,
            answer_inspect=self._answer_inspect,
        )
        self._reporter = Reporter(
            link=link,
            outbox=outbox,
            runner=runner,
            identity=identity,
            epoch=welcome.epoch,
        )

    async def hold(self) -> None:
        """Hold the session until it ends, or another certificate is there for the next one.

        :raises SessionDropped: when it has ended, with the reason
        :raises grpc.aio.AioRpcError: when the kernel ended it with an error
        """
        try:
            self._commands.welcome(self._welcome)
        except LetterError as error:
            raise SessionDropped(f"the kernel's welcome is unreadable: {error}") from None
        try:
            await _first_of(
                self._read(),
                self._beat(),
                self._clock.watch_lease(),
                self._reporter.run(),
                self._reporter.run_beside(),
                self._introducer.run(self._link, on_verdict=self.beat_soon),
                self._renewer.run(self._link),
            )
        finally:
            await self._commands.close()

    def beat_soon(self) -> None:
        """Send a heartbeat now, because its content has changed."""
        self._beat_now.set()

    async def say_goodbye(self) -> None:
        """Close the host's side of the stream, so that the kernel knows that the end is intended."""
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS), self._writing:
                self._leaving = True
                await self._call.done_writing()
        except (TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
            _log.debug("the session ended without a goodbye")

    async def _read(self) -> None:
        while True:
            message = await self._call.read()
            if not isinstance(message, pb.AttachResponse):
                raise SessionDropped("the kernel ended the session")
            kind = message.WhichOneof("message")
            if kind == "heartbeat_ack":
                self._clock.heard(message.heartbeat_ack.sent_at_us)
            elif kind == "commands":
                self._commands.handle(message.commands)
                for answer in message.commands.answers:
                    self._link.take_answer(answer)
            elif kind == "welcome":
                raise SessionDropped("the kernel sent a second welcome")

    async def _beat(self) -> None:
        while True:
            self._beat_now.clear()
            await self._runner.look_at_disk()
            heartbeat = self._heartbeat()
            self._clock.sent(heartbeat.sent_at_us)
            await self._write(pb.AttachRequest(heartbeat=heartbeat))
            await self._tell_load()
            await happens_within(self._beat_now, self._interval)

    def _heartbeat(self) -> pb.Heartbeat:
        status = self._runner.status()
        unchanged = self._workers == status.workers
        self._workers = status.workers
        return encode(
            pb.Heartbeat,
            status,
            self._outbox,
            sent_at_us=time.time_ns() // 1000,
            code_newer=bool(status.newer_files),
            newer_files=[fitting(name) for name in status.newer_files],
            workers=[] if unchanged else status.workers[:WORKERS_OF_INSTANCE],
            workers_unchanged=unchanged,
        )

    async def _tell_load(self) -> None:
        """Report the outcome of the newest load, once, and again if the kernel then refuses its manifest."""
        load = self._runner.newest_load
        if load is not None and (told := self._introducer.verdict(load)) is not self._told:
            self._told = told
            await self._write(load_message(told))

    async def _answer_reload(self, command_seq: int, outcome: LoadOutcome) -> None:
        if outcome.accepted:
            self.beat_soon()
            settled = await self._introducer.settled(_INTRODUCE_SECONDS)
            outcome = self._introducer.verdict(outcome) if settled else self._introducer.pending(outcome)
        await self._tell_load()
        result = pb.ReloadResult(
            command_seq=command_seq,
            accepted=outcome.accepted,
            generation=outcome.generation,
            manifest_digest=outcome.digest,
            message=outcome.message,
            problems_json=_problems_json(outcome),
            loaded=loaded_message(outcome) if outcome.accepted else None,
        )
        await self._write(pb.AttachRequest(reload_result=result))

    async def _answer_check(self, command_seq: int, command: pb.CheckCommand) -> None:
        settled = True
        if command.settle:
            began = time.monotonic()
            settled = await self._runner.settled(_CHECK_SECONDS)
            left = _CHECK_SECONDS - (time.monotonic() - began)
            settled = settled and await self._introducer.introduced(max(left, 0.0))
        checked = await self._runner.check(command.steps, _CHECK_SECONDS) if command.steps else b""
        result = pb.CheckResult(
            command_seq=command_seq, settled=settled, checked=checked is not None, problems=checked or b""
        )
        await self._write(pb.AttachRequest(check_result=result))

    async def _answer_inspect(self, command_seq: int, attempt_key: str) -> None:
        seen = await self._runner.inspect(attempt_key)
        result = pb.InspectResult(command_seq=command_seq, found=seen is not None, response=seen)
        await self._write(pb.AttachRequest(inspect_result=result))

    async def _write(self, message: pb.AttachRequest) -> None:
        async with self._writing:
            if self._leaving:
                return
            try:
                await write(self._call, message)
            except asyncio.InvalidStateError:
                raise SessionDropped("the stream of the session has ended") from None


def _problems_json(outcome: LoadOutcome) -> bytes:
    # This stream is for small messages; the manifest has all problems.
    return json.dumps([each.to_json() for each in outcome.problems[:50]]).encode()


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run several coroutines until the first ends, stop the others, and raise the first one's error."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
