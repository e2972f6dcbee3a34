"""Watches: cursors on the events of one run, or of all. They are ordered and without gaps, from any sequence on.

A watcher holds no queue that could grow: it takes events from the feed, and reads the store if the feed may lack some.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from nomaflow_api.bounds import MOST_NUMBER
from nomaflow_api.v1 import event_pb2
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.errors import BadRequest, CursorAhead, KernelStopping, UnknownRun
from nomaflow_kernel.engine.replaying import unknown_name
from nomaflow_kernel.history.feed import RUN_END
from nomaflow_kernel.history.lookups import EventFilter, RunDetail
from nomaflow_kernel.history.records import EventRecord, RunRecord
from nomaflow_kernel.history.states import RUN_TERMINAL
from nomaflow_kernel.rpc.attempt_messages import RUN_BYTES, AttemptLogs
from nomaflow_kernel.rpc.hidden_values import event_without_values
from nomaflow_kernel.rpc.list_requests import event_filter
from nomaflow_kernel.rpc.messages import event_message, run_detail_message
from nomaflow_kernel.rpc.pages import grouped
from nomaflow_kernel.rpc.parts import Calls, KernelParts
from nomaflow_kernel.rpc.requests import check_most, check_run_id
from nomaflow_kernel.rpc.shown_events import EventMessages, ShownEvents
from nomaflow_kernel.store.sql_store import Store

_PAGE = 500
_MOST_LINGER_MS = 1_000


async def whole_run(store: Store, run_id: str) -> tuple[RunDetail, AttemptLogs]:
    """Return a run, and how much of the log of each of its attempts is stored.

    :raises UnknownRun: if there is no such run
    """
    detail = await read_run(store, run_id, result_bytes=RUN_BYTES)
    return detail, await store.attempt_logs(run_id) if detail.run.log_lines else {}


async def read_run(store: Store, run_id: str, *, step: str = "", result_bytes: int = 0) -> RunDetail:
    """Return a stored run.

    :param step: one that it is asked about; empty for none
    :param result_bytes: how much is read of the results of its attempts, of the newest ones first
    :raises UnknownRun: if no run has the id
    :raises BadRequest: if it has no such step
    """
    found = await store.run_details([run_id], result_bytes=result_bytes)
    if not found:
        raise UnknownRun(run_id)
    names = [str(each["name"]) for each in found[0].definition.get("steps", ())]
    if step and step not in names:
        raise BadRequest(unknown_name(f"run {run_id}", "step", step, names), field="step")
    return found[0]


class Watching(Calls):
    """Serves WatchRun and WatchEvents.

    :param bookmark_seconds: silence after which a watcher is sent its resume position
    """

    def __init__(self, parts: KernelParts, *, bookmark_seconds: float = 10.0) -> None:
        super().__init__(parts)
        self._bookmark_seconds = bookmark_seconds
        self._messages = EventMessages()

    async def watch_run(
        self, request: kernel.WatchRunRequest, caller: Caller
    ) -> AsyncIterator[kernel.WatchRunResponse]:
        """Yield the run as it is, then its events after ``after_seq``, until its terminal event.

        :raises UnknownRun: if no run has the id
        :raises CursorAhead: if the store has no event as new as ``after_seq``
        :raises KernelStopping: if the kernel stops first
        """
        check_run_id(request.run_id)
        run_id, cursor = request.run_id, min(request.after_seq, MOST_NUMBER)
        run, first = await self._first(run_id, cursor, caller)
        whole = self._guard.sees_values(run.job_id, run.host, caller)
        yield first.pop()  # it may have 32 MiB, and nothing else of it stays while the client takes it
        of_run = EventFilter(run_id=run_id)
        pages = self._stored(cursor, of_run)  # at first: few of the events that the feed has are of this run
        spoke_at = time.monotonic()
        while True:
            async for page, through in pages:
                told = list(_to_the_end(page))
                for events in _grouped(map(self._messages.of if whole else _without_values, told)):
                    yield kernel.WatchRunResponse(events=events)
                    spoke_at = time.monotonic()
                cursor = max(cursor, through)
                if told and told[-1].kind == RUN_END:
                    return
            if run.state in RUN_TERMINAL:
                return
            if time.monotonic() - spoke_at >= self._bookmark_seconds:
                spoke_at = time.monotonic()
                yield kernel.WatchRunResponse(bookmark_seq=cursor)
            _, through = await self._feed.wait_after(cursor, of_run, self._left(spoke_at))
            cursor = max(cursor, through)
            if self._feed.closed:
                raise KernelStopping
            pages = self._news(cursor, of_run)

    async def _first(self, run_id: str, cursor: int, caller: Caller) -> tuple[RunRecord, list[kernel.WatchRunResponse]]:
        """Return a run and the only first message of its watch."""
        detail, logs = await whole_run(self._store, run_id)
        await self._refuse_ahead(cursor)
        (snapshot,) = await self._sight.shown([run_detail_message(detail, logs)], caller)
        return detail.run, [kernel.WatchRunResponse(snapshot=snapshot)]

    async def watch_events(
        self, request: kernel.WatchEventsRequest, caller: Caller
    ) -> AsyncIterator[kernel.WatchEventsResponse]:
        """Yield every event that a request asks for, and that the caller may read, without end.

        If some are gone, it reports that before the later ones.

        :raises CursorAhead: if the store has no event as new as ``after_seq``
        :raises KernelStopping: if the kernel stops
        """
        if request.from_start and request.after_seq:
            raise BadRequest("from_start and after_seq are both set, expected one of them", field="from_start")
        filter, cursor = event_filter(request), min(request.after_seq, MOST_NUMBER)
        check_most(request.linger_ms, _MOST_LINGER_MS, "linger_ms")
        if cursor or request.from_start:
            await self._refuse_ahead(cursor)
        else:
            cursor = self._feed.last_seq
            yield kernel.WatchEventsResponse(bookmark_seq=cursor)
        sight = ShownEvents(guard=self._guard, principal=caller.principal, message=self._messages.of)
        told, spoke_at = cursor, time.monotonic()
        while True:
            async for page, through in self._news(cursor, filter):
                # Checked after the page was read: events missing from it were removed before.
                if self._store.pruned_through_seq > max(cursor, told):
                    told = self._store.pruned_through_seq
                    yield kernel.WatchEventsResponse(pruned=kernel.PrunedEvents(after_seq=cursor, through_seq=told))
                for events in _grouped(await sight.shown(page)):
                    yield kernel.WatchEventsResponse(events=events)
                    cursor, spoke_at = events[-1].seq, time.monotonic()
                cursor = max(cursor, through)
                # Events that this caller does not see must not hold its cursor back.
                if time.monotonic() - spoke_at >= self._bookmark_seconds:
                    spoke_at = time.monotonic()
                    yield kernel.WatchEventsResponse(bookmark_seq=cursor)
            heard, through = await self._feed.wait_after(cursor, filter, self._left(spoke_at))
            cursor = max(cursor, through)
            if heard and request.linger_ms and not self._feed.closed:
                await asyncio.sleep(request.linger_ms / 1000)
            if self._feed.closed:
                raise KernelStopping

    def _left(self, spoke_at: float) -> float:
        """Return the seconds until a watcher that was last sent something is to get a bookmark."""
        return max(spoke_at + self._bookmark_seconds - time.monotonic(), 0.0)

    async def _refuse_ahead(self, after_seq: int) -> None:
        newest = max(self._feed.last_seq, self._store.pruned_through_seq)
        # Committed events may be read from the store a moment before the feed has them.
        if after_seq > newest and not (await self._store.events_after(after_seq - 1, limit=1)).events:
            raise CursorAhead(after_seq, newest)

    async def _news(self, cursor: int, filter: EventFilter) -> AsyncIterator[tuple[Sequence[EventRecord], int]]:
        """Yield the events after a cursor in pages, each with the sequence that it reaches; the last may be empty."""
        more = True
        while more:
            tail = self._feed.tail_after(cursor, limit=_PAGE)
            if tail is None:
                async for page, through in self._stored(cursor, filter):
                    cursor = through
                    yield page, cursor
                continue
            cursor = tail[-1].seq if tail else cursor
            more = cursor < self._feed.last_seq
            yield [event for event in tail if filter.keeps(event)], cursor

    async def _stored(self, cursor: int, filter: EventFilter) -> AsyncIterator[tuple[Sequence[EventRecord], int]]:
        """Yield the stored events after a cursor in pages, each with the sequence that it reaches."""
        seen, more = self._feed.last_seq, True
        while more:
            page = await self._store.events_after(cursor, limit=_PAGE, filter=filter)
            more = page.next_seq > 0
            cursor = page.events[-1].seq if page.events else cursor
            yield page.events, cursor if more else max(cursor, seen)


def _to_the_end(events: Iterable[EventRecord]) -> Iterator[EventRecord]:
    """Yield the events of a run up to its end."""
    for event in events:
        yield event
        if event.kind == RUN_END:
            return


def _grouped(events: Iterable[event_pb2.Event]) -> Iterator[list[event_pb2.Event]]:
    return grouped(events, event_pb2.Event.ByteSize)


def _without_values(event: EventRecord) -> event_pb2.Event:
    return event_without_values(event_message(event))
