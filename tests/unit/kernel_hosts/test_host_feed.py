"""The feed: a ring that is bounded, says when it cannot tell, and wakes only whom it concerns."""

from __future__ import annotations

import asyncio

from msgspec import structs

from nomaflow_api.bounds import PAGE_BYTES
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.lookups import ALL_EVENTS, EventFilter
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import EventRecord


def event(seq: int, run_id: str = "r", *, kind: str = "k", job_id: str = "", host: str = "") -> EventRecord:
    """Return an event."""
    return EventRecord(seq=seq, at_us=0, kind=kind, run_id=run_id, job_id=job_id, host=host)


def seqs(events: object) -> list[int]:
    """Return the sequences of events."""
    assert isinstance(events, list)
    return [each.seq for each in events]


async def test_a_tail_is_whole_or_none() -> None:
    """Events before the feed began, dropped ones and missing ones must be read from the store."""
    feed = EventFeed(10, capacity=5)
    assert feed.tail_after(10, limit=999) == []
    assert feed.tail_after(9, limit=999) is None
    feed.publish([event(11), event(12)])
    assert seqs(feed.tail_after(10, limit=999)) == [11, 12]
    feed.publish([event(14)])
    assert feed.tail_after(12, limit=999) is None
    assert seqs(feed.tail_after(13, limit=999)) == [14]
    feed.publish([event(13), event(13)])
    assert seqs(feed.tail_after(10, limit=999)) == [11, 12, 13, 14]
    feed.publish([event(seq) for seq in range(15, 40)])
    assert feed.tail_after(10, limit=999) is None
    assert seqs(feed.tail_after(36, limit=999)) == [37, 38, 39]


async def test_the_ring_is_bounded() -> None:
    """However much is published, no more than twice the capacity is held."""
    feed = EventFeed(0, capacity=100)
    for seq in range(1, 5001):
        feed.publish([event(seq)])
    assert len(feed._ring) <= 200
    assert seqs(feed.tail_after(4900, limit=999)) == list(range(4901, 5001))


async def test_large_events_leave_the_ring_earlier() -> None:
    """The texts of the events it holds are bounded, wherever they are; what has left is in the store."""
    feed = EventFeed(0)
    line = "x" * 600
    for seq in range(1, 5001):
        problems = {"message": line, "problems": [{"message": line} for _ in range(98)]}
        refused = EventRecord(seq=seq, at_us=0, kind="host.reload_refused", data=problems, reason=Reason("k", line))
        feed.publish([refused])
        assert sum(60_000 for _ in feed._ring) <= 64 << 20
    assert len(feed._ring) > 500
    assert feed.tail_after(1000, limit=999) is None
    assert seqs(feed.tail_after(4600, limit=999)) == list(range(4601, 4619)), "a page of them"
    feed.publish([EventRecord(seq=5001, at_us=0, kind="k", data={"extras_json": line * 150_000})])
    assert feed.tail_after(5000, limit=999) is None, "it alone is too large"
    feed.publish([event(seq) for seq in range(5002, 5012)])
    assert seqs(feed.tail_after(5001, limit=999)) == list(range(5002, 5012))


async def test_a_tail_ends_with_the_event_that_fills_a_page() -> None:
    """A slow watcher holds what it was given: no more than so many events, nor much more than a page of text."""
    feed = EventFeed(0)
    feed.publish([event(seq) for seq in range(1, 8)])
    feed.publish([structs.replace(event(seq), data={"extras_json": "x" * (PAGE_BYTES * 2 // 3)}) for seq in (8, 9, 10)])
    pages = [feed.tail_after(seq, limit=5) for seq in (0, 5, 9, 10)]
    assert list(map(seqs, pages)) == [[1, 2, 3, 4, 5], [6, 7, 8, 9], [10], []]


async def test_waiters_wake_for_news_and_time_out_without() -> None:
    """A waiter that gave up or was woken is not kept."""
    feed = EventFeed(0)
    assert await feed.wait_after(0, ALL_EVENTS, 0.01) == (False, 0)
    waiting = [asyncio.create_task(feed.wait_after(0, ALL_EVENTS, 10)) for _ in range(50)]
    gone = asyncio.create_task(feed.wait_after(0, ALL_EVENTS, 10))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    feed.publish([event(1)])
    assert await asyncio.gather(*waiting) == [(True, 0)] * 50
    assert await feed.wait_after(0, ALL_EVENTS, 10) == (True, 0)
    assert feed.watcher_count == 0


async def test_an_event_wakes_only_those_who_wait_for_such_events() -> None:
    """Others stay where they are, and learn at the end how far they have come."""
    feed = EventFeed(0)
    filters = [EventFilter(job_id="mine"), EventFilter(host="team"), EventFilter(kinds=("host",)), ALL_EVENTS]
    of_job, of_host, of_kind, of_all = [asyncio.create_task(feed.wait_after(0, each, 10)) for each in filters]
    bored = asyncio.create_task(feed.wait_after(0, EventFilter(job_id="mine", kinds=("pause",)), 0.05))
    await asyncio.sleep(0)
    feed.publish([event(1, job_id="other"), event(2, job_id="mine", host="team")])
    assert await of_all == (True, 0)
    assert await asyncio.gather(of_job, of_host) == [(True, 1)] * 2
    assert await bored == (False, 2)
    assert not of_kind.done()
    feed.publish([event(3, kind="host.attached")])
    assert await of_kind == (True, 2)
    assert feed.watcher_count == 0


async def test_a_hole_wakes_everybody() -> None:
    """The events that come later may be for anybody: each watcher reads the store."""
    feed = EventFeed(0)
    waiting = asyncio.create_task(feed.wait_after(0, EventFilter(job_id="mine"), 10))
    await asyncio.sleep(0)
    feed.publish([event(2, job_id="other")])
    assert await waiting == (True, 0)
    assert feed.tail_after(0, limit=999) is None


async def test_a_reader_of_a_log_hears_of_its_run_only() -> None:
    """Lines of others and the end of another run do not wake it, nor do events of its run before the end."""
    feed = EventFeed(0)
    with feed.log_news("mine") as news:
        feed.publish([event(1, "other", kind="run.finished"), event(2, "mine")])
        feed.touch_log("other")
        assert not news.is_set()
        feed.touch_log("mine")
        assert news.is_set()
        assert not news.ended
        news.clear()
        feed.publish([event(3, "mine", kind="run.finished")])
        assert news.is_set()
        assert news.ended
    assert feed.watcher_count == 0


async def test_a_watcher_of_a_run_is_passed_by_the_events_of_others() -> None:
    """An event of another run of its job does not wake it; one of its own does."""
    feed = EventFeed(0)
    waiting = asyncio.create_task(feed.wait_after(0, EventFilter(run_id="mine"), 10))
    await asyncio.sleep(0)
    feed.publish([event(1, "other", job_id="j")])
    await asyncio.sleep(0)
    assert not waiting.done()
    feed.publish([event(2, "mine", job_id="j")])
    assert await waiting == (True, 1)


async def test_a_closed_feed_keeps_nobody_waiting() -> None:
    """Waiters of a closed feed are woken, and later ones do not wait."""
    feed = EventFeed(0)
    with feed.log_news("r") as news:
        waiting = asyncio.create_task(news.wait())
        everything = asyncio.create_task(feed.wait_after(0, ALL_EVENTS, 10))
        await asyncio.sleep(0)
        feed.close()
        assert await waiting
        assert await everything
    with feed.log_news("r") as late:
        assert late.is_set()
