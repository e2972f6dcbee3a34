"""Jobs in lists: filtered by text, condition and id, counted, and skipped, so that a client asks for one page only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import grpc
import pytest
from rpc_world import World, catalogue_of

from nomaflow_api.v1 import job_pb2
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.catalogue.registry import HostCatalogue
from nomaflow_kernel.history.records import PauseRecord, RunRecord, RunRequest, RunTrigger, TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.history.transitions import QueueRun
from nomaflow_project.jobs.loaded import CatalogueLoad, LoadedJob
from nomaflow_project.reading.problems import Place

CONDITION = job_pb2.JobCondition


async def listed(world: World, **fields: Any) -> kernel.ListJobsResponse:
    """Return the first page of a list."""
    return await world.client.ListJobs(kernel.ListJobsRequest(**fields), timeout=20)


def ids(found: kernel.ListJobsResponse) -> list[str]:
    """Return the ids of a page."""
    return [job.job_id for job in found.jobs]


def pause(scope: str, name: str = "") -> PauseRecord:
    """Return a pause."""
    return PauseRecord(scope=scope, name=name, by="ann", why="freeze", since_us=1, until_us=None)


async def put_in_each_condition(world: World) -> None:
    """Have a job in each condition, named after it, and two in none."""
    place = Place("jobs.toml", "jobs[0]")
    broken = LoadedJob(job_id="disabled", host="team", definition=None, problems=(place.error("bad", "no such hour"),))
    found = catalogue_of("team", "active", "failed", "never_run", "paused", "succeeded", "zz-canceled")
    jobs = [*found.load.jobs, broken]
    tagged = [
        replace(job, definition=replace(job.definition, tags=("nightly",), description=f"Loads {job.job_id.upper()}"))
        if job.definition is not None and job.job_id in ("failed", "paused")
        else job
        for job in jobs
    ]
    world.catalogue.take_in(HostCatalogue(host="team", load=CatalogueLoad(jobs=tuple(tagged))))
    world.engine.active = {"active"}
    await world.engine.set_pause(pause("job", "paused"))
    ended = {"active": "SUCCEEDED", "failed": "FAILED", "paused": "SUCCEEDED", "succeeded": "SUCCEEDED"}
    for number, (job_id, state) in enumerate({**ended, "zz-canceled": "CANCELED"}.items()):
        record = RunRecord(
            run_id=f"run_{number:026}", job_id=job_id, host="team", state=RunState[state],
            trigger=RunTrigger(kind=TriggerKind.API, at_us=1), definition_digest="sha256:0", request=RunRequest(),
            queued_at_us=1, finished_at_us=2,
        )  # fmt: skip
        await world.apply(QueueRun(run=record, definition_json="{}"))


@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        (["DISABLED"], ["disabled"]),
        (["PAUSED"], ["paused"]),
        (["ACTIVE"], ["active"]),
        (["NEVER_RUN"], ["disabled", "never_run"]),
        (["FAILED"], ["failed"]),
        (["SUCCEEDED"], ["active", "paused", "succeeded"]),
        (["FAILED", "PAUSED"], ["failed", "paused"]),
        (["KEPT"], []),
    ],
)
async def test_a_list_keeps_the_jobs_of_some_conditions(
    world: World, conditions: Sequence[str], wanted: Sequence[str]
) -> None:
    """A job that is in one of those that are named is listed; the total counts them."""
    await put_in_each_condition(world)
    found = await listed(world, conditions=[CONDITION.Value(f"JOB_CONDITION_{each}") for each in conditions])
    assert ids(found) == wanted
    assert found.total == len(wanted)


async def test_what_the_jobs_alone_decide_is_asked_of_them_again_once_they_change(world: World) -> None:
    """And a list of some jobs only is not answered with what was found of all."""
    disabled = [CONDITION.Value("JOB_CONDITION_DISABLED")]
    assert ids(await listed(world, conditions=disabled)) == []
    await put_in_each_condition(world)
    for _ in range(2):
        assert ids(await listed(world, conditions=disabled)) == ["disabled"]
        assert ids(await listed(world, conditions=disabled, text="paused")) == []


async def test_counts_are_of_all_jobs_that_the_filters_keep(world: World) -> None:
    """Counts cover every job that the filters keep, whatever the page size, and come only if asked for."""
    await put_in_each_condition(world)
    counted = await listed(world, page_size=1, with_counts=True)
    told = {
        each.tag
        or each.host
        or (each.owner and f"owner {each.owner}")
        or CONDITION.Name(each.condition)[14:]: each.jobs
        for each in counted.counts
    }
    assert told == {
        "DISABLED": 1, "PAUSED": 1, "ACTIVE": 1, "NEVER_RUN": 2, "SUCCEEDED": 3, "FAILED": 1, "nightly": 2, "team": 7,
        "owner team": 7,
    }  # fmt: skip
    assert (counted.total, len(counted.jobs)) == (7, 1)
    of_tag = await listed(world, tag="nightly", with_counts=True)
    assert {each.host: each.jobs for each in of_tag.counts if each.host} == {"team": 2}
    assert not (await listed(world)).counts


async def test_a_text_is_looked_for_in_id_and_description(world: World) -> None:
    """In upper or lower case."""
    await put_in_each_condition(world)
    assert ids(await listed(world, text="CANCEL")) == ["zz-canceled"]
    assert ids(await listed(world, text="loads")) == ["failed", "paused"]
    assert ids(await listed(world, text="loads", tag="other")) == []


async def test_jobs_are_listed_by_their_ids(world: World) -> None:
    """In their order; unknown ones are left out."""
    await put_in_each_condition(world)
    assert ids(await listed(world, job_ids=["paused", "active", "who"])) == ["active", "paused"]


async def test_a_numbered_page_is_found_by_what_it_skips(world: World) -> None:
    """It goes on by its token like any other; beyond the end it is empty."""
    world.catalogue.take_in(catalogue_of("team", *"abcdefg"))
    second = await listed(world, skip=3, page_size=3)
    assert (ids(second), second.total) == (["d", "e", "f"], 7)
    third = await listed(world, page_token=second.next_page_token)
    assert (ids(third), third.next_page_token) == (["g"], "")
    beyond = await listed(world, skip=9, page_size=3)
    assert (ids(beyond), beyond.next_page_token, beyond.total) == ([], "", 7)
    last = await listed(world, skip=4, page_size=3)
    assert (ids(last), last.next_page_token) == (["e", "f", "g"], "")


async def test_the_first_page_has_the_pauses(world: World) -> None:
    """Those of everything, of hosts and of jobs, whatever is listed; later pages have none."""
    world.catalogue.take_in(catalogue_of("team", "a", "b"))
    for scope, name in (("all", ""), ("host", "team"), ("job", "b")):
        await world.engine.set_pause(pause(scope, name))
    found = await listed(world, page_size=1)
    assert [(each.job_id, each.host) for each in found.pauses] == [("", ""), ("", "team"), ("b", "")]
    assert not (await listed(world, page_token=found.next_page_token)).pauses


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conditions": [0]}, "conditions has the number 0"),
        ({"conditions": [99]}, "conditions has the number 99"),
        ({"job_ids": ["x"] * 501}, "job_ids has 501 items, expected at most 500"),
        ({"job_ids": ["not an id"]}, "job_id"),
        ({"text": "x" * 100_000}, "text"),
        ({"skip": 1, "page_token": "WyJhIiwiMSJd"}, "skip is set beside page_token"),
    ],
)
async def test_a_filter_that_breaks_a_rule_is_refused(world: World, fields: dict[str, Any], message: str) -> None:
    """INVALID_ARGUMENT, which names the field."""
    with pytest.raises(grpc.aio.AioRpcError, match=message) as caught:
        await listed(world, **fields)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
