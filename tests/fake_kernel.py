"""A KernelService whose answers a test writes: real gRPC over a real Unix socket."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from nomaflow_api.v1 import (
    access_service_pb2,
    access_service_pb2_grpc,
    event_pb2,
    kernel_service_pb2,
    kernel_service_pb2_grpc,
    log_pb2,
    run_figures_pb2,
    run_pb2,
)
from nomaflow_api.v1.reason_statuses import STATUS_KEY

__all__ = ["FakeKernel", "Refusal", "make_run"]

pb = kernel_service_pb2


class Refusal(Exception):
    """Raised by an answer to end a call with a status and details."""

    def __init__(self, code: grpc.StatusCode, message: str = "no", **info: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = info.pop("reason", "")
        self.retry_after = info.pop("retry_after", None)
        self.fields = info.pop("fields", {})
        self.metadata = info

    def trailing(self) -> tuple[tuple[str, bytes], ...]:
        """Return the details as a kernel sends them."""
        details: list[Any] = []
        if self.reason:
            details.append(error_details_pb2.ErrorInfo(reason=self.reason, domain="nomaflow", metadata=self.metadata))
        if self.fields:
            violations = [
                error_details_pb2.BadRequest.FieldViolation(field=name, description=text)
                for name, text in self.fields.items()
            ]
            details.append(error_details_pb2.BadRequest(field_violations=violations))
        if self.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(int(self.retry_after * 1000))
            details.append(retry)
        packed = []
        for detail in details:
            one = AnyMessage()
            one.Pack(detail)
            packed.append(one)
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)
        return (("grpc-status-details-bin", status.SerializeToString()),)


def make_run(run_id: str = "run_1", state: str = "RUNNING", **rest: Any) -> run_pb2.Run:
    """Return a run message."""
    number = run_pb2.RunState.Value(f"RUN_STATE_{state}")
    return run_pb2.Run(run_id=run_id, job_id=rest.pop("job_id", "nightly"), state=number, **rest)


class FakeAudit(access_service_pb2_grpc.AccessServiceServicer):
    """An audit that a test writes."""

    def __init__(self) -> None:
        self.rows: list[access_service_pb2.AuditRow] = []
        self.before_hash = ""
        self.verdict = access_service_pb2.VerifyAuditResponse()
        self.requests: list[Any] = []
        self.break_after: int | None = None
        self.replies: dict[str, Any] = {}

    async def ListTokens(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self.replies["ListTokens"]

    async def ListCertificates(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self.replies["ListCertificates"]

    async def CreateToken(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self.replies["CreateToken"]

    async def RevokeTokens(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self.replies["RevokeTokens"]

    async def RotateToken(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self.replies["RotateToken"]

    async def InviteInstance(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self.replies["InviteInstance"]

    async def RenewAuthority(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self.replies["RenewAuthority"]

    async def GetAuthority(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self.replies["GetAuthority"]

    async def ReadAudit(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.requests.append(access_service_pb2.ReadAuditRequest.FromString(request.SerializeToString()))
        wanted = [row for row in self.rows if row.seq > request.after_seq]
        for number, row in enumerate(wanted[-request.tail :]):
            if number == self.break_after:
                self.break_after = None
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broken by the test")
            yield access_service_pb2.ReadAuditResponse(rows=[row], before_hash=self.before_hash)

    async def VerifyAudit(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self.verdict


class FakeKernel(kernel_service_pb2_grpc.KernelServiceServicer):
    """Answers from what the test put in; remembers every request by method."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = f"unix:{path}"
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.streams_opened = 0
        self.messages_of_triggers = 0
        self.metadata: list[dict[str, str]] = []
        self.seconds_left: dict[str, float] = {}
        self.refusals: dict[str, list[Refusal]] = defaultdict(list)
        self.replies: dict[str, Any] = {}
        self.runs: dict[str, run_pb2.Run] = {}
        self.triggered: dict[str, str] = {}
        self.events: list[event_pb2.Event] = []
        self.lines: list[log_pb2.LogLine] = []
        self.chunks: list[log_pb2.LogChunk] = []
        self.break_stream_after: int | None = None
        self.changed = asyncio.Condition()
        self.version = 0
        self.audit = FakeAudit()
        self._server: grpc.aio.Server | None = None

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        """Serve; a stopped fake may be started again, with all it remembers.

        :param credentials: for a free TCP port, which becomes its address
        """
        self._server = grpc.aio.server()
        kernel_service_pb2_grpc.add_KernelServiceServicer_to_server(self, self._server)
        access_service_pb2_grpc.add_AccessServiceServicer_to_server(self.audit, self._server)
        if credentials is not None:
            self.address = f"tls://127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        else:
            self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        """Go away at once, as a killed kernel does."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    async def finish(self, run_id: str, state: str = "SUCCEEDED") -> None:
        """Make a run terminal, with its event."""
        number = run_pb2.RunState.Value(f"RUN_STATE_{state}")
        async with self.changed:
            self.runs[run_id].state = number
            seq = len(self.events) + 1
            self.events.append(event_pb2.Event(seq=seq, kind="run.finished", run_id=run_id, run_state=number))
            self.version += 1
            self.changed.notify_all()

    async def say(self, text: bytes, *, level: int = 20, step: str = "one") -> None:
        """Append a log line."""
        async with self.changed:
            number = len(self.lines) + 1
            line = log_pb2.LogLine(
                seq=number, at_us=number, level=level, logger="app", step=step, attempt=1, message=text
            )
            self.lines.append(line)
            self.version += 1
            self.changed.notify_all()

    async def _change_after(self, version: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.version != version)

    async def requested(self, method: str) -> None:
        """Wait until a method has been called."""
        async with self.changed:
            await self.changed.wait_for(lambda: bool(self.requests[method]))

    async def _note(self, method: str, request: Any, context: Any) -> None:
        async with self.changed:
            self.requests[method].append(request)
            self.changed.notify_all()
        self.metadata.append(dict(context.invocation_metadata()))
        self.seconds_left[method] = context.time_remaining() or math.inf
        if self.refusals[method]:
            refusal = self.refusals[method].pop(0)
            context.set_trailing_metadata(refusal.trailing())
            await context.abort(refusal.code, refusal.message)

    async def _run(self, run_id: str, context: Any) -> run_pb2.Run:
        if run_id not in self.runs:
            refusal = Refusal(grpc.StatusCode.NOT_FOUND, f"no run {run_id!r}", reason="RUN_NOT_FOUND")
            context.set_trailing_metadata(refusal.trailing())
            await context.abort(refusal.code, refusal.message)
        return self.runs[run_id]

    async def GetKernel(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("GetKernel", request, context)
        told: dict[str, Any] = {
            "version": "9",
            "epoch": 1,
            "pid": 1,
            "store": "sqlite",
            "last_event_seq": len(self.events),
        }
        return pb.GetKernelResponse(**told, caller=self.replies.get("caller"))

    async def TriggerRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("TriggerRun", request, context)
        known = self.triggered.get(request.request_id)
        run_id = known or f"run_{len(self.triggered) + 1}"
        self.triggered[request.request_id] = run_id
        self.runs.setdefault(run_id, make_run(run_id, "QUEUED", job_id=request.job_id))
        if self.refusals["TriggerRun after"]:  # it was done, and the answer is lost
            await context.abort(self.refusals["TriggerRun after"].pop(0).code, "gone")
        return pb.TriggerRunResponse(
            run_id=run_id, deduplicated=known is not None, state=run_pb2.RunState.RUN_STATE_QUEUED
        )

    async def StreamTriggers(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        self.streams_opened += 1
        async for request in request_iterator:
            self.messages_of_triggers += 1
            answer = pb.StreamTriggersResponse()
            for item in request.items:
                waiting = self.refusals["TriggerRun"]
                if waiting and waiting[0].code is not grpc.StatusCode.UNAVAILABLE:  # that one breaks the stream
                    self.requests["TriggerRun"].append(item.request)
                    answer.items.add(number=item.number, status=dict(waiting.pop(0).trailing())[STATUS_KEY])
                else:
                    answer.items.add(number=item.number, response=await self.TriggerRun(item.request, context))
            yield answer

    async def TriggerRuns(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("TriggerRuns", request, context)
        return self.replies["TriggerRuns"]

    async def CancelRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("CancelRun", request, context)
        run = await self._run(request.run_id, context)
        run.cancel.by = request.by
        return pb.CancelRunResponse(run=run)

    async def GetRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("GetRun", request, context)
        return pb.GetRunResponse(run=await self._run(request.run_id, context))

    async def ListRuns(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("ListRuns", request, context)
        start = int(request.page_token or 0)
        size = request.page_size or 50
        found = list(self.runs.values())
        more = str(start + size) if start + size < len(found) else ""
        return pb.ListRunsResponse(runs=found[start : start + size], next_page_token=more)

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        await self._note("WatchRun", request, context)
        run = await self._run(request.run_id, context)
        yield pb.WatchRunResponse(snapshot=run)
        sent, seen = 0, request.after_seq
        while True:
            version = self.version
            for event in [one for one in self.events if one.seq > seen and one.run_id == request.run_id]:
                yield pb.WatchRunResponse(events=[event])
                seen, sent = event.seq, sent + 1
                await self._break(sent, context)
            if run.state >= run_pb2.RunState.RUN_STATE_SUCCEEDED:
                return
            await self._change_after(version)

    async def WatchEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        await self._note("WatchEvents", request, context)
        sent, seen = 0, request.after_seq
        while True:
            version = self.version
            for event in [one for one in self.events if one.seq > seen]:
                yield pb.WatchEventsResponse(events=[event])
                seen, sent = event.seq, sent + 1
                await self._break(sent, context)
            await self._change_after(version)

    async def ReadLogs(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        await self._note("ReadLogs", request, context)
        run = await self._run(request.run_id, context)
        sent, seen = 0, request.after_seq
        while True:
            version = self.version
            over = run.state >= run_pb2.RunState.RUN_STATE_SUCCEEDED
            below = request.before_seq or math.inf
            wanted = [line for line in self.lines if seen < line.seq < below and line.level >= request.min_level]
            for line in wanted[-request.tail :][: request.limit or None]:
                yield pb.ReadLogsResponse(lines=[line])
                seen, sent = line.seq, sent + 1
                await self._break(sent, context)
            if over or not request.follow:
                return
            await self._change_after(version)

    async def ReadLogChunks(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        await self._note("ReadLogChunks", request, context)
        wanted = [each for each in self.chunks if each.first_seq + each.line_count > request.after_seq + 1]
        for sent, chunk in enumerate(wanted, start=1):
            yield log_pb2.ReadLogChunksResponse(chunks=[chunk])
            await self._break(sent, context)

    async def _break(self, sent: int, context: Any) -> None:
        if self.break_stream_after is not None and sent >= self.break_stream_after:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "broken by the test")

    async def ListJobs(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("ListJobs", request, context)
        return self._page("ListJobs", request)

    async def GetJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("GetJob", request, context)
        return self.replies["GetJob"]

    async def ListCallables(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("ListCallables", request, context)
        return self._page("ListCallables", request)

    async def ListHosts(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("ListHosts", request, context)
        return self._page("ListHosts", request)

    async def SummarizeRuns(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("SummarizeRuns", request, context)
        return self.replies.get("SummarizeRuns", run_figures_pb2.SummarizeRunsResponse())

    async def GetJobStats(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("GetJobStats", request, context)
        return self.replies.get("GetJobStats", run_figures_pb2.GetJobStatsResponse())

    async def ListEvents(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("ListEvents", request, context)
        below = [event for event in self.events if not request.before_seq or event.seq < request.before_seq]
        page = below[::-1][: request.page_size or 100]
        more = len(below) > len(page)
        return event_pb2.ListEventsResponse(events=page, next_before_seq=page[-1].seq if more else 0)

    async def ListFires(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("ListFires", request, context)
        return self.replies["ListFires"]

    def _page(self, method: str, request: Any) -> Any:
        """Return the answer that the test put in; of a list of answers, the one that the token asks for."""
        reply = self.replies[method]
        return reply[int(request.page_token or 0)] if isinstance(reply, list) else reply

    async def ReloadHost(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("ReloadHost", request, context)
        return self.replies["ReloadHost"]

    async def ReplayRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("ReplayRun", request, context)
        self.runs.setdefault("run_replayed", make_run("run_replayed", "SUCCEEDED"))
        if request.validate_only:
            return self.replies["ReplayRun"]
        return pb.ReplayRunResponse(run_id="run_replayed")

    async def InspectAttempt(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("InspectAttempt", request, context)
        return self.replies["InspectAttempt"]

    async def ForgetHost(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("ForgetHost", request, context)
        return pb.ForgetHostResponse(released_job_ids=["a", "b"])

    async def Pause(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("Pause", request, context)
        reply = pb.PauseResponse()
        reply.pause.job_id, reply.pause.by, reply.pause.why = request.job_id, request.by, request.why
        reply.pause.until.CopyFrom(request.until)
        return reply

    async def Resume(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("Resume", request, context)
        return pb.ResumeResponse(was_paused=True)
