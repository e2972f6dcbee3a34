"""What each caller sees: lists, watches and values; and how much it may ask."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from access_world import NO_RUN, RUN_A, RUN_B, SECRET, AccessWorld, ended_run, short_directory
from kernel_process import eventually

from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from nomaflow_api.v1.call_errors import read_details
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_kernel.history.transitions import Notice
from nomaflow_project.models.settings_file import QuotaSection

_CODE = grpc.StatusCode


class As:
    """The calls of one principal."""

    def __init__(self, world: AccessWorld, principal: str) -> None:
        self._metadata = world.metadata(principal)
        self._kernel: Any = KernelServiceStub(world.channel(principal))
        self._access: Any = AccessServiceStub(world.channel(principal))

    async def __call__(self, name: str, /, **fields: Any) -> Any:
        """Make a unary call."""
        stub, module = (self._kernel, kernel) if hasattr(self._kernel, name) else (self._access, access)
        return await getattr(stub, name)(
            getattr(module, f"{name}Request")(**fields), metadata=self._metadata, timeout=20
        )

    async def code(self, name: str, /, **fields: Any) -> grpc.StatusCode:
        """Make a unary call and return its status."""
        try:
            await self(name, **fields)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return _CODE.OK

    def stream(self, name: str, /, **fields: Any) -> Any:
        """Open a stream."""
        return getattr(self._kernel, name)(getattr(kernel, f"{name}Request")(**fields), metadata=self._metadata)


@pytest.fixture
async def world() -> AsyncIterator[AccessWorld]:
    """A kernel of two teams."""
    with short_directory() as directory:
        async with AsyncExitStack() as stack:
            yield await AccessWorld(directory=Path(directory)).start(stack)


async def test_lists_hold_what_the_caller_may_read(world: AccessWorld) -> None:
    """Runs, jobs and hosts of the other team are not there, and filters do not bring them."""
    seen = {}
    for name in ("owner", "admin", "ann", "ben"):
        as_ = As(world, name)
        runs = [run.run_id for run in (await as_("ListRuns")).runs]
        jobs = [job.job_id for job in (await as_("ListJobs")).jobs]
        hosts = [host.name for host in (await as_("ListHosts")).hosts]
        seen[name] = (runs, jobs, hosts)
    of_a, of_b = ([RUN_A], ["a.one", "a.two"], ["teama"]), ([RUN_B], ["b.one", "b.two"], ["teamb"])
    everything = ([RUN_B, RUN_A], of_a[1] + of_b[1], ["teama", "teamb"])
    assert seen == {"owner": everything, "admin": everything, "ann": of_a, "ben": of_b}
    ann = As(world, "ann")
    assert not (await ann("ListRuns", job_id="b.one")).runs
    assert not (await ann("ListRuns", host="teamb", states=[run_pb2.RUN_STATE_FAILED])).runs
    assert not (await ann("ListJobs", host="teamb")).jobs
    assert await As(world, "one").code("ListRuns") is _CODE.PERMISSION_DENIED


async def test_a_scope_may_be_a_tag_a_prefix_or_a_job(world: AccessWorld) -> None:
    """Each kind of scope gives the same sight in lists and in single calls."""
    for scope, jobs, runs in (
        ("tag:two", ["a.two", "b.two"], []),
        ("tag:one", ["a.one", "b.one"], [RUN_B, RUN_A]),
        ("job:a.*", ["a.one", "a.two"], [RUN_A]),
        ("job:b.one", ["b.one"], [RUN_B]),
        ("host:teamb", ["b.one", "b.two"], [RUN_B]),
    ):
        name = scope.replace(":", "-").removesuffix("*")
        await world.join(name, grants=(f"read {scope}",))
        as_ = As(world, name)
        assert [job.job_id for job in (await as_("ListJobs")).jobs] == jobs, scope
        assert [run.run_id for run in (await as_("ListRuns")).runs] == runs, scope
        for run_id in (RUN_A, RUN_B):
            want = _CODE.OK if run_id in runs else _CODE.PERMISSION_DENIED
            assert await as_.code("GetRun", run_id=run_id) is want, scope


async def test_a_job_that_moved_keeps_its_old_runs_from_its_new_team(world: AccessWorld) -> None:
    """Who may read a host sees the runs of that host: in lists, alone, and in the events."""
    await world.catalogue.forget("teama")
    from access_world import jobs
    from kernel_process import digest_of, manifest

    body = manifest("teamb", {"jobs": [*jobs("a")["jobs"], *jobs("b")["jobs"]]})
    await world.catalogue.introduce("teamb", digest=digest_of(body), manifest=body, explicit=True)
    ben = As(world, "ben")
    assert "a.one" in [job.job_id for job in (await ben("ListJobs")).jobs]
    assert await ben.code("GetRun", run_id=RUN_A) is _CODE.PERMISSION_DENIED
    assert [run.run_id for run in (await ben("ListRuns")).runs] == [RUN_B]
    assert not (await ben("GetJob", job_id="a.one")).job.HasField("last_run")
    run_ids = set()
    stream = ben.stream("WatchEvents", from_start=True)
    async for message in stream:
        run_ids.add(message.event.run_id)
        if message.event.kind == "run.finished":
            break
    stream.cancel()
    assert run_ids - {""} == {RUN_B}


async def test_what_code_and_params_say_needs_the_verb_logs(world: AccessWorld) -> None:
    """A3: a viewer sees states, times and reasons of his team; no answer holds a byte of params, results or errors."""
    for principal, wanted in (("ben", False), ("ann", True)):
        run_id, job_id = {"ann": (RUN_A, "a.one"), "ben": (RUN_B, "b.one")}[principal]
        as_ = As(world, principal)
        answers = [
            await as_("GetRun", run_id=run_id), await as_("ListRuns"), await as_("ListJobs"),
            await as_("GetJob", job_id=job_id), await as_("ListHosts"),
        ]  # fmt: skip
        answers += [item async for item in as_.stream("WatchRun", run_id=run_id)]
        events = as_.stream("WatchEvents", from_start=True)
        async for message in events:
            answers.append(message)
            if message.event.kind == "run.finished":
                break
        events.cancel()
        leaks = [type(each).__name__ for each in answers if SECRET.encode() in each.SerializeToString()]
        assert bool(leaks) is wanted, (principal, leaks)
        run = answers[0].run
        assert (run.state, run.reason.code) == (run_pb2.RUN_STATE_FAILED, "step_failed")
        assert run.steps[0].attempts[0].progress.total == 2
    ben = As(world, "ben")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ben.stream("ReadLogs", run_id=RUN_B).read()
    assert caught.value.code() is _CODE.PERMISSION_DENIED


async def test_a_watcher_whose_events_do_not_come_gets_bookmarks(world: AccessWorld) -> None:
    """The other team's events do not keep a watcher's cursor behind, and not one of them comes through."""
    world.service._watching._bookmark_seconds = 0.2
    stream = As(world, "ann").stream("WatchEvents")
    first = (await stream.read()).bookmark_seq
    bookmarks: list[int] = []

    async def read() -> None:
        while len(bookmarks) < 3:
            message = await stream.read()
            assert message.WhichOneof("item") == "bookmark_seq", message
            bookmarks.append(message.bookmark_seq)

    reading = asyncio.create_task(read())
    while not reading.done():
        await world.apply(Notice(kind="attempt.progress", at_us=1, run_id=RUN_B, job_id="b.one"))
        await world.apply(Notice(kind="host.attached", at_us=1, host="teamb"), Notice(kind="kernel.x", at_us=1))
        await asyncio.sleep(0.01)
    await reading
    assert first < bookmarks[0] < bookmarks[-1] <= world.feed.last_seq
    await world.apply(*ended_run("run_" + "4" * 26, "a"))
    message = await stream.read()
    while message.WhichOneof("item") == "bookmark_seq":
        message = await stream.read()
    assert message.event.kind == "run.queued"
    stream.cancel()


async def test_a_token_for_one_job_triggers_that_job_and_nothing_like_it(world: AccessWorld) -> None:
    """A2: names that look alike, wildcards, paths and invisible letters are refused as what does not exist is."""
    one = As(world, "one")
    assert (await one("TriggerRun", job_id="a.one")).run_id
    texts = set()
    for job_id in (
        "a.onex",
        "a.on",
        "A.one",
        "a.One",
        "*",
        "a.*",
        "a.one/../a.two",
        "a.one\u200b",
        "b.one",
        "",
        "a.two",
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await one("TriggerRun", job_id=job_id)
        assert caught.value.code() is _CODE.PERMISSION_DENIED, job_id
        texts.add((caught.value.details() or "").replace(f"job:{job_id}", "X").replace("trigger * ", "trigger X "))
    assert len(texts) == 1, texts
    assert await As(world, "anyone").code("TriggerRun", job_id="*") is _CODE.UNAUTHENTICATED
    assert await As(world, "owner").code("TriggerRun", job_id="*") is _CODE.INVALID_ARGUMENT


async def test_each_item_of_a_batch_is_permitted_or_refused_alone(world: AccessWorld) -> None:
    """The permitted run starts; the others say PERMISSION_DENIED, whether there is such a job or not."""
    names = ("a.one", "b.one", "c.one", "a.*")
    requests = [kernel.TriggerRunRequest(job_id=name) for name in names]
    items = (await As(world, "ann")("TriggerRuns", requests=requests)).items
    assert [item.error.reason for item in items] == ["", *["PERMISSION_DENIED"] * 3]
    started = await As(world, "owner")("GetRun", run_id=items[0].response.run_id)
    assert started.run.trigger.by == "ann"


async def test_a_replay_of_ones_own_run_needs_trigger_and_of_anothers_operate(world: AccessWorld) -> None:
    """Who may start a job may start it again, with the values of his own run, and not with another's."""
    await world.join("tri", grants=("trigger job:a.*", "cancel job:a.*", "read job:a.*"))
    tri = As(world, "tri")
    run_id = (await tri("TriggerRun", job_id="a.one", by="boss")).run_id
    cancelled = (await tri("CancelRun", run_id=run_id, by="boss", why="no")).run
    assert (cancelled.trigger.by, cancelled.cancel.by) == ("tri (for boss)", "tri (for boss)")
    again = (await tri("ReplayRun", run_id=run_id)).run_id
    assert (await tri("GetRun", run_id=again)).run.trigger.by == "tri"
    assert await tri.code("ReplayRun", run_id=RUN_A) is _CODE.PERMISSION_DENIED
    assert await As(world, "ann").code("ReplayRun", run_id=RUN_A) is _CODE.OK


async def test_an_unknown_run_takes_as_long_as_an_invisible_one(world: AccessWorld) -> None:
    """The medians of many refusals differ by less than a third: a run's id cannot be found out by the clock."""
    ann = As(world, "ann")
    times: dict[str, list[float]] = {RUN_B: [], NO_RUN: []}
    for _ in range(150):
        for run_id, found in times.items():
            began = time.perf_counter()
            assert await ann.code("GetRun", run_id=run_id) is _CODE.PERMISSION_DENIED
            found.append(time.perf_counter() - began)
    known, unknown = (statistics.median(found) for found in times.values())
    assert 0.66 < known / unknown < 1.5, (known, unknown)


async def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(world: AccessWorld) -> None:
    """A1: none, garbage, unknown, expired and revoked get one text; so does the check of a stream."""
    token_id = await world.join("gone", roles=("viewer",))
    await world.credentials.revoke(token_id)
    world.tokens["unknown"] = "nft1." + "A" * 43
    world.tokens["garbage"] = "x"
    answers = set()
    for name in ("anyone", "gone", "unknown", "garbage"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await As(world, name)("GetKernel")
        answers.add((caught.value.code(), caught.value.details(), str(caught.value.trailing_metadata())))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await As(world, name).stream("WatchEvents").read()
        answers.add((caught.value.code(), caught.value.details(), str(caught.value.trailing_metadata())))
    assert len(answers) == 1


async def test_a_withdrawn_token_ends_its_streams(world: AccessWorld) -> None:
    """A watch that was open when its token was revoked ends as unauthenticated."""
    stream = As(world, "ben").stream("WatchEvents")
    await stream.read()
    assert await As(world, "admin").code("RevokeTokens", target="ben") is _CODE.OK

    async def read_on() -> None:
        while True:
            await stream.read()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(read_on(), 20)
    assert caught.value.code() is _CODE.UNAUTHENTICATED


async def test_tokens_are_made_listed_rotated_and_withdrawn_over_the_wire(world: AccessWorld) -> None:
    """The secret is in one answer and works; a list shows everything but it."""
    owner = As(world, "owner")
    made = await owner("CreateToken", kind=access.TOKEN_KIND_SERVICE, name="ci", roles=["nightwatch"])
    assert list(made.token.grants) == ["read *", "cancel job:b.*"]
    assert (made.token.created_by, made.token.joins, list(made.token.roles)) == ("owner", False, ["nightwatch"])
    world.tokens["ci"] = made.secret
    assert await As(world, "ci").code("CancelRun", run_id=RUN_B) is _CODE.OK
    assert await As(world, "ci").code("CancelRun", run_id=RUN_A) is _CODE.PERMISSION_DENIED
    join = await owner("CreateToken", kind=access.TOKEN_KIND_HOST, name="teamc", uses=3)
    assert join.secret.startswith("nfj1.")
    assert (join.token.joins, join.token.uses_left, list(join.token.grants)) == (True, 3, [])
    listed = await owner("ListTokens")
    assert {token.name for token in listed.tokens} == {"admin", "ann", "ben", "one", "ci", "teamc"}
    assert made.secret.encode() not in listed.SerializeToString()
    rotated = await owner("RotateToken", token_id="ci")
    assert await As(world, "ci").code("GetKernel") is _CODE.UNAUTHENTICATED
    world.tokens["ci"] = rotated.secret
    assert await As(world, "ci").code("GetKernel") is _CODE.OK
    assert len((await owner("ListTokens", name="ci")).tokens) == 1
    assert len((await owner("ListTokens", name="ci", include_ended=True)).tokens) == 2
    assert list((await owner("RevokeTokens", target="ci")).token_ids)
    assert await As(world, "ci").code("GetKernel") is _CODE.UNAUTHENTICATED
    assert [each.host for each in (await owner("ListCertificates")).certificates] == ["teama"]
    assert await owner.code("RevokeTokens", target="nobody") is _CODE.NOT_FOUND
    assert await owner.code("CreateToken", name="x", roles=["viewer"]) is _CODE.INVALID_ARGUMENT


async def test_an_administrator_gives_no_more_than_he_has(world: AccessWorld) -> None:
    """Neither by a new token, nor by rotating a stronger one, whose secret he would get."""
    await world.join("small", grants=("admin *", "read *", "trigger job:a.*"))
    await world.join("strong", roles=("admin",))
    small = As(world, "small")

    async def give(*grants: str, roles: tuple[str, ...] = ()) -> grpc.StatusCode:
        fields = {"kind": access.TOKEN_KIND_USER, "name": "x", "grants": grants, "roles": roles}
        return await small.code("CreateToken", **fields)

    for grants in (["read *"], ["read job:b.one", "trigger job:a.one"], ["trigger job:a.o*"], ["read tag:x"]):
        assert await give(*grants) is _CODE.OK, grants
    for grants in (
        ["trigger *"],
        ["trigger job:b.one"],
        ["trigger job:a*"],
        ["trigger host:teama"],
        ["logs job:a.one"],
    ):
        assert await give(*grants) is _CODE.PERMISSION_DENIED, grants
    assert await give(roles=("viewer",)) is _CODE.OK
    assert await give(roles=("operator",)) is _CODE.PERMISSION_DENIED
    assert await give(roles=("nightwatch",)) is _CODE.PERMISSION_DENIED
    assert await small.code("RotateToken", token_id="strong") is _CODE.PERMISSION_DENIED
    assert await As(world, "strong").code("GetKernel") is _CODE.OK
    assert await small.code("RotateToken", token_id="small") is _CODE.OK


@pytest.fixture
async def tight() -> AsyncIterator[AccessWorld]:
    """A kernel with small quotas."""
    quotas = QuotaSection(calls_per_second=2, triggers_per_second=0.1, streams=2, queued_runs=3, bytes_per_second=1024)
    with short_directory() as directory:
        async with AsyncExitStack() as stack:
            yield await AccessWorld(directory=Path(directory), quotas=quotas).start(stack)


async def _refusal(call: Any) -> tuple[grpc.StatusCode, str, float]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    details = read_details(caught.value.trailing_metadata())
    assert details.retry_seconds is not None
    return caught.value.code(), details.reason, details.retry_seconds


async def test_a_storm_of_one_caller_is_told_when_to_come_back(tight: AccessWorld) -> None:
    """A19: RESOURCE_EXHAUSTED with the true wait; others, and the owner, do not notice."""
    ann, ben, owner = (As(tight, name) for name in ("ann", "ben", "owner"))
    codes = [await ann.code("GetKernel") for _ in range(30)]
    assert codes.index(_CODE.RESOURCE_EXHAUSTED) >= 20
    code, reason, wait = await _refusal(ann("GetKernel"))
    assert (code, reason) == (_CODE.RESOURCE_EXHAUSTED, "QUOTA")
    assert 0 < wait <= 0.5
    assert await ben.code("GetKernel") is _CODE.OK
    assert {await owner.code("TriggerRun", job_id="a.one") for _ in range(40)} == {_CODE.OK}
    await asyncio.sleep(wait)
    assert await ann.code("GetKernel") is _CODE.OK


async def test_triggers_streams_waiting_runs_and_bytes_have_limits(tight: AccessWorld) -> None:
    """Each is refused with QUOTA, and what was refused did not happen."""
    ann = As(tight, "ann")
    streams = [ann.stream("WatchEvents") for _ in range(2)]
    for stream in streams:
        await stream.read()
    assert (await _refusal(ann.stream("WatchEvents").read()))[1] == "QUOTA"
    streams.pop().cancel()
    await eventually(lambda: tight.guard._quotas._streams["ann"] == 1)
    third = ann.stream("WatchEvents")
    await third.read()
    items = (await ann("TriggerRuns", requests=[kernel.TriggerRunRequest(job_id="a.one")] * 5)).items
    assert [item.error.reason for item in items] == ["", "", "", "QUOTA", "QUOTA"]
    assert (await ann("TriggerRun", job_id="a.one", validate_only=True)) is not None
    code, reason, wait = await _refusal(ann("TriggerRun", job_id="a.one"))
    assert (code, reason) == (_CODE.RESOURCE_EXHAUSTED, "QUOTA")
    assert 5 < wait <= 10  # a run every ten seconds
    ben = As(tight, "ben")
    assert await ben.code("GetRun", run_id="x" * 20_000) is _CODE.PERMISSION_DENIED
    code, reason, wait = await _refusal(ben("GetRun", run_id=RUN_B))
    assert (code, reason) == (_CODE.RESOURCE_EXHAUSTED, "QUOTA")
    assert 5 < wait <= 10  # 20,000 bytes at 1,024 a second, of which ten seconds are free
    runs = (await As(tight, "owner")("ListRuns", states=[run_pb2.RUN_STATE_QUEUED])).runs
    assert [run.trigger.by for run in runs] == ["ann"] * 3


async def test_a_request_id_is_repeated_or_refused_as_ever(world: AccessWorld) -> None:
    """A19: the same request again is the same run; another one is ALREADY_EXISTS; another principal's is another."""
    ann, admin = As(world, "ann"), As(world, "admin")
    first = await ann("TriggerRun", job_id="a.one", request_id="k")
    again = await ann("TriggerRun", job_id="a.one", request_id="k")
    assert (again.run_id, again.deduplicated) == (first.run_id, True)
    assert await ann.code("TriggerRun", job_id="a.two", request_id="k") is _CODE.ALREADY_EXISTS
    other = await admin("TriggerRun", job_id="a.one", request_id="k")
    assert not other.deduplicated
    assert other.run_id != first.run_id
