"""Counts and pauses beside a list of jobs tell each caller of those jobs only that its grants allow."""

from __future__ import annotations

from contextlib import AsyncExitStack

from access_world import SECRET, AccessWorld, jobs, kernel_of_two_teams
from kernel_process import manifest

from nomaflow_api.v1 import job_pb2
from waiting import eventually


async def test_counts_and_pauses_of_jobs_are_those_that_the_caller_may_read() -> None:
    """The other team's jobs are not counted, and its pauses are not told."""
    with kernel_of_two_teams() as running:
        async with AsyncExitStack() as stack:
            world = await AccessWorld(running=running).start(stack)
            owner = world.as_("owner")
            await owner("Pause", job_id="b.one", why="freeze")
            await owner("Pause", host="teamb", why="freeze")
            seen = {}
            for name in ("owner", "ann", "ben"):
                found = await world.as_(name)("ListJobs", with_counts=True, page_size=1)
                seen[name] = (found.total, {each.host for each in found.counts} - {""}, len(found.pauses))
            assert seen == {"owner": (4, {"teama", "teamb"}, 2), "ann": (2, {"teama"}, 0), "ben": (2, {"teamb"}, 2)}


async def test_a_job_whose_id_is_another_host_s_does_not_tell_of_that_one_s_pause() -> None:
    """Else a team would bring the id of another one's job to learn who has paused that, and why."""
    with kernel_of_two_teams() as running:
        async with AsyncExitStack() as stack:
            world = await AccessWorld(running=running).start(stack)
            both = {"jobs": [*jobs("a")["jobs"], jobs("b")["jobs"][0]]}
            await world.hosts["a"].introduce(manifest("teama", both), explicit=True)
            await world.as_("owner")("Pause", job_id="b.one", why=SECRET)

            async def foreign() -> list[job_pb2.Job]:
                found = (await world.as_("ann")("ListJobs", with_counts=True)).jobs
                return [each for each in found if each.job_id == "b.one"]

            await eventually(foreign)
            (told,) = await foreign()
            assert not told.HasField("pause")
            assert not (await world.as_("ann")("ListJobs", conditions=[job_pb2.JOB_CONDITION_PAUSED])).jobs
            await world.as_("owner")("Pause", host="teama")
            (told,) = await foreign()
            assert told.pause.host == "teama"
