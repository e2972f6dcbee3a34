"""ListEvents: pages of stored events, newest first."""

from __future__ import annotations

from msgspec.structs import replace

from nomaflow_api.bounds import MOST_NUMBER
from nomaflow_api.v1 import event_pb2
from nomaflow_kernel.access.grants import Target, Verb
from nomaflow_kernel.access.principals import Caller, Principal
from nomaflow_kernel.history.lookups import EventFilter
from nomaflow_kernel.rpc.list_requests import event_filter
from nomaflow_kernel.rpc.pages import Page, page_size
from nomaflow_kernel.rpc.parts import Calls
from nomaflow_kernel.rpc.requests import check_name, check_run_id, range_us
from nomaflow_kernel.rpc.shown_events import ShownEvents

_PAGE_SIZE = 100
_MAX_PAGE_SIZE = 500
_READS = 5
"""Pages of the store that one answer looks through for events that the caller may read."""
_LOOKS_AT = 4_000
"""Events, of whatever kind, of each such page if the caller may not read all that the filter keeps."""


class EventPages(Calls):
    """Serves ListEvents."""

    async def list_events(self, request: event_pb2.ListEventsRequest, caller: Caller) -> event_pb2.ListEventsResponse:
        """Return one page of the events that the caller may read, newest first.

        It may be short, or empty, and not be the last one. Where the next one begins depends on no event that the
        caller may not read: else the filters would tell of these.
        """
        limit = page_size(request.page_size, _MAX_PAGE_SIZE) if request.page_size else _PAGE_SIZE
        filter, principal = _filter(request), caller.principal
        sees_all = await self._sees_all(filter, principal)
        sight = ShownEvents(guard=self._guard, principal=principal)
        answer = Page[event_pb2.Event]()
        before = min(request.before_seq, MOST_NUMBER)
        for _ in range(_READS if sees_all is not None else 0):
            left = limit - len(answer.entries)
            if sees_all:
                page = await self._store.events_before(before, filter=filter, limit=left)
                rest = page.next_seq
            else:
                heads = await self._store.events_before(
                    before, filter=filter, limit=_LOOKS_AT, looks_at=_LOOKS_AT, heads=True
                )
                seen = [event.seq for event in await sight.shown(heads.events)]
                page = await self._store.events_of(seen[:left], limit=left)
                # Of these, some may be gone by now: the page after this one begins where they end all the same.
                rest = page.next_seq or (seen[left - 1] if len(seen) > left else heads.next_seq)
            whole = answer.take(await sight.shown(page.events))
            before = rest if whole else answer.entries[-1].seq
            if not (whole and before) or len(answer.entries) >= limit:
                break
        return event_pb2.ListEventsResponse(
            events=answer.entries,
            next_before_seq=0 if sees_all is None else before,
            pruned_through_seq=self._store.pruned_through_seq,
        )

    async def _sees_all(self, filter: EventFilter, principal: Principal) -> bool | None:
        """Return whether a principal may read all events that a filter keeps; None if it may read none of them."""
        if principal.may_all(Verb.READ):
            return True
        if filter.run_id:
            target = (await self._guard.targets_of_runs([filter.run_id])).get(filter.run_id)
            return True if target is not None and principal.may(Verb.READ, target) else None
        return bool(filter.job_id) and principal.may(Verb.READ, Target(job_id=filter.job_id))


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
