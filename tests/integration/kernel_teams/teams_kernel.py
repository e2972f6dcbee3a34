"""A whole kernel in this process, and teams that speak to it by hand: each through a door that proves its name."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import (
    AttemptAck,
    AttemptOrder,
    AttemptReport,
    CallOutcome,
    DispatchOrder,
    Event,
    Finished,
    InventoryLine,
    Started,
    Verdict,
)
from nomaflow_api.v1.reason_statuses import read_details
from nomaflow_api.v1.sealing import open_acks, open_dispatch, open_order, open_verdicts, seal
from nomaflow_host.session.report_streams import ReportStreams
from nomaflow_kernel.access.principals import OWNER, Principal, PrincipalKind
from nomaflow_kernel.engine.engine import Engine
from nomaflow_kernel.engine.state import EngineSettings
from nomaflow_kernel.history.access_records import AuditFilter, AuditRecord
from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.records import EventRecord
from nomaflow_kernel.hosts.registry import SessionRegistry
from served_kernel import ServedKernel
from waiting import PATIENCE


def host_principal(name: str) -> Principal:
    """Return the principal that a host's certificate makes."""
    return Principal(kind=PrincipalKind.HOST, name=name, credential="1f")


class TeamsKernel(ServedKernel):
    """The kernel's parts with its engine, and a door for each principal that a test asks for."""

    engine: Engine

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._doors: dict[str, grpc.aio.Channel] = {}
        self.principals: dict[str, Principal] = {}

    async def start(self) -> TeamsKernel:
        """Put everything together."""
        await self.open(SessionRegistry())
        self.engine = Engine(
            store=self.store, info=self.info, clock=self.clock, jobs=self.catalogue, feed=self.feed,
            settings=EngineSettings(),
        )  # fmt: skip
        self.put_together(self.engine)
        await self.catalogue.start()
        await self.engine.start()
        self.catalogue.subscribe(lambda _: self.engine.jobs_changed())
        self.health.set_ready()
        self.client: Any = KernelServiceStub(await self.door("owner", OWNER))
        return self

    async def door(self, name: str, principal: Principal) -> grpc.aio.Channel:
        """Return a channel through a door that proves this principal; the test may change who it proves."""
        self.principals[name] = principal
        if name not in self._doors:
            self._doors[name] = await self.serve(name, lambda *_: self.principals[name], readmit_seconds=0.1)
        return self._doors[name]

    async def team(self, name: str, **fields: Any) -> Team:
        """Return a process of a team whose certificate says its name."""
        return Team(self, await self.door(name, host_principal(name)), host=name, **fields)

    async def of_owner(self, host: str, **fields: Any) -> Team:
        """Return a host at the owner's socket."""
        return Team(self, await self.door("owner", OWNER), host=host, **fields)

    async def stop(self) -> None:
        """Stop everything."""
        self.sessions.stop()
        self.feed.close()
        self._doors.clear()
        await self.close_channels()
        await self.stop_servers()
        await self.engine.stop()
        await self.audit.stop()
        await self.store.close()

    async def restart(self) -> None:
        """Do what an end and a new start of the kernel do."""
        await self.stop()
        await self.start()

    async def run(self, job_id: str, **fields: Any) -> str:
        """Start a job and return the run's id."""
        answer = await self.client.TriggerRun(kernel.TriggerRunRequest(job_id=job_id, **fields), timeout=PATIENCE)
        return str(answer.run_id)

    async def audited(self, action: str, outcome: str, principal: str) -> AuditRecord:
        """Wait for a row of the audit, which may come after the answer, and return it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for row in await self.store.audit_tail(filter=AuditFilter(), limit=1000):
                    if (row.action, row.outcome, row.principal) == (action, outcome, principal):
                        return row
                await asyncio.sleep(0.01)

    async def claims(self) -> list[AuditRecord]:
        """Return the claims of ids of other hosts that the audit has; nothing while it has not two."""
        rows = await self.store.audit_tail(filter=AuditFilter(), limit=100)
        claims = [row for row in rows if row.action == "ClaimJobs"]
        return claims if len(claims) > 1 else []

    async def detail(self, run_id: str) -> RunDetail:
        """Return a run as stored."""
        return (await self.store.run_details([run_id]))[0]

    async def events(self) -> Sequence[EventRecord]:
        """Return all events."""
        return (await self.store.events_after(0, limit=10_000)).events

    async def reaches(self, run_id: str, state: str) -> RunDetail:
        """Wait until a run is in a state."""
        async with asyncio.timeout(PATIENCE):
            while (found := await self.detail(run_id)).run.state != state:
                await asyncio.sleep(0.01)
        return found


class Team:
    """One process of a host, played by hand over raw gRPC.

    :param host: the name that its hello says, whatever its door proves
    """

    def __init__(
        self,
        system: TeamsKernel,
        channel: grpc.aio.Channel,
        *,
        host: str,
        incarnation: str = "",
        machine: str = "machine",
    ) -> None:
        self.system = system
        self.stub: Any = HostGatewayServiceStub(channel)
        self.client: Any = KernelServiceStub(channel)
        self._reports = ReportStreams(self.stub.StreamReports)
        self.host, self.machine = host, machine
        self.incarnation = incarnation or f"incarnation-{host}"
        self.orders: list[DispatchOrder] = []
        self.verdicts: Sequence[Verdict] = ()
        self.wanted = False
        self.digest = ""
        self._said: asyncio.Queue[gateway.AttachRequest | None] = asyncio.Queue()
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None

    async def attach(
        self, *, ended: Sequence[str] = (), held: Sequence[InventoryLine] = (), digest: str = "", loaded_at_us: int = 0
    ) -> Team:
        """Say hello, and read orders from then on.

        :raises grpc.aio.AioRpcError: if it is refused
        """
        self._said = asyncio.Queue()
        self._call = self.stub.Attach(self._requests())
        beat = gateway.Heartbeat(generation=1, manifest_digest=digest or self.digest, loaded_at_us=loaded_at_us)
        hello = gateway.Hello(
            protocol_min=1, protocol_max=1, host=self.host, incarnation=self.incarnation, machine=self.machine,
            max_async=5, max_sync=5, heartbeat=beat,
            ended_incarnations=ended, inventory=seal(held) if held else b"",
        )  # fmt: skip
        self._said.put_nowait(gateway.AttachRequest(hello=hello))
        first = await asyncio.wait_for(anext(self._call.__aiter__()), PATIENCE)
        self.wanted = first.welcome.manifest_wanted
        self.verdicts = open_verdicts(first.welcome.verdicts) if first.welcome.verdicts else ()
        self._reader = asyncio.create_task(self._read())
        return self

    def say(self, message: gateway.AttachRequest) -> None:
        """Send a message on the session."""
        self._said.put_nowait(message)

    async def _requests(self) -> AsyncIterator[gateway.AttachRequest]:
        while (message := await self._said.get()) is not None:
            yield message

    async def _read(self) -> None:
        async for message in self._call:
            for command in message.commands.commands:
                if command.WhichOneof("command") == "dispatch":
                    self.orders.append(open_dispatch(command.dispatch))
            for answer in message.commands.answers:
                self._reports.take_answer(answer)

    async def ended(self) -> str:
        """Wait until the kernel has ended the session; return the reason."""
        assert self._reader is not None
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(self._reader, PATIENCE)
        return reason_of(caught.value)

    async def leave(self) -> None:
        """End the session."""
        self._said.put_nowait(None)
        if self._reader is not None:
            await asyncio.wait_for(asyncio.wait((self._reader,)), PATIENCE)

    async def order(self, count: int = 1) -> DispatchOrder:
        """Wait for an order and return it."""
        async with asyncio.timeout(PATIENCE):
            while len(self.orders) < count:
                await asyncio.sleep(0.005)
        return self.orders[count - 1]

    async def letter(self, count: int = 1) -> AttemptOrder:
        """Wait for an order and return the letter in it, as its worker would open it."""
        return open_order((await self.order(count)).order)

    async def report(self, key: str, *events: Event, first_seq: int = 1, incarnation: str = "") -> AttemptAck:
        """Report events of an attempt."""
        told = AttemptReport(attempt_key=key, first_seq=first_seq, events=tuple(map(seal, events)))
        request = gateway.StreamReportsRequest(
            host=self.host,
            incarnation=incarnation or self.incarnation,
            epoch=self.system.info.epoch,
            attempts=seal([told]),
        )
        while True:
            try:
                return open_acks(await self._reports.deliver(request, timeout=PATIENCE))[0]
            except grpc.aio.AioRpcError as error:
                # A stream that is refused while it is written to may look broken: a host sends again, too.
                if error.details() != "the connection broke as the report was sent":
                    raise

    async def forge(self, key: str, *events: Event, incarnation: str, first_seq: int = 1) -> AttemptAck:
        """Report events of an attempt as an instance that this one is not; return what the engine says of them."""
        with pytest.raises(grpc.aio.AioRpcError, match="is not attached; attach first"):
            await self.report(key, *events, first_seq=first_seq, incarnation=incarnation)
        told = AttemptReport(attempt_key=key, first_seq=first_seq, events=tuple(map(seal, events)))
        (ack,) = await self.system.engine.report((self.host, incarnation), [told], size=1)
        return ack

    async def introduce(
        self, jobs: Sequence[Mapping[str, Any]], *, host: str = "", incarnation: str = "", explicit: bool = True,
        **more: Any,
    ) -> gateway.IntroduceManifestResponse:  # fmt: skip
        """Introduce a manifest with these jobs, and serve it."""
        body = manifest(host or self.host, jobs, **more)
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        answer = await self.stub.IntroduceManifest(
            gateway.IntroduceManifestRequest(
                host=host or self.host,
                incarnation=incarnation or self.incarnation,
                digest=digest,
                manifest_json_zlib=zlib.compress(body),
                explicit=explicit,
            ),
            timeout=PATIENCE,
        )
        self.digest = digest
        return answer


def manifest(host: str, jobs: Sequence[Mapping[str, Any]], offers: Sequence[str] = (), **more: Any) -> bytes:
    """Return a manifest with these jobs, and callables that take everything."""
    takes_all = {"kind": "async", "parameters": [], "catch_all": "kwargs", "error": None}
    callables = dict.fromkeys(("m:f", "os:system", *offers), takes_all)
    file = {"path": "jobs.toml", "tree": {"jobs": [dict(job) for job in jobs]}, "error": None, "main": True}
    return json.dumps({"host": host, "callables": callables, "job_files": [file], **more}).encode()


def job(job_id: str, *, callable: str = "m:f", **fields: Any) -> dict[str, Any]:
    """Return the table of a job with one step."""
    return {"id": job_id, "overlap": "allow", "steps": [{"name": "one", "callable": callable}], **fields}


def started() -> Started:
    """Return the first event of an attempt."""
    return Started(at_us=1, worker_pid=7, generation=1)


def succeeded(extras: bytes = b"") -> Finished:
    """Return the last event of an attempt."""
    outcome = CallOutcome(state=FinishedState.SUCCEEDED, has_result=True, extras_json=extras)
    return Finished(at_us=2, state=FinishedState.SUCCEEDED, outcome=seal(outcome))


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the reason of a refused call."""
    return read_details(error.trailing_metadata()).reason


async def refusal(call: Any) -> str:
    """Return the reason with which a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return reason_of(caught.value)
