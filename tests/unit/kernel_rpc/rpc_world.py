"""A kernel's gRPC side in this process: a real server and store, and an engine that does what the test says."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.letters import AttemptAck, AttemptReport, Verdict, VerdictAction
from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.credentials import Credentials
from nomaflow_kernel.access.doors import owners_door
from nomaflow_kernel.access.guard import Guard
from nomaflow_kernel.access.secret_params import SecretParams
from nomaflow_kernel.catalogue import HostCatalogue
from nomaflow_kernel.catalogue.service import CatalogueService
from nomaflow_kernel.domain.clock import SystemClock
from nomaflow_kernel.domain.errors import KernelError, UnknownJob, UnknownRun
from nomaflow_kernel.engine import TriggerCommand, TriggerOutcome
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.host_messages import HeartbeatInfo, InstanceHello, InstanceKey, InstanceLink, LoadInfo
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.port import PauseRecord, RunCount, Store, StoreInfo
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import RunRecord, RunRequest, RunTrigger, TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.history.transitions import QueueRun, Transition
from nomaflow_kernel.hosts import GatewaySettings, HostGateway, SessionRegistry
from nomaflow_kernel.network.door_addresses import DoorAddresses
from nomaflow_kernel.rpc import (
    SERVICES,
    AccessCalls,
    Admission,
    AuditCalls,
    AuthorityCalls,
    CatalogueCalls,
    DoorServers,
    Endpoints,
    Enrolment,
    Health,
    KernelIdentity,
    KernelService,
    served_services,
)
from nomaflow_kernel.store import open_store
from nomaflow_project.jobs.definitions import JobDefinition, StepDefinition
from nomaflow_project.jobs.load import CatalogueLoad, LoadedJob
from waiting import eventually

PATIENCE = 20.0
RUN_ID = "run_" + "0" * 26


class ScriptedEngine:
    """An engine that records what it is asked, and answers or raises what the test sets."""

    def __init__(self) -> None:
        self.secrets = SecretParams()
        self.triggers: list[TriggerCommand] = []
        self.cancels: list[tuple[str, str, str]] = []
        self.reports: list[AttemptReport] = []
        self.heartbeats: list[HeartbeatInfo] = []
        self.loads: list[LoadInfo] = []
        self.links: list[InstanceLink] = []
        self.detached: list[InstanceLink] = []
        self.open: list[RunCount] = []
        self.paused: dict[tuple[str, str], PauseRecord] = {}
        self.store: Store
        self.trouble: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.knows_no_job = False
        self.held = 0

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
        self, incarnation: str, reports: Sequence[AttemptReport], *, host: str = ""
    ) -> Sequence[AttemptAck]:
        """Record reports and acknowledge them."""
        await self._answer()
        self.reports.extend(reports)
        return [
            AttemptAck(attempt_key=told.attempt_key, acknowledged_seq=told.first_seq + len(told.events) - 1)
            for told in reports
        ]

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

    def holdup(self, run_id: str) -> Reason | None:
        """Return nothing."""
        return None

    def deadline_us(self, run_id: str) -> int | None:
        """Return nothing."""
        return None

    def pause_of(self, job_id: str, host: str, at_us: int | None = None) -> PauseRecord | None:
        """Return the pause of a job or of its host."""
        return self.paused.get(("host", host)) or self.paused.get(("job", job_id))

    def open_runs(self) -> Sequence[RunCount]:
        """Return what the test sets."""
        return self.open

    def why_not_running(self, job_id: str) -> str:
        """Return nothing."""
        return ""


@dataclass(kw_only=True)
class World:
    """Everything of one test."""

    directory: Path
    engine: ScriptedEngine = field(default_factory=ScriptedEngine)
    sessions: SessionRegistry = field(default_factory=lambda: SessionRegistry(reload_seconds=0.3))
    store: Store = field(init=False)
    info: StoreInfo = field(init=False)
    feed: EventFeed = field(init=False)
    catalogue: CatalogueService = field(init=False)
    service: KernelService = field(init=False)
    audit: AuditLog = field(init=False)
    health: Health = field(init=False)
    server: DoorServers = field(init=False)
    channel: grpc.aio.Channel = field(init=False)
    client: Any = field(init=False)
    gateway: Any = field(init=False)

    async def start(self) -> World:
        """Put everything together and serve on a Unix socket."""
        clock = SystemClock()
        self.store = open_store(f"sqlite:///{self.directory}/kernel.db")
        self.engine.store = self.store
        self.info = await self.store.open()
        self.audit = AuditLog(store=self.store, clock=clock)
        self.feed = EventFeed(self.info.last_event_seq)
        self.catalogue = CatalogueService(store=self.store, clock=clock, feed=self.feed)
        await self.catalogue.start()
        self.health = Health(services=SERVICES, store=self.store, ping_seconds=0.02)
        calls = CatalogueCalls(
            engine=self.engine,
            catalogue=self.catalogue,
            sessions=self.sessions,
            store=self.store,
            clock=clock,
            guard=Guard.blind(),
        )
        self.service = KernelService(
            engine=self.engine,
            store=self.store,
            feed=self.feed,
            clock=clock,
            admission=Admission(engine=self.engine, jobs=self.catalogue, sessions=self.sessions),
            catalogue_calls=calls,
            identity=KernelIdentity(version="0", epoch=self.info.epoch, store="sqlite", started_at_us=0),
            guard=Guard.blind(),
        )
        addresses = DoorAddresses(owner=(f"unix:{self.directory}/k.sock",))
        credentials = Credentials(store=self.store, clock=clock)
        services, health = served_services(
            service=self.service,
            gateway=self._gateway(),
            enrolment=Enrolment(
                credentials=credentials, certificates=None, addresses=lambda: addresses, kernel_id="k", clock=clock
            ),
            access=(
                AccessCalls(credentials=credentials, clock=clock),
                AuthorityCalls(None),
                AuditCalls(store=self.store, feed=self.feed, look_seconds=0.02),
            ),
            health=self.health,
        )
        endpoints = self._endpoints()
        self.server = DoorServers(
            addresses=addresses, certificates=None, services=services, health=health, endpoints=lambda _: endpoints
        )
        (self.address,) = (await self.server.start()).owner
        self.health.set_ready()
        self.channel = grpc.aio.insecure_channel(self.address, options=(("grpc.use_local_subchannel_pool", 1),))
        self.client = KernelServiceStub(self.channel)
        self.gateway = HostGatewayServiceStub(self.channel)
        return self

    def _gateway(self) -> HostGateway:
        return HostGateway(
            engine=self.engine,
            manifests=self.catalogue,
            sessions=self.sessions,
            audit=self.audit,
            settings=GatewaySettings(epoch=self.info.epoch, kernel_id=self.info.store_id),
        )

    def _endpoints(self) -> Endpoints:
        return Endpoints(
            identify=owners_door,
            guard=Guard.blind(),
            audit=self.audit,
            on_error=self.health.note,
        )

    async def close(self) -> None:
        """Close everything; no watcher may be left."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.store.close)
            stack.push_async_callback(self.server.stop, None)
            stack.push_async_callback(self.health.stop)
            await self.channel.close()
            await eventually(lambda: self.feed.watcher_count == 0)

    async def apply(self, *transitions: Transition) -> None:
        """Commit transitions and tell the feed."""
        result = await self.store.apply(transitions, at_us=1)
        self.feed.publish(result.events)

    async def queue_run(self, run_id: str = RUN_ID) -> None:
        """Commit a queued run."""
        await self.apply(queue_run(run_id))


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


def catalogue_of(host: str, *job_ids: str) -> HostCatalogue:
    """Return what a host brings: jobs without schedules."""
    jobs = []
    for job_id in job_ids:
        step = StepDefinition(name="a", type="python", callable="m:f")
        definition = JobDefinition(id=job_id, timezone="UTC", steps=(step,), host=host)
        jobs.append(LoadedJob(job_id=job_id, host=host, definition=definition))
    return HostCatalogue(host=host, load=CatalogueLoad(jobs=tuple(jobs)))


def short_directory() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary directory whose path is short enough for a socket."""
    return tempfile.TemporaryDirectory(prefix="nr-")
