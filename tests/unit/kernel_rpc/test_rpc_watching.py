"""Watches and logs: ordered, gapless, resumable, and released when the watcher leaves."""

from __future__ import annotations

import asyncio
import itertools
import time
from types import SimpleNamespace

import grpc
import pytest
from rpc_histories import begin, finish
from rpc_world import RUN_ID, World, catalogue_of, queue_run

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.access.grants import Grant
from nomaflow_kernel.access.principals import OWNER, Caller, Principal, PrincipalKind
from nomaflow_kernel.history.lookups import EventFilter, EventPage
from nomaflow_kernel.history.records import EventRecord
from nomaflow_kernel.history.transitions import Notice, StartRun
from nomaflow_kernel.rpc import watching as watching_module
from nomaflow_kernel.rpc.shown_events import ShownEvents
from nomaflow_kernel.rpc.watching import Watching
from waiting import eventually

CALLER = Caller(principal=OWNER, peer="unix:")
OTHER = "run_" + "1" * 26


async def test_a_watcher_that_leaves_is_let_go_within_a_second(world: World) -> None:
    """The handler's subscription is gone although nothing happened in the run."""
    await world.queue_run()
    watch = world.client.WatchRun(kernel.WatchRunRequest(run_id=RUN_ID))
    await watch.read()
    follower = world.client.ReadLogs(kernel.ReadLogsRequest(run_id=RUN_ID, follow=True))
    everything = world.client.WatchEvents(kernel.WatchEventsRequest())
    await everything.read()
    await eventually(lambda: world.feed.watcher_count == 3)
    for call in (watch, follower, everything):
        call.cancel()
    async with asyncio.timeout(60):
        await eventually(lambda: world.feed.watcher_count == 0)


async def test_a_slow_watcher_reads_what_it_missed_from_the_store(world: World) -> None:
    """Thousands of unread events all come, once, in order, and the kernel kept no queue of them."""
    await begin(world)
    watching = Watching(world.parts)
    stream = watching.watch_run(kernel.WatchRunRequest(run_id=RUN_ID), CALLER)
    assert (await anext(stream)).HasField("snapshot")
    first = (await anext(stream)).events[0].seq
    for _ in range(30):
        await world.apply(*[Notice(kind="attempt.progress", run_id=RUN_ID, job_id="job") for _ in range(100)])
    await world.apply(finish())
    rest = [event.seq async for item in stream for event in item.events]
    assert rest == list(range(first + 3, first + 3 + 3000 + 1))


async def test_an_event_that_comes_by_the_feed_and_from_the_store_is_sent_once(world: World) -> None:
    """An event committed while the watch begins arrives both ways and is sent once."""
    await world.queue_run()
    stream = Watching(world.parts).watch_run(kernel.WatchRunRequest(run_id=RUN_ID), CALLER)
    await anext(stream)
    await world.apply(StartRun(run_id=RUN_ID, job_id="job", at_us=1))
    kinds = [event.kind for event in (await anext(stream)).events]
    await world.apply(finish())
    kinds += [event.kind async for item in stream for event in item.events]
    assert kinds == ["run.queued", "run.started", "run.finished"]


async def test_an_event_that_comes_while_stored_ones_are_read_is_not_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page that is read lacks it, and the feed has had it before the watcher asks there."""
    await world.queue_run()
    events_after, beside = world.store.events_after, [StartRun(run_id=RUN_ID, job_id="job", at_us=1)]

    async def read(after: int, *, limit: int, filter: EventFilter) -> EventPage:
        found = await events_after(after, limit=limit, filter=filter)
        while beside:
            await world.apply(beside.pop())
        return found

    monkeypatch.setattr(world.store, "events_after", read)
    watching = Watching(world.parts, bookmark_seconds=3600)
    stream = watching.watch_run(kernel.WatchRunRequest(run_id=RUN_ID), CALLER)
    async with asyncio.timeout(60):
        _, *told = [await anext(stream) for _ in range(3)]
    assert [event.kind for item in told for event in item.events] == ["run.queued", "run.started"]
    await stream.aclose()


async def test_a_watch_of_one_run_hears_nothing_of_others(world: World) -> None:
    """Events of another run are not sent, nor do they end the watch."""
    await begin(world)
    await world.apply(queue_run(OTHER))
    watch = aiter(world.client.WatchRun(kernel.WatchRunRequest(run_id=RUN_ID), timeout=10))
    await anext(watch)
    await world.apply(finish(OTHER))
    await world.apply(finish())
    events = [event async for item in watch for event in item.events]
    assert {event.run_id for event in events} == {RUN_ID}
    assert events[-1].kind == "run.finished"


async def test_a_watch_of_a_finished_run_ends_by_itself(world: World) -> None:
    """A watch that resumes after the last event ends too, with only the snapshot left to send."""
    await begin(world)
    await world.apply(finish())
    last = world.feed.last_seq
    for after in (0, last):
        watch = world.client.WatchRun(kernel.WatchRunRequest(run_id=RUN_ID, after_seq=after), timeout=10)
        items = [item async for item in watch]
        assert items[0].HasField("snapshot")
        assert [len(item.events) for item in items] == ([0, 4] if after == 0 else [0])


@pytest.mark.parametrize("ahead", [1, 1000, 2**53])
async def test_a_cursor_ahead_of_the_store_is_refused(world: World, ahead: int) -> None:
    """A cursor too far ahead is refused, for one run and for all; a stored event that the feed lacks is not ahead."""
    await begin(world)
    last = world.feed.last_seq
    for stream in (
        world.client.WatchRun(kernel.WatchRunRequest(run_id=RUN_ID, after_seq=last + ahead), timeout=10),
        world.client.WatchEvents(kernel.WatchEventsRequest(after_seq=last + ahead), timeout=10),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            [item async for item in stream]
        assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE
    await world.store.apply([finish()], at_us=2)
    watch = Watching(world.parts).watch_run(kernel.WatchRunRequest(run_id=RUN_ID, after_seq=last + 1), CALLER)
    assert [item.HasField("snapshot") async for item in watch] == [True]


async def test_silence_brings_a_bookmark(world: World) -> None:
    """A watcher learns from where to resume, and that the kernel is there."""
    await world.queue_run()
    watching = Watching(world.parts, bookmark_seconds=0.01)
    run, everything = (
        watching.watch_run(kernel.WatchRunRequest(run_id=RUN_ID), CALLER),
        watching.watch_events(kernel.WatchEventsRequest(from_start=True), CALLER),
    )
    _, events, bookmark = [await anext(run) for _ in range(3)]
    assert bookmark.bookmark_seq == events.events[0].seq
    events, bookmark = [await anext(everything) for _ in range(2)]
    assert events.events[0].kind == "run.queued"
    assert bookmark.bookmark_seq == events.events[0].seq
    await run.aclose()
    await everything.aclose()


async def test_a_watcher_in_no_hurry_gets_what_has_gathered(world: World) -> None:
    """A watch with linger_ms gets its events together and in order; a linger of more than a second is refused."""
    watch = world.client.WatchEvents(kernel.WatchEventsRequest(linger_ms=1000))
    await watch.read()
    reading = asyncio.ensure_future(watch.read())
    await eventually(lambda: world.feed.watcher_count == 1)
    began = time.monotonic()
    await begin(world)
    await world.apply(finish())
    async with asyncio.timeout(60):
        seqs = [event.seq for event in (await reading).events]
        assert time.monotonic() - began >= 1
    assert seqs == list(range(seqs[0], world.feed.last_seq + 1))
    watch.cancel()
    refused = world.client.WatchEvents(kernel.WatchEventsRequest(linger_ms=1001))
    with pytest.raises(grpc.aio.AioRpcError, match="linger_ms is 1001, expected at most 1000"):
        await refused.read()


async def test_events_share_messages_that_are_not_too_large(world: World) -> None:
    """Events that are there go together, in order, in messages of little more than a MiB."""
    data = {"message": "x" * 100_000}
    await world.apply(*[Notice(kind="host.reload_refused", host="team", data=data) for _ in range(30)])
    watch = world.client.WatchEvents(kernel.WatchEventsRequest(from_start=True), timeout=10)
    messages = [await watch.read() for _ in range(3)]
    assert [event.seq for message in messages for event in message.events] == list(range(1, 31))
    assert max(message.ByteSize() for message in messages) < 1_200_000
    watch.cancel()


async def test_all_events_can_be_had_from_the_start_from_anywhere_and_by_kind(world: World) -> None:
    """Resumed anywhere, the sequences follow each other; a kind takes in what comes after its dot."""
    await begin(world)
    await world.apply(Notice(kind="host.attached", host="team"))
    await world.apply(Notice(kind="hostage.taken"))
    last = world.feed.last_seq

    async def seqs(count: int, **query: object) -> list[int]:
        call = world.client.WatchEvents(kernel.WatchEventsRequest(**query), timeout=10)
        found = []
        async for item in call:
            found += [event.seq for event in item.events]
            if len(found) >= count:
                call.cancel()
                return found
        return found

    assert await seqs(last, from_start=True) == list(range(1, last + 1))
    assert await seqs(last - 2, after_seq=2) == list(range(3, last + 1))
    assert await seqs(1, from_start=True, kinds=["host"]) == [last - 1]


async def test_events_that_two_publishers_tell_out_of_order_come_in_order(world: World) -> None:
    """A hole in the feed is filled from the store."""
    watching = Watching(world.parts)
    stream = watching.watch_events(kernel.WatchEventsRequest(from_start=True), CALLER)
    first = await world.store.apply([Notice(kind="a.b")], at_us=1)
    second = await world.store.apply([Notice(kind="c.d")], at_us=1)
    world.feed.publish(second.events)
    assert [event.kind for event in (await anext(stream)).events] == ["a.b", "c.d"]
    world.feed.publish(first.events)
    third = await world.store.apply([Notice(kind="e.f")], at_us=1)
    world.feed.publish(third.events)
    assert [event.kind for event in (await anext(stream)).events] == ["e.f"]
    await stream.aclose()


def seen_by(*grants: str) -> Caller:
    """Return a user with some grants."""
    given = tuple(map(Grant.parse, grants))
    return Caller(principal=Principal(kind=PrincipalKind.USER, name="ann", grants=given), peer="ipv4:127.0.0.1:1")


async def test_events_that_a_watcher_may_not_read_do_not_hold_back_its_cursor(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However busy others are, a bookmark comes once nothing else has come for so long."""
    clock = itertools.count(0, 3600)
    monkeypatch.setattr(watching_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    watching = Watching(world.parts, bookmark_seconds=1800)
    stream = watching.watch_events(kernel.WatchEventsRequest(from_start=True), seen_by("read job:mine"))
    await world.apply(Notice(kind="host.attached", host="team"), Notice(kind="job.changed", job_id="x"))
    async with asyncio.timeout(60):
        assert (await anext(stream)).bookmark_seq == world.feed.last_seq
    await world.apply(Notice(kind="job.changed", job_id="mine"))
    async with asyncio.timeout(60):
        assert [event.job_id for event in (await anext(stream)).events] == ["mine"]
    await stream.aclose()


def kept_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], list[float]]:
    """Return the clock of watchers, which stands still unless its one number is changed, and how long each waits."""
    now, waits, wait_after = [100.0], list[float](), world.feed.wait_after
    monkeypatch.setattr(watching_module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def wait(seq: int, filter: EventFilter, timeout: float) -> tuple[bool, int]:
        waits.append(timeout)
        return await wait_after(seq, filter, timeout)

    monkeypatch.setattr(world.feed, "wait_after", wait)
    return now, waits


async def test_events_that_a_watcher_may_not_read_do_not_put_off_its_bookmark(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the time of a bookmark tells when something happened to the job of others that a filter names."""
    now, waits = kept_waits(world, monkeypatch)
    stream = Watching(world.parts, bookmark_seconds=1800).watch_events(
        kernel.WatchEventsRequest(from_start=True, job_id="x"), seen_by("read job:mine")
    )
    watching = asyncio.create_task(anext(stream))
    await eventually(lambda: len(waits) == 1)
    now[0] += 600
    await world.apply(Notice(kind="job.changed", job_id="x"))
    await eventually(lambda: len(waits) == 2)
    watching.cancel()
    await asyncio.wait((watching,))
    assert waits == [1800, 1200]


async def test_a_hole_in_the_feed_does_not_put_off_the_bookmark_of_a_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes each watcher, though what it hides is of others: the time until the bookmark goes on."""
    await world.queue_run()
    now, waits = kept_waits(world, monkeypatch)
    stream = Watching(world.parts, bookmark_seconds=1800).watch_run(kernel.WatchRunRequest(run_id=RUN_ID), CALLER)
    _, _ = [await anext(stream) for _ in range(2)]
    bookmark = asyncio.create_task(anext(stream))
    await eventually(lambda: len(waits) == 1)
    for passed in (600, 1200):
        now[0] += passed
        for _ in range(2):
            told = await world.store.apply([Notice(kind="a.b")], at_us=1)
        world.feed.publish(told.events)
        await eventually(lambda: len(waits) == 2 or bookmark.done())
    assert (await bookmark).bookmark_seq == world.feed.last_seq
    assert waits == [1800, 1200]
    await stream.aclose()


async def test_events_of_a_run_that_is_gone_belong_to_no_host(world: World) -> None:
    """Events of a run that retention has removed are not shown to the host that has the job now."""
    world.catalogue.take_in(catalogue_of("team", "job", tags=("daily",)))
    event = EventRecord(seq=1, at_us=1, kind="run.started", run_id=RUN_ID, job_id="job")
    for grant, count in (("read host:team", 0), ("read tag:daily", 0), ("read job:job", 1)):
        sight = ShownEvents(guard=world.parts.guard, principal=seen_by(grant).principal)
        assert len(await sight.shown([event])) == count, grant


async def test_a_stopping_kernel_ends_watches_so_that_they_resume(world: World) -> None:
    """UNAVAILABLE, for every kind of stream."""
    await world.queue_run()
    calls = [
        world.client.WatchRun(kernel.WatchRunRequest(run_id=RUN_ID)),
        world.client.WatchEvents(kernel.WatchEventsRequest()),
        world.client.ReadLogs(kernel.ReadLogsRequest(run_id=RUN_ID, follow=True)),
    ]
    await eventually(lambda: world.feed.watcher_count == 3)
    world.feed.close()
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [item async for item in call]
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
