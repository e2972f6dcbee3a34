"""Each caller sees those entries of lists, watches and values only that its grants allow."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from access_world import NO_RUN, SECRET, AccessWorld, jobs, kernel_of_two_teams
from kernel_process import manifest

from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.reason_statuses import details_of
from nomaflow_kernel.access.grants import Verb
from waiting import eventually

_CODE = grpc.StatusCode


async def test_lists_hold_what_the_caller_may_read(world: AccessWorld) -> None:
    """Runs, jobs and hosts of the other team are not there, and filters do not bring them."""
    seen = {}
    for name in ("owner", "admin", "ann", "ben"):
        as_ = world.as_(name)
        runs = {run.job_id for run in (await as_("ListRuns")).runs}
        listed = [job.job_id for job in (await as_("ListJobs")).jobs]
        hosts = [host.name for host in (await as_("ListHosts")).hosts]
        seen[name] = (runs, listed, hosts)
    of_a, of_b = ({"a.one"}, ["a.one", "a.two"], ["teama"]), ({"b.one"}, ["b.one", "b.two"], ["teamb"])
    everything = ({"a.one", "b.one"}, of_a[1] + of_b[1], ["teama", "teamb"])
    assert seen == {"owner": everything, "admin": everything, "ann": of_a, "ben": of_b}
    ann = world.as_("ann")
    assert not (await ann("ListRuns", job_id="b.one")).runs
    assert not (await ann("ListRuns", host="teamb", states=[run_pb2.RUN_STATE_FAILED])).runs
    assert not (await ann("ListJobs", host="teamb")).jobs
    assert await world.as_("one").code("ListRuns") is _CODE.PERMISSION_DENIED


async def test_pages_of_a_filtered_list_join(world: AccessWorld) -> None:
    """One run a page: all of the team's runs come, newest first, and none of the other team's between them."""
    more = [await world.failed_run(team) for team in ("a", "b", "a")]
    ann, found, token = world.as_("ann"), [], ""
    while not found or token:
        page = await ann("ListRuns", page_size=1, page_token=token)
        found += [run.run_id for run in page.runs]
        token = page.next_page_token
    assert found[:3] == [more[2], more[0], world.runs["a"]]
    assert found == sorted(set(found), reverse=True)
    assert not {more[1], world.runs["b"]} & set(found)


async def test_a_scope_may_be_a_tag_a_prefix_or_a_job(world: AccessWorld) -> None:
    """Each kind of scope gives the same sight in lists and in single calls."""
    for scope, wanted, teams in (
        ("tag:two", ["a.two", "b.two"], ""),
        ("tag:one", ["a.one", "b.one"], "ab"),
        ("job:a.*", ["a.one", "a.two"], "a"),
        ("job:b.one", ["b.one"], "b"),
        ("host:teamb", ["b.one", "b.two"], "b"),
    ):
        name = scope.replace(":", "-").removesuffix("*")
        await world.join(name, grants=(f"read {scope}",))
        as_ = world.as_(name)
        assert [job.job_id for job in (await as_("ListJobs")).jobs] == wanted, scope
        assert {run.job_id for run in (await as_("ListRuns")).runs} == {f"{team}.one" for team in teams}, scope
        for team, run_id in world.runs.items():
            want = _CODE.OK if team in teams else _CODE.PERMISSION_DENIED
            assert await as_.code("GetRun", run_id=run_id) is want, scope


async def test_a_job_that_moved_keeps_its_old_runs_from_its_new_team() -> None:
    """A reader of a host sees the runs of that host: in lists, alone, and in the events."""
    with kernel_of_two_teams() as running:
        async with AsyncExitStack() as stack:
            world = await AccessWorld(running=running).start(stack)
            ben = world.as_("ben")
            await world.forget("a")
            await world.join("tag", grants=("read tag:one",))
            for at in ({"host": "teama"}, {}):
                moved = {"jobs": [*({**job, **at} for job in jobs("a")["jobs"]), *jobs("b")["jobs"]]}
                await world.hosts["b"].introduce(manifest("teamb", moved), explicit=True)
                await eventually(lambda: _lists_job(world.as_("tag"), "a.one"))
                await _sees_only(world.as_("tag"), world.runs["b"], not_=world.runs["a"], job_id="a.one")
            await eventually(lambda: _lists_job(ben, "a.one"))
            assert await ben.code("GetRun", run_id=world.runs["a"]) is _CODE.PERMISSION_DENIED
            assert [run.run_id for run in (await ben("ListRuns")).runs] == [world.runs["b"]]
            assert not (await ben("GetJob", job_id="a.one")).job.HasField("last_run")
            assert not (await ben("GetJobStats", job_ids=["a.one"])).jobs[0].recent
            run_ids, stream = set(), ben.stream("WatchEvents", from_start=True)
            async for message in stream:
                run_ids.update(event.run_id for event in message.events)
                if any(event.kind == "run.finished" for event in message.events):
                    break
            stream.cancel()
            assert run_ids - {""} == {world.runs["b"]}


async def test_tags_of_a_job_that_another_host_owns_open_none_of_its_runs() -> None:
    """A team that brings another team's job id with a tag of its own shows nobody the runs of that job."""
    with kernel_of_two_teams() as running:
        async with AsyncExitStack() as stack:
            world = await AccessWorld(running=running).start(stack)
            claimed = [{**job, "tags": ["ta"]} for job in (*jobs("a")["jobs"], *jobs("b")["jobs"])]
            await world.hosts["a"].introduce(manifest("teama", {"jobs": claimed}), explicit=True)
            await world.join("tag", roles=("operator tag:ta",))
            as_ = world.as_("tag")
            await eventually(lambda: _lists_job(as_, "a.one"))
            await _sees_only(as_, world.runs["a"], not_=world.runs["b"], job_id="b.one")


async def _sees_only(as_: Any, run_id: str, *, not_: str, job_id: str) -> None:
    """Check that a caller sees one run and not the other: in lists, events, alone, and as the newest of its job."""
    assert [run.run_id for run in (await as_("ListRuns")).runs] == [run_id]
    assert {event.run_id for event in (await as_("ListEvents", page_size=500)).events} - {""} == {run_id}
    assert await as_.code("GetRun", run_id=run_id) is _CODE.OK
    assert await as_.code("GetRun", run_id=not_) is _CODE.PERMISSION_DENIED
    listed = (await as_("ListJobs")).jobs
    assert not [job for job in listed if job.job_id == job_id and job.HasField("last_run")]
    assert job_id not in [job.job_id for job in (await as_("ListJobs", conditions=["JOB_CONDITION_FAILED"])).jobs]


async def _lists_job(as_: Any, job_id: str) -> bool:
    return job_id in [job.job_id for job in (await as_("ListJobs")).jobs]


async def test_what_code_and_params_say_needs_the_verb_logs(world: AccessWorld) -> None:
    """A3: a viewer sees states, times and reasons of his team; no answer holds a byte of params, results or errors."""
    for principal, wanted in (("ben", False), ("ann", True)):
        run_id, job_id = {"ann": (world.runs["a"], "a.one"), "ben": (world.runs["b"], "b.one")}[principal]
        as_ = world.as_(principal)
        answers = [
            await as_("GetRun", run_id=run_id), await as_("ListRuns"), await as_("ListJobs"),
            await as_("GetJob", job_id=job_id), await as_("ListHosts"),
        ]  # fmt: skip
        answers += [item async for item in as_.stream("WatchRun", run_id=run_id)]
        events = as_.stream("WatchEvents", from_start=True)
        async for message in events:
            answers.append(message)
            if any(event.kind == "run.finished" for event in message.events):
                break
        events.cancel()
        leaks = [type(each).__name__ for each in answers if SECRET.encode() in each.SerializeToString()]
        assert bool(leaks) is wanted, (principal, leaks)
        run = answers[0].run
        assert (run.state, run.reason.code) == (run_pb2.RUN_STATE_FAILED, "step_failed")
        assert run.steps[0].attempts[0].progress.total == 2
    ben = world.as_("ben")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ben.stream("ReadLogs", run_id=world.runs["b"]).read()
    assert caught.value.code() is _CODE.PERMISSION_DENIED


async def test_what_is_wrong_with_a_job_is_told_to_who_may_see_values(world: AccessWorld) -> None:
    """A refusal, a list and a job quote the file only to who has the verb logs."""
    bad = {**jobs("a")["jobs"][0], "id": "a.bad", "timeout_seconds": SECRET, "params": {}}
    team = {"jobs": [*jobs("a")["jobs"], bad]}
    await world.hosts["a"].introduce(manifest("teama", team), explicit=True)
    await world.join("tri", grants=("trigger job:a.bad", "read job:a.bad"))
    await world.join("all", roles=("operator job:a.bad",))
    for name, wanted in (("tri", False), ("all", True)):
        as_ = world.as_(name)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await as_("TriggerRun", job_id="a.bad")
        assert caught.value.code() is _CODE.FAILED_PRECONDITION
        said = [str(caught.value), str(await as_("ListJobs")), str(await as_("GetJob", job_id="a.bad"))]
        assert [SECRET in each for each in said] == [wanted] * 3, name
    await world.hosts["a"].introduce(manifest("teama", jobs("a")), explicit=True)


async def test_the_kernel_tells_who_asks_and_where_it_runs_only_to_who_operates_it(world: AccessWorld) -> None:
    """A token learns its own name and grants, the kernel's clock and times; no path, no pid, and no foreign counts."""
    told = {name: await world.as_(name)("GetKernel") for name in ("owner", "admin", "ann", "ben", "one")}
    where = (world.running.pid, str(world.running.project))
    nowhere = (0, "")
    places = {name: (each.pid, each.project) for name, each in told.items()}
    assert places == {"owner": where, "admin": where, "ann": nowhere, "ben": nowhere, "one": nowhere}
    assert {name for name, each in told.items() if not each.last_event_seq} == {"one"}
    callers = {name: (each.caller.kind, each.caller.name, list(each.caller.roles)) for name, each in told.items()}
    assert callers == {
        "owner": ("owner", "owner", []),
        "admin": ("user", "admin", ["admin"]),
        "ann": ("user", "ann", ["operator host:teama"]),
        "ben": ("user", "ben", ["viewer host:teamb"]),
        "one": ("service", "one", []),
    }
    assert [grant.partition(" ")[0] for grant in told["owner"].caller.grants] == list(Verb)
    assert told["ben"].caller.grants == ["read host:teamb"]
    assert all(each.lease_seconds > 0 and each.grace_seconds > each.lease_seconds for each in told.values())
    assert all(abs(each.now.ToMicroseconds() - time.time_ns() // 1000) < 60_000_000 for each in told.values())


async def test_events_of_others_do_not_come(world: AccessWorld) -> None:
    """A watcher gets its team's events, in order, and nothing of the other team, of its host or of the kernel."""
    stream = world.as_("ann").stream("WatchEvents", from_start=True)
    await world.failed_run("b")
    last = await world.failed_run("a")
    seen = []
    async for message in stream:
        seen += message.events
        if any((event.run_id, event.kind) == (last, "run.finished") for event in message.events):
            break
    stream.cancel()
    assert {event.job_id for event in seen if event.run_id} == {"a.one"}
    told = [
        event for event in seen if not event.run_id and not event.kind.startswith("pause.")
    ]  # a pause is of no host
    assert {event.host for event in told} == {"teama"}
    assert [event.seq for event in seen] == sorted({event.seq for event in seen})


async def test_a_token_for_one_job_triggers_that_job_and_nothing_like_it(world: AccessWorld) -> None:
    """A2: names that look alike, wildcards, paths and invisible letters are refused as what does not exist is."""
    one = world.as_("one")
    assert (await one("TriggerRun", job_id="a.one")).run_id
    texts = set()
    like = ["a.onex", "a.on", "A.one", "a.One", "*", "a.*", "a.one/../a.two", "a.one\u200b", "b.one", "a.two"]
    for job_id in (*like, ""):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await one("TriggerRun", job_id=job_id)
        assert caught.value.code() is _CODE.PERMISSION_DENIED, job_id
        texts.add((caught.value.details() or "").replace(f"job:{job_id}", "X"))
    assert len(texts) == 1, texts
    assert texts.pop().startswith("one may not trigger X, or it does not exist; ")
    await world.join("all", grants=("read *", "trigger job:a.one"))
    with pytest.raises(grpc.aio.AioRpcError, match=r"all may not trigger job:a\.two; "):
        await world.as_("all")("TriggerRun", job_id="a.two")  # who may read everything is told for certain
    assert await world.as_("anyone").code("TriggerRun", job_id="*") is _CODE.UNAUTHENTICATED
    assert await world.as_("owner").code("TriggerRun", job_id="*") is _CODE.INVALID_ARGUMENT


async def test_each_item_of_a_batch_is_permitted_or_refused_alone(world: AccessWorld) -> None:
    """The permitted run starts; the others say PERMISSION_DENIED, whether there is such a job or not."""
    names = ("a.one", "b.one", "c.one", "a.*")
    requests = [kernel.TriggerRunRequest(job_id=name) for name in names]
    items = (await world.as_("ann")("TriggerRuns", requests=requests)).items
    assert [details_of(item.status).reason for item in items] == ["", *["PERMISSION_DENIED"] * 3]
    started = await world.as_("owner")("GetRun", run_id=items[0].response.run_id)
    assert started.run.trigger.by == "ann"


async def test_a_replay_of_ones_own_run_needs_trigger_and_of_anothers_operate_too(world: AccessWorld) -> None:
    """A caller who may start a job may replay it with the values of his own run, and not with another's."""
    await world.join("tri", grants=("trigger job:a.*", "cancel job:a.*", "read job:a.*"))
    tri, owner = world.as_("tri"), world.as_("owner")
    await owner("Pause", job_id="a.one")  # so that a cancel ends the run at once
    run_id = (await tri("TriggerRun", job_id="a.one", by="boss")).run_id
    cancelled = (await tri("CancelRun", run_id=run_id, by="boss", why="no")).run
    assert (cancelled.trigger.by, cancelled.cancel.by) == ("tri (for boss)", "tri (for boss)")
    again = (await tri("ReplayRun", run_id=run_id)).run_id
    assert (await tri("GetRun", run_id=again)).run.trigger.by == "tri"
    with pytest.raises(grpc.aio.AioRpcError, match="a run of somebody else, which needs the grant `operate`"):
        await tri("ReplayRun", run_id=world.runs["a"])
    assert await world.as_("ann").code("ReplayRun", run_id=world.runs["a"]) is _CODE.OK
    await world.join("ops", grants=("operate job:a.*", "trigger job:b.*", "read job:a.*"))
    assert await world.as_("ops").code("ReplayRun", run_id=world.runs["a"]) is _CODE.PERMISSION_DENIED
    await world.join("blind", grants=("trigger job:a.*",))
    with pytest.raises(grpc.aio.AioRpcError, match=r"blind may not trigger run_[0-9a-z]+, or it does not exist; "):
        await world.as_("blind")("ReplayRun", run_id=world.runs["a"])
    await owner("Resume", job_id="a.one")


async def test_an_unknown_run_takes_as_long_as_an_invisible_one(world: AccessWorld) -> None:
    """The medians of many refusals differ by less than a third: a run's id cannot be found out by the clock."""
    ann = world.as_("ann")

    async def ratio() -> float:
        times: dict[str, list[float]] = {world.runs["b"]: [], NO_RUN: []}
        for _ in range(150):
            for run_id, found in times.items():
                began = time.perf_counter()
                assert await ann.code("GetRun", run_id=run_id) is _CODE.PERMISSION_DENIED
                found.append(time.perf_counter() - began)
        known, unknown = (statistics.median(found) for found in times.values())
        return max(known, unknown) / min(known, unknown)

    found: list[float] = []
    while not found or (found[-1] >= 1.5 and len(found) < 3):  # other work of the machine may have been in the way
        found.append(await ratio())
    assert min(found) < 1.5, found


async def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(world: AccessWorld) -> None:
    """A1: none, garbage, unknown, expired and revoked get one text; so does the check of a stream."""
    token_id = await world.join("gone", roles=("viewer",))
    await world.as_("owner")("RevokeTokens", target=token_id)
    world.tokens["unknown"] = "nft1." + "A" * 43
    world.tokens["garbage"] = "x"
    order = {"kind": access.TOKEN_KIND_USER, "name": "old", "roles": ["viewer"], "lifetime_seconds": 1}
    world.tokens["old"] = (await world.as_("owner")("CreateToken", **order)).secret
    old = world.as_("old")

    async def is_over() -> bool:
        return await old.code("GetKernel") is _CODE.UNAUTHENTICATED

    await eventually(is_over)
    answers = set()
    for name in ("anyone", "gone", "unknown", "garbage", "old"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.as_(name)("GetKernel")
        answers.add((caught.value.code(), caught.value.details(), str(caught.value.trailing_metadata())))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.as_(name).stream("WatchEvents").read()
        answers.add((caught.value.code(), caught.value.details(), str(caught.value.trailing_metadata())))
    assert len(answers) == 1


async def test_a_withdrawn_token_ends_its_streams(world: AccessWorld) -> None:
    """A watch that was open when its token was revoked ends as unauthenticated."""
    stream = world.as_("ben").stream("WatchEvents")
    await stream.read()
    assert await world.as_("admin").code("RevokeTokens", target="ben") is _CODE.OK

    async def read_on() -> None:
        while True:
            await stream.read()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(read_on(), 20)
    assert caught.value.code() is _CODE.UNAUTHENTICATED


async def test_tokens_are_made_listed_rotated_and_withdrawn_over_the_wire(world: AccessWorld) -> None:
    """The secret is in one answer and works; a list shows everything but it."""
    owner = world.as_("owner")
    made = await owner("CreateToken", kind=access.TOKEN_KIND_SERVICE, name="ci", roles=["nightwatch"])
    assert list(made.token.grants) == ["read *", "cancel job:b.*"]
    assert (made.token.created_by, made.token.joins, list(made.token.roles)) == ("owner", False, ["nightwatch"])
    world.tokens["ci"] = made.secret
    assert await world.as_("ci").code("CancelRun", run_id=world.runs["b"]) is _CODE.OK
    assert await world.as_("ci").code("CancelRun", run_id=world.runs["a"]) is _CODE.PERMISSION_DENIED
    join = await owner("CreateToken", kind=access.TOKEN_KIND_HOST, name="teamc", uses=3)
    assert join.secret.startswith("nfj1.")
    assert (join.token.joins, join.token.uses_left, list(join.token.grants)) == (True, 3, [])
    listed = await owner("ListTokens")
    assert {token.name for token in listed.tokens} >= {"admin", "ann", "ben", "one", "ci", "teamc"}
    assert made.secret.encode() not in listed.SerializeToString()
    rotated = await owner("RotateToken", token_id="ci")
    assert await world.as_("ci").code("GetKernel") is _CODE.UNAUTHENTICATED
    world.tokens["ci"] = rotated.secret
    assert await world.as_("ci").code("GetKernel") is _CODE.OK
    assert len((await owner("ListTokens", name="ci")).tokens) == 1
    assert len((await owner("ListTokens", name="ci", include_ended=True)).tokens) == 2
    assert list((await owner("RevokeTokens", target="ci")).token_ids)
    assert await world.as_("ci").code("GetKernel") is _CODE.UNAUTHENTICATED
    assert {each.host for each in (await owner("ListCertificates")).certificates} == {"teamc"}
    assert await owner.code("RevokeTokens", target="nobody") is _CODE.NOT_FOUND
    assert await owner.code("CreateToken", name="x", roles=["viewer"]) is _CODE.INVALID_ARGUMENT


async def test_an_administrator_gives_no_more_than_he_has(world: AccessWorld) -> None:
    """A new token with more rights is refused, and so is the rotation of a stronger one, whose secret he would get."""
    await world.join("small", grants=("admin *", "read *", "trigger job:a.*"))
    await world.join("strong", roles=("admin",))
    small = world.as_("small")

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
    host = {"kind": access.TOKEN_KIND_HOST, "name": "teamb"}
    assert await small.code("CreateToken", **host) is _CODE.PERMISSION_DENIED  # it would get that team's params
    assert await world.as_("strong").code("GetKernel") is _CODE.OK
    assert await small.code("RotateToken", token_id="small") is _CODE.OK


async def test_a_request_id_is_repeated_or_refused_as_ever(world: AccessWorld) -> None:
    """A19: the same request again is the same run; another one is ALREADY_EXISTS; another principal's is another."""
    ann, admin = world.as_("ann"), world.as_("admin")
    first = await ann("TriggerRun", job_id="a.one", request_id="k")
    again = await ann("TriggerRun", job_id="a.one", request_id="k")
    assert (again.run_id, again.deduplicated) == (first.run_id, True)
    with pytest.raises(grpc.aio.AioRpcError, match="request_id 'k' was used for run"):
        await ann("TriggerRun", job_id="a.two", request_id="k")
    other = await admin("TriggerRun", job_id="a.one", request_id="k")
    assert not other.deduplicated
    assert other.run_id != first.run_id
