"""The page of who did what; with ``all=1`` of all events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomaflow.client import InvalidRequest, NotFound
from nomaflow.client.values import EventPageView
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.kernel.catalogue import unknown_names
from nomaflow_console.live import LiveView
from nomaflow_console.rendering import live_part, page
from nomaflow_console.views.activity import KINDS, of_days, shown_kinds
from nomaflow_console.views.run_filters import filter_name
from nomaflow_console.views.times import Zone

_PAGE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The selection in the page's address.

    :param everything: True for all events, False for what somebody asked for
    :param before: shows older events than that; 0 begins at the newest
    """

    everything: bool
    kinds: tuple[str, ...]
    by: str
    job: str
    host: str
    run: str
    before: int

    @classmethod
    def of(cls, request: Request) -> Choice:
        """Return the choice of a request; what is not understood counts as not said."""
        query = request.query_params
        before = query.get("before", "")
        return cls(
            everything=query.get("all", "") == "1",
            kinds=tuple(kind for kind in query.getlist("kind") if kind),
            by=query.get("by", "").strip(),
            job=query.get("job", "").strip(),
            host=query.get("host", "").strip(),
            run=query.get("run", "").strip(),
            before=int(before) if before.isdecimal() and len(before) < 19 else 0,
        )

    def address(self, **changes: Any) -> str:
        """Return the address of the page with another choice."""
        said = {
            "all": "1" if self.everything else "", "kind": self.kinds, "by": self.by, "job": self.job,
            "host": self.host, "run": self.run, "before": self.before,
        }  # fmt: skip
        kept = {name: value for name, value in {**said, **changes}.items() if value}
        return "/activity" + (f"?{urlencode(kept, doseq=True)}" if kept else "")

    @property
    def filters(self) -> list[tuple[str, str, str]]:
        """The filters that are set: name, value, and the address without it."""
        found = [(name, getattr(self, name)) for name in ("by", "job", "host", "run")]
        kinds = [
            ("kind", kind, self.address(kind=[each for each in self.kinds if each != kind], before=0))
            for kind in self.kinds
        ]
        told = [(name, filter_name(value) if name == "by" else value) for name, value in found]
        return [*kinds, *((name, value, self.address(**{name: "", "before": 0})) for name, value in told if value)]


async def _events(request: Request, choice: Choice, kinds: Sequence[str]) -> EventPageView:
    return await kernel_of(request).list_events(
        before_seq=choice.before,
        page_size=_PAGE,
        kinds=kinds,
        run_id=choice.run,
        job_id=choice.job,
        host=choice.host,
        by=choice.by,
        acts=not choice.everything,
    )


async def _events_or_refusal(request: Request, choice: Choice) -> tuple[EventPageView, list[str]]:
    """Return the events; if the kernel refuses a filter, none and its sentence, so that the filters stay."""
    try:
        kinds = shown_kinds(choice.kinds) if choice.everything else choice.kinds
        return await _events(request, choice, kinds), []
    except (InvalidRequest, NotFound) as error:
        return EventPageView(), [error.message]


async def _context(request: Request) -> dict[str, Any]:
    choice = Choice.of(request)
    found, problems = await _events_or_refusal(request, choice)
    days = of_days(found.events, Zone.of_cookie(request.state.session.zone).info)
    return {
        "choice": choice, "found": found, "problems": problems, "days": days, "kinds": KINDS,
        "filter_name": filter_name,
    }  # fmt: skip


async def show(request: Request) -> Response:
    """Return the page."""
    context = await _context(request)
    if not (context["problems"] or context["found"].events):
        choice: Choice = context["choice"]
        context["problems"] = await unknown_names(request, job=choice.job, host=choice.host)
    return page(request, "activity.html", title="Activity", live="activity", **context)


async def as_json(request: Request) -> Response:
    """Return the events as ``nomaflow events -o json`` prints them: one JSON object a line, oldest first."""
    choice = Choice.of(request)
    found = await _events(request, choice, choice.kinds)
    lines = "".join(json.dumps(event.to_json()) + "\n" for event in reversed(found.events))
    return Response(lines, media_type="application/x-ndjson")


async def _newest(request: Request) -> Mapping[str, str]:
    """Return the list, where it begins at the newest; nothing for an older page, which does not change."""
    if Choice.of(request).before:
        return {}
    return {"activity-list": live_part(request, "parts/activity_list.html", **await _context(request))}


LIVE = {
    # Progress would be a stream of its own.
    "activity": LiveView(concerns=lambda event, _: event.kind != "attempt.progress", parts=_newest)
}
ROUTES = [Route("/activity", show), Route("/activity.json", as_json)]
