"""Two teams at one kernel process: callers at its doors, each with the credential of a principal of its own."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
from google.protobuf import message_factory
from kernel_process import DEADLINE, ScriptedHost, all_detached, log, manifest, started, terminal

from doors import Doors, HostIdentity, create_token, doors_of, join_as_host, owner_channel, tls_channel
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import CallOutcome, Finished, Progress
from nomaflow_api.v1.sealing import seal
from real_system import Running, launch_kernel
from waiting import eventually

SECRET = "hunter2-is-the-password"  # what nobody without the verb logs may see
NO_RUN = "run_" + "3" * 26
KINDS = {"user": access.TOKEN_KIND_USER, "service": access.TOKEN_KIND_SERVICE, "host": access.TOKEN_KIND_HOST}
GRANTS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "admin": ("user", ("admin",), ()),
    "ann": ("user", ("operator host:teama",), ()),
    "ben": ("user", ("viewer host:teamb",), ()),
    "one": ("service", (), ("trigger job:a.one",)),
}
"""Name → kind, roles, grants."""

_SETTINGS = '[access.roles]\nnightwatch = ["read *", "cancel job:b.*"]\n[access.quotas]\n'
_WIDE = "calls_per_second = 1e6\ntriggers_per_second = 1e6\n"


@contextmanager
def kernel_of_two_teams(quotas: str = _WIDE) -> Iterator[Running]:
    """Start a kernel with all doors on free loopback ports.

    :param quotas: keys of ``[access.quotas]``
    """
    project = Path(tempfile.mkdtemp(prefix="na-"))
    (project / "nomaflow.toml").write_text(_SETTINGS + quotas)
    process = launch_kernel(project, "--address", "127.0.0.1:0", log_file=project / "kernel.log")
    try:
        yield process
    finally:
        process.kill()
        shutil.rmtree(project)


def jobs(team: str) -> dict[str, Any]:
    """Return the jobs of a team; their params and arguments hold a secret, and the addresses of their checks."""
    step = {"type": "python", "name": "s", "callable": "team.code:work", "op_kwargs": {"key": SECRET}}
    return {
        "jobs": [
            {
                "id": f"{team}.{name}",
                "overlap": "allow",
                "params": {"password": SECRET},
                "alerts": {"ping_url": f"https://cronitor.link/p/{SECRET}/{name}"},
                "tags": [name],
                "steps": [step],
            }
            for name in ("one", "two")
        ]
    }


@dataclass(kw_only=True)
class AccessWorld:
    """The callers of one test. Both teams' hosts are attached, and each has a run that failed.

    :param runs: team → its run, in everything that its code wrote there is a secret
    """

    running: Running
    tokens: dict[str, str] = field(default_factory=dict)
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)
    hosts: dict[str, ScriptedHost] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)

    async def start(self, stack: AsyncExitStack) -> AccessWorld:
        """Attach both teams' hosts, have a run of each fail, and give each principal a credential."""
        self.doors: Doors = doors_of(self.running)
        stack.push_async_callback(self._close)
        for team in ("a", "b"):
            await self._attach(team)
            self.runs[team] = await self.failed_run(team)
        for name, (kind, roles, grants) in GRANTS.items():
            await self.join(name, kind=kind, roles=roles, grants=grants)
        self.identity: HostIdentity = await self._identity("teamc")
        return self

    async def join(
        self, name: str, *, kind: str = "user", roles: Sequence[str] = (), grants: Sequence[str] = ()
    ) -> str:
        """Give a principal a token; return the token's id."""
        made = await self.as_("owner")("CreateToken", kind=KINDS[kind], name=name, roles=roles, grants=grants)
        self.tokens[name] = made.secret
        return str(made.token.token_id)

    async def forget(self, team: str) -> None:
        """Let the host of a team leave, and forget it once the kernel has noticed."""
        await self.hosts[team].leave()

        async def forgotten() -> bool:
            return await self.as_("owner").code("ForgetHost", host=f"team{team}") is grpc.StatusCode.OK

        await eventually(forgotten)

    async def failed_run(self, team: str) -> str:
        """Return a run of a team that failed with a secret in everything that its code wrote."""
        host = self.hosts[team]
        params = json.dumps({"password": SECRET}).encode()
        run_id = (await self.as_("owner")("TriggerRun", job_id=f"{team}.one", params_json=params)).run_id
        order = await host.dispatched()
        while not order.attempt_key.startswith(run_id):
            order = await host.dispatched()
        outcome = CallOutcome(
            state=FinishedState.FAILED, reason_code="step_failed", reason=SECRET, error=SECRET,
            extras_json=json.dumps({"k": SECRET}).encode(), has_result=True,
        )  # fmt: skip
        ended = Finished(at_us=2, state=outcome.state, outcome=seal(outcome))
        progress = Progress(at_us=1, done=1, total=2, message=SECRET)
        await host.report(order.attempt_key, 1, started(), log(SECRET), progress, ended)
        await terminal(KernelServiceStub(self.channel("owner")), run_id)
        return run_id

    def as_(self, principal: str) -> As:
        """Return the calls of a principal."""
        return As(self, principal)

    def channel(self, principal: str) -> grpc.aio.Channel:
        """Return a channel to the door that a principal uses."""
        if principal not in self.channels:
            if principal == "owner":
                self.channels[principal] = owner_channel(self.doors)
            elif principal == "host":
                self.channels[principal] = tls_channel(self.doors.hosts, self.doors.authorities, identity=self.identity)
            else:
                self.channels[principal] = tls_channel(self.doors.clients, self.doors.authorities)
        return self.channels[principal]

    def metadata(self, principal: str) -> tuple[tuple[str, str], ...]:
        """Return what a principal shows of itself with each call."""
        return (("authorization", f"Bearer {self.tokens[principal]}"),) if principal in self.tokens else ()

    async def _attach(self, team: str) -> None:
        host = self.hosts[team] = ScriptedHost(name=f"team{team}")
        await host.attach(self.channel("owner"), heartbeat={"generation": 1, "manifest_digest": "sha256:" + "0" * 64})
        await host.introduce(manifest(f"team{team}", jobs(team)), explicit=True)
        await eventually(lambda: self._knows(f"{team}.one"))

    async def _knows(self, job_id: str) -> bool:
        found = (await self.as_("owner")("ListJobs")).jobs
        return any(job.job_id == job_id and job.valid for job in found)

    async def _identity(self, name: str) -> HostIdentity:
        text = await create_token(self.doors, kind=access.TOKEN_KIND_HOST, name=name)
        identity, _ = await join_as_host(self.doors, JoinString.decode(text).secret)
        return identity

    async def _close(self) -> None:
        for host in self.hosts.values():
            await host.leave()
        for channel in self.channels.values():
            await channel.close()
        await eventually(lambda: all_detached(self.running))


class As:
    """The calls of one principal."""

    def __init__(self, world: AccessWorld, principal: str) -> None:
        self._metadata = world.metadata(principal)
        self._kernel: Any = KernelServiceStub(world.channel(principal))
        self._access: Any = AccessServiceStub(world.channel(principal))

    async def __call__(self, name: str, /, **fields: Any) -> Any:
        """Make a unary call."""
        stub, module = (self._kernel, kernel) if hasattr(self._kernel, name) else (self._access, access)
        service = "KernelService" if module is kernel else "AccessService"
        method = module.DESCRIPTOR.services_by_name[service].methods_by_name[name]
        request = message_factory.GetMessageClass(method.input_type)(**fields)
        return await getattr(stub, name)(request, metadata=self._metadata, timeout=DEADLINE)

    async def code(self, name: str, /, **fields: Any) -> grpc.StatusCode:
        """Make a unary call and return its status."""
        try:
            await self(name, **fields)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def stream(self, name: str, /, **fields: Any) -> Any:
        """Open a stream."""
        return getattr(self._kernel, name)(getattr(kernel, f"{name}Request")(**fields), metadata=self._metadata)
