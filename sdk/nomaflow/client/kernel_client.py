"""The asynchronous client of a kernel."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Self, TypedDict, Unpack

from nomaflow.client import values
from nomaflow.client.access_calls import AccessCalls
from nomaflow.client.address import AddressSource, FixedAddress
from nomaflow.client.audit_reading import AuditReading
from nomaflow.client.connection import Connection
from nomaflow.client.errors import ClientError, NotFound
from nomaflow.client.failed_calls import client_error
from nomaflow.client.figure_reading import FigureReading
from nomaflow.client.log_calls import LogCalls
from nomaflow.client.requests import ReplayOrder, TriggerOrder, filled, trigger_span
from nomaflow.client.run_filters import RunFilters
from nomaflow_api.v1 import kernel_service_pb2 as service
from nomaflow_api.v1.message_codec import decode
from nomaflow_api.v1.reason_statuses import status_error
from nomaflow_project.reading.problems import did_you_mean

_HEALTH_SECONDS = 5.0


class JobFilters(TypedDict, total=False):
    """Filters of a list of jobs; a key that is missing, or empty, keeps all.

    ``text`` is a part of the id or of the description, in upper or lower case. ``conditions`` keeps jobs in one of
    them; see :class:`~nomaflow.client.values.JobCountView`. ``job_ids`` keeps these, at most 500.
    """

    host: str
    tag: str
    text: str
    conditions: Sequence[str]
    job_ids: Sequence[str]
    include_removed: bool


class KernelClient(AccessCalls, AuditReading, FigureReading, LogCalls):
    """Triggers, watches and cancels runs, and reads jobs and hosts.

    Every call has a deadline and is sent again while the kernel is away, which is safe: triggers always carry a
    request id. Streams continue after the last item that they yielded, so a restart of the kernel leaves no gap.
    Every method may raise the errors of :mod:`nomaflow.client.errors`. A client belongs to the process and the event
    loop of its first call; after ``close`` it stays closed.

    :param address: ``unix:/path/kernel.sock``, ``host:port``, ``tls://host:port``, or a source that is asked at every
        try; several, in a list or separated by commas, if kernels stand by for each other: the client finds the leader
    :param token: sent as a bearer token, over TLS only; empty for none
    :param ca: the authorities that must vouch for a kernel on TCP: a file of them, or their PEM as bytes; None for
        those of the system
    :param by: name of the caller in whatever it changes, for the record, unless a call gives another
    :param connect_seconds: time limit for a first answer
    :param retry_seconds: time limit for an answer once the kernel has answered before
    :param on_connected: called with False when the kernel goes away and with True when it is back
    """

    def __init__(
        self,
        address: str | Sequence[str] | AddressSource,
        *,
        token: str = "",
        ca: Path | str | bytes | None = None,
        by: str = "",
        connect_seconds: float = 5.0,
        retry_seconds: float = 60.0,
        on_connected: Callable[[bool], None] | None = None,
    ) -> None:
        source = FixedAddress(address=address, token=token) if isinstance(address, str | Sequence) else address
        if not hasattr(source, "addresses"):
            wanted = "a text such as 'unix:/path/kernel.sock', a list of texts, or ProjectAddress(project=DIR)"
            raise TypeError(f"address is {address!r}, expected {wanted}")
        self._by = by
        self._connection = Connection(
            source=source,
            connect_seconds=connect_seconds,
            retry_seconds=retry_seconds,
            ca=(Path(ca) if ca else None) if isinstance(ca, str) else ca,
            on_connected=on_connected,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel. May be called twice."""
        await self._connection.close()

    def in_name_of(self, by: str) -> Self:
        """Return a client on the same connection whose triggers, cancels and pauses say that *by* asked for them."""
        other = copy.copy(self)
        other._by = by  # noqa: SLF001  # another of this class
        return other

    async def get_kernel(self) -> values.KernelView:
        """Return the description of the kernel."""
        return decode(values.KernelView, await self._ask("GetKernel"))

    async def is_serving(self) -> bool:
        """Return True if the kernel reports that it can work; False for example while its store cannot be written."""
        return await self._connection.is_serving(seconds=_HEALTH_SECONDS)

    async def trigger(self, order: TriggerOrder | str) -> values.Triggered:
        """Start one run, of a job's id or of an order. Returns once the run is durable.

        Values that a step would refuse are refused, with an entry in the error's ``fields`` for each.
        """
        order = TriggerOrder(job_id=order) if isinstance(order, str) else order
        request = order.to_request(default_by=self._by)
        with trigger_span(f"trigger {order.job_id}") as traceparent:
            return decode(values.Triggered, await self._send("TriggerRun", request, traceparent))

    async def trigger_many(self, orders: Iterable[TriggerOrder]) -> list[values.Triggered | ClientError]:
        """Start at most 1,000 runs in one call; the answers are in the order of the orders.

        The answer to a refused order is the error that `trigger` would raise.
        """
        request = service.TriggerRunsRequest(requests=[order.to_request(default_by=self._by) for order in orders])
        with trigger_span(f"trigger {len(request.requests)} runs") as traceparent:
            reply: service.TriggerRunsResponse = await self._send("TriggerRuns", request, traceparent)
        return [
            client_error(status_error(item.status), address="")
            if item.HasField("status")
            else decode(values.Triggered, item.response)
            for item in reply.items
        ]

    async def cancel(self, run_id: str, *, why: str = "", by: str = "") -> values.RunView:
        """Request a stop of a run and return the run as it is. It becomes CANCELED when its code has stopped."""
        reply = await self._ask("CancelRun", run_id=run_id, by=by or self._by, why=why)
        return decode(values.RunView, reply.run)

    async def replay(self, order: ReplayOrder | str) -> values.Replayed:
        """Start a new run from a finished one, of an id or of an order, or check whether that would be accepted."""
        order = ReplayOrder(run_id=order) if isinstance(order, str) else order
        request = order.to_request(default_by=self._by)
        with trigger_span(f"replay {order.run_id}") as traceparent:
            return decode(values.Replayed, await self._send("ReplayRun", request, traceparent))

    async def get_run(self, run_id: str) -> values.RunView:
        """Return one run with its steps and attempts."""
        return decode(values.RunView, (await self._ask("GetRun", run_id=run_id)).run)

    async def list_runs(self, *, page_size: int = 50, **filters: Unpack[RunFilters]) -> AsyncIterator[values.RunView]:
        """Yield runs, newest first and without steps, asking for one page at a time; see :class:`RunFilters`."""
        async for page in self._pages("ListRuns", page_size=page_size, **filters):
            for message in page.runs:
                yield decode(values.RunView, message)

    async def list_runs_page(
        self, *, page_size: int = 50, page_token: str = "", **filters: Unpack[RunFilters]
    ) -> values.RunPageView:
        """Return one page of runs, newest first; see :class:`RunFilters`.

        :param page_size: at most 500
        :param page_token: ``next_page_token`` of the previous page; empty for the first
        """
        reply = await self._ask("ListRuns", page_size=page_size, page_token=page_token, **filters)
        return decode(values.RunPageView, reply)

    async def watch_run(
        self, run_id: str, *, after_seq: int = 0
    ) -> AsyncGenerator[values.RunView | values.EventView, None]:
        """Yield the current run, then its events, and end when it is terminal.

        After a restart of the kernel the run is yielded once more, in its new state; no event is repeated.
        """
        request = filled(service.WatchRunRequest, run_id=run_id, after_seq=after_seq)
        terminal = False
        while not terminal:
            async for message in self._connection.stream("WatchRun", request):
                if message.HasField("snapshot"):
                    run = decode(values.RunView, message.snapshot)
                    terminal = terminal or run.terminal
                    yield run
                for each in message.events:
                    if each.seq > request.after_seq:
                        event = decode(values.EventView, each)
                        request.after_seq = event.seq
                        terminal = terminal or event.run_state in values.RUN_TERMINAL
                        yield event
                request.after_seq = max(request.after_seq, message.bookmark_seq)

    async def wait(self, run_id: str) -> values.RunView:
        """Return the run with its steps once it is terminal."""
        async with aclosing(self.watch_run(run_id)) as items:
            async for item in items:
                if isinstance(item, values.RunView) and item.terminal:
                    return item
                if isinstance(item, values.EventView) and item.run_state in values.RUN_TERMINAL:
                    break
        return await self.get_run(run_id)

    async def watch_events(
        self,
        *,
        after_seq: int = 0,
        from_start: bool = False,
        kinds: Iterable[str] = (),
        job_id: str = "",
        host: str = "",
        linger_seconds: float = 0.0,
        on_pruned: Callable[[values.PrunedView], None] | None = None,
        on_bookmark: Callable[[int], None] | None = None,
    ) -> AsyncIterator[values.EventView]:
        """Yield every event that the caller may read, in order, without end.

        :param after_seq: the last event already seen; 0 means only future events
        :param from_start: yield all stored events first; not with ``after_seq``
        :param kinds: keeps events whose kind equals one of these, or starts with one of these and a dot
        :param job_id: keeps events of that job and of its runs
        :param host: keeps events of that host
        :param linger_seconds: time in which the kernel gathers events before it sends them, at most 1; a watcher in no
            hurry costs it less
        :param on_pruned: called with the missing events if retention has removed some
        :param on_bookmark: called with the newest event's number when nothing was sent for a while, about 10 s
        :raises InvalidRequest: CURSOR_AHEAD if ``after_seq`` is newer than every event: then it is from another store
        """
        if not after_seq and not from_start:
            # Without this, an outage before the first event would lose the events during it.
            after_seq = (await self.get_kernel()).last_event_seq
        request = filled(
            service.WatchEventsRequest,
            after_seq=after_seq,
            from_start=from_start or not after_seq,
            kinds=kinds,
            job_id=job_id,
            host=host,
            linger_ms=round(linger_seconds * 1000),
        )
        while True:
            async for message in self._connection.stream("WatchEvents", request):
                if message.HasField("pruned") and on_pruned is not None:
                    on_pruned(decode(values.PrunedView, message.pruned))
                for event in message.events:
                    if event.seq > request.after_seq:
                        request.after_seq, request.from_start = event.seq, False
                        yield decode(values.EventView, event)
                if message.bookmark_seq > request.after_seq:
                    request.after_seq, request.from_start = message.bookmark_seq, False
                if message.bookmark_seq and on_bookmark is not None:
                    on_bookmark(message.bookmark_seq)

    async def inspect_attempt(self, run_id: str, *, step: str = "", attempt: int = 0) -> values.InspectionView:
        """Return what a running attempt does now: its processes, and the stacks of its Python code.

        :param step: empty for the step in progress
        :param attempt: the number of the try; 0 for the newest
        """
        reply = await self._ask("InspectAttempt", run_id=run_id, step=step, attempt=attempt)
        return decode(values.InspectionView, reply)

    async def list_jobs(self, **filters: Unpack[JobFilters]) -> values.CatalogueView:
        """Return all known jobs, valid or not, and the problems of whole files, asking for one page at a time.

        The filters are those of :class:`JobFilters`.
        """
        found = decode(values.JobPageView, await self._whole("ListJobs", **filters))
        return values.CatalogueView(jobs=found.jobs, problems=found.problems)

    async def list_jobs_page(
        self,
        *,
        skip: int = 0,
        page_size: int = 0,
        page_token: str = "",
        with_counts: bool = False,
        **filters: Unpack[JobFilters],
    ) -> values.JobPageView:
        """Return one page of the jobs that the filters keep, by id; see :class:`JobFilters`.

        :param skip: number of jobs to leave out at first; not with ``page_token``
        :param page_size: 0 for 500, the most
        :param with_counts: whether to count the jobs that the filters keep
        """
        paging = {"skip": skip, "page_size": page_size, "page_token": page_token, "with_counts": with_counts}
        return decode(values.JobPageView, await self._ask("ListJobs", **paging, **filters))

    async def get_job(self, job_id: str) -> values.JobView:
        """Return one job with its definition."""
        return decode(values.JobView, (await self._ask("GetJob", job_id=job_id)).job)

    async def list_hosts(self) -> list[values.HostView]:
        """Return the known hosts and their instances, asking for one page at a time."""
        return [decode(values.HostView, one) for one in (await self._whole("ListHosts")).hosts]

    async def list_callables(self, host: str = "", *, references: Iterable[str] = ()) -> values.CallablesView:
        """Return what a host offers, asking for one page at a time.

        :param host: empty for the only one there is
        :param references: keeps these callables, at most 1,000, and leaves modules and step types out; empty for all
        """
        return decode(values.CallablesView, await self._whole("ListCallables", host=host, references=references))

    async def list_wanted(
        self, host: str = "", *, launched_hosts: Iterable[str] = (), launched_seconds: int = 0
    ) -> list[values.WantedView]:
        """Return the attempts that are due and wait for an instance, by host and by what they need, page by page.

        :param host: only of this one; empty for every host that the caller may read
        :param launched_hosts: hosts that the caller starts when steps wait: without an instance they are not away
        :param launched_seconds: for how long it does, unless it asks again
        """
        launched = {"launched_hosts": tuple(launched_hosts), "launched_seconds": launched_seconds}
        reply = await self._whole("ListWanted", host=host, **launched)
        return [decode(values.WantedView, one) for one in reply.wanted]

    async def declare_ended(self, host: str, incarnation: str, *, evidence: str, by: str = "") -> values.DeclaredView:
        """Tell the kernel that an instance is certainly gone: its attempts are FAILED at once, and may be retried.

        :param evidence: in words, why nothing of it can be left
        """
        fields = {"host": host, "incarnation": incarnation, "evidence": evidence, "by": by or self._by}
        return decode(values.DeclaredView, await self._ask("DeclareEnded", **fields))

    async def reload_host(self, host: str = "", *, force: bool = False, by: str = "") -> list[values.ReloadView]:
        """Load a new generation of a host's code; returns when it serves or is refused."""
        reply = await self._ask("ReloadHost", host=host, force=force, by=by or self._by)
        return [decode(values.ReloadView, one) for one in reply.instances]

    async def forget_host(self, host: str, *, by: str = "") -> tuple[str, ...]:
        """Remove a host that is not attached; return the ids of the jobs that are free now."""
        return tuple((await self._ask("ForgetHost", host=host, by=by or self._by)).released_job_ids)

    async def pause(
        self,
        *,
        job_id: str | None = None,
        host: str | None = None,
        why: str = "",
        until: datetime | None = None,
        by: str = "",
    ) -> values.PauseView:
        """Pause scheduled fires and starts of a job, of a host, or (if both are None) of everything."""
        reply = await self._ask("Pause", job_id=job_id, host=host, why=why, until=until, by=by or self._by)
        return decode(values.PauseView, reply.pause)

    async def resume(self, *, job_id: str | None = None, host: str | None = None, by: str = "") -> bool:
        """End a pause; returns False if nothing was paused."""
        reply: service.ResumeResponse = await self._ask("Resume", job_id=job_id, host=host, by=by or self._by)
        return reply.was_paused

    async def check_names(
        self, *, job_id: str = "", run_ids: Iterable[str] = (), host: str = "", tag: str = ""
    ) -> None:
        """Refuse names that do not exist, or that the caller may not see: for filters that have kept nothing.

        What is gone may still have a history, so lists refuse no name.

        :raises NotFound: with the names that there are, or a similar one
        :raises PermissionDenied: for a job or a run that the caller may not see, whether it exists or not
        """
        if job_id:
            await self.get_job(job_id)
        for run_id in filter(None, run_ids):
            await self.get_run(run_id)
        if host and host not in (hosts := {each.name for each in await self.list_hosts()}):
            await self._require("host", host, hosts)
        if tag:
            await self._require("tag", tag, set())

    async def _require(self, noun: str, name: str, known: set[str]) -> None:
        """Raise unless a name is known, or that of a tag, or a host, of a job that the caller reads.

        :param noun: ``host`` or ``tag``
        """
        counts = (await self.list_jobs_page(include_removed=True, page_size=1, with_counts=True)).counts
        known = known.union(getattr(each, noun) for each in counts) - {""}
        if name in known:
            return
        caller = (await self.get_kernel()).caller
        seen = "" if caller is None or caller.may("read") else " that you may see"
        what = f"no job{seen} has the tag" if noun == "tag" else f"no host{seen} has the name"
        fix = did_you_mean(name, known, noun=noun) if known else f"there are no {noun}s{seen}"
        raise NotFound(f"{what} {name!r}", reason=f"{noun.upper()}_NOT_FOUND", fix=fix)
