"""Lists of runs and events: what is kept of them, and how large a page is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import structs
from rpc_histories import begin, finish
from rpc_world import World, queue_run

from nomaflow_api.v1 import event_pb2, run_pb2
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.access.grants import Grant
from nomaflow_kernel.access.principals import Caller, Principal, PrincipalKind
from nomaflow_kernel.history.lookups import EventPage
from nomaflow_kernel.history.transitions import Notice, StartRun
from nomaflow_kernel.rpc.event_pages import EventPages

MIB = 1024 * 1024


async def test_a_list_shows_each_run_as_it_is_now(world: World) -> None:
    """A list that is asked for again is equal, and another one once a run has changed."""
    await begin(world)
    first, again = [await _listed(world) for _ in range(2)]
    assert first == again
    await world.apply(finish())
    (ended,) = (await _listed(world)).runs
    assert (first.runs[0].state, ended.state) == (run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_SUCCEEDED)


@pytest.mark.parametrize("fields", [{}, {"oldest_first": True}, {"with_steps": True}], ids=str)
async def test_a_page_of_runs_with_long_errors_is_not_too_large(world: World, fields: dict[str, bool]) -> None:
    """GRPC gives clients no more than 4 MiB unless they ask for it. The next page goes on, and none is left out."""
    ids = await _with_long_errors(world)
    found, token = [], ""
    while not found or token:
        page = await world.client.ListRuns(kernel.ListRunsRequest(page_size=50, page_token=token, **fields), timeout=20)
        assert page.ByteSize() < 4 * MIB
        found += [run.run_id for run in page.runs]
        token = page.next_page_token
    assert (found if fields.get("oldest_first") else found[::-1]) == ids


async def test_a_page_of_events_with_long_errors_is_not_too_large(world: World) -> None:
    """As a page of runs does."""
    ids = await _with_long_errors(world)
    found, before = [], 0
    while not found or before:
        page = await world.client.ListEvents(
            event_pb2.ListEventsRequest(page_size=500, before_seq=before, kinds=["run.finished"]), timeout=20
        )
        assert page.ByteSize() < 2 * MIB
        found += [event.run_id for event in page.events]
        before = page.next_before_seq
    assert found[::-1] == ids


async def test_the_next_page_tells_nothing_of_large_events_of_others(world: World) -> None:
    """They fill no page, though a page of the store ends with the event that fills it."""
    large = {"extras_json": "x" * MIB}
    others = [Notice(kind="attempt.late_result", job_id="theirs", data=large) for _ in range(8)]
    await world.apply(Notice(kind="attempt.late_result", job_id="mine", data=large), *others)
    principal = Principal(kind=PrincipalKind.USER, name="ann", grants=(Grant.parse("read job:mine"),))
    page = await EventPages(world.parts).list_events(
        event_pb2.ListEventsRequest(), Caller(principal=principal, peer="unix:")
    )
    assert ([event.job_id for event in page.events], page.next_before_seq) == (["mine"], 0)


async def test_events_that_are_removed_while_a_page_is_read_hide_no_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention removes the events of a run wherever they are; what the caller may read is read after their heads."""
    await world.apply(*(Notice(kind="attempt.late_result", job_id="mine") for _ in range(3)))
    principal = Principal(kind=PrincipalKind.USER, name="ann", grants=(Grant.parse("read job:mine"),))
    caller, pages = Caller(principal=principal, peer="unix:"), EventPages(world.parts)
    first = await pages.list_events(event_pb2.ListEventsRequest(page_size=1), caller)
    events_of, gone = world.store.events_of, first.events[0].seq - 1

    async def without_one(seqs: Sequence[int], *, limit: int) -> EventPage:
        return await events_of([seq for seq in seqs if seq != gone], limit=limit)

    monkeypatch.setattr(world.store, "events_of", without_one)
    found, before = list[int](), 0
    while not found or before:
        page = await pages.list_events(event_pb2.ListEventsRequest(page_size=1, before_seq=before), caller)
        found += [event.seq for event in page.events]
        before = page.next_before_seq
    assert found == [gone + 1, gone - 1]


async def _with_long_errors(world: World) -> list[str]:
    """Commit the ends of runs whose errors are too long for one message, and return the runs, oldest first."""
    ids = [f"run_{number:026}" for number in range(50)]
    await world.apply(*map(queue_run, ids))
    await world.apply(*(StartRun(run_id=each, job_id="job", at_us=1) for each in ids))
    await world.apply(*(structs.replace(finish(each), error="e" * (MIB // 10)) for each in ids))
    return ids


async def _listed(world: World) -> kernel.ListRunsResponse:
    return await world.client.ListRuns(kernel.ListRunsRequest(), timeout=20)
