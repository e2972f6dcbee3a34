"""The client's calls for figures over many runs, stored events, and coming fires."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, TypedDict, Unpack

from nomaflow.client import values
from nomaflow.client.calls import Calls
from nomaflow_api.v1.message_codec import decode

Grouping = Literal["state", "job", "host", "trigger", "tag"]
"""What runs are counted by, besides their state."""


class EventFilters(TypedDict, total=False):
    """Filters of a list of events; a key that is missing, or empty, keeps all.

    ``kinds`` keeps events whose kind equals one of these, or starts with one of these and a dot. ``job_id`` keeps those
    of that job and of its runs. ``by`` keeps what that principal asked for, or others for it: ``alice`` and
    ``bob`` both find ``alice (for bob)``. ``acts`` keeps whatever somebody asked for: a list of who did what. ``since``
    and ``until`` are aware times: events at or after, and before them.
    """

    kinds: Iterable[str]
    run_id: str
    job_id: str
    host: str
    by: str
    acts: bool
    since: datetime | None
    until: datetime | None


class FigureReading(Calls):
    """Reads figures, events and fires. Every call leaves out what the caller may not read."""

    async def summarize_runs(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        group_by: Grouping = "state",
        also_by: Iterable[Grouping] = (),
        job_id: str = "",
        host: str = "",
        tag: str = "",
    ) -> list[values.RunCountView]:
        """Return the number of runs by state, and by job, host, trigger kind or tag; groups without a run are left out.

        :param also_by: counts the same runs by these too; such a count names its ``grouping``
        :param since: counts runs queued at or after it, at most 31 days before ``until``; None counts open runs only
        :param until: counts runs queued before it; None means now
        """
        reply = await self._ask(
            "SummarizeRuns",
            since=since,
            until=until,
            group_by=group_by,
            also_by=also_by,
            job_id=job_id,
            host=host,
            tag=tag,
        )
        return [decode(values.RunCountView, one) for one in reply.counts]

    async def job_stats(
        self, job_ids: Iterable[str], *, last: int = 20, preset: str = ""
    ) -> dict[str, values.JobStatsView]:
        """Return the newest runs of at most 200 jobs, by job, and what is usual for them.

        Jobs that do not exist, or that the caller may not read, are left out.

        :param last: the number of runs of each, at most 100; the figures are about these
        :param preset: counts only runs that were started with it
        """
        reply = await self._ask("GetJobStats", job_ids=job_ids, last=last, preset=preset)
        return {one.job_id: decode(values.JobStatsView, one) for one in reply.jobs}

    async def list_events(
        self, *, before_seq: int = 0, page_size: int = 0, **filters: Unpack[EventFilters]
    ) -> values.EventPageView:
        """Return one page of stored events, newest first; see :class:`EventFilters`.

        :param before_seq: returns earlier events only; 0 starts at the newest
        :param page_size: at most 500; 0 means 100
        """
        reply = await self._ask("ListEvents", before_seq=before_seq, page_size=page_size, **filters)
        return decode(values.EventPageView, reply)

    async def list_fires(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        host: str = "",
        tag: str = "",
        job_id: str = "",
        limit: int = 0,
    ) -> values.FirePageView:
        """Return the coming fires of the caller's jobs, in order of time, with what they collide with.

        :param since: the start of the range; None means now
        :param until: its end, at most 31 days later; None means a day later
        :param limit: at most 10,000; 0 means 1,000
        """
        fields = {"since": since, "until": until, "host": host, "tag": tag, "job_id": job_id, "limit": limit}
        return decode(values.FirePageView, await self._ask("ListFires", **fields))
