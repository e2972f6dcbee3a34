"""Writing together: one transaction for all that wait, an outcome for each."""

from __future__ import annotations

import asyncio

import pytest
from store_histories import T0, Ids, finish, finished, logged, opened, queue, start, started
from store_places import Place

from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.history.transitions import ClearPause
from nomaflow_kernel.store.errors import StaleEpoch, StoreBusy, StoreUnavailable
from nomaflow_kernel.store.sql_store import Store, open_store

ids = Ids()


async def commits(place: Place) -> int:
    ((count,),) = await place.sql("SELECT commits FROM kernel")
    return int(str(count))


async def test_operations_that_wait_share_a_transaction(store: Store, place: Place) -> None:
    """A hundred calls at once cost a few commits, each gets its own events, and together they have no gap."""
    before = await commits(place)
    run_ids = [ids.new() for _ in range(100)]
    results = await asyncio.gather(*(store.apply([queue(r), start(r)], at_us=T0) for r in run_ids))
    assert await commits(place) - before < 20
    seqs = [event.seq for result in results for event in result.events]
    assert seqs == list(range(seqs[0], seqs[0] + 200))
    assert [r.events[0].run_id for r in results] == run_ids


async def test_one_bad_operation_fails_alone(store: Store) -> None:
    """One of many simultaneous calls that cannot be stored raises; the others are kept, numbered without a gap."""
    run_ids = [ids.new() for _ in range(21)]
    calls = [
        store.apply([queue(r, definition_digest=f"d-{r}", rows_affected=2**80 if i == 10 else None)], at_us=T0)
        for i, r in enumerate(run_ids)
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    bad = [i for i, r in enumerate(results) if isinstance(r, BaseException)]
    assert bad == [10]
    kept = await store.run_details(run_ids)
    assert [d.run.run_id for d in kept] == run_ids[:10] + run_ids[11:]
    events = (await store.events_after(0, limit=100)).events
    assert [e.seq for e in events] == list(range(1, 21))
    again = await store.apply([queue(run_ids[10], definition_digest=f"d-{run_ids[10]}")], at_us=T0)
    assert again.events[0].seq == 21
    (found,) = await store.run_details([run_ids[10]])
    assert found.definition == {"id": "nightly"}


async def test_a_caller_who_goes_away_does_not_undo_its_operation(store: Store) -> None:
    """A call that is cancelled while it waits is still applied, and disturbs no other."""
    gone, stays = ids.new(), ids.new()
    task = asyncio.ensure_future(store.apply([queue(gone)], at_us=T0))
    await asyncio.sleep(0)
    task.cancel()
    await store.apply([queue(stays)], at_us=T0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [d.run.run_id for d in await store.run_details([gone, stays])] == [gone, stays]


async def test_closing_finishes_what_waits(place: Place) -> None:
    """Calls made before a close are applied; calls after it are refused; a second close is nothing."""
    store = open_store(place.url)
    await store.open()
    run_ids = [ids.new() for _ in range(30)]
    calls = [asyncio.ensure_future(store.apply([queue(r)], at_us=T0)) for r in run_ids]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert [(await call).events[0].seq for call in calls] == list(range(1, 31))
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.ping()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.pauses()


async def test_a_store_can_be_opened_again_and_goes_on(place: Place) -> None:
    """Each opening raises the epoch; event numbers continue, even if the newest events were pruned."""
    epochs = []
    for expected in (0, 1, 2):
        store = open_store(place.url)
        info = await store.open()
        epochs.append(info.epoch)
        assert info.last_event_seq == expected * 3
        run_id = ids.new()
        await store.apply([queue(run_id), start(run_id), finish(run_id)], at_us=T0)
        assert await store.prune(job_id="", keep_runs=0, before_us=None, limit=10) == 1
        await store.close()
    assert epochs == [1, 2, 3]


async def test_an_older_kernel_writes_no_more(store: Store, place: Place) -> None:
    """A raised epoch makes every write of the older kernel fail with both epochs, and nothing is applied."""
    await place.sql("UPDATE kernel SET epoch = epoch + 5 RETURNING epoch")
    run_id = ids.new()
    for write in (
        store.apply([queue(run_id)], at_us=T0),
        store.ping(),
        store.apply([ClearPause(scope="all", name="")], at_us=T0),
        store.forget_host("demo", at_us=1),
    ):
        with pytest.raises(StaleEpoch, match="own epoch 1, found 6"):
            await write
    assert list(await store.run_details([run_id])) == []


async def test_a_ping_commits(store: Store, place: Place) -> None:
    """A ping proves that the store can be written, by writing."""
    before = await commits(place)
    await store.ping()
    assert await commits(place) == before + 1


async def test_a_locked_store_is_busy_and_then_goes_on(store: Store, place: Place) -> None:
    """A lock of another process makes writes fail after the wait while reads work; afterwards writes work again."""
    run_id = ids.new()
    async with held_lock(place):
        with pytest.raises(StoreBusy):
            await store.apply([queue(run_id)], at_us=T0)
        assert list(await store.run_details([run_id])) == []
    result = await store.apply([queue(run_id)], at_us=T0)
    assert [e.seq for e in result.events] == [1]


async def test_operations_that_change_the_same_rows_build_on_each_other(store: Store, place: Place) -> None:
    """A run that is queued, started, logged of and ended by four calls of one commit is as if each had its own."""
    before, run_id = await commits(place), ids.new()
    results = await asyncio.gather(
        store.apply([queue(run_id)], at_us=T0),
        store.apply([start(run_id), opened(run_id), logged(run_id, 1, 3)], at_us=T0),
        store.apply([started(run_id), logged(run_id, 4, 2)], at_us=T0),
        store.apply([finished(run_id), finish(run_id)], at_us=T0),
    )
    assert await commits(place) == before + 1
    assert [result.lost for result in results] == [frozenset()] * 4
    (found,) = await store.run_details([run_id])
    assert (found.run.state, found.run.log_lines, found.run.current_step) == (RunState.SUCCEEDED, 5, "")
    assert [attempt.state for attempt in found.attempts] == [AttemptState.SUCCEEDED]
    assert found.run.last_event_seq == results[-1].events[-1].seq == len((await store.events_after(0, limit=50)).events)


async def test_racing_ends_have_one_winner(store: Store) -> None:
    """Two batches that end the same runs at once: the first wins them all, the second loses them all."""
    run_ids = [ids.new() for _ in range(20)]
    await store.apply([t for r in run_ids for t in (queue(r), start(r))], at_us=T0)
    rivals = [
        store.apply([finish(r, state) for r in run_ids], at_us=T0) for state in (RunState.FAILED, RunState.CANCELED)
    ]
    first, second = await asyncio.gather(*rivals)
    assert (len(first.events), len(second.events), len(second.lost)) == (20, 0, 20)
    assert {d.run.state for d in await store.run_details(run_ids)} == {RunState.FAILED}


class held_lock:  # noqa: N801 - reads as a statement
    """Holds the store's write lock from another connection."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def __aenter__(self) -> None:
        if self._place.kind == "sqlite":
            import sqlite3

            self._sqlite = sqlite3.connect(self._place.url.removeprefix("sqlite:///"), isolation_level=None)
            self._sqlite.execute("BEGIN IMMEDIATE")
        else:
            import asyncpg

            self._postgres = await asyncpg.connect(self._place.url.replace("postgresql+asyncpg", "postgresql"))
            await self._postgres.execute("BEGIN; SELECT 1 FROM kernel FOR UPDATE")

    async def __aexit__(self, *_: object) -> None:
        if self._place.kind == "sqlite":
            self._sqlite.close()
        else:
            await self._postgres.close()
