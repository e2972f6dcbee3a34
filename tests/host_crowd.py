"""Many instances of many hosts in one process, which speaks the hosts' protocol by hand: real sockets, real messages.

Each instance has its own two connections, its own heartbeats and pauses between tries, and holds what the kernel has
not acknowledged. None has code: an accepted step is over at once, or once the crowd is let go.

    host_crowd.py PLAN       a JSON file, see Plan

Each line of the input is a question (state, hold, release, leave); the answer to each is one line of JSON.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

from crowd_plan import Code, Codes, Plan
from nomaflow.client.backoff import Backoff
from nomaflow_api.addresses import split_addresses
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.letter_words import AckStatus, FinishedState, VerdictAction
from nomaflow_api.v1.letters import (
    AttemptAck,
    AttemptReport,
    CallOutcome,
    DispatchOrder,
    Finished,
    InventoryLine,
    Started,
)
from nomaflow_api.v1.sealing import open_acks, open_cancel, open_dispatch, open_verdicts, seal
from nomaflow_host.identity.files import IdentityFile
from nomaflow_host.session.failures import CallFailure, FailureKind
from nomaflow_host.session.link import AttachCall, Link

_TOGETHER = 64
"""Attempts in one report, as of a host."""
_OUTCOME = seal(CallOutcome(state=FinishedState.SUCCEEDED, has_result=True))


@dataclass
class Held:
    """An accepted attempt that the kernel may not know all of.

    :param events: sealed
    :param acknowledged: how many of them are durable
    """

    events: list[bytes]
    acknowledged: int = 0
    ended: bool = False


@dataclass
class Told:
    """The crowd's own count of what happened.

    :param accepted: attempt key → how many instances accepted it
    :param refused: answers other than OK to reports, by status
    """

    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    killed: int = 0
    sessions: int = 0
    introduced: int = 0


class Instance:
    """One instance."""

    def __init__(self, crowd: Crowd, host: str) -> None:
        self._crowd = crowd
        self.host = host
        self.incarnation = secrets.token_hex(16)
        self.attached = False
        self._generation = 1
        self._loaded_at_us = _now_us()
        self._held: dict[str, Held] = {}
        self._known: set[str] = set()
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()
        self._backoff = Backoff(first=0.5, most=8.0)
        self._epoch = 0
        self._leaders: list[str] = []
        self._turn = 0

    @property
    def _code(self) -> Code:
        return self._crowd.codes.of(self.host, self._generation)

    async def serve(self) -> None:
        """Stay attached until cancelled."""
        known = split_addresses(self._crowd.plan.addresses)
        while True:
            address = self._leaders.pop(0) if self._leaders else known[self._turn % len(known)]
            self._turn += 1
            pause = 0.2
            try:
                async with Link(address=address, identity_file=IdentityFile(Path("/nowhere"))) as link:
                    await self._session(link)
            except grpc.aio.AioRpcError as error:
                failure = CallFailure.of(error)
                if failure.kind is FailureKind.NOT_LEADER:
                    self._leaders = list(split_addresses(failure.metadata.get("leader", "")))
                if not self._leaders and self._turn % len(known) == 0:
                    pause = self._backoff.next()
                    pause = min(pause, 2.0) if failure.kind is FailureKind.NOT_LEADER else pause
            except (TimeoutError, asyncio.InvalidStateError):
                pause = self._backoff.next()
            finally:
                self.attached = False
            await asyncio.sleep(pause)

    async def _session(self, link: Link) -> None:
        call = link.attach()
        beside: list[asyncio.Task[None]] = []
        try:
            await call.write(pb.AttachRequest(hello=self._hello()))
            async with asyncio.timeout(10):
                first = await call.read()
            if not isinstance(first, pb.AttachResponse) or first.WhichOneof("message") != "welcome":
                return
            self._take(first.welcome)
            if first.welcome.manifest_wanted:
                await self._introduce(link, explicit=False)
            self._backoff.reset()
            self.attached = True
            self._crowd.told.sessions += 1
            beside = [
                asyncio.create_task(self._read(link, call)),
                asyncio.create_task(self._beat(call, first.welcome.heartbeat_interval_ms / 1000)),
                asyncio.create_task(self._report(link)),
            ]
            await asyncio.wait(beside, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in beside:
                task.cancel()
            ended = await asyncio.gather(*beside, return_exceptions=True)
            call.cancel()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _read(self, link: Link, call: AttachCall) -> None:
        while isinstance(message := await call.read(), pb.AttachResponse):
            for answer in message.commands.answers:
                link.take_answer(answer)
            for command in message.commands.commands:
                await self._obey(link, call, command)
        await call.code()

    def _hello(self) -> pb.Hello:
        inventory = [InventoryLine(attempt_key=key, ended=held.ended) for key, held in self._held.items()]
        return pb.Hello(
            protocol_min=1, protocol_max=1, host=self.host, incarnation=self.incarnation,
            machine="crowd", pid=1, version="0", heartbeat=self._heartbeat(),
            max_async=self._crowd.plan.slots, max_sync=1, inventory=seal(inventory) if inventory else b"",
        )  # fmt: skip

    def _take(self, welcome: pb.Welcome) -> None:
        self._epoch = welcome.epoch
        for verdict in open_verdicts(welcome.verdicts) if welcome.verdicts else ():
            held = self._held.get(verdict.attempt_key)
            if verdict.action in (VerdictAction.FORGET, VerdictAction.KILL):
                gone = self._held.pop(verdict.attempt_key, None)
                # The answer to its last report was lost.
                self._crowd.told.finished += gone is not None and gone.ended
                self._crowd.told.killed += verdict.action is VerdictAction.KILL
            elif held is not None:
                held.acknowledged = verdict.acknowledged_seq
        self._news.set()

    async def _introduce(self, link: Link, *, explicit: bool) -> None:
        self._crowd.told.introduced += 1
        request = pb.IntroduceManifestRequest(
            host=self.host, incarnation=self.incarnation, digest=self._code.digest,
            manifest_json_zlib=self._code.packed, explicit=explicit, loaded_at_us=self._loaded_at_us,
        )  # fmt: skip
        await link.introduce(request, timeout=60)

    async def _beat(self, call: AttachCall, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._say(call, pb.AttachRequest(heartbeat=self._heartbeat()))

    def _heartbeat(self) -> pb.Heartbeat:
        return pb.Heartbeat(
            sent_at_us=_now_us(), workers_unchanged=True, generation=self._generation,
            manifest_digest=self._code.digest, loaded_at_us=self._loaded_at_us,
        )  # fmt: skip

    async def _say(self, call: AttachCall, message: pb.AttachRequest) -> None:
        async with self._writing:
            await call.write(message)

    async def _obey(self, link: Link, call: AttachCall, command: pb.Command) -> None:
        kind = command.WhichOneof("command")
        if kind == "dispatch":
            self._accept(open_dispatch(command.dispatch))
        elif kind == "cancel":
            self._finish(open_cancel(command.cancel).attempt_key, FinishedState.CANCELED)
        elif kind == "check":
            checked = pb.CheckResult(command_seq=command.command_seq, settled=True, checked=True)
            await self._say(call, pb.AttachRequest(check_result=checked))
        elif kind == "reload":
            self._generation += 1
            self._loaded_at_us = _now_us()
            await self._introduce(link, explicit=True)
            result = pb.ReloadResult(
                command_seq=command.command_seq, accepted=True, generation=self._generation,
                manifest_digest=self._code.digest,
            )  # fmt: skip
            await self._say(call, pb.AttachRequest(reload_result=result))

    def _accept(self, order: DispatchOrder) -> None:
        if order.epoch < self._epoch:
            return
        key = order.attempt_key
        if key not in self._known:
            self._known.add(key)
            self._crowd.told.accepted[key] += 1
            self._held[key] = Held([seal(Started(at_us=_now_us(), worker_pid=1, generation=self._generation))])
            if not self._crowd.holding:
                self._finish(key, FinishedState.SUCCEEDED)
        self._news.set()

    def _finish(self, key: str, state: FinishedState) -> None:
        held = self._held.get(key)
        if held is not None and not held.ended:
            held.ended = True
            outcome = _OUTCOME if state is FinishedState.SUCCEEDED else b""
            held.events.append(seal(Finished(at_us=_now_us(), state=state, outcome=outcome)))
            self._news.set()

    def let_go(self) -> None:
        """End every step that runs."""
        for key in self._held:
            self._finish(key, FinishedState.SUCCEEDED)

    async def _report(self, link: Link) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while batch := self._batch():
                request = pb.StreamReportsRequest(
                    host=self.host, incarnation=self.incarnation, epoch=self._epoch, attempts=seal(batch)
                )
                try:
                    acks = await link.report(request, deadline_s=10)
                except grpc.aio.AioRpcError as error:
                    if CallFailure.of(error).kind is not FailureKind.TRY_AGAIN:
                        raise
                    await asyncio.sleep(self._backoff.next())
                else:
                    self._backoff.reset()
                    for ack in open_acks(acks):
                        self._settle(ack)

    def _batch(self) -> list[AttemptReport]:
        found = []
        for key, held in self._held.items():
            if held.acknowledged < len(held.events):
                events = tuple(held.events[held.acknowledged :])
                found.append(AttemptReport(attempt_key=key, first_seq=held.acknowledged + 1, events=events))
                if len(found) == _TOGETHER:
                    break
        return found

    def _settle(self, ack: AttemptAck) -> None:
        held = self._held[ack.attempt_key]
        if ack.status not in (AckStatus.OK, AckStatus.GAP):
            self._crowd.told.refused[ack.status.value] += 1
            del self._held[ack.attempt_key]
            return
        held.acknowledged = ack.acknowledged_seq
        if held.ended and held.acknowledged == len(held.events):
            self._crowd.told.finished += 1
            del self._held[ack.attempt_key]


class Crowd:
    """All instances.

    :ivar holding: whether accepted steps go on until they are let go
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.holding = False
        self.told = Told()
        self.codes = Codes(plan.jobs)
        self._instances = [Instance(self, host) for _ in range(plan.instances) for host in plan.host_names()]

    async def run(self) -> None:
        """Serve, and answer questions until the input ends."""
        tasks = [asyncio.create_task(one.serve()) for one in self._instances]
        while question := (await asyncio.to_thread(sys.stdin.readline)).strip():
            print(json.dumps(self._answer(question)), flush=True)
            for task in tasks:
                if task.done():
                    task.result()  # serves for ever: this is its error
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _answer(self, question: str) -> dict[str, Any]:
        if question in ("hold", "release"):
            self.holding = question == "hold"
        if question == "release":
            for one in self._instances:
                one.let_go()
        told = self.told
        return {
            "attached": sum(one.attached for one in self._instances),
            "accepted": len(told.accepted),
            "twice": sum(count > 1 for count in told.accepted.values()),
            "finished": told.finished,
            "refused": dict(told.refused),
            "killed": told.killed,
            "sessions": told.sessions,
            "introduced": told.introduced,
        }


def _now_us() -> int:
    return time.time_ns() // 1000


def main() -> None:
    """Play the crowd that a file describes."""
    given = json.loads(Path(sys.argv[1]).read_text())
    plan = Plan(**{name.name: given[name.name] for name in dataclasses.fields(Plan) if name.name in given})
    asyncio.run(Crowd(plan).run())


if __name__ == "__main__":
    main()
