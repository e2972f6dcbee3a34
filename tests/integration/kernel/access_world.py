"""Two teams at one kernel: a real engine, catalogue and store, served to callers who show credentials."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
from kernel_process import digest_of, manifest

from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.credentials import Credentials
from nomaflow_kernel.access.doors import Identify, Shown, owners_door
from nomaflow_kernel.access.grants import Target
from nomaflow_kernel.access.guard import Guard, RunFacts
from nomaflow_kernel.access.principals import Principal
from nomaflow_kernel.access.quotas import Quotas
from nomaflow_kernel.access.tokens import TokenOrder
from nomaflow_kernel.catalogue.service import CatalogueService
from nomaflow_kernel.domain.clock import SystemClock
from nomaflow_kernel.engine import Engine, EngineSettings
from nomaflow_kernel.history.access_records import CertificateRecord
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.ids import is_run_id
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import (
    AttemptRecord,
    LogChunkRecord,
    RunRecord,
    RunRequest,
    RunTrigger,
    TriggerKind,
)
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.history.transitions import AppendLog, FinishRun, OpenAttempt, QueueRun, StartRun, Transition
from nomaflow_kernel.hosts import GatewaySettings, HostGateway, SessionRegistry
from nomaflow_kernel.rpc import Admission, CatalogueCalls, Endpoints, Health, KernelIdentity, KernelService, listen
from nomaflow_kernel.rpc.access_calls import AccessCalls
from nomaflow_kernel.rpc.catalogue_calls import target_of
from nomaflow_kernel.rpc.endpoints import methods_of
from nomaflow_kernel.rpc.server import _GATEWAY as GATEWAY
from nomaflow_kernel.rpc.server import _HEALTH as HEALTH
from nomaflow_kernel.rpc.server import _KERNEL as KERNEL
from nomaflow_kernel.rpc.server import bare_server
from nomaflow_kernel.store import SqlStore, open_store
from nomaflow_project.models.settings_file import QuotaSection

ACCESS = access.DESCRIPTOR.services_by_name["AccessService"]
SECRET = "hunter2-is-the-password"  # what nobody without the verb logs may see
SERIAL = "ab" * 20
RUN_A, RUN_B, NO_RUN = ("run_" + letter * 26 for letter in "123")
ROLES = {"nightwatch": ["read *", "cancel job:b.*"]}
GRANTS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "admin": ("user", ("admin",), ()),
    "ann": ("user", ("operator host:teama",), ()),
    "ben": ("user", ("viewer host:teamb",), ()),
    "one": ("service", (), ("trigger job:a.one",)),
}
"""Name → kind, roles, grants."""


def jobs(team: str) -> dict[str, Any]:
    """Return the jobs of a team; their params and arguments hold a secret."""
    step = {"type": "python", "name": "s", "callable": "team.code:work", "op_kwargs": {"key": SECRET}}
    return {
        "jobs": [
            {
                "id": f"{team}.{name}",
                "overlap": "allow",
                "params": {"password": SECRET},
                "tags": [name],
                "steps": [step],
            }
            for name in ("one", "two")
        ]
    }


def ended_run(run_id: str, team: str) -> list[Transition]:
    """Return the transitions of a run that failed with a secret in everything that its code wrote."""
    job_id, host = f"{team}.one", f"team{team}"
    record = RunRecord(
        run_id=run_id, job_id=job_id, host=host, state=RunState.QUEUED,
        trigger=RunTrigger(kind=TriggerKind.API, by=f"somebody-of-{team}", at_us=1), definition_digest=f"sha256:{team}",
        request=RunRequest(params={"password": SECRET}), queued_at_us=1,
    )  # fmt: skip
    attempt = AttemptRecord(
        run_id=run_id, step_index=0, step="s", attempt=1, state=AttemptState.FAILED, error=SECRET,
        reason=Reason("step_failed", SECRET), host=host, incarnation="i", extras_json=f'{{"k":"{SECRET}"}}'.encode(),
        progress_json=f'{{"done":1,"total":2,"message":"{SECRET}"}}',
    )  # fmt: skip
    chunk = LogChunkRecord(
        run_id=run_id, step="s", attempt=1, first_seq=1, line_count=1, first_at_us=1, last_at_us=1, levels=0b100,
        codec=1, body=b"",
    )  # fmt: skip
    definition = f'{{"id":"{job_id}","params":{{"password":"{SECRET}"}},"steps":[{{"name":"s","callable":"m:f"}}]}}'
    failed = Reason("step_failed", SECRET)
    return [
        QueueRun(run=record, definition_json=definition),
        StartRun(run_id=run_id, job_id=job_id, at_us=1),
        OpenAttempt(job_id=job_id, at_us=1, attempt=attempt),
        AppendLog(step_index=0, chunk=chunk),
        FinishRun(run_id=run_id, job_id=job_id, state=RunState.FAILED, at_us=2, error=SECRET, reason=failed),
    ]


class Absent:
    """Answers the calls of AccessService that other parts of the kernel serve."""

    async def get_authority(self, *_: object) -> access.GetAuthorityResponse:
        """Return nothing."""
        return access.GetAuthorityResponse()

    async def renew_authority(self, *_: object) -> access.RenewAuthorityResponse:
        """Return nothing."""
        return access.RenewAuthorityResponse()

    async def read_audit(self, *_: object) -> AsyncIterator[access.ReadAuditResponse]:
        """Yield one block."""
        yield access.ReadAuditResponse()

    async def verify_audit(self, *_: object) -> access.VerifyAuditResponse:
        """Return nothing."""
        return access.VerifyAuditResponse()


@dataclass(kw_only=True)
class AccessWorld:
    """Everything of one test: two doors of one kernel, and a channel and metadata for each principal."""

    directory: Path
    quotas: QuotaSection = field(default_factory=lambda: QuotaSection(calls_per_second=1e6, triggers_per_second=1e6))
    tokens: dict[str, str] = field(default_factory=dict)
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    async def start(self, stack: AsyncExitStack) -> AccessWorld:
        """Start a kernel with two teams, a finished run of each, and a credential for each principal."""
        self.clock = SystemClock()
        self.store: SqlStore = open_store(f"sqlite:///{self.directory}/kernel.db", holder="test")
        self.info = await self.store.open()
        stack.push_async_callback(self.store.close)
        self.feed = EventFeed(self.info.last_event_seq)
        self.catalogue = CatalogueService(store=self.store, clock=self.clock, feed=self.feed)
        await self.catalogue.start()
        for team in ("a", "b"):
            body = manifest(f"team{team}", jobs(team))
            await self.catalogue.introduce(f"team{team}", digest=digest_of(body), manifest=body, explicit=True)
            await self.apply(*ended_run({"a": RUN_A, "b": RUN_B}[team], team))
        self.engine = Engine(
            store=self.store, info=self.info, clock=self.clock, jobs=self.catalogue, feed=self.feed,
            settings=EngineSettings(max_waiting_of_author=self.quotas.queued_runs),
        )  # fmt: skip
        await self.engine.start()
        stack.push_async_callback(self.engine.stop)
        self.sessions = SessionRegistry(reload_seconds=0.3)
        self.guard = Guard(
            job=self._target_of_job, jobs=lambda: map(target_of, self.catalogue.jobs()), runs=self._facts_of_runs,
            host=lambda name: any(each.host == name for each in self.catalogue.hosts()),
            quotas=Quotas(limits=self.quotas, clock=self.clock),
        )  # fmt: skip
        self.credentials = Credentials(
            store=self.store, clock=self.clock, roles=ROLES, withdrawn=self.directory / "withdrawn"
        )
        await self.credentials.start()
        stack.push_async_callback(self.credentials.stop)
        self.health = Health(services=(), store=self.store)
        self.health.set_ready()
        stack.push_async_callback(self.health.stop)
        self.addresses = {name: await self._serve(stack, name) for name in ("owner", "others")}
        stack.push_async_callback(self._close_channels)
        stack.callback(self.feed.close)
        for name, (kind, roles, grants) in GRANTS.items():
            await self.join(name, kind=kind, roles=roles, grants=grants)
        await self.credentials.keep_certificate(
            CertificateRecord(
                serial=SERIAL, host="teama", issued_at_us=1, expires_at_us=2**60, issued_to="", token_id=""
            )
        )
        return self

    async def join(
        self, name: str, *, kind: str = "user", roles: Sequence[str] = (), grants: Sequence[str] = ()
    ) -> str:
        """Give a principal a token; return the token's id."""
        order = TokenOrder(kind=kind, name=name, roles=tuple(roles), grants=tuple(grants))
        record, self.tokens[name] = await self.credentials.create(order, created_by="owner")
        return record.token_id

    async def apply(self, *transitions: Transition) -> None:
        """Commit transitions and tell the feed."""
        result = await self.store.apply(transitions, at_us=1)
        self.feed.publish(result.events)

    def channel(self, principal: str) -> grpc.aio.Channel:
        """Return a channel to the door that a principal uses."""
        if principal not in self.channels:
            address = self.addresses["owner" if principal == "owner" else "others"]
            options = (("grpc.use_local_subchannel_pool", 1),)
            self.channels[principal] = grpc.aio.insecure_channel(address, options=options)
        return self.channels[principal]

    def metadata(self, principal: str) -> tuple[tuple[str, str], ...]:
        """Return what a principal shows of itself."""
        if principal in self.tokens:
            return (("authorization", f"Bearer {self.tokens[principal]}"),)
        return (("authorization", f"Certificate teama {SERIAL}"),) if principal == "host" else ()

    async def _close_channels(self) -> None:
        for channel in self.channels.values():
            await channel.close()

    async def _serve(self, stack: AsyncExitStack, name: str) -> str:
        calls = CatalogueCalls(
            engine=self.engine, catalogue=self.catalogue, sessions=self.sessions, store=self.store, clock=self.clock,
            guard=self.guard,
        )  # fmt: skip
        service = KernelService(
            engine=self.engine, store=self.store, feed=self.feed, clock=self.clock, guard=self.guard,
            admission=Admission(engine=self.engine, jobs=self.catalogue, sessions=self.sessions),
            catalogue_calls=calls,
            identity=KernelIdentity(version="0", epoch=self.info.epoch, store="sqlite", started_at_us=0),
        )  # fmt: skip
        gateway = HostGateway(
            engine=self.engine, manifests=self.catalogue, sessions=self.sessions,
            settings=GatewaySettings(epoch=self.info.epoch),
        )  # fmt: skip
        self.service = service
        access_calls = AccessCalls(
            credentials=self.credentials, clock=self.clock, join_string=lambda _, secret: f"nfj1.{secret}"
        )
        server = bare_server(
            services={
                KERNEL: methods_of(KERNEL, service, calls),
                GATEWAY: methods_of(GATEWAY, gateway),
                ACCESS: methods_of(ACCESS, access_calls, Absent()),
            },
            health=methods_of(HEALTH, self.health),
            endpoints=Endpoints(
                identify=self._identify(name), guard=self.guard, audit=AuditLog(store=self.store, clock=self.clock),
                on_error=self.health.note, readmit_seconds=0.1,
            ),
        )  # fmt: skip
        address = listen(server, f"unix:{self.directory}/{name}.sock", None)
        await server.start()
        stack.push_async_callback(server.stop, None)
        return address

    def _identify(self, door: str) -> Identify:
        def proven(shown: Shown) -> Principal:
            kind, _, rest = shown.authorization.partition(" ")
            if kind == "Certificate":  # stands in for the handshake
                host, serial = rest.split()
                return self.credentials.of_certificate(host=host, serial=serial)
            return self.credentials.of_token(shown.authorization)

        return owners_door if door == "owner" else proven

    def _target_of_job(self, job_id: str) -> Target | None:
        job = self.catalogue.job(job_id)
        return None if job is None else target_of(job)

    async def _facts_of_runs(self, run_ids: Sequence[str]) -> Mapping[str, RunFacts]:
        found = {}
        for each in await self.store.run_subjects([run_id for run_id in run_ids if is_run_id(run_id)]):
            job = self._target_of_job(each.job_id)
            tags = () if job is None else job.tags
            found[each.run_id] = (Target(job_id=each.job_id, host=each.host, tags=tags), each.author)
        return found


def short_directory() -> tempfile.TemporaryDirectory[str]:
    """Return a directory whose path is short enough for a socket."""
    return tempfile.TemporaryDirectory(prefix="na-")
