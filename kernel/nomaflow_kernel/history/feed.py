"""Committed events on their way to watchers: a ring of the newest ones, and wake-ups.

The store is the truth. A watcher keeps a cursor, takes the later events from the feed, and reads the store if the feed
cannot be sure to have all of them. So a slow watcher costs no memory. An event wakes only the watchers that wait for
such events: thousands may wait for other jobs.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from nomaflow_api.bounds import PAGE_BYTES
from nomaflow_kernel.history.lookups import EventFilter
from nomaflow_kernel.history.records import EventRecord

_MOST_TEXT = 64 << 20
"""The most characters of all texts in the ring: a refused load has 60,000, an error 16,000."""

RUN_END = "run.finished"

_Heard = tuple[bool, int]
_Place = tuple[str, str]


class EventFeed:
    """The newest events of the store, for many watchers at once.

    Single-threaded: every method is for the event loop's thread.

    :param last_seq: the newest event that was stored before this feed began
    :param capacity: the number of events it holds at least, once that many have passed, if they are not too large
    :ivar last_seq: the newest event seen
    :ivar closed: True once the kernel is stopping: watchers end
    """

    def __init__(self, last_seq: int, *, capacity: int = 20_000) -> None:
        self.last_seq = last_seq
        self._capacity = capacity
        self._ring: list[EventRecord] = []
        self._lengths: list[int] = []  # of the texts of each
        self._text = 0
        self._waiters: dict[_Place, dict[asyncio.Future[_Heard], EventFilter]] = {}
        self._readers: dict[str, set[LogNews]] = {}  # by run
        self.closed = False

    def publish(self, events: Iterable[EventRecord]) -> None:
        """Add committed events and wake the watchers that wait for them.

        Two publishers may come out of order by a few events; all watchers then find a hole and read the store.
        """
        for event in events:
            before = self.last_seq
            self._insert(event)
            if event.kind == RUN_END:
                for reader in self._readers.get(event.run_id, ()):
                    reader.ended = True
                    reader.set()
            if event.seq > before + 1:
                self._wake_all(before)
            elif event.seq > before and self._waiters:
                self._wake(event, before)
        # By half, so that the copy is paid for once per capacity and not once per event.
        while len(self._ring) > 2 * self._capacity or self._text > _MOST_TEXT:
            dropped = (len(self._ring) + 1) // 2
            self._text -= sum(self._lengths[:dropped])
            del self._ring[:dropped], self._lengths[:dropped]

    def touch_log(self, run_id: str) -> None:
        """Wake the followers of a run's log: lines were committed."""
        for reader in self._readers.get(run_id, ()):
            reader.set()

    async def wait_after(
        self,
        seq: int,
        filter: EventFilter,
        timeout: float,  # noqa: ASYNC109  # part of the watch contract
    ) -> tuple[bool, int]:
        """Wait for an event after ``seq`` that a filter keeps. While some are missing, any event counts.

        :returns: False after ``timeout`` seconds without one; and the sequence through which the filter keeps none
        """
        if self.last_seq > seq or self.closed:
            return True, seq
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[_Heard] = loop.create_future()
        place = _place(filter)
        self._waiters.setdefault(place, {})[waiter] = filter
        timer = loop.call_later(timeout, lambda: self._tell(place, [waiter], heard=False, through=self.last_seq))
        try:
            return await waiter
        finally:
            timer.cancel()
            self._forget(place, waiter)

    def tail_after(self, seq: int, *, limit: int) -> list[EventRecord] | None:
        """Return events after ``seq``, in order, up to the one that fills a page; there are more if it is not the last.

        A watcher that is slow to take them holds these only.

        :returns: None if the feed may lack some, and the store must be read
        """
        if seq >= self.last_seq:
            return []
        start = bisect_left(self._ring, seq + 1, key=lambda event: event.seq)
        if len(self._ring) - start != self.last_seq - seq:
            return None
        text, end = 0, start
        while end < min(len(self._ring), start + limit) and text < PAGE_BYTES:
            text += self._lengths[end]
            end += 1
        return self._ring[start:end]

    @contextmanager
    def log_news(self, run_id: str) -> Iterator[LogNews]:
        """Return a context with an event that is set by what happens to one run's log."""
        news, of_run = LogNews(), self._readers.setdefault(run_id, set())
        of_run.add(news)
        if self.closed:
            news.set()
        try:
            yield news
        finally:
            of_run.discard(news)
            if not of_run:
                del self._readers[run_id]

    def close(self) -> None:
        """Wake every watcher for good: the kernel is stopping."""
        self.closed = True
        self._wake_all(self.last_seq)
        for reader in chain(*self._readers.values()):
            reader.set()

    @property
    def watcher_count(self) -> int:
        """The number of watchers that wait and of those that follow logs, for tests and diagnosis."""
        return sum(map(len, (*self._waiters.values(), *self._readers.values())))

    def _insert(self, event: EventRecord) -> None:
        index = len(self._ring)
        if event.seq > self.last_seq:
            self.last_seq = event.seq
        else:
            index = bisect_left(self._ring, event.seq, key=lambda each: each.seq)
            if index < len(self._ring) and self._ring[index].seq == event.seq:
                return
        length = _length(event.data.values())
        if event.reason is not None:
            length += len(event.reason.message)
        self._ring.insert(index, event)
        self._lengths.insert(index, length)
        self._text += length

    def _wake(self, event: EventRecord, before: int) -> None:
        for place in (("run", event.run_id), ("job", event.job_id), ("host", event.host), _ELSEWHERE):
            if place in self._waiters:
                kept = [waiter for waiter, filter in self._waiters[place].items() if filter.keeps(event)]
                self._tell(place, kept, heard=True, through=before)

    def _wake_all(self, through: int) -> None:
        for place, waiters in list(self._waiters.items()):
            self._tell(place, list(waiters), heard=True, through=through)

    def _tell(self, place: _Place, waiters: Iterable[asyncio.Future[_Heard]], *, heard: bool, through: int) -> None:
        for waiter in waiters:
            self._forget(place, waiter)
            if not waiter.done():
                waiter.set_result((heard, through))

    def _forget(self, place: _Place, waiter: asyncio.Future[_Heard]) -> None:
        there = self._waiters.get(place, {})
        there.pop(waiter, None)
        if not there:
            self._waiters.pop(place, None)


def _length(values: Iterable[Any]) -> int:
    """Return the length of all texts in values."""
    length = 0
    for value in values:
        kind = type(value)
        if kind is str:
            length += len(value)
        elif kind is dict:
            length += _length(value.values())
        elif kind is list or kind is tuple:
            length += _length(value)
    return length


_ELSEWHERE: _Place = ("", "")


def _place(filter: EventFilter) -> _Place:
    """Return where a watcher waits: with those of its run, job or host, so that other events pass it by."""
    if filter.run_id:
        return "run", filter.run_id
    if filter.job_id:
        return "job", filter.job_id
    return ("host", filter.host) if filter.host else _ELSEWHERE


class LogNews(asyncio.Event):
    """An event that is set once the log of a run has grown, its run has ended, or the feed is closed.

    :ivar ended: True once the run has ended
    """

    ended = False
