"""Watches: cursors on the events of one run, or of all. Ordered and gapless from any sequence on.

A watcher holds no queue that could grow: it takes what the feed has, and where that is not certain to be everything, it
reads the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_kernel.domain.errors import KernelStopping, UnknownRun
from nomaflow_kernel.domain.records import EventRecord
from nomaflow_kernel.domain.states import RUN_TERMINAL
from nomaflow_kernel.feed import EventFeed
from nomaflow_kernel.ports import RunDetail, Store
from nomaflow_kernel.rpc.event_messages import event_message
from nomaflow_kernel.rpc.run_messages import run_detail_message

__all__ = ["Watching"]

_PAGE = 500
_RUN_END = "run.finished"


class Watching:
    """Serves WatchRun and WatchEvents.

    :param explain: adds to a run what only the engine knows
    :param bookmark_seconds: silence after which a watcher is told from where to resume
    """

    def __init__(
        self,
        *,
        store: Store,
        feed: EventFeed,
        explain: Callable[[run_pb2.Run], run_pb2.Run] = lambda run: run,
        bookmark_seconds: float = 10.0,
    ) -> None:
        self._store = store
        self._explain = explain
        self._feed = feed
        self._bookmark_seconds = bookmark_seconds

    async def run(self, run_id: str, after_seq: int) -> AsyncIterator[kernel.WatchRunResponse]:
        """Yield the run as it is, then its events after ``after_seq``, until its terminal event.

        :raises UnknownRun: where no run has the id
        :raises KernelStopping: where the kernel stops first
        """
        # Subscribed before the run is read: an event is in what was read, or it comes by the feed.
        with self._feed.subscribe(run_id) as subscription:
            detail = await self._read_run(run_id)
            yield kernel.WatchRunResponse(snapshot=self._explain(run_detail_message(detail)))
            cursor = after_seq
            async for event in self._stored(cursor, run_id=run_id):
                cursor = event.seq
                yield kernel.WatchRunResponse(event=event_message(event))
                if event.kind == _RUN_END:
                    return
            if detail.run.state in RUN_TERMINAL:
                return
            while True:
                heard = await subscription.wait(self._bookmark_seconds)
                if self._feed.closed:
                    raise KernelStopping
                fresh = subscription.take()
                if fresh is None:
                    fresh = [event async for event in self._stored(cursor, run_id=run_id)]
                for event in _after(fresh, cursor):
                    cursor = event.seq
                    yield kernel.WatchRunResponse(event=event_message(event))
                    if event.kind == _RUN_END:
                        return
                if not heard:
                    yield kernel.WatchRunResponse(bookmark_seq=max(cursor, after_seq))

    async def events(self, after_seq: int | None, kinds: Sequence[str]) -> AsyncIterator[kernel.WatchEventsResponse]:
        """Yield every event after ``after_seq`` (None: from now on) whose kind is one of ``kinds``, without end.

        :param kinds: a kind, or what comes before a dot in it; empty for all
        :raises KernelStopping: where the kernel stops
        """
        cursor = self._feed.last_seq if after_seq is None else after_seq
        if after_seq is None:
            yield kernel.WatchEventsResponse(bookmark_seq=cursor)
        while True:
            tail = self._feed.tail_after(cursor)
            if tail is None:
                seen = self._feed.last_seq
                async for event in self._stored(cursor, kinds=kinds):
                    cursor = event.seq
                    yield kernel.WatchEventsResponse(event=event_message(event))
                cursor = max(cursor, seen)
                continue
            for event in tail:
                cursor = event.seq
                if _wanted(event.kind, kinds):
                    yield kernel.WatchEventsResponse(event=event_message(event))
            heard = await self._feed.wait_after(cursor, self._bookmark_seconds)
            if self._feed.closed:
                raise KernelStopping
            if not heard:
                yield kernel.WatchEventsResponse(bookmark_seq=cursor)

    async def _read_run(self, run_id: str) -> RunDetail:
        found = await self._store.run_details([run_id])
        if not found:
            raise UnknownRun(run_id)
        return found[0]

    async def _stored(self, after: int, *, run_id: str = "", kinds: Sequence[str] = ()) -> AsyncIterator[EventRecord]:
        """Yield what the store has after a sequence, page by page, until it has no more."""
        while True:
            page = await self._store.events_after(after, limit=_PAGE, run_id=run_id, kinds=kinds)
            for event in page:
                yield event
            if len(page) < _PAGE:
                return
            after = page[-1].seq


def _after(events: Sequence[EventRecord], cursor: int) -> Iterator[EventRecord]:
    """Yield the events after a cursor: what the store has told already may come by the feed once more."""
    return (event for event in events if event.seq > cursor)


def _wanted(kind: str, kinds: Sequence[str]) -> bool:
    return not kinds or any(kind == each or kind.startswith(each + ".") for each in kinds)
