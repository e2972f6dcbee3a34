"""Decisions ahead of a commit: they are announced after their own commit, and rest on what the store has kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from rig import PlayedHost, Rig, finished, job, started

from nomaflow_api.v1.letter_words import LogCodec
from nomaflow_api.v1.letters import AttemptAck, DispatchOrder, LogChunk
from nomaflow_kernel.domain.errors import KernelStopping, RequestIdReused
from nomaflow_kernel.engine import loop
from nomaflow_kernel.engine.commands import TriggerCommand, TriggerOutcome
from nomaflow_kernel.engine.state import RecentlyUsed
from nomaflow_kernel.history.lookups import ApplyResult
from nomaflow_kernel.history.records import TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.history.transitions import AppendLog, QueueRun, Transition, run_of
from nomaflow_kernel.store.errors import StaleEpoch, StoreFull, StoreUnavailable
from nomaflow_project.jobs.definitions import Overlap


class HeldStore:
    """Stands in for the store's ``apply``: each commit waits until it is released, with or without an error."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self._rig = rig
        self._apply: Any = rig.store.apply
        self._let_go: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.asked: list[Sequence[Transition]] = []
        self.lose_answer = False
        monkeypatch.setattr(rig.store, "apply", self)

    async def __call__(self, transitions: Sequence[Transition], *, at_us: int) -> ApplyResult:
        """Wait, then commit or refuse."""
        self.asked.append(transitions)
        error = await self._let_go.get()
        if error is None or self.lose_answer:
            result: ApplyResult = await self._apply(transitions, at_us=at_us)
        if error is not None:
            raise error
        return result

    def let_go(self, error: Exception | None = None) -> None:
        """Release one commit."""
        self._let_go.put_nowait(error)

    async def under_way(self, count: int = 1) -> None:
        """Wait until the ``count``-th commit has been asked for."""
        await _until(lambda: len(self.asked) >= count)

    async def ahead(self, count: int = 1) -> None:
        """Wait until so many turns have decided ahead of the commit under way."""
        await _until(lambda: len(self._rig.engine._loop._unanswered[-1].turns) >= count)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0)


@pytest.fixture
def held(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldStore]:
    """The store of the rig, whose commits wait until the test is over."""
    rig.jobs.add(job("a", overlap=Overlap.ALLOW), job("b", overlap=Overlap.ALLOW))
    store = HeldStore(rig, monkeypatch)
    yield store
    for _ in range(100):
        store.let_go()


def _trigger(rig: Rig, job_id: str, **fields: Any) -> asyncio.Task[TriggerOutcome]:
    return asyncio.create_task(rig.trigger(job_id, **fields))


async def _attached(rig: Rig, held: HeldStore, **fields: Any) -> PlayedHost:
    host = PlayedHost(rig, **fields)
    attaching = asyncio.create_task(host.attach())
    held.let_go()
    await attaching
    return host


async def test_the_next_batch_waits_for_its_own_commit(rig: Rig, held: HeldStore) -> None:
    """Decisions made during a commit are stored once that is durable, and announced after their own commit."""
    host = await _attached(rig, held)
    first = _trigger(rig, "a")
    await held.under_way(2)
    second = _trigger(rig, "b")
    await held.ahead()
    assert len(held.asked) == 2
    assert host.orders == []
    held.let_go()
    first_id = (await first).run_id
    await held.under_way(3)
    assert [order.run_id for order in host.orders if isinstance(order, DispatchOrder)] == [first_id]
    assert not second.done()
    held.let_go()
    assert (await host.dispatch(2)).run_id == (await second).run_id


async def test_a_failed_commit_takes_back_what_was_decided_on_it(rig: Rig, held: HeldStore) -> None:
    """The caller of a failed commit hears of it; what was decided ahead is decided once more, from what is stored."""
    host = await _attached(rig, held, max_async=1)
    first = _trigger(rig, "a")
    await held.under_way(2)
    second = _trigger(rig, "b")
    await held.ahead()
    held.let_go(StoreFull("no space"))
    with pytest.raises(StoreFull):
        await first
    held.let_go()
    outcome = await second
    # Ahead of the failed commit it had to wait for the slot that the run of that commit was to have.
    assert (await host.dispatch()).run_id == outcome.run_id
    assert [event.kind for event in await rig.events() if event.run_id] == [
        "run.queued", "run.started", "attempt.dispatched",
    ]  # fmt: skip
    assert len(host.orders) == 1


async def test_a_repeat_ahead_of_a_commit_in_doubt_is_still_a_repeat(rig: Rig, held: HeldStore) -> None:
    """A repeat decided ahead of a commit with a lost answer gets the run that the commit has kept."""
    request = {"request_id": "r", "request_hash": "h"}
    first = _trigger(rig, "a", **request)
    await held.under_way()
    second = _trigger(rig, "a", **request)
    await held.ahead()
    held.lose_answer = True
    held.let_go(StoreUnavailable("the answer was lost", outcome_unknown=True))
    with pytest.raises(StoreUnavailable):
        await first
    held.lose_answer = False
    held.let_go()
    outcome = await second
    assert outcome.deduplicated
    assert await rig.state(outcome.run_id) is RunState.QUEUED
    assert [event.run_id for event in await rig.events()] == [outcome.run_id]


async def test_repeats_in_two_batches_get_the_run_that_there_is(rig: Rig, held: HeldStore) -> None:
    """A request that turns out to be a repeat is one for those decided ahead of that answer, and a reuse is one too."""
    request = {"request_id": "r", "request_hash": "h"}
    held.let_go()
    known = await rig.trigger("a", **request)
    rig.engine._state.request_ids.clear()
    first = _trigger(rig, "a", **request)
    await held.under_way(2)
    second = _trigger(rig, "a", **request)
    reused = _trigger(rig, "a", request_id="r", request_hash="other")
    await held.ahead(2)
    held.let_go()
    assert (await first).run_id == (await second).run_id == known.run_id
    with pytest.raises(RequestIdReused) as refusal:
        await reused
    assert refusal.value.run_id == known.run_id
    assert len(rig.engine._state.waiting) == 1


async def test_a_run_that_turns_out_to_be_none_is_not_sent(rig: Rig, held: HeldStore) -> None:
    """A repeat that was started ahead of the commit that refuses it leaves nothing behind, and no rebuild is needed."""
    request = {"request_id": "r", "request_hash": "h"}
    host = await _attached(rig, held, max_async=1)
    held.let_go()
    known = await rig.trigger("a", **request)
    key = (await host.dispatch()).attempt_key
    rig.engine._state.request_ids.clear()
    rebuilt = rig.engine._state.rebuilt
    repeat = _trigger(rig, "a", **request)
    await held.under_way(3)
    end = asyncio.create_task(host.report(key, started(), finished()))
    await held.ahead()
    assert any(type(each).__name__ == "StartRun" for each in rig.engine._loop._unanswered[-1].transitions)
    held.let_go()
    held.let_go()
    await end
    assert (await repeat).run_id == known.run_id
    assert {run_of(each) for each in held.asked[3]} == {known.run_id}
    assert len(host.orders) == 1
    assert rig.engine._state.rebuilt == rebuilt
    other = _trigger(rig, "b")
    held.let_go()
    assert (await host.dispatch(2)).run_id == (await other).run_id


async def test_a_cancel_ahead_of_the_commit_that_queues_its_run(rig: Rig, held: HeldStore) -> None:
    """A run can be canceled while the commit that queues it is under way; both are durable, in order."""
    trigger = _trigger(rig, "a")
    await held.under_way()
    [queued] = held.asked[0]
    assert isinstance(queued, QueueRun)
    cancel = asyncio.create_task(rig.engine.cancel(queued.run.run_id, by="me", why=""))
    await held.ahead()
    held.let_go()
    held.let_go()
    await cancel
    assert await rig.state((await trigger).run_id) is RunState.CANCELED
    assert [event.kind for event in await rig.events()] == ["run.queued", "run.cancel_requested", "run.finished"]


async def test_a_session_is_never_taken_in_ahead(rig: Rig, held: HeldStore) -> None:
    """An attach waits for the commit under way, since what it changes is not rebuilt where that fails."""
    first = _trigger(rig, "a")
    await held.under_way()
    host = PlayedHost(rig)
    attach = asyncio.create_task(host.attach())
    after = _trigger(rig, "b")
    await _until(lambda: len(rig.engine._loop._inbox._turns) == 2)
    held.let_go(StoreFull("no space"))
    with pytest.raises(StoreFull):
        await first
    held.let_go()
    await attach
    held.let_go()
    assert (await host.dispatch()).run_id == (await after).run_id
    assert [event.kind for event in await rig.events() if event.host and not event.run_id] == ["host.attached"]


async def test_stopping_finishes_the_commit_under_way_and_no_other(rig: Rig, held: HeldStore) -> None:
    """A stop answers who waits for the commit under way; what was decided ahead is refused, and not stored."""
    first = _trigger(rig, "a")
    await held.under_way()
    second = _trigger(rig, "b")
    await held.ahead()
    stop = asyncio.create_task(rig.engine.stop())
    await asyncio.sleep(0)
    held.let_go()
    await stop
    with pytest.raises(KernelStopping):
        await second
    assert [event.run_id for event in await rig.events()] == [(await first).run_id]


@pytest.mark.parametrize("error", [None, StoreFull("no space")])
async def test_a_caller_that_gives_up_ends_nothing(rig: Rig, held: HeldStore, error: StoreFull | None) -> None:
    """Its call is done, or has failed, without it; the next one is answered as ever."""
    leaving = _trigger(rig, "a")
    await held.under_way()
    leaving.cancel()
    held.let_go(error)
    held.let_go()
    await _trigger(rig, "b")
    assert [event.job_id for event in await rig.events() if event.run_id] == (["b"] if error else ["a", "b"])
    assert rig.ended == []


async def test_a_report_that_is_given_up_leaves_the_inbox(rig: Rig, held: HeldStore) -> None:
    """A host that ends its calls while a commit is slow would fill the kernel's memory: nobody counts them any more."""
    first = _trigger(rig, "a")
    await held.under_way()
    large = {"size": 16 * 1024 * 1024}
    ahead, waiting = (asyncio.create_task(rig.engine.report(("demo", "i"), [], **large)) for _ in range(2))
    await held.ahead()
    assert rig.engine._loop.turns == 1
    waiting.cancel()
    await asyncio.wait([waiting])
    assert rig.engine._loop.turns == 0
    held.let_go()
    await first
    assert await ahead == []


async def test_a_store_taken_over_refuses_what_was_decided_ahead(rig: Rig, held: HeldStore) -> None:
    """A takeover by a newer kernel leaves no caller of this one waiting."""
    first = _trigger(rig, "a")
    await held.under_way()
    second = _trigger(rig, "b")
    await held.ahead()
    held.let_go(StaleEpoch(own=1, found=2))
    for asked in (first, second):
        with pytest.raises(StaleEpoch):
            await asked
    assert [type(error) for error in rig.ended] == [StaleEpoch]
    assert len(held.asked) == 1


async def test_a_waiting_run_is_loaded_once_it_is_in_the_store(rig: Rig, held: HeldStore) -> None:
    """A waiting run's data is read after its own commit, even if its turn comes while it is decided ahead."""
    rig.engine._state.specs = RecentlyUsed(3)
    host = await _attached(rig, held, max_async=10)
    first = _trigger(rig, "a")
    await held.under_way(2)
    commands = [TriggerCommand(job_id="b", kind=TriggerKind.API) for _ in range(5)]
    others = asyncio.create_task(rig.engine.trigger_many(commands))
    await held.ahead()
    for _ in range(20):
        held.let_go()
    run_ids = [(await first).run_id, *(each.run_id for each in await others if isinstance(each, TriggerOutcome))]
    assert [(await host.dispatch(number)).run_id for number in range(1, 7)] == run_ids


async def test_a_large_run_that_a_launcher_asks_for_too_early_starts(rig: Rig, held: HeldStore) -> None:
    """Its data is not in the store yet when the demand is asked for: it is read once more after its commit."""
    host = await _attached(rig, held)
    first = _trigger(rig, "a")
    await held.under_way(2)
    large = _trigger(rig, "b", params={"values": [{}] * 3_000})
    await held.ahead()
    await rig.engine.whole_demand()
    for _ in range(4):
        held.let_go()
    await first
    assert (await host.dispatch(2)).run_id == (await large).run_id


def _block(size: int) -> LogChunk:
    return LogChunk(line_count=1, first_at_us=1, last_at_us=1, levels=4, codec=LogCodec.JSONL, body=bytes(size))


async def test_a_commit_has_so_many_bytes_of_reports_at_most(
    rig: Rig, held: HeldStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those beyond wait for the next one, in order; each is acknowledged once it is durable, and stored once."""
    monkeypatch.setattr(loop, "_MOST_BYTES", 2500)
    host = await _attached(rig, held, max_async=20)
    keys = []
    for number in range(1, 11):
        triggering = _trigger(rig, "a")
        held.let_go()
        await triggering
        keys.append((await host.dispatch(number)).attempt_key)
    before = len(held.asked)
    under_way = _trigger(rig, "b")
    await held.under_way(before + 1)
    reporting: list[asyncio.Task[AttemptAck]] = []
    engine = rig.engine._loop
    for some in (keys[:5], keys[5:]):
        reporting.extend(asyncio.create_task(host.report(key, started(), _block(1000))) for key in some)
        await _until(lambda: len(engine._unanswered[-1].turns) + len(engine._inbox) == len(reporting))
        await held.ahead(3)
        assert len(engine._unanswered[-1].turns) == 3
    for count in range(before + 1, before + 6):
        await held.under_way(count)
        assert sum(each.done() for each in reporting) == max(0, 3 * (count - before - 2))
        held.let_go()
    assert [(await each).acknowledged_seq for each in reporting] == [2] * 10
    await under_way
    told = [[run_of(each) for each in commit if isinstance(each, AppendLog)] for commit in held.asked[before + 1 :]]
    assert [len(each) for each in told] == [3, 3, 3, 1]
    assert [run_id for each in told for run_id in each] == [key.partition("/")[0] for key in keys]
