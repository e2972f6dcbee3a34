"""Committed events on their way to watchers: a ring of the newest ones, and wake-ups.

The store is the truth. A watcher keeps a cursor, takes the later events from the feed, and reads the store if the feed
cannot be sure to have all of them. So a slow watcher costs no memory. An event wakes only the watchers that wait for
such events: thousands may wait for other jobs.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nomaflow_api.event_loop import happens_within
from nomaflow_kernel.history.lookups import EventFilter
from nomaflow_kernel.history.records import EventRecord

_PENDING_PER_SUBSCRIPTION = 1024
_MOST_TEXT = 64 << 20
"""The most characters of all texts in the ring: a refused load has 60,000, an error 16,000."""

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
        self._subscriptions: dict[str, set[RunSubscription]] = {}
        self.closed = False

    def publish(self, events: Iterable[EventRecord]) -> None:
        """Add committed events and wake the watchers that wait for them.

        Two publishers may come out of order by a few events; all watchers then find a hole and read the store.
        """
        for event in events:
            before = self.last_seq
            self._insert(event)
            for subscription in self._subscriptions.get(event.run_id, ()):
                subscription.push(event)
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
        for subscription in self._subscriptions.get(run_id, ()):
            subscription.touch()

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

    def tail_after(self, seq: int) -> list[EventRecord] | None:
        """Return all events after ``seq``, in order; None if the feed may lack some, and the store must be read."""
        if seq >= self.last_seq:
            return []
        start = bisect_left(self._ring, seq + 1, key=lambda event: event.seq)
        tail = self._ring[start:]
        return tail if len(tail) == self.last_seq - seq else None

    @contextmanager
    def subscribe(self, run_id: str) -> Iterator[RunSubscription]:
        """Return a context with a subscription to one run's events and log."""
        subscription, of_run = RunSubscription(), self._subscriptions.setdefault(run_id, set())
        of_run.add(subscription)
        if self.closed:
            subscription.touch()
        try:
            yield subscription
        finally:
            of_run.discard(subscription)
            if not of_run:
                del self._subscriptions[run_id]

    def close(self) -> None:
        """Wake every watcher for good: the kernel is stopping."""
        self.closed = True
        self._wake_all(self.last_seq)
        for of_run in self._subscriptions.values():
            for subscription in of_run:
                subscription.touch()

    @property
    def watcher_count(self) -> int:
        """The number of watchers that wait or are subscribed, for tests and diagnosis."""
        return sum(map(len, (*self._waiters.values(), *self._subscriptions.values())))

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
        for place in (("job", event.job_id), ("host", event.host), _ELSEWHERE):
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
    """Return where a watcher waits: with those of its job or of its host, so that other events pass it by."""
    if filter.job_id:
        return "job", filter.job_id
    return ("host", filter.host) if filter.host else _ELSEWHERE


class RunSubscription:
    """One watcher's view of one run: its events as they are published, and whether its log grew.

    It holds at most a thousand events; a slower watcher is told to read the store.
    """

    def __init__(self) -> None:
        self._events: deque[EventRecord] = deque()
        self._overflowed = False
        self._changed = asyncio.Event()

    def push(self, event: EventRecord) -> None:
        """Add an event; called by the feed."""
        if len(self._events) < _PENDING_PER_SUBSCRIPTION:
            self._events.append(event)
        else:
            self._overflowed = True
        self._changed.set()

    def touch(self) -> None:
        """Note that the log grew or that the feed closed; called by the feed."""
        self._changed.set()

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109  # part of the watch contract
        """Wait for something new; return False after ``timeout`` seconds without it."""
        if not await happens_within(self._changed, timeout):
            return False
        self._changed.clear()
        return True

    def take(self) -> Sequence[EventRecord] | None:
        """Return the events since the last call, in order; None if some are missing: read the store."""
        events, self._events = self._events, deque()
        if self._overflowed:
            self._overflowed = False
            return None
        return events
