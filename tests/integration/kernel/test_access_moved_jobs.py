"""A job that has moved to another host: what a caller with grants on the former one may still do with it."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

import grpc
from access_world import SECRET, AccessWorld, jobs, kernel_of_two_teams
from google.protobuf.timestamp_pb2 import Timestamp
from kernel_process import manifest

from waiting import eventually

_CODE = grpc.StatusCode


async def move(world: AccessWorld) -> None:
    """Have the jobs of team a run on the host of team b, which agrees."""
    await world.hosts["b"].introduce({**manifest("teamb", jobs("b")), "accept_jobs_from": ["teama"]}, explicit=True)
    moved = {"jobs": [{**job, "host": "teamb"} for job in jobs("a")["jobs"]]}
    await world.hosts["a"].introduce(manifest("teama", moved), explicit=True)

    async def is_moved() -> bool:
        found = (await world.as_("owner")("GetJob", job_id="a.one")).job
        return bool(found.host == "teamb" and found.valid)

    await eventually(is_moved)


async def test_a_replay_needs_the_grant_where_the_job_runs_now() -> None:
    """It goes to the host that the job names today: an operator of the former one may not trigger anything there."""
    with kernel_of_two_teams() as running:
        async with AsyncExitStack() as stack:
            world = await AccessWorld(running=running).start(stack)
            ann, run_id = world.as_("ann"), world.runs["a"]
            await move(world)
            assert await ann.code("TriggerRun", job_id="a.one") is _CODE.PERMISSION_DENIED
            for today in (False, True):
                assert await ann.code("ReplayRun", run_id=run_id, current_definition=today) is _CODE.PERMISSION_DENIED
            await world.join("both", roles=("operator host:teama", "operator host:teamb"))
            assert await world.as_("both").code("ReplayRun", run_id=run_id) is _CODE.OK


async def test_a_replay_shows_values_to_who_may_see_those_of_the_job_now() -> None:
    """With today's definition it has today's values, which who sees the logs of the former host only may not see."""
    with kernel_of_two_teams() as running:
        async with AsyncExitStack() as stack:
            world = await AccessWorld(running=running).start(stack)
            asked = {"run_id": world.runs["a"], "validate_only": True, "current_definition": True}
            await move(world)
            blind = ("trigger host:teamb", "operate host:teamb")
            await world.join("blind", roles=("operator host:teama",), grants=blind)
            await world.join("seeing", roles=("operator host:teama", "operator host:teamb"))
            assert SECRET in str(await world.as_("seeing")("ReplayRun", **asked))
            assert SECRET not in str(await world.as_("blind")("ReplayRun", **asked))


async def test_the_tags_of_a_job_are_for_who_may_read_it_now() -> None:
    """Else the old runs of a host that was forgotten would tell which tags the new owner of the id gives it."""
    with kernel_of_two_teams() as running:
        async with AsyncExitStack() as stack:
            world = await AccessWorld(running=running).start(stack)
            ann, owner = world.as_("ann"), world.as_("owner")
            await world.forget("a")
            taken = {**jobs("a")["jobs"][0], "tags": ["merger"]}
            await world.hosts["b"].introduce(manifest("teamb", {"jobs": [*jobs("b")["jobs"], taken]}), explicit=True)

            async def is_taken() -> bool:
                return bool((await owner("ListJobs", tag="merger")).jobs)

            await eventually(is_taken)
            hour_ago = Timestamp(seconds=int(time.time()) - 3600)
            for caller, tags in ((owner, {"merger", "one"}), (ann, set())):
                found = await caller("SummarizeRuns", since=hour_ago, group_by="RUN_GROUPING_TAG")
                assert {count.group for count in found.counts} == tags
                assert bool((await caller("SummarizeRuns", since=hour_ago, tag="merger")).counts) is bool(tags)
                assert bool((await caller("ListRuns", tag="merger")).runs) is bool(tags)
            assert [run.run_id for run in (await ann("ListRuns")).runs] == [world.runs["a"]]
