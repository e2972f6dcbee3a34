"""The page of the schedule: what ran, what comes, and what collides, day by day."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomaflow.client import InvalidRequest
from nomaflow.client.values import FirePageView, RunPageView
from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.kernel.catalogue import unknown_names
from nomaflow_console.kernel.until_changed import until_changed
from nomaflow_console.live import LiveView, of_kinds, rendered
from nomaflow_console.rendering import page
from nomaflow_console.views.schedule import days, outcomes
from nomaflow_console.views.states import StateSign
from nomaflow_console.views.times import Zone

_LENGTHS = (1, 2, 7, 14, 31)
_MOST_RUNS, _MOST_LEFT_OUT = 500, 100
"""The most runs of a list, and the most jobs whose runs a list can leave out."""
_FEW_FIRES, _MOST_FIRES = 100, 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The selection in the page's address.

    :param first: the first day, in the page's zone
    :param no_day: the first day as the address says it, if that is none
    :param collisions: True to show only fires that collide
    """

    first: date
    no_day: str
    length: int
    host: str
    tag: str
    job: str
    collisions: bool

    @classmethod
    def of(cls, request: Request, today: date) -> Choice:
        """Return the choice of a request; what is not understood counts as not said."""
        query = request.query_params
        said, no_day = query.get("from", ""), ""
        try:
            first = min(max(date.fromisoformat(said), today - _FAR), today + _FAR)
        except ValueError:
            first, no_day = today, said
        asked = query.get("days", "")
        return cls(
            first=first,
            no_day=no_day,
            length=int(asked) if asked in map(str, _LENGTHS) else 2,
            host=query.get("host", ""),
            tag=query.get("tag", ""),
            job=query.get("job", ""),
            collisions=query.get("show", "") == "collisions",
        )

    def address(self, **changes: Any) -> str:
        """Return the address of the page with another choice."""
        said = {
            "from": self.first.isoformat(), "days": self.length, "host": self.host, "tag": self.tag, "job": self.job,
            "show": "collisions" if self.collisions else "",
        }  # fmt: skip
        return "/schedule?" + urlencode({name: value for name, value in {**said, **changes}.items() if value})

    @property
    def filters(self) -> dict[str, Any]:
        """The filters that the kernel applies, all but the days."""
        return {"host": self.host, "tag": self.tag, "job_id": self.job}

    @property
    def most_fires(self) -> int:
        """The most fires of a day that are listed under its axis, which shows all; a page of one day lists all."""
        return _FEW_FIRES if self.length > 1 else _MOST_FIRES

    def moved(self, count: int) -> str:
        """Return the address of the days after it, or before it."""
        return self.address(**{"from": (self.first + timedelta(days=count * self.length)).isoformat()})


_FAR = timedelta(days=3660)


def _range(request: Request, now: datetime) -> tuple[Choice, datetime, datetime]:
    """Return the choice of a request, and the begin and end of its days in the page's zone."""
    zone = Zone.of_cookie(request.state.session.zone).info
    choice = Choice.of(request, now.astimezone(zone).date())
    last = choice.first + timedelta(days=choice.length)
    return choice, datetime.combine(choice.first, time(), tzinfo=zone), datetime.combine(last, time(), tzinfo=zone)


async def _context(request: Request) -> dict[str, Any]:
    zone, now = Zone.of_cookie(request.state.session.zone), datetime.now(UTC)
    choice, begin, end = _range(request, now)
    key = (choice.host, choice.tag, choice.job, begin, end)
    fires, runs, counts = await until_changed(request, key, partial(_load, request, choice, begin, end, now))
    if choice.collisions:
        fires = replace(
            fires,
            fires=tuple(fire for fire in fires.fires if fire.collides_with),
            frequent=tuple(each for each in fires.frequent if each.collides_with),
        )
    shown = () if choice.collisions else runs.runs
    return {
        "choice": choice,
        "lengths": _LENGTHS,
        "days": days(choice.first, choice.length, zone.info, fires.fires, shown),
        "fires": fires,
        "counts": counts,
        "begin": begin,
        "end": end,
        "more_runs": bool(runs.next_page_token),
        "today": now.astimezone(zone.info).date(),
    }


async def _load(
    request: Request, choice: Choice, begin: datetime, end: datetime, now: datetime
) -> tuple[FirePageView, RunPageView, dict[str, list[tuple[StateSign, str, int]]]]:
    """Return the fires from now on, and of the fires up to now the runs, or counts where a job fires often.

    The runs are also those that did not take place. Of days that are over, the fires are none, but which schedules
    fire often.
    """
    kernel, filters, until = kernel_of(request), choice.filters, min(end, now)
    if end > now:
        fires = await kernel.list_fires(since=max(begin, now), until=end, **filters)
    else:
        coming = await kernel.list_fires(since=now, limit=1, **filters)
        fires = FirePageView(frequent=tuple(replace(each, fires=0, collides_with=()) for each in coming.frequent))
    if begin >= now:
        return fires, RunPageView(), {}
    # Shown run by run they would leave no room for the others. Those that fire most come first.
    often = list(dict.fromkeys(each.job_id for each in sorted(fires.frequent, key=lambda each: -each.fires)))

    async def counts() -> dict[str, list[tuple[StateSign, str, int]]]:
        if not often:
            return {}
        return outcomes(await kernel.summarize_runs(since=begin, until=until, group_by="job", **filters), often)

    listed = kernel.list_runs_page(
        page_size=_MOST_RUNS, trigger_kinds=["cron"], since=begin, until=until,
        exclude_job_ids=often[:_MOST_LEFT_OUT], **filters,
    )  # fmt: skip
    runs, counted = await asyncio.gather(listed, counts())
    return fires, replace(runs, runs=tuple(run for run in runs.runs if run.job_id not in often)), counted


async def show(request: Request) -> Response:
    """Return the page."""
    context = await _context(request)
    choice: Choice = context["choice"]
    shown = context["fires"].frequent or any(day.runs or day.fires for day in context["days"])
    problems = [] if shown else await unknown_names(request, job=choice.job, host=choice.host, tag=choice.tag)
    return page(request, "schedule.html", title="Schedule", live="schedule", problems=problems, **context)


async def as_json(request: Request) -> Response:
    """Return the coming fires as ``nomaflow schedule --live -o json`` prints them.

    :raises InvalidRequest: if the first day is none; the page warns of it, and shows today
    """
    now = datetime.now(UTC)
    choice, begin, end = _range(request, now)
    if choice.no_day:
        today = now.astimezone(begin.tzinfo).date()
        raise InvalidRequest(f"from: {choice.no_day!r} is no day", fix=f"write it as {today.isoformat()}")
    fires = await kernel_of(request).list_fires(
        since=begin if "from" in request.query_params else now, until=end, limit=_MOST_FIRES, **choice.filters
    )
    return JsonAnswer(fires.to_json())


LIVE = {
    "schedule": LiveView(
        concerns=of_kinds("run.finished", "run.started", "job.", "pause.", "host.manifest"),
        parts=rendered({"schedule-days": "parts/schedule_days.html"}, _context),
        fresh_seconds=lambda _: 60.0,
    )
}
ROUTES = [Route("/schedule", show), Route("/schedule.json", as_json)]
