"""Sessions, reports and manifests of hosts, over a real socket with a scripted engine."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from rpc_world import RUN_ID, World, eventually

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_kernel.domain.hosting import CancelOrder, DispatchOrder, ReportedFinished, ReportedLog
from nomaflow_kernel.domain.records import RunTrigger, TriggerKind
from nomaflow_kernel.domain.states import AttemptState
from nomaflow_kernel.store.errors import StoreBusy

INCARNATION = "incarnation-1"
KEY = f"{RUN_ID}/step/1"


def hello(**fields: Any) -> gateway.AttachRequest:
    """Return a hello that is welcome, but for what the test changes."""
    told: dict[str, Any] = {
        "protocol_min": 1, "protocol_max": 1, "host": "team", "incarnation": INCARNATION, "max_async": 5,
    }  # fmt: skip
    return gateway.AttachRequest(hello=gateway.Hello(**{**told, **fields}))


class Session:
    """One Attach stream, a message at a time."""

    def __init__(self, world: World) -> None:
        self._queue: asyncio.Queue[gateway.AttachRequest | None] = asyncio.Queue()
        self.call = world.gateway.Attach(self._requests(), timeout=20)

    async def _requests(self) -> AsyncIterator[gateway.AttachRequest]:
        while (request := await self._queue.get()) is not None:
            yield request

    def say(self, request: gateway.AttachRequest | None) -> None:
        """Send a message; None ends the host's side."""
        self._queue.put_nowait(request)

    async def attach(self, **fields: Any) -> gateway.Welcome:
        """Say hello and return the welcome."""
        self.say(hello(**fields))
        message = await self.call.read()
        if message is grpc.aio.EOF:
            await self.call.wait_for_connection()
            raise AssertionError(await self.call.details())
        return message.welcome

    async def commands(self, count: int) -> list[list[gateway.Command]]:
        """Return batches until there are that many commands."""
        batches: list[list[gateway.Command]] = []
        while sum(map(len, batches)) < count:
            batches.append(list((await self.call.read()).commands.commands))
        return batches

    async def _read_to_the_end(self) -> None:
        while await self.call.read() is not grpc.aio.EOF:
            pass

    async def refusal(self) -> tuple[grpc.StatusCode, str, dict[str, str]]:
        """Return code, reason and data of the error that the stream ends with."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self._read_to_the_end()
        raw = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        info = error_details_pb2.ErrorInfo()
        assert status_pb2.Status.FromString(raw).details[0].Unpack(info)
        return caught.value.code(), info.reason, dict(info.metadata)


def order(number: int, kwargs: str = "{}") -> DispatchOrder:
    """Return an order to run an attempt."""
    return DispatchOrder(
        attempt_key=f"{RUN_ID}/step/{number}", epoch=1, run_id=RUN_ID, job_id="job", step="step", attempt=number,
        callable="m:f", kwargs_json=kwargs, strict_keys=(), params_json="{}",
        trigger=RunTrigger(kind=TriggerKind.CRON, at_us=1_500_000), prev_rows_affected=None, parent_chain=(),
        previous_steps_json="[]",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"protocol_min": 2, "protocol_max": 3}, "FAILED_PRECONDITION", "PROTOCOL_UNSUPPORTED"),
        ({"protocol_min": 0, "protocol_max": 0}, "FAILED_PRECONDITION", "PROTOCOL_UNSUPPORTED"),
        ({"epoch_seen": 99}, "FAILED_PRECONDITION", "STALE_EPOCH"),
        ({"host": ""}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"host": "Team"}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"host": "../x"}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"host": "x" * 65}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"incarnation": "x"}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"inventory": [gateway.HeldAttempt(attempt_key="no/key")]}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"inventory": [gateway.HeldAttempt(attempt_key=KEY, state=77)]}, "INVALID_ARGUMENT", "BAD_REQUEST"),
    ],
)
async def test_a_hello_that_is_not_welcome_is_told_why(
    world: World, fields: dict[str, Any], code: str, reason: str
) -> None:
    """The engine hears nothing of it; a host of another protocol learns which ones there are."""
    session = Session(world)
    session.say(hello(**fields))
    found, said, data = await session.refusal()
    assert (found.name, said) == (code, reason)
    assert world.engine.links == []
    if reason == "PROTOCOL_UNSUPPORTED":
        assert data == {"min": "1", "max": "1"}


async def test_a_session_begins_with_a_hello(world: World) -> None:
    """Anything else first, nothing at all, or a second one later, ends the stream and only that stream."""
    first, silent, second = Session(world), Session(world), Session(world)
    first.say(gateway.AttachRequest(heartbeat=gateway.Heartbeat()))
    silent.say(None)
    await second.attach()
    second.say(hello())
    for session in (first, silent, second):
        assert (await session.refusal())[1] == "BAD_REQUEST"
    await eventually(lambda: len(world.engine.detached) == 1)
    await Session(world).attach()


async def test_a_stream_that_turns_into_garbage_ends_alone(world: World) -> None:
    """The instance is detached, and can attach again."""
    sent: asyncio.Queue[bytes] = asyncio.Queue()

    async def raw() -> AsyncIterator[bytes]:
        while True:
            yield await sent.get()

    call = world.channel.stream_stream("/nomaflow_api.v1.HostGatewayService/Attach")(raw(), timeout=20)
    sent.put_nowait(hello().SerializeToString())
    assert await call.read()
    sent.put_nowait(b"\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await eventually(lambda: len(world.engine.detached) == 1)
    await Session(world).attach()


async def test_what_is_ready_together_travels_together_in_order(world: World) -> None:
    """Orders given at once come in one batch, after the welcome, numbered from 1 without a gap."""
    session = Session(world)
    assert (await session.attach()).epoch == 1
    (link,) = world.engine.links
    link.send([order(number) for number in range(1, 101)])
    link.send([CancelOrder(attempt_key=KEY, by="ann", why="", reason_code="canceled_by_user")])
    batches = await session.commands(101)
    assert len(batches) <= 2
    commands = [command for batch in batches for command in batch]
    assert [command.command_seq for command in commands] == list(range(1, 102))
    assert commands[0].dispatch.trigger.at.ToMicroseconds() == 1_500_000
    assert commands[-1].cancel.by == "ann"
    session.call.cancel()


async def test_no_message_of_commands_is_over_a_mebibyte(world: World) -> None:
    """Large orders are spread over messages, whole and in order."""
    session = Session(world)
    await session.attach()
    large = json.dumps({"x": "y" * 300_000})
    world.engine.links[0].send([order(number, large) for number in range(1, 11)])
    batches = await session.commands(10)
    assert max(sum(command.ByteSize() for command in batch) for batch in batches) <= 1024 * 1024
    assert [command.dispatch.attempt for batch in batches for command in batch] == list(range(1, 11))
    session.call.cancel()


async def test_heartbeats_are_answered_and_heard(world: World) -> None:
    """The host's own time comes back; the workers it names are passed on."""
    session = Session(world)
    await session.attach()
    beat = gateway.Heartbeat(sent_at_us=5, running=2, workers=[gateway.HostWorker(pid=9, exclusive=True)])
    session.say(gateway.AttachRequest(heartbeat=beat))
    assert (await session.call.read()).heartbeat_ack.sent_at_us == 5
    session.say(gateway.AttachRequest(heartbeat=gateway.Heartbeat(sent_at_us=6, workers_unchanged=True)))
    assert (await session.call.read()).heartbeat_ack.sent_at_us == 6
    first, second = world.engine.heartbeats
    assert first.workers is not None
    assert (first.workers[0].pid, first.running, second.workers) == (9, 2, None)
    session.call.cancel()


async def test_a_host_that_hangs_up_while_the_engine_is_busy_is_detached_all_the_same(world: World) -> None:
    """The attach that nobody waits for any more leaves no session behind."""
    world.engine.hold = asyncio.Event()
    session = Session(world)
    session.say(hello())
    await asyncio.sleep(0.05)
    session.call.cancel()
    await asyncio.sleep(0.05)
    world.engine.hold.set()
    await eventually(lambda: world.engine.detached == world.engine.links and world.engine.links)
    assert world.sessions.hosts() == []


async def test_the_end_of_an_older_session_leaves_the_newer_one_in_its_place(world: World) -> None:
    """The engine ends the older link; the host can still be reached by the newer."""
    older, newer = Session(world), Session(world)
    await older.attach()
    await newer.attach()
    world.engine.links[0].end("superseded")
    assert (await older.refusal())[:2] == (grpc.StatusCode.ABORTED, "SUPERSEDED")
    await eventually(lambda: world.engine.detached == world.engine.links[:1])
    assert world.sessions.hosts() == ["team"]
    world.engine.links[1].send([order(1)])
    await newer.commands(1)
    newer.call.cancel()


async def reload(world: World, host: str = "team") -> kernel.ReloadHostResponse:
    """Ask for a reload."""
    return await world.client.ReloadHost(kernel.ReloadHostRequest(host=host, force=True), timeout=10)


async def test_a_reload_is_answered_with_what_each_instance_says(world: World) -> None:
    """A refusal with its problems is an answer, not an error; an empty name means the only host."""
    session = Session(world)
    await session.attach()
    asked = asyncio.ensure_future(reload(world, ""))
    ((command,),) = await session.commands(1)
    assert command.reload.force
    result = gateway.ReloadResult(
        command_seq=command.command_seq, accepted=False, generation=1, message="no",
        problems_json=b'[{"severity": "error", "code": "import_failed", "message": "boom"}]',
    )  # fmt: skip
    session.say(gateway.AttachRequest(reload_result=gateway.ReloadResult(command_seq=77)))
    session.say(gateway.AttachRequest(reload_result=result))
    (outcome,) = (await asked).instances
    assert (outcome.incarnation, outcome.accepted, outcome.problems[0].message) == (INCARNATION, False, "boom")
    session.call.cancel()


async def test_a_reload_that_cannot_be_says_why(world: World) -> None:
    """Unknown host, two at once, a host that leaves, a host that never answers: four different reasons."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reload(world)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    session = Session(world)
    await session.attach()
    first = asyncio.ensure_future(reload(world))
    await session.commands(1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reload(world)
    assert caught.value.code() is grpc.StatusCode.ABORTED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await first
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "has not answered" in (caught.value.details() or "")
    third = asyncio.ensure_future(reload(world))
    await session.commands(1)
    session.say(None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await third
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def send(world: World, *reports: gateway.AttemptReport, epoch: int = 1) -> Sequence[gateway.AttemptAck]:
    """Report and return the answers."""
    request = gateway.ReportRequest(incarnation=INCARNATION, epoch=epoch, attempts=reports)
    return (await world.gateway.Report(request, timeout=10)).acks


def event(**fields: Any) -> gateway.AttemptEvent:
    """Return an event."""
    return gateway.AttemptEvent(**fields)


def end(**fields: Any) -> gateway.AttemptEvent:
    """Return the end of an attempt."""
    return event(finished=gateway.AttemptFinished(**{"state": run_pb2.ATTEMPT_STATE_SUCCEEDED, **fields}))


CHUNK = {"line_count": 1, "codec": gateway.LOG_CODEC_JSONL, "body": b"x"}


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (gateway.AttemptReport(attempt_key="x", first_seq=1), "not an attempt key"),
        (gateway.AttemptReport(attempt_key="run_%/a/1", first_seq=1), "not an attempt key"),
        (gateway.AttemptReport(attempt_key=KEY + "x" * 500, first_seq=1), "characters"),
        (gateway.AttemptReport(attempt_key=KEY, first_seq=0), "first_seq"),
        (gateway.AttemptReport(attempt_key=KEY, first_seq=2**63), "first_seq"),
        (gateway.AttemptReport(attempt_key=KEY, first_seq=1, events=[event()]), "does not know"),
        (gateway.AttemptReport(attempt_key=KEY, first_seq=1, events=[end(), end()]), "after finished"),
        (gateway.AttemptReport(attempt_key=KEY, first_seq=1, events=[end(state=3)]), "state number 3"),
        (gateway.AttemptReport(attempt_key=KEY, first_seq=1, events=[end(state=8)]), "state number 8"),
        (
            gateway.AttemptReport(
                attempt_key=KEY, first_seq=1, events=[end(result=run_pb2.StepResult(extras_json=b"[1]"))]
            ),
            "expected an object",
        ),
        (
            gateway.AttemptReport(
                attempt_key=KEY, first_seq=1, events=[end(result=run_pb2.StepResult(extras_json=b'{"a": NaN}'))]
            ),
            "cannot be read",
        ),
        (
            gateway.AttemptReport(
                attempt_key=KEY, first_seq=1, events=[event(log=gateway.LogChunk(**{**CHUNK, "line_count": 0}))]
            ),
            "0 lines",
        ),
        (
            gateway.AttemptReport(
                attempt_key=KEY, first_seq=1, events=[event(log=gateway.LogChunk(**{**CHUNK, "codec": 9}))]
            ),
            "codec",
        ),
        (
            gateway.AttemptReport(
                attempt_key=KEY,
                first_seq=1,
                events=[event(log=gateway.LogChunk(**{**CHUNK, "body": b"x" * (1024 * 1024 + 1)}))],
            ),
            "bytes",
        ),
        (gateway.AttemptReport(attempt_key=KEY, events=[end()], unknown=True), "one or the other"),
    ],
)
async def test_an_invalid_report_is_answered_alone(world: World, report: gateway.AttemptReport, said: str) -> None:
    """The others of the same call are taken in, and the answers keep the order."""
    good = gateway.AttemptReport(attempt_key=KEY, first_seq=4, events=[event(log=gateway.LogChunk(**CHUNK))])
    acks = await send(world, good, report, good)
    assert [ack.status for ack in acks] == [
        gateway.ACK_STATUS_OK,
        gateway.ACK_STATUS_INVALID,
        gateway.ACK_STATUS_OK,
    ]
    assert said in acks[1].detail
    assert [ack.acknowledged_seq for ack in acks] == [4, 0, 4]
    assert len(world.engine.reports) == 2


async def test_a_report_arrives_whole_and_unread(world: World) -> None:
    """Log bytes are passed on as they are; numbers that are none become nothing."""
    body = bytes(range(256))
    packed = gateway.LogChunk(line_count=3, levels=4, codec=gateway.LOG_CODEC_JSONL_ZLIB, body=body)
    progress = gateway.AttemptProgress(progress=run_pb2.Progress(done=float("nan"), total=float("inf")))
    result = run_pb2.StepResult(rows_affected=0)
    await send(
        world,
        gateway.AttemptReport(
            attempt_key=KEY, first_seq=1, events=[event(log=packed), event(progress=progress), end(result=result)]
        ),
    )
    (told,) = world.engine.reports
    log, progressed, done = told.events
    assert isinstance(log, ReportedLog)
    assert (log.body, log.line_count, log.levels) == (body, 3, 4)
    assert (progressed.done, progressed.total) == (0.0, None)  # type: ignore[union-attr]  # the second is progress
    assert isinstance(done, ReportedFinished)
    assert (done.state, done.rows_affected, done.has_result) == (AttemptState.SUCCEEDED, 0, True)


async def test_what_could_not_be_committed_is_not_acknowledged(world: World) -> None:
    """The call fails with a status that says to try again; a report of another epoch is refused whole."""
    report = gateway.AttemptReport(attempt_key=KEY, first_seq=1, events=[end()])
    world.engine.trouble = StoreBusy("locked")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(world, report)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    world.engine.trouble = None
    for epoch in (0, 2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await send(world, report, epoch=epoch)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert world.engine.reports == []


def packed(body: bytes, *, digest: str = "", explicit: bool = False) -> gateway.IntroduceManifestRequest:
    """Return the introduction of a manifest."""
    return gateway.IntroduceManifestRequest(
        incarnation=INCARNATION,
        digest=digest or "sha256:" + hashlib.sha256(body).hexdigest(),
        manifest_json_zlib=zlib.compress(body),
        explicit=explicit,
    )


def manifest(*job_ids: str, host: str = "team") -> bytes:
    """Return a manifest that brings jobs."""
    jobs = [{"id": job_id, "steps": [{"type": "python", "callable": "m:f"}]} for job_id in job_ids]
    callables = {"m:f": {"kind": "async", "parameters": [], "accepts_any_keyword": True, "error": None}}
    file = {"path": "jobs.toml", "tree": {"jobs": jobs}, "error": None}
    return json.dumps({"host": host, "callables": callables, "job_files": [file]}).encode()


@pytest.mark.parametrize(
    "request_",
    [
        packed(manifest(), digest="sha256:" + "0" * 64),
        packed(manifest(), digest="md5:1"),
        packed(b"not json"),
        packed(b"[]"),
        packed(b'{"a":' * 100_000),
        packed(manifest(host="other")),
        packed(b" " * (16 * 1024 * 1024 + 1)),
        gateway.IntroduceManifestRequest(
            incarnation=INCARNATION, digest="sha256:" + "0" * 64, manifest_json_zlib=b"not zlib"
        ),
        gateway.IntroduceManifestRequest(
            incarnation=INCARNATION, digest="sha256:" + "0" * 64, manifest_json_zlib=zlib.compress(b"x" * 999)[:-6]
        ),
    ],
    ids=["digest", "digest form", "no json", "no object", "deep", "other host", "bomb", "no zlib", "cut"],
)
async def test_a_manifest_that_is_not_what_it_says_is_refused(
    world: World, request_: gateway.IntroduceManifestRequest
) -> None:
    """Digest, form, size and owner are checked before anything is kept."""
    session = Session(world)
    await session.attach()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.gateway.IntroduceManifest(request_, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(world.catalogue.hosts()) == []
    session.call.cancel()


async def test_a_manifest_becomes_the_catalogue_once(world: World) -> None:
    """A new digest or an explicit reload counts, a known one changes nothing; changes are told as events."""
    session = Session(world)
    await session.attach()
    old, new = packed(manifest("a", "b")), packed(manifest("b", "c"))
    assert (await world.gateway.IntroduceManifest(old, timeout=10)).current
    assert (await world.gateway.IntroduceManifest(new, timeout=10)).current
    assert [job.job_id for job in world.catalogue.jobs() if not job.removed] == ["b", "c"]
    assert not (await world.gateway.IntroduceManifest(old, timeout=10)).current
    assert (await world.gateway.IntroduceManifest(packed(manifest("a", "b"), explicit=True), timeout=10)).current
    assert [job.job_id for job in world.catalogue.jobs() if not job.removed] == ["a", "b"]
    events = world.feed.tail_after(0) or []
    told = [(each.kind, each.job_id, each.data.get("change")) for each in events if each.kind == "job.changed"]
    assert told[:2] == [("job.changed", "a", "added"), ("job.changed", "b", "added")]
    assert ("job.changed", "a", "removed") in told
    assert sum(each.kind == "host.manifest" for each in events) == 3
    session.call.cancel()


async def test_a_job_id_of_another_host_disables_that_one_job(world: World) -> None:
    """The rest of the manifest serves; when the owner is forgotten its ids are free."""
    first, second = Session(world), Session(world)
    await first.attach()
    await world.gateway.IntroduceManifest(packed(manifest("a")), timeout=10)
    await second.attach(host="other", incarnation="incarnation-2")
    request = packed(manifest("a", "z", host="other"))
    request.incarnation = "incarnation-2"
    assert list((await world.gateway.IntroduceManifest(request, timeout=10)).disabled_job_ids) == ["a"]
    jobs = (await world.client.ListJobs(kernel.ListJobsRequest(), timeout=10)).jobs
    assert [(job.job_id, job.host, job.valid) for job in jobs] == [
        ("a", "team", True),
        ("a", "other", False),
        ("z", "other", True),
    ]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.ForgetHost(kernel.ForgetHostRequest(host="team"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    first.say(None)
    await eventually(lambda: world.sessions.hosts() == ["other"])
    released = (await world.client.ForgetHost(kernel.ForgetHostRequest(host="team"), timeout=10)).released_job_ids
    assert list(released) == ["a"]
    known = world.catalogue.job("a")
    assert known is not None
    assert (known.host, known.valid) == ("other", True)
    second.call.cancel()


async def test_a_manifest_of_an_instance_that_is_not_attached_is_refused(world: World) -> None:
    """Nobody speaks for a host without a session."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.gateway.IntroduceManifest(packed(manifest("a")), timeout=10)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
