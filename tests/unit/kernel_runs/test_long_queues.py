"""A queue that is longer than what is kept in memory: what the kernel reads, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import structs
from rig import PlayedHost, Rig, command, job, step

from nomaflow_kernel.domain.errors import QuotaExceeded
from nomaflow_kernel.engine import explaining, triggering
from nomaflow_kernel.engine.run_queue import WaitingRuns
from nomaflow_kernel.engine.state import EngineState, RecentlyUsed
from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import QueuedRun
from nomaflow_project.jobs.definitions import Overlap, StepDefinition

SYNC = "work:sync"


@pytest.fixture
def read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the runs that the engine reads from its store from now on."""
    found: list[str] = []
    details = rig.store.run_details

    async def run_details(run_ids: Sequence[str], **results: Any) -> Sequence[RunDetail]:
        found.extend(run_ids)
        return await details(run_ids, **results)

    monkeypatch.setattr(rig.store, "run_details", run_details)
    return found


async def _full(rig: Rig, *, kept: int = 3) -> PlayedHost:
    """Attach a host with no slot left for async steps and one for a sync step, and let the engine keep few runs."""
    rig.engine._state.specs = RecentlyUsed(kept)
    rig.jobs.callables[SYNC] = {"kind": "sync"}
    rig.jobs.add(*(job(name, overlap="allow") for name in ("long", "a", "b", "c")))
    rig.jobs.add(job("sync", step("one", callable=SYNC), overlap="allow"))
    host = PlayedHost(rig, max_async=1, max_sync=1)
    await host.attach()
    await rig.take(command("long"))
    await host.dispatch(1)
    return host


async def test_runs_that_wait_for_a_slot_of_their_kind_are_not_read(
    rig: Rig, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a host with one kind of slot free, the runs for the other kind stay in the store, however many come.

    Nor is any of them looked at closely.
    """
    host = await _full(rig)
    waiting = [(await rig.take(command(name))).run_id for name in ("a", "b", "c") * 5]
    assert read == []
    assert {(rig.engine.holdup(run_id) or pytest.fail("held up by nothing")).code for run_id in waiting} == {
        "waiting_for_slot"
    }
    looked: list[str] = []
    reason = explaining.waiting_reason

    def noted(state: EngineState, entry: QueuedRun) -> Reason | None:
        looked.append(entry.run_id)
        return reason(state, entry)

    monkeypatch.setattr(explaining, "waiting_reason", noted)
    run_id = (await rig.take(command("sync"))).run_id
    assert (await host.dispatch(2)).run_id == run_id
    assert looked == [run_id]
    assert read == []


async def test_a_trigger_that_finds_no_slot_costs_no_look_at_the_others(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host may have thousands of jobs with waiting runs; they are looked at once a slot is free."""
    host = await _full(rig)
    looked: list[str] = []
    next_of = WaitingRuns.next_of

    def noted(waiting: WaitingRuns, name: str, may_start: Callable[[QueuedRun], bool]) -> QueuedRun | None:
        looked.append(name)
        return next_of(waiting, name, may_start)

    monkeypatch.setattr(WaitingRuns, "next_of", noted)
    waiting = [(await rig.take(command(name))).run_id for name in ("a", "b", "c")]
    assert looked == []
    await host.finish((await host.dispatch(1)).attempt_key)
    assert (await host.dispatch(2)).run_id == waiting[0]


async def test_a_run_that_is_not_what_its_job_says_is_looked_at(rig: Rig, read: list[str]) -> None:
    """A run whose own data asks for another slot gets the free one, past those that wait for the other kind."""
    host = await _full(rig, kept=1)
    rig.jobs.add(job("both", step("one"), step("two", callable=SYNC), overlap="allow"))
    for name in ("a", "b"):
        await rig.take(command(name))
    run_id = (await rig.take(command("both", switches={"one": False}))).run_id
    assert (await host.dispatch(2)).run_id == run_id


async def test_the_next_runs_are_read_in_the_order_of_their_turns(rig: Rig, read: list[str]) -> None:
    """Jobs take turns, so one run of each job is read before a second one of any."""
    host = await _full(rig, kept=4)
    runs: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    for name in ("a", "a", "a", "a", "b", "b", "c"):
        runs[name].append((await rig.take(command(name))).run_id)
    rig.engine._state.specs.clear()
    assert [each.run_id for each in rig.engine._state.waiting.coming("demo", 5)] == [
        runs["a"][0], runs["b"][0], runs["c"][0], runs["a"][1], runs["b"][1],
    ]  # fmt: skip
    for number in range(1, 8):
        await host.finish((await host.dispatch(number)).attempt_key)
    last = await host.dispatch(8)
    assert last.run_id == runs["a"][3]
    assert len(read) == len(set(read)) == 7


async def test_large_runs_are_read_one_by_one_when_it_is_their_turn(
    rig: Rig, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request of 4 MiB takes up to 90 MiB, and thousands may wait; a replay may have a large definition, too."""
    host = await _full(rig, kept=100)
    await rig.take(command("sync"))
    orders = [await host.dispatch(number) for number in (1, 2)]
    runs = [(await rig.take(command("a", params={"values": [{}] * 3_000}))).run_id for _ in range(2)]
    runs += [(await rig.take(command("a", params={"n": 1}))).run_id]
    kept = rig.engine._state.specs
    assert (list(kept), read) == ([runs[2]], [])
    kept.clear()
    await host.finish(orders[0].attempt_key)
    assert ((await host.dispatch(3)).run_id, read) == (runs[0], [runs[0], runs[2]])
    small = await rig.replay(orders[0].run_id)
    monkeypatch.setattr(triggering, "LARGE_REQUEST", 10)
    await rig.replay(orders[0].run_id)
    assert list(kept) == [runs[2], small]
    assert [each.large for each in (await rig.store.active_runs()).queued] == [True, False, True, True]


async def test_jobs_with_large_runs_take_turns_with_the_others(rig: Rig, read: list[str]) -> None:
    """A run that is read only now keeps its place: else it would go before all other jobs, and so would the next."""
    host = await _full(rig, kept=100)
    large = {"values": [{}] * 3_000}
    runs = [
        (await rig.take(command(name, params=params))).run_id
        for _ in range(3)
        for name, params in (("a", {"n": 1}), ("b", large), ("c", {"n": 1}))
    ]
    assert read == []
    for number, run_id in enumerate(runs, start=2):
        await host.finish((await host.dispatch(number - 1)).attempt_key)
        assert (await host.dispatch(number)).run_id == run_id


async def test_runs_that_end_while_they_wait_leave_the_queue(rig: Rig) -> None:
    """While a host is away nothing is taken from its lane; a run that each fire replaces must not stay in it."""
    rig.jobs.add(job("fresh", overlap=Overlap.CANCEL_RUNNING))
    waiting = [(await rig.trigger("fresh")).run_id for _ in range(5)]
    (lane,) = rig.engine._state.waiting._hosts["demo"].values()
    assert [list(runs) for runs in lane.values()] == [waiting[-1:]]
    assert rig.engine.queued_count("demo") == 1


async def test_runs_that_need_no_host_keep_their_order_over_a_restart(rig: Rig) -> None:
    """They wait in the line of their own, before those that come after the restart, even while their host is away."""
    calls = StepDefinition(name="call", type="call_job", target_job_id="called")
    rig.jobs.add(job("calls", calls, overlap=Overlap.QUEUE), job("called", host="other"))
    rig.jobs.accepted_calls.add(("other", "demo"))
    runs = [(await rig.trigger("calls")).run_id for _ in range(4)]
    await rig.restart()
    rig.engine._state.specs = RecentlyUsed(2)
    runs.append((await rig.trigger("calls")).run_id)
    other = await rig.host(host="other")
    for number in range(1, 6):
        await other.finish((await other.dispatch(number)).attempt_key)
    started = [event.run_id for event in await rig.events() if event.kind == "run.started" and event.job_id == "calls"]
    assert started == runs


async def test_no_host_fills_the_queue_for_the_others(rig: Rig) -> None:
    """A host's runs may be as many as there is still room for: half of the queue if it is alone, less beside others."""
    rig.jobs.add(job("a", overlap="allow"), job("b", overlap="allow", host="other"))
    rig.settings = structs.replace(rig.settings, max_waiting=10)
    await rig.restart()
    for job_id, most in (("a", 5), ("b", 3)):
        for _ in range(most):
            await rig.trigger(job_id)
        with pytest.raises(QuotaExceeded, match=f"^{most} runs of host"):
            await rig.trigger(job_id)


async def test_the_last_place_is_taken_and_no_more(rig: Rig) -> None:
    """The whole queue has its bound, too."""
    hosts = [f"host-{number}" for number in range(4)]
    rig.jobs.add(*(job(host, overlap="allow", host=host) for host in hosts))
    rig.settings = structs.replace(rig.settings, max_waiting=3)
    await rig.restart()
    for host in hosts[:3]:
        await rig.trigger(host)
    with pytest.raises(QuotaExceeded, match="0 runs of host 'host-3' are waiting, the most while 3 wait in all"):
        await rig.trigger(hosts[3])
