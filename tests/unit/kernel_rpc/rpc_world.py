"""A kernel's gRPC side in this process: a real server and store, and an engine that does what the test says."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc.aio

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.letter_words import VerdictAction
from nomaflow_api.v1.letters import AttemptAck, AttemptReport, Verdict
from nomaflow_kernel.access.doors import owners_door
from nomaflow_kernel.access.secret_params import SecretParams
from nomaflow_kernel.catalogue.registry import HostCatalogue
from nomaflow_kernel.domain.errors import KernelError, UnknownJob, UnknownRun
from nomaflow_kernel.engine.commands import TriggerCommand, TriggerOutcome
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.host_messages import HeartbeatInfo, InstanceHello, InstanceKey, InstanceLink, LoadInfo
from nomaflow_kernel.history.lookups import RunCount
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import PauseRecord, RunRecord, RunRequest, RunTrigger, TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.history.transitions import QueueRun, Transition
from nomaflow_kernel.hosts.registry import SessionRegistry
from nomaflow_kernel.store.sql_store import Store
from nomaflow_project.jobs.definitions import JobDefinition, StepDefinition
from nomaflow_project.jobs.loaded import CatalogueLoad, LoadedJob
from served_kernel import ServedKernel
from waiting import eventually

PATIENCE = 20.0
RUN_ID = "run_" + "0" * 26
INSTANCE = "incarnation-1"
"""The incarnation of a played host."""


class ScriptedEngine:
    """An engine that records what it is asked, and answers or raises what the test sets."""

    def __init__(self) -> None:
        self.secrets = SecretParams()
        self.triggers: list[TriggerCommand] = []
        self.cancels: list[tuple[str, str, str]] = []
        self.reports: list[AttemptReport] = []
        self.report_sizes: list[int] = []
        self.heartbeats: list[HeartbeatInfo] = []
        self.loads: list[LoadInfo] = []
        self.links: list[InstanceLink] = []
        self.detached: list[InstanceLink] = []
        self.open: list[RunCount] = []
        self.active: set[str] = set()
        self.paused: dict[tuple[str, str], PauseRecord] = {}
        self.store: Store
        self.trouble: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.knows_no_job = False
        self.held = 0
        self.held_attempts = 0

    async def _answer(self) -> None:
        if self.hold is not None:
            self.held += 1
            await self.hold.wait()
        if self.trouble is not None:
            raise self.trouble

    async def trigger(self, request: TriggerCommand) -> TriggerOutcome:
        """Record a trigger."""
        await self._answer()
        if self.knows_no_job:
            raise UnknownJob(request.job_id)
        self.triggers.append(request)
        return TriggerOutcome(run_id=request.replay_of or RUN_ID, state=RunState.QUEUED)

    async def trigger_many(self, requests: Sequence[TriggerCommand]) -> Sequence[TriggerOutcome | KernelError]:
        """Record triggers; an error of the kernel is the answer to its own trigger."""
        outcomes: list[TriggerOutcome | KernelError] = []
        for request in requests:
            try:
                outcomes.append(await self.trigger(request))
            except KernelError as error:
                outcomes.append(error)
        return outcomes

    async def draft(self, command: TriggerCommand) -> TriggerCommand:
        """Know no job and no run."""
        raise UnknownRun(command.replay_of) if command.replay_of else UnknownJob(command.job_id)

    def warnings_of(self, drafted: TriggerCommand) -> tuple[str, ...]:
        """Warn of nothing."""
        return ()

    async def is_repeat(self, command: TriggerCommand) -> bool:
        """Ask the store."""
        return bool(command.request_id) and bool(await self.store.runs_of_requests([command.request_id]))

    async def cancel(self, run_id: str, *, by: str, why: str) -> None:
        """Record a cancel."""
        await self._answer()
        self.cancels.append((run_id, by, why))

    async def attach(self, hello: InstanceHello, link: InstanceLink) -> Sequence[Verdict]:
        """Welcome an instance and keep its attempts."""
        await self._answer()
        self.links.append(link)
        return [Verdict(attempt_key=held.attempt_key, action=VerdictAction.KEEP) for held in hello.inventory]

    def heartbeat(self, key: InstanceKey, info: HeartbeatInfo) -> None:
        """Record a heartbeat."""
        self.heartbeats.append(info)

    def look_again(self, host: str) -> None:
        """Have nothing that waits."""

    def loaded(self, key: InstanceKey, load: LoadInfo) -> None:
        """Record a load."""
        self.loads.append(load)

    def detach(self, key: InstanceKey, link: InstanceLink) -> None:
        """Record the end of a session."""
        self.detached.append(link)

    async def report(
        self,
        reporter: InstanceKey,
        reports: Sequence[AttemptReport],
        *,
        size: int,
        answer: Callable[[Sequence[AttemptAck]], None] | None = None,
    ) -> Sequence[AttemptAck]:
        """Record reports and acknowledge them."""
        await self._answer()
        self.report_sizes.append(size)
        self.reports.extend(reports)
        acks = [
            AttemptAck(attempt_key=told.attempt_key, acknowledged_seq=told.first_seq + len(told.events) - 1)
            for told in reports
        ]
        if answer is not None:
            answer(acks)
        return acks

    async def set_pause(self, pause: PauseRecord) -> None:
        """Keep a pause."""
        self.paused[pause.scope, pause.name] = pause

    async def clear_pause(self, scope: str, name: str, *, by: str = "") -> bool:
        """End a pause."""
        return self.paused.pop((scope, name), None) is not None

    def pauses(self) -> Sequence[PauseRecord]:
        """Return the pauses."""
        return list(self.paused.values())

    def instances(self) -> Sequence[Instance]:
        """Return no instances."""
        return []

    def queued_count(self, host: str) -> int:
        """Return nothing."""
        return 0

    def held_count(self, host: str) -> int:
        """Return what the test sets."""
        return self.held_attempts

    def absent_since_us(self, host: str) -> int | None:
        """Return the kernel's start."""
        return 0

    def is_launched(self, host: str) -> bool:
        """Return that no launcher starts its instances."""
        return False

    def holdup(self, run_id: str, attempts: Container[str] | None = None) -> Reason | None:
        """Return nothing."""
        return None

    def deadline_us(self, run_id: str) -> int | None:
        """Return nothing."""
        return None

    def pause_of(self, job_id: str, host: str, at_us: int | None = None) -> PauseRecord | None:
        """Return the pause of everything, of a host or of a job."""
        found = map(self.paused.get, (("all", ""), ("host", host), ("job", job_id)))
        return next(filter(None, found), None)

    def open_runs(self) -> Sequence[RunCount]:
        """Return what the test sets."""
        return self.open

    def why_not_running(self, job_id: str) -> str:
        """Return nothing."""
        return ""

    def is_active(self, job_id: str) -> bool:
        """Return what the test sets."""
        return job_id in self.active


class World(ServedKernel):
    """Everything of one test."""

    channel: grpc.aio.Channel
    client: Any
    gateway: Any

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.engine = ScriptedEngine()

    async def start(self) -> World:
        """Put everything together and serve on a Unix socket."""
        await self.open(SessionRegistry(), ping_seconds=0.02)
        self.engine.store = self.store
        await self.catalogue.start()
        self.put_together(self.engine)
        self.channel = await self.serve("k", owners_door)
        self.health.set_ready()
        self.client = KernelServiceStub(self.channel)
        self.gateway = HostGatewayServiceStub(self.channel)
        return self

    async def close(self) -> None:
        """Close everything; no watcher may be left."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.store.close)
            stack.push_async_callback(self.stop_servers)
            await self.close_channels()
            await eventually(lambda: self.feed.watcher_count == 0)

    async def apply(self, *transitions: Transition) -> None:
        """Commit transitions and tell the feed."""
        result = await self.store.apply(transitions, at_us=1)
        self.feed.publish(result.events)

    async def queue_run(self, run_id: str = RUN_ID) -> None:
        """Commit a queued run."""
        await self.apply(queue_run(run_id))


class PlayedHost:
    """One instance on a real session, which answers commands as the test says.

    :param answer: returns the answer to a command, or None for silence
    """

    def __init__(self, world: World, answer: Callable[[gateway.Command], gateway.AttachRequest | None]) -> None:
        self._world = world
        self._answer = answer
        self._out: asyncio.Queue[gateway.AttachRequest] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def attach(self, **hello: Any) -> None:
        """Say hello, and answer from now on."""
        told = {"protocol_min": 1, "protocol_max": 1, "host": "team", "incarnation": INSTANCE, "max_async": 1}
        self._out.put_nowait(gateway.AttachRequest(hello=gateway.Hello(**{**told, **hello})))
        self._call = self._world.gateway.Attach(self._requests(), timeout=20)
        await self._call.read()
        self._task = asyncio.create_task(self._serve())

    async def leave(self) -> None:
        """End the session, if there is one."""
        if self._task is not None:
            self._task.cancel()
            self._call.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def beat(self, **heartbeat: Any) -> None:
        """Send a heartbeat."""
        self._out.put_nowait(gateway.AttachRequest(heartbeat=gateway.Heartbeat(**heartbeat)))

    async def _requests(self) -> AsyncIterator[gateway.AttachRequest]:
        while True:
            yield await self._out.get()

    async def _serve(self) -> None:
        while True:
            for command in (await self._call.read()).commands.commands:
                answer = self._answer(command)
                if answer is not None:
                    self._out.put_nowait(answer)


def queue_run(run_id: str = RUN_ID) -> QueueRun:
    """Return the transition that makes a queued run of a job without steps."""
    record = RunRecord(
        run_id=run_id,
        job_id="job",
        host="team",
        state=RunState.QUEUED,
        trigger=RunTrigger(kind=TriggerKind.API, at_us=1),
        definition_digest="sha256:0",
        request=RunRequest(),
        queued_at_us=1,
    )
    return QueueRun(run=record, definition_json='{"id":"job","steps":[{"name":"a","callable":"m:f"}]}')


def catalogue_of(host: str, *job_ids: str, tags: tuple[str, ...] = ()) -> HostCatalogue:
    """Return what a host brings: jobs without schedules."""
    jobs = []
    for job_id in job_ids:
        step = StepDefinition(name="a", type="python", callable="m:f")
        definition = JobDefinition(id=job_id, timezone="UTC", steps=(step,), host=host, tags=tags)
        jobs.append(LoadedJob(job_id=job_id, host=host, definition=definition))
    return HostCatalogue(host=host, load=CatalogueLoad(jobs=tuple(jobs)))


def short_directory() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary directory whose path is short enough for a socket."""
    return tempfile.TemporaryDirectory(prefix="nr-")
