"""A real kernel process, called by a hostile host, client and joiner over its Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import tempfile
import uuid
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
from choices import Choices
from google.protobuf import message_factory
from grpc_health.v1 import health_pb2
from hostile_inputs import NUMBERS, damaged, json_text, letter, line, manifest, message, some_text

from nomaflow_api.join_string import JOIN_PREFIX, JoinString
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import letters, sealing
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_host.identity.requests import signing_request
from nomaflow_host.session.report_streams import ReportStreams
from real_system import Running, address_of, launch_kernel

__all__ = ["FuzzedKernel", "Weakness"]

SERVICES = (
    kernel.DESCRIPTOR.services_by_name["KernelService"],
    gateway.DESCRIPTOR.services_by_name["HostGatewayService"],
    access.DESCRIPTOR.services_by_name["AccessService"],
    access.DESCRIPTOR.services_by_name["EnrolmentService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
)
METHODS = [method for service in SERVICES for method in service.methods]
MOST_TOKENS = 5000
"""A token is a row that stays: a million of them would be the memory measured here."""
NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAUTHENTICATED}
OURS = re.compile(r"Traceback|File \"|/site-packages/|nomaflow_kernel[/.]|error id|object at 0x")
MOST_RSS = 600 * 1024 * 1024
MOST_GROWTH = 250 * 1024 * 1024
SECONDS = 3.0
_READ_SECONDS = 0.1
JOBS = {
    "jobs": [
        {"id": "one", "overlap": "allow", "steps": [{"type": "python", "name": "work", "callable": "m:f"}]},
        {"id": "two", "steps": [{"type": "python", "name": "work", "callable": "m:f"}, {"type": "call_job", "target_job_id": "one"}]},
    ]
}  # fmt: skip
MANIFEST = json.dumps(
    {
        "host": "team",
        "callables": {"m:f": {"kind": "async", "parameters": [], "catch_all": "kwargs", "error": None}},
        "modules": {},
        "job_files": [{"path": "jobs.toml", "main": True, "tree": JOBS}],
    }
).encode()


class Weakness(AssertionError):
    """Raised for an answer, a log line or a size that no input may cause."""


class FuzzedKernel:
    """A kernel with one honest instance of a host, so that runs start and sessions exist to be disturbed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.runs: list[str] = ["run_" + "0" * 26]
        self.secrets: list[str] = [""]
        self._tokens = 0
        self._requests = [signing_request(name).csr for name in ("fuzz-1", "team")]
        self.incarnation = uuid.uuid4().hex
        self.epoch = 0
        self._attempts: dict[str, int] = {}
        self._project = Path(tempfile.mkdtemp(prefix="nz-"))
        self._running: Running
        self._channel: grpc.aio.Channel
        self._host: asyncio.Task[None]
        self._first_rss = 0

    async def start(self) -> None:
        """Start the kernel, and attach the honest instance."""
        log = self._project / "kernel.log"
        self._running = await asyncio.to_thread(
            lambda: launch_kernel(self._project, "--address", "127.0.0.1:0", log_file=log)
        )
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
        self._channel = grpc.aio.insecure_channel(address_of(self._project), options=options)
        self._reports = ReportStreams(HostGatewayServiceStub(self._channel).StreamReports)
        self._host = asyncio.create_task(self._serve())
        async with asyncio.timeout(30):
            while not self.epoch:
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Stop everything; the kernel must still stop as asked."""
        self._host.cancel()
        await asyncio.gather(self._host, return_exceptions=True)
        await self._channel.close()
        code = await asyncio.to_thread(self._running.stop)
        if code:
            raise Weakness(f"the kernel ended with exit code {code}")
        self._check_log()
        shutil.rmtree(self._project, ignore_errors=True)

    # --- what is checked ----------------------------------------------------------------------------------------------

    def check(self) -> int:
        """Return the kernel's resident bytes.

        :raises Weakness: if the kernel is gone, has grown too large, or has met an error of its own
        """
        if self._running.process.poll() is not None:
            raise Weakness(f"the kernel ended: {self._log()[-2000:]}")
        rss: int = psutil.Process(self._running.process.pid).memory_info().rss
        self._first_rss = self._first_rss or rss
        if rss > MOST_RSS or rss - self._first_rss > MOST_GROWTH:
            raise Weakness(f"the kernel has grown from {self._first_rss >> 20} to {rss >> 20} MiB")
        self._check_log()
        return rss

    def _log(self) -> str:
        return (self._project / "kernel.log").read_text(errors="replace")

    def _check_log(self) -> None:
        text = self._log()
        at = min((at for word in ("Traceback", "error id") if (at := text.find(word)) >= 0), default=-1)
        if at >= 0:
            raise Weakness(f"the kernel met an error of its own:\n{text[max(0, at - 300) : at + 3000]}")

    def _judge(self, method: str, code: grpc.StatusCode, details: str) -> None:
        self.counts[f"{method} {code.name}"] += 1
        # The client's own half of gRPC says INTERNAL for a stream that the kernel refuses while it still writes to it.
        ours = not details.startswith(("Received RST_STREAM", 'Failed "execute_batch"', "Internal error from Core"))
        if method == "Enrol" and code is grpc.StatusCode.UNAUTHENTICATED:
            return  # whatever is no good join string
        if (code in NEVER and ours) or OURS.search(details):
            raise Weakness(f"{method} ends with {code.name}: {details[:500]}")

    # --- what is sent -------------------------------------------------------------------------------------------------

    async def one(self, choices: Choices) -> None:
        """Send one input and judge the answer."""
        kind = choices.number(10)
        if kind == 0 and self._attempts:
            await self._report_lines(choices)
        elif kind == 1 and self._attempts:
            await self._report_events(choices)
        else:
            await self._call(choices)

    async def _call(self, choices: Choices) -> None:
        method = choices.pick(METHODS)
        while method.name == "CreateToken" and self._tokens >= MOST_TOKENS:
            method = choices.pick(METHODS)
        path = f"/{method.containing_service.full_name}/{method.name}"
        bodies = [self._body(choices, method) for _ in range(1 + choices.number(4) if method.client_streaming else 1)]
        metadata = [("traceparent", "x" * choices.number(100)), ("x-any", "y" * choices.number(5000))]
        try:
            if method.client_streaming:
                await self._stream(
                    method.name, self._channel.stream_stream(path)(_each(bodies), metadata=metadata, timeout=SECONDS)
                )
            elif method.server_streaming:
                await self._stream(
                    method.name, self._channel.unary_stream(path)(bodies[0], metadata=metadata, timeout=SECONDS)
                )
            else:
                raw = await self._channel.unary_unary(path)(bodies[0], metadata=metadata, timeout=20)
                self._learn(method.name, raw)
            self.counts[f"{method.name} OK"] += 1
        except grpc.aio.AioRpcError as error:
            self._judge(method.name, error.code(), error.details() or "")

    async def _stream(self, method: str, call: Any) -> None:
        try:
            for _ in range(3):
                if await asyncio.wait_for(call.read(), _READ_SECONDS) is grpc.aio.EOF:
                    self._judge(method, await call.code(), await call.details() or "")
                    return
        except TimeoutError:
            return
        finally:
            call.cancel()

    def _learn(self, method: str, raw: bytes) -> None:
        if method in ("TriggerRun", "ReplayRun"):
            run_id = getattr(kernel, f"{method}Response").FromString(raw).run_id
            if run_id:
                self.runs = [*self.runs[-20:], run_id]
        elif method == "CreateToken":
            self._tokens += 1
            secret = access.CreateTokenResponse.FromString(raw).secret
            if secret.startswith(JOIN_PREFIX):
                self.secrets = [*self.secrets[-20:], JoinString.decode(secret).secret]

    def _body(self, choices: Choices, method: Any) -> bytes:
        kind = choices.number(10)
        if kind == 0:
            return choices.blob(choices.number(200))
        known: dict[str, list[Any]] = {
            "run_id": self.runs,
            "job_id": ["one", "two", "fuzzed"],
            "host": ["team", "fuzz-1", "fuzz-2"],
            "incarnation": [self.incarnation, "incarnation-1", "incarnation-2"],
            "epoch": [self.epoch],
            "epoch_seen": [0, self.epoch],
            "protocol_min": [1, 0],
            "protocol_max": [1, 2],
            "step": ["work"],
            "attempts": [letter(choices, letters.AttemptReport, attempt_key=choices.pick([*self._attempts, "a/b/1"]))],
            "inventory": [b"", letter(choices, letters.InventoryLine)],
            "page_size": [0, 1, 500],
            "page_token": ["", some_text(choices)],
            "tail": [0, 5, 10_000],
            "after_seq": [0, 1, 2**40],
            "params_json": [b"", b"{}", json_text(choices)],
            "op_kwargs_json": [b"", b"{}", json_text(choices)],
            "trigger_kind": [0],
            "log_level": ["", "DEBUG"],
            "preset": [""],
            "from_step": [""],
            "ended_incarnations": ["incarnation-1"],
            "service": ["", "nomaflow_api.v1.KernelService", some_text(choices)],
            "token_id": ["tok_" + "0" * 12, "alice"],
            "target": ["tok_" + "0" * 12, "alice", "host:fuzz-1"],
            "secret": self.secrets,
            "csr_pem": ["", *self._requests, damaged(choices, self._requests[0].encode()).decode("ascii", "replace")],
            "name": ["alice", "fuzz-1", "team", some_text(choices)],
            "roles": ["viewer", "operator job:a.*", some_text(choices)],
            "grants": ["read *", "trigger job:one", some_text(choices)],
            "ids": ["fuzz.*", "fuzzed", some_text(choices)],
            "loaded_at_us": [0, 1_700_000_000_000_000, choices.pick(NUMBERS)],
        }
        daring = choices.pick((3, 3, 20, 60))
        made = message(choices, message_factory.GetMessageClass(method.input_type), known, daring)
        if method.name == "IntroduceManifest" and choices.chance(85):
            body = manifest(choices, "team" if made.incarnation == self.incarnation else "fuzz-1")
            made.digest = "sha256:" + hashlib.sha256(body).hexdigest()
            made.manifest_json_zlib = zlib.compress(body)
        if method.name == "ForgetHost" and choices.chance(90):
            made.host = "fuzz-1"
        body = made.SerializeToString()
        return damaged(choices, body) if kind in (1, 2, 3) else body

    # --- the honest instance, and what it reports ---------------------------------------------------------------------

    async def _serve(self) -> None:
        """Hold a session, again and again: hostile calls may end it."""
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self._session()
            await asyncio.sleep(0.05)

    async def _session(self) -> None:
        outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        hello = gateway.Hello(
            protocol_min=1, protocol_max=1, host="team", incarnation=self.incarnation, machine="m", pid=1, version="0",
            max_async=5, max_sync=1,
            heartbeat={"generation": 1, "manifest_digest": "sha256:" + hashlib.sha256(MANIFEST).hexdigest()},
            inventory=sealing.seal([letters.InventoryLine(attempt_key=key) for key in self._attempts]),
        )  # fmt: skip
        outgoing.put_nowait(gateway.AttachRequest(hello=hello).SerializeToString())
        beat = asyncio.create_task(_beat(outgoing))
        call = self._channel.stream_stream("/nomaflow_api.v1.HostGatewayService/Attach")(_of(outgoing))
        try:
            while (raw := await call.read()) is not grpc.aio.EOF:
                told = gateway.AttachResponse.FromString(raw)
                if told.HasField("welcome"):
                    self.epoch = told.welcome.epoch
                    if told.welcome.manifest_wanted:
                        await self._introduce()
                for command in told.commands.commands:
                    self._obey(command, outgoing)
                for answer in told.commands.answers:
                    self._reports.take_answer(answer)
        finally:
            beat.cancel()
            call.cancel()

    async def _introduce(self) -> None:
        request = gateway.IntroduceManifestRequest(
            host="team", incarnation=self.incarnation, digest="sha256:" + hashlib.sha256(MANIFEST).hexdigest(),
            manifest_json_zlib=zlib.compress(MANIFEST), explicit=True,
        )  # fmt: skip
        path = "/nomaflow_api.v1.HostGatewayService/IntroduceManifest"
        await self._channel.unary_unary(path)(request.SerializeToString(), timeout=20)

    def _obey(self, command: gateway.Command, outgoing: asyncio.Queue[bytes]) -> None:
        if command.HasField("dispatch"):
            order = sealing.open_dispatch(command.dispatch)
            if len(self._attempts) > 20:
                self._attempts.pop(next(iter(self._attempts)))
            self._attempts.setdefault(order.attempt_key, 0)
        elif command.HasField("reload"):
            result = gateway.ReloadResult(command_seq=command.command_seq, problems_json=b'[{"line": 1e9}, 5]')
            outgoing.put_nowait(gateway.AttachRequest(reload_result=result).SerializeToString())
        elif command.HasField("check"):
            answer = gateway.CheckResult(
                command_seq=command.command_seq, settled=True, checked=True, problems=b"\x91\x80"
            )
            outgoing.put_nowait(gateway.AttachRequest(check_result=answer).SerializeToString())

    async def _report(self, key: str, events: list[bytes]) -> None:
        report = letters.AttemptReport(attempt_key=key, first_seq=self._attempts.get(key, 0) + 1, events=tuple(events))
        session = {"host": "team", "incarnation": self.incarnation, "epoch": self.epoch}
        request = gateway.StreamReportsRequest(**session, attempts=sealing.seal([report]))
        try:
            acks = await self._reports.deliver(request, timeout=SECONDS)
            self.counts["StreamReports OK"] += 1
        except grpc.aio.AioRpcError as error:
            self._judge("StreamReports", error.code(), error.details() or "")
            return
        (ack,) = sealing.open_acks(acks)
        self.counts[f"report {ack.status}"] += 1
        if ack.status is letters.AckStatus.FENCED or ack.status is letters.AckStatus.CONFLICT:
            self._attempts.pop(key, None)
        elif key in self._attempts and ack.acknowledged_seq:
            self._attempts[key] = ack.acknowledged_seq

    async def _report_lines(self, choices: Choices) -> None:
        """Report a chunk of any lines, and read the log that it is in: a bad line may hide no other."""
        key = choices.pick(list(self._attempts))
        lines = [line(choices) for _ in range(1 + choices.number(6))]
        body = b"\n".join(lines) or b"\n"
        packed = choices.chance(50)
        chunk = letters.LogChunk(
            line_count=max(1, len(body.splitlines()) + choices.pick((0, 0, 0, 1, 5))),
            first_at_us=1,
            last_at_us=choices.pick((1, 1_700_000_000_000_000)),
            levels=4,
            codec=letters.LogCodec.JSONL_ZLIB if packed else letters.LogCodec.JSONL,
            body=zlib.compress(body) if packed else body,
        )
        await self._report(key, [sealing.seal(chunk)])
        request = kernel.ReadLogsRequest(run_id=key.partition("/")[0], tail=choices.pick((0, 3, 100)))
        call = self._channel.unary_stream("/nomaflow_api.v1.KernelService/ReadLogs")(
            request.SerializeToString(), timeout=20
        )
        before = 0
        try:
            while (raw := await call.read()) is not grpc.aio.EOF:
                for each in kernel.ReadLogsResponse.FromString(raw).lines:
                    if each.seq <= before:
                        raise Weakness(f"line {each.seq} comes after {before}")
                    before = each.seq
            self._judge("ReadLogs", await call.code(), await call.details() or "")
            self.counts["ReadLogs whole"] += 1
        except grpc.aio.AioRpcError as error:
            self._judge("ReadLogs", error.code(), error.details() or "")
        finally:
            call.cancel()

    async def _report_events(self, choices: Choices) -> None:
        key = choices.pick(list(self._attempts))
        kinds = (letters.Started, letters.Progress, letters.LogChunk, letters.Finished)
        events = []
        for _ in range(1 + choices.number(3)):
            known: dict[str, Any] = {"at_us": 1_700_000_000_000_000, "done": 1.5, "worker_pid": 1, "generation": 1}
            kind = choices.pick(kinds)
            if kind is letters.Finished:
                known |= {
                    "state": choices.pick(("SUCCEEDED", "FAILED", "CANCELED")),
                    "outcome": letter(choices, letters.CallOutcome),
                }
            events.append(letter(choices, kind, **known))
        await self._report(key, events)
        if choices.chance(10):
            end = letters.Finished(at_us=1, state=letters.FinishedState.FAILED, error=some_text(choices)[:1000])
            await self._report(key, [sealing.seal(end)])


async def _each(bodies: list[bytes]) -> AsyncIterator[bytes]:
    for body in bodies:
        yield body
    await asyncio.sleep(1)


async def _of(queue: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
    while True:
        yield await queue.get()


async def _beat(outgoing: asyncio.Queue[bytes]) -> None:
    while True:
        await asyncio.sleep(3)
        beat = gateway.Heartbeat(generation=1, workers_unchanged=True)
        outgoing.put_nowait(gateway.AttachRequest(heartbeat=beat).SerializeToString())
