"""A real kernel process, and a host that says exactly what a test wants it to say."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import shutil
import signal
import tempfile
import uuid
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import (
    AttemptAck,
    AttemptReport,
    CallOutcome,
    DispatchOrder,
    Event,
    Finished,
    InventoryLine,
    LogChunk,
    Started,
)
from nomaflow_api.v1.log_lines import encode_line, pack_lines
from nomaflow_api.v1.sealing import open_acks, open_dispatch, seal
from nomaflow_host.session.report_streams import ReportStreams
from real_system import Running, address_of, launch_kernel, run_to_end
from waiting import PATIENCE, eventually

DEADLINE = 60.0

JOBS: dict[str, Any] = {
    "jobs": [
        {"id": "one", "overlap": "allow", "steps": [{"type": "python", "callable": "team.code:work"}]},
        {
            "id": "two",
            "overlap": "allow",
            "params": {"apps_id": 10},
            "steps": [
                {"type": "python", "name": "first", "callable": "team.code:work", "op_kwargs": {"day": 3}},
                {"type": "python", "name": "second", "callable": "team.code:work"},
            ],
        },
        {"id": "broken", "steps": [{"type": "python", "callable": "no reference"}]},
    ]
}


def manifest(host: str = "team", jobs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a manifest that offers one callable and some jobs."""
    return {
        "manifest_version": 1,
        "host": host,
        "callables": {"team.code:work": {"kind": "async", "parameters": [], "catch_all": "kwargs", "error": None}},
        "modules": {},
        "step_types": [],
        "job_files": [{"path": "jobs.toml", "tree": JOBS if jobs is None else jobs, "error": None}],
        "problems": [],
    }


async def ended(*flags: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a kernel that is expected to end by itself; return its exit code and its output."""
    return await asyncio.to_thread(run_to_end, "nomaflow_kernel", *flags, environ=environ)


@dataclass(kw_only=True)
class KernelProcess:
    """A kernel process on a project, started again as often as a test wants.

    :param side: the beginning of its command, such as a shell that sets limits
    """

    project: Path
    flags: Sequence[str] = ()
    side: Sequence[str] = ()
    environ: dict[str, str] = field(default_factory=dict)
    process: Running | None = None
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    async def start(self) -> KernelProcess:
        """Start it and wait until it serves."""
        assert self.process is None
        start = functools.partial(
            launch_kernel, log_file=self.project / "kernel.log", environ=self.environ, side=self.side
        )
        self.process = await asyncio.to_thread(start, self.project, *self.flags)
        return self

    @property
    def address(self) -> str:
        """The address it tells."""
        return address_of(self.project)

    @property
    def log(self) -> str:
        """The process's output so far."""
        return (self.project / "kernel.log").read_text()

    async def kill(self) -> None:
        """Kill the process with SIGKILL."""
        process, self.process = self.process, None
        assert process is not None
        await asyncio.to_thread(process.kill)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop and return its exit code."""
        process, self.process = self.process, None
        assert process is not None
        return await asyncio.to_thread(process.stop, number)

    def channel(self) -> grpc.aio.Channel:
        """Return a new channel to it."""
        options = (("grpc.use_local_subchannel_pool", 1),)
        channel = grpc.aio.insecure_channel(self.address, options=options)
        self.channels.append(channel)
        return channel

    def client(self) -> Any:
        """Return a client of KernelService."""
        return KernelServiceStub(self.channel())

    async def disconnect(self) -> None:
        """Close the connections to it."""
        for channel in self.channels:
            await channel.close()

    async def close(self) -> None:
        """Leave nothing behind."""
        await self.disconnect()
        if self.process is not None:
            await self.kill()


@contextmanager
def lasting_kernel(*flags: str) -> Iterator[Running]:
    """Start a kernel for many tests, each of which connects to it anew."""
    project = Path(tempfile.mkdtemp(prefix="nk-"))
    kernel = launch_kernel(project, *flags, log_file=project / "kernel.log")
    try:
        yield kernel
    finally:
        kernel.kill()
        shutil.rmtree(project)


def all_detached(kernel: Running) -> bool:
    """Return whether a kernel has noticed the end of every session, so that the next test has it alone."""
    return kernel.log.count(" attached: instance ") == kernel.log.count(" detached: instance ")


class ScriptedHost:
    """A host instance that does what the test says. It keeps its incarnation over many sessions."""

    def __init__(self, *, name: str = "team", incarnation: str = "") -> None:
        self.name = name
        self.incarnation = incarnation or uuid.uuid4().hex
        self.epoch = 0
        self.welcome: gateway.Welcome | None = None
        self.commands: asyncio.Queue[gateway.Command] = asyncio.Queue()
        self.acks: asyncio.Queue[int] = asyncio.Queue()
        self.answers: asyncio.Queue[gateway.ReportAnswer] = asyncio.Queue()
        self._outgoing: asyncio.Queue[gateway.AttachRequest | None] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None
        self._stub: Any = None
        self._reports: Any = None
        self._call: Any = None

    async def attach(
        self, channel: grpc.aio.Channel, *, inventory: Sequence[InventoryLine] = (), **hello: Any
    ) -> gateway.Welcome:
        """Open a session and return the welcome; introduce the manifest if it is wanted.

        If the kernel refuses while the hello is still being written, gRPC's client may say INTERNAL instead of what the
        kernel said; then it is asked again.
        """
        for _ in range(20):
            try:
                return await self._attach(channel, inventory=inventory, **hello)
            except grpc.aio.AioRpcError as error:
                if "SendMessageOperation" not in (error.debug_error_string() or ""):
                    raise
        raise AssertionError("gRPC could not write a hello in twenty tries")

    async def _attach(
        self, channel: grpc.aio.Channel, *, inventory: Sequence[InventoryLine], **hello: Any
    ) -> gateway.Welcome:
        self._stub = HostGatewayServiceStub(channel)
        self._reports = ReportStreams(self._stub.StreamReports)
        self._outgoing = asyncio.Queue()
        self._call = self._stub.Attach(self._requests(self._outgoing))
        told: dict[str, Any] = {
            "protocol_min": 1, "protocol_max": 1, "host": self.name, "incarnation": self.incarnation,
            "machine": "here", "pid": os.getpid(), "version": "0", "epoch_seen": self.epoch,
            "heartbeat": {"generation": 1, "manifest_digest": digest_of(manifest(self.name))},
            "max_async": 50, "max_sync": 5,
        }  # fmt: skip
        told.update(hello)
        await self.say(gateway.AttachRequest(hello=gateway.Hello(**told, inventory=seal(inventory))))
        first = await self._call.read()
        if first is grpc.aio.EOF:
            await self._call
            raise AssertionError(f"no welcome: {await self._call.code()} {await self._call.details()}")
        self.welcome = first.welcome
        self.epoch = first.welcome.epoch
        self._reader = asyncio.create_task(self._read())
        if first.welcome.manifest_wanted:
            await self.introduce(manifest(self.name))
        return first.welcome

    @staticmethod
    async def _requests(queue: asyncio.Queue[gateway.AttachRequest | None]) -> AsyncIterator[gateway.AttachRequest]:
        while (request := await queue.get()) is not None:
            yield request

    async def say(self, request: gateway.AttachRequest) -> None:
        """Send one message on the session."""
        await self._outgoing.put(request)

    async def _read(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            while (message := await self._call.read()) is not grpc.aio.EOF:
                for command in message.commands.commands:
                    if command.HasField("check"):  # it takes whatever values there are
                        taken = gateway.CheckResult(command_seq=command.command_seq, settled=True, checked=True)
                        await self.say(gateway.AttachRequest(check_result=taken))
                    else:
                        await self.commands.put(command)
                for answer in message.commands.answers:
                    self._reports.take_answer(answer)
                    await self.answers.put(answer)
                if message.HasField("heartbeat_ack"):
                    await self.acks.put(message.heartbeat_ack.sent_at_us)

    async def ended(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the session to end and return its status."""
        async with asyncio.timeout(PATIENCE):
            assert self._reader is not None
            await self._reader
            return await self._call.code(), await self._call.details()

    async def dispatched(self) -> DispatchOrder:
        """Return the next dispatch."""
        async with asyncio.timeout(PATIENCE):
            while True:
                command = await self.commands.get()
                if command.HasField("dispatch"):
                    return open_dispatch(command.dispatch)

    async def introduce(self, body: dict[str, Any], *, explicit: bool = False) -> gateway.IntroduceManifestResponse:
        """Introduce a manifest."""
        raw = json.dumps(body, sort_keys=True).encode()
        return await self._stub.IntroduceManifest(
            gateway.IntroduceManifestRequest(
                host=self.name,
                incarnation=self.incarnation,
                digest=digest_of(body),
                manifest_json_zlib=zlib.compress(raw),
                explicit=explicit,
            ),
            timeout=DEADLINE,
        )

    async def report(self, key: str, first_seq: int, *events: Event | bytes, epoch: int | None = None) -> AttemptAck:
        """Report events of one attempt and return the answer."""
        sealed = tuple(event if isinstance(event, bytes) else seal(event) for event in events)
        request = gateway.StreamReportsRequest(
            host=self.name,
            incarnation=self.incarnation,
            epoch=self.epoch if epoch is None else epoch,
            attempts=seal([AttemptReport(attempt_key=key, first_seq=first_seq, events=sealed)]),
        )
        return open_acks(await self._reports.deliver(request, timeout=DEADLINE))[0]

    async def leave(self) -> None:
        """End the session from the host's side."""
        await self._outgoing.put(None)
        if self._call is not None:
            self._call.cancel()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


def digest_of(body: dict[str, Any]) -> str:
    """Return the digest of a manifest."""
    return "sha256:" + hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def started(pid: int = 4711) -> Started:
    """Return the event that the callable is about to be called."""
    return Started(at_us=1, worker_pid=pid, generation=1)


def log(*texts: str, level: int = 20) -> LogChunk:
    """Return a chunk of log lines."""
    return pack_lines([encode_line(level, 1_000_000, "team", text) for text in texts])


def finished(rows: int | None = 7, extras: str = "") -> Finished:
    """Return the event that the callable has returned."""
    outcome = CallOutcome(
        state=FinishedState.SUCCEEDED, rows_affected=rows, extras_json=extras.encode(), has_result=True
    )
    return Finished(at_us=2, state=outcome.state, outcome=seal(outcome))


async def terminal(client: Any, run_id: str) -> run_pb2.Run:
    """Wait until a run is terminal and return it."""

    async def look() -> run_pb2.Run | None:
        run = (await client.GetRun(kernel.GetRunRequest(run_id=run_id), timeout=DEADLINE)).run
        return run if run.state > run_pb2.RUN_STATE_RUNNING else None

    found: run_pb2.Run = await eventually(look)
    return found


async def lines_of(client: Any, run_id: str, **query: Any) -> list[tuple[int, str]]:
    """Return number and text of every line of a run's log."""
    call = client.ReadLogs(kernel.ReadLogsRequest(run_id=run_id, **query), timeout=DEADLINE)
    return [(line.seq, line.message.decode()) async for block in call for line in block.lines]
