"""ListEvents: pages of stored events, newest first."""

from __future__ import annotations

from msgspec.structs import replace

from nomaflow_api.bounds import MOST_NUMBER
from nomaflow_api.v1 import event_pb2
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.history.lookups import EventFilter
from nomaflow_kernel.rpc.event_sight import EventSight
from nomaflow_kernel.rpc.list_requests import event_filter
from nomaflow_kernel.rpc.pages import Page, page_size
from nomaflow_kernel.rpc.parts import KernelParts
from nomaflow_kernel.rpc.requests import check_name, check_run_id, range_us

_PAGE_SIZE = 100
_MAX_PAGE_SIZE = 500
_READS = 5
"""Pages of the store that one answer looks through for events that the caller may read."""


class EventPages:
    """Serves ListEvents."""

    def __init__(self, parts: KernelParts) -> None:
        self._store, self._guard = parts.store, parts.guard

    async def list_events(self, request: event_pb2.ListEventsRequest, caller: Caller) -> event_pb2.ListEventsResponse:
        """Return one page of the events that the caller may read, newest first.

        It may be short, or empty, and not be the last one.
        """
        limit = page_size(request.page_size, _MAX_PAGE_SIZE) if request.page_size else _PAGE_SIZE
        filter = _filter(request)
        sight = EventSight(guard=self._guard, principal=caller.principal)
        answer = Page[event_pb2.Event]()
        before = min(request.before_seq, MOST_NUMBER)
        for _ in range(_READS):
            page = await self._store.events_before(before, filter=filter, limit=limit - len(answer.entries))
            shown = await sight.shown(page.events)
            whole = answer.take(shown)
            before = page.next_before_seq if whole else answer.entries[-1].seq
            if not (whole and before) or len(answer.entries) >= limit:
                break
        return event_pb2.ListEventsResponse(
            events=answer.entries, next_before_seq=before, pruned_through_seq=self._store.pruned_through_seq
        )


def _filter(request: event_pb2.ListEventsRequest) -> EventFilter:
    if request.run_id:
        check_run_id(request.run_id)
    check_name(request.by, "by")
    since_us, until_us = range_us(request)
    return replace(
        event_filter(request),
        run_id=request.run_id,
        by=request.by,
        acts=request.acts,
        since_us=since_us,
        until_us=until_us,
    )
