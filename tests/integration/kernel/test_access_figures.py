"""Each caller sees those figures, stored events and coming fires only that its grants allow."""

from __future__ import annotations

import time

import grpc
from access_world import SECRET, AccessWorld, jobs
from google.protobuf.timestamp_pb2 import Timestamp
from kernel_process import manifest

from waiting import eventually


async def test_figures_events_and_fires_are_of_what_the_caller_may_read(world: AccessWorld) -> None:
    """Tallies, statistics, stored events and coming fires of the other team are not there; values need `logs`."""
    day_ago = Timestamp(seconds=int(time.time()) - 86_400)
    for team in "ab":
        scheduled = {"jobs": [{**job, "schedule": "0 3 * * *"} for job in jobs(team)["jobs"]]}
        await world.hosts[team].introduce(manifest(f"team{team}", scheduled), explicit=True)
    owner, ids = world.as_("owner"), ["a.one", "b.one", "c.one"]

    async def scheduled_all() -> bool:
        return {fire.job_id for fire in (await owner("ListFires")).fires} == {"a.one", "a.two", "b.one", "b.two"}

    await eventually(scheduled_all)
    for name, teams in (("owner", "ab"), ("ann", "a"), ("ben", "b")):
        as_ = world.as_(name)
        counts = (await as_("SummarizeRuns", since=day_ago, group_by="RUN_GROUPING_JOB")).counts
        assert {count.group for count in counts} == {f"{team}.one" for team in teams}, name
        assert [one.job_id for one in (await as_("GetJobStats", job_ids=ids)).jobs] == [f"{t}.one" for t in teams]
        events = (await as_("ListEvents", page_size=500)).events
        assert {event.job_id for event in events if event.run_id} == {f"{team}.one" for team in teams}, name
        assert {fire.job_id[0] for fire in (await as_("ListFires")).fires} == set(teams), name
        hidden = name == "ben"
        assert (SECRET not in str(events)) == hidden, name
        shown = (await as_("GetRun", run_id=world.runs[teams[-1]])).run
        assert (SECRET.encode() not in shown.SerializeToString()) == hidden, name
        listed = (await as_("ListRuns", with_steps=True)).runs
        assert (SECRET not in str(listed)) == hidden, name
    for filters in ({"run_ids": [world.runs["b"]]}, {"exclude_job_ids": ["a.one"]}, {"tag": "one", "job_id": "b.one"}):
        assert not (await world.as_("ann")("ListRuns", **filters)).runs, filters
    assert not (await world.as_("ann")("ListEvents", run_id=world.runs["b"])).events
    assert await world.as_("one").code("SummarizeRuns") is grpc.StatusCode.PERMISSION_DENIED
