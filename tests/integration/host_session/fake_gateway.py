"""A scriptable kernel side of HostGatewayService: a real gRPC server on a Unix socket, its faults told by the test."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.host_gateway_service_pb2_grpc import (
    HostGatewayServiceServicer,
    add_HostGatewayServiceServicer_to_server,
)
from nomaflow_api.v1.letter_words import AckStatus, VerdictAction
from nomaflow_api.v1.letters import (
    AttemptAck,
    AttemptOrder,
    AttemptReport,
    DispatchOrder,
    Event,
    Finished,
    InventoryLine,
    LogChunk,
    Verdict,
)
from nomaflow_api.v1.sealing import open_event, open_inventory, open_reports, seal
from waiting import PATIENCE

__all__ = ["FakeGateway", "Journal", "Session"]


class Journal:
    """The data that the kernel has committed: it outlives the server, like a store."""

    def __init__(self) -> None:
        self.events: dict[str, list[Event]] = {}
        self.duplicates = 0
        self.manifests: list[pb.IntroduceManifestRequest] = []
        self.changed = asyncio.Condition()

    def acked(self, key: str) -> int:
        return len(self.events.get(key, []))

    def kinds(self, key: str) -> list[str]:
        return [type(event).__struct_config__.tag for event in self.events.get(key, [])]  # type: ignore[misc]  # a text

    def end_of(self, key: str) -> Finished:
        """Return the last event of an attempt, which must be its end."""
        end = self.events[key][-1]
        assert isinstance(end, Finished)
        return end

    def log_bodies(self, key: str) -> list[bytes]:
        return [event.body for event in self.events.get(key, []) if isinstance(event, LogChunk)]

    def commit(self, report: AttemptReport) -> AttemptAck:
        """Commit what follows on without a gap, as the kernel does."""
        mine = self.events.setdefault(report.attempt_key, [])
        if report.first_seq > len(mine) + 1:
            return AttemptAck(
                attempt_key=report.attempt_key, acknowledged_seq=len(mine), status=AckStatus.GAP, detail="gap"
            )
        known = len(mine) + 1 - report.first_seq
        self.duplicates += min(known, len(report.events))
        mine.extend(map(open_event, report.events[known:]))
        return AttemptAck(attempt_key=report.attempt_key, acknowledged_seq=len(mine))

    async def until(self, predicate: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait until something about the journal holds."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(predicate)

    async def notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()


class Session:
    """One Attach stream as the kernel sees it."""

    def __init__(self, hello: pb.Hello) -> None:
        self.hello = hello
        self.inventory = open_inventory(hello.inventory) if hello.inventory else []
        self.heartbeats: list[pb.Heartbeat] = []
        self.reload_results: list[pb.ReloadResult] = []
        self.loads: list[pb.LoadState] = []
        self.outgoing: asyncio.Queue[pb.AttachResponse | None] = asyncio.Queue()
        self.seq = 0
        self.host_left = False

    @property
    def loaded(self) -> bool:
        """True once the first load of the host's life is over."""
        return not self.hello.heartbeat.loading or any(not beat.loading for beat in self.heartbeats)

    def send(self, **command: Any) -> int:
        """Send one command."""
        self.seq += 1
        batch = pb.CommandBatch(commands=[pb.Command(command_seq=self.seq, **command)])
        self.outgoing.put_nowait(pb.AttachResponse(commands=batch))
        return self.seq

    def dispatch(self, key: str, *, epoch: int = 1, **fields: Any) -> int:
        """Dispatch one attempt."""
        run, step, attempt = key.split("/")
        inside = {name: value for name, value in fields.items() if name in AttemptOrder.__struct_fields__}
        outside = {name: value for name, value in fields.items() if name in DispatchOrder.__struct_fields__}
        order = AttemptOrder(
            attempt_key=key, run_id=run, job_id="job", step=step, attempt=int(attempt),
            **{"callable": "m:f", **inside},
        )  # fmt: skip
        envelope = DispatchOrder(attempt_key=key, epoch=epoch, **{"callable": "m:f", "order": seal(order), **outside})
        return self.send(dispatch=seal(envelope))

    def end(self) -> None:
        """End the stream from the kernel's side."""
        self.outgoing.put_nowait(None)


class FakeGateway(HostGatewayServiceServicer):
    """A kernel that does what a test tells it.

    :param journal: what it has committed; give the same one to its successor
    """

    def __init__(self, path: Path, *, journal: Journal | None = None, epoch: int = 1, **welcome: Any) -> None:
        self.path = path
        self.journal = journal or Journal()
        self.epoch = epoch
        self.welcome: dict[str, Any] = {"heartbeat_interval_ms": 100, "lease_ms": 20_000, "grace_ms": 60_000, **welcome}
        self.sessions: list[Session] = []
        self.verdicts: Callable[[InventoryLine], Verdict] = self._keep
        self.on_report: Callable[[pb.StreamReportsRequest, Any], Awaitable[bytes | None]] | None = None
        self.on_attach: Callable[[pb.Hello, Any], Awaitable[None]] | None = None
        self.on_introduce: Callable[[pb.IntroduceManifestRequest, Any], Awaitable[None]] | None = None
        self.answer_heartbeats = True
        self.known_digests: set[str] = set()
        self.metadata: list[dict[str, str]] = []
        self.kernel_id = ""
        self.on_renew: Callable[[pb.RenewCertificateRequest, Any], Awaitable[pb.RenewCertificateResponse]] | None = None
        self.reports = self.report_streams = 0
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str = "", credentials: grpc.ServerCredentials | None = None) -> FakeGateway:
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        add_HostGatewayServiceServicer_to_server(self, self._server)
        if credentials is not None:
            self._server.add_secure_port(address, credentials)
        else:
            self._server.add_insecure_port(address or f"unix:{self.path}")
        await self._server.start()
        return self

    async def kill(self) -> None:
        """Go away at once, with calls in flight."""
        for session in self.sessions:
            session.end()
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        self.path.unlink(missing_ok=True)

    async def session(self, number: int = 1, seconds: float = PATIENCE) -> Session:
        """Wait for the session of that number, and until its host has loaded its code, or failed to."""
        await self.journal.until(lambda: len(self.sessions) >= number and self.sessions[number - 1].loaded, seconds)
        return self.sessions[number - 1]

    async def Attach(  # type: ignore[override]  # noqa: N802 - the stub's name, for both kinds of server
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: Any
    ) -> AsyncIterator[pb.AttachResponse]:
        first = await anext(request_iterator)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.on_attach is not None:
            await self.on_attach(first.hello, context)
        session = Session(first.hello)
        yield pb.AttachResponse(
            welcome=pb.Welcome(
                protocol=1,
                epoch=self.epoch,
                kernel_id=self.kernel_id,
                manifest_wanted=first.hello.heartbeat.manifest_digest not in {"", *self.known_digests},
                verdicts=seal([self.verdicts(held) for held in session.inventory]),
                **self.welcome,
            )
        )
        self.sessions.append(session)
        await self.journal.notify()
        reader = asyncio.create_task(self._read(request_iterator, session))
        try:
            while (message := await session.outgoing.get()) is not None:
                yield message
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[pb.AttachRequest], session: Session) -> None:
        async for request in requests:
            if request.HasField("heartbeat"):
                session.heartbeats.append(request.heartbeat)
                if self.answer_heartbeats:
                    ack = pb.HeartbeatAck(sent_at_us=request.heartbeat.sent_at_us)
                    session.outgoing.put_nowait(pb.AttachResponse(heartbeat_ack=ack))
            elif request.HasField("reload_result"):
                session.reload_results.append(request.reload_result)
            elif request.HasField("load_state"):
                session.loads.append(request.load_state)
            await self.journal.notify()
        session.host_left = True
        session.end()
        await self.journal.notify()

    async def _report(self, request: pb.StreamReportsRequest, context: Any) -> bytes:
        """Return the acks of a report."""
        self.reports += 1
        assert request.ByteSize() <= 2 << 20
        if self.on_report is not None:
            answer = await self.on_report(request, context)
            if answer is not None:
                await self.journal.notify()
                return answer
        acks = seal([self.journal.commit(each) for each in open_reports(request.attempts)])
        await self.journal.notify()
        return acks

    async def StreamReports(  # type: ignore[override]  # noqa: N802 - as above
        self, request_iterator: AsyncIterator[pb.StreamReportsRequest], context: Any
    ) -> pb.StreamReportsResponse:
        self.report_streams += 1
        async for request in request_iterator:
            answer = pb.ReportAnswer(number=request.number, acks=await self._report(request, context))
            batch = pb.CommandBatch(answers=[answer])
            self._session_of(request.incarnation).outgoing.put_nowait(pb.AttachResponse(commands=batch))
        return pb.StreamReportsResponse()

    def _session_of(self, incarnation: str) -> Session:
        return next(each for each in reversed(self.sessions) if each.hello.incarnation == incarnation)

    async def IntroduceManifest(  # type: ignore[override]  # noqa: N802 - as above
        self, request: pb.IntroduceManifestRequest, context: Any
    ) -> pb.IntroduceManifestResponse:
        body = zlib.decompress(request.manifest_json_zlib)
        assert request.digest == "sha256:" + hashlib.sha256(body).hexdigest()
        if self.on_introduce is not None:
            await self.on_introduce(request, context)
        self.known_digests.add(request.digest)
        self.journal.manifests.append(request)
        await self.journal.notify()
        return pb.IntroduceManifestResponse(current=True)

    async def RenewCertificate(  # type: ignore[override]  # noqa: N802 - as above
        self, request: pb.RenewCertificateRequest, context: Any
    ) -> pb.RenewCertificateResponse:
        assert self.on_renew is not None
        return await self.on_renew(request, context)

    def _keep(self, held: InventoryLine) -> Verdict:
        return Verdict(
            attempt_key=held.attempt_key,
            action=VerdictAction.KEEP,
            acknowledged_seq=self.journal.acked(held.attempt_key),
        )


async def abort_with(context: Any, code: grpc.StatusCode, reason: str, **metadata: str) -> None:
    """End a call with an error in the form of the real kernel."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="nomaflow", metadata=metadata)
    detail = any_pb2.Any()
    detail.Pack(info)
    status = status_pb2.Status(code=code.value[0], message=reason.lower(), details=[detail])
    trailing = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, reason.lower(), trailing_metadata=trailing)
