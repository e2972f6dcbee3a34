"""The page of one run: what became of it, its timeline, its tries, and its log."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from nomaflow.client import ClientError, KernelClient, PermissionDenied
from nomaflow.client.values import EventView, JobStatsView, JobView, LogLine, RunView, from_micros
from nomaflow_api.bounds import MOST_SMALL_NUMBER
from nomaflow_api.log_levels import levels_from
from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of, status_of
from nomaflow_console.kernel.log_index import ALL_LINES, LogFilter
from nomaflow_console.kernel.log_search import first_matches
from nomaflow_console.kernel.status import KernelStatus
from nomaflow_console.kernel.until_changed import until_changed
from nomaflow_console.live import LiveView, ServerEvent, rendered
from nomaflow_console.pages.run_log import (
    filter_of,
    log_feed,
    log_pages,
    log_zone,
    number,
    shown_window,
)
from nomaflow_console.rendering import page
from nomaflow_console.settings import ConsoleSettings
from nomaflow_console.views import run_words
from nomaflow_console.views.figures_told import without_run
from nomaflow_console.views.json_tree import JsonTrees
from nomaflow_console.views.log_lines import shown_line
from nomaflow_console.views.needs_you import usual_of
from nomaflow_console.views.sentences import reason_sentence, run_sentence, usually
from nomaflow_console.views.states import run_sign
from nomaflow_console.views.timeline import Moment, timeline
from nomaflow_console.views.tries import TryRow, tries, without_values

T = TypeVar("T")
_ERROR = logging.ERROR
_LOUD, _ERRORS = levels_from(logging.WARNING), levels_from(_ERROR)
_FIRST_LINES = 100
_LEVELS = ((0, "all levels"), (20, "INFO and up"), (30, "WARNING and up"), (40, "ERROR and up"))
_TAIL = 200
_NEW_SECONDS = 1.0
_OF_THE_LOG = ("step", "try", "level", "q")
"""The filters of the log in the page's address."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """A run with what the page shows beside it; each part may be missing.

    :param children: the runs that its call_job steps started, by id, with their steps
    :param replays: its replays, newest first
    :param status: what is known of the kernel and its hosts
    :param loud: the warnings and errors of its log; None if it is long, or this caller may not read it
    """

    run: RunView
    job: JobView | None
    stats: JobStatsView | None
    children: Mapping[str, RunView]
    replays: tuple[RunView, ...]
    late: Mapping[tuple[str, int], EventView]
    status: KernelStatus
    loud: tuple[LogLine, ...] | None


async def _known(request: Request, run_id: str) -> _Known:
    """Return a run with what is beside it, asked for once for all who look at it."""
    return await until_changed(request, ("run", run_id), lambda: _load(request, run_id))


async def _load(request: Request, run_id: str) -> _Known:
    kernel, status = kernel_of(request), await status_of(request)
    run, pages = await kernel.get_run(run_id), log_pages(request)
    if run.terminal and run_words.seal_of_run(run).css == "complete":
        pages.complete(run_id, run.log_lines)
    job, stats, children, replays, late, loud = await asyncio.gather(
        _or_none(kernel.get_job(run.job_id)),
        _or_none(kernel.job_stats([run.job_id], preset=run.preset)),
        _or_none(_children(kernel, run)),
        _or_none(kernel.list_runs_page(replay_of=run_id, page_size=5)),
        _or_none(_late_results(kernel, run)),
        _or_none(pages.loud_lines(kernel, run_id, ALL_LINES)),
    )
    return _Known(
        run=run,
        job=job,
        stats=(stats or {}).get(run.job_id),
        children={child.run_id: without_values(child) for child in children or ()},
        replays=replays.runs if replays is not None else (),
        late=late or {},
        status=status,
        loud=loud,
    )


async def _late_results(kernel: KernelClient, run: RunView) -> Mapping[tuple[str, int], EventView]:
    """Return the results that came after their try had been given up, by step and try."""
    if not any(attempt.state == "LOST" for step in run.steps for attempt in step.attempts):
        return {}
    found = await kernel.list_events(run_id=run.run_id, kinds=["attempt.late_result"])
    return {(event.step, event.attempt): event for event in found.events}


async def _children(kernel: KernelClient, run: RunView) -> tuple[RunView, ...]:
    if not any(attempt.child_run_id for step in run.steps for attempt in step.attempts):
        return ()
    return (await kernel.list_runs_page(parent_run_id=run.run_id, with_steps=True)).runs


async def _or_none(asked: Awaitable[T]) -> T | None:
    """Return an answer, or None where this caller may not have it or there is none: the page is useful without."""
    try:
        return await asked
    except ClientError:
        return None


async def show(request: Request) -> Response:
    """Return the page."""
    run_id = request.path_params["run_id"]
    known = await _known(request, run_id)
    run = known.run
    window, opens, reads_log = await _first_window(request, known)
    wanted, needle = filter_of(request), request.query_params.get("q", "") if reads_log else ""
    follows = reads_log and not run.terminal and "at" not in request.query_params
    return page(
        request,
        "run.html",
        live="run",
        log_seq=window["last_seq"],
        title=run_words.title(run, run_sign(run).sign),
        window=window,
        reads_log=reads_log,
        opens=opens if opens is not None else "",
        follows=follows,
        wanted=wanted,
        query=_query(wanted),
        levels=_LEVELS,
        needle=needle,
        shown_lines=await _matches(request, run_id, needle) if needle else window["lines"],
        tries=max((len(step.attempts) for step in run.steps), default=0),
        **await _context(request, known),
    )


async def _first_window(request: Request, known: _Known) -> tuple[dict[str, Any], int | None, bool]:
    """Return the rows at which the log opens, the row whose traceback is shown, and whether the caller may read it."""
    try:
        row, opens = await _opening_row(request, known)
        window = await shown_window(request, known.run.run_id, row=row, count=_FIRST_LINES, before=_FIRST_LINES // 3)
    except PermissionDenied:  # who may read a run need not be allowed to read what its code has written
        return {"rows": 0, "first": 0, "row": 0, "last_seq": 0, "lines": []}, None, False
    return window, opens, True


async def _matches(request: Request, run_id: str, needle: str) -> list[dict[str, Any]]:
    """Return the first lines that hold a text; a page with a script shows all of them in their place instead."""
    found = await first_matches(kernel_of(request), run_id, needle, filter_of(request), most=_FIRST_LINES)
    zone = await log_zone(request, run_id)
    return [shown_line(line, row, zone) for row, line in enumerate(found)]


def _query(wanted: LogFilter) -> str:
    asked = {"step": wanted.step, "try": wanted.attempt, "level": wanted.level}
    return urlencode({name: value for name, value in asked.items() if value})


async def _opening_row(request: Request, known: _Known) -> tuple[int, int | None]:
    """Return the row at which the log opens, and the row whose traceback is shown, if it opens at an error.

    The first error of the try that failed; else the end of a run that is not over, else the beginning.
    """
    run = known.run
    if "at" in request.query_params:
        return number(request, "at", least=-1), None
    if not run.terminal:
        return -1, None
    failed = run_words.failed_try(run)
    if failed is None or not run.log_lines:
        return 0, None
    step, attempt = failed
    kernel, pages, wanted = kernel_of(request), log_pages(request), filter_of(request)
    of_try = LogFilter(step=step.name, attempt=attempt.attempt, level=max(wanted.level, _ERROR))
    if known.loud is None:
        seq = await pages.next_error(kernel, run.run_id, of_try)
    else:
        seq = next((line.seq for line in known.loud if of_try.keeps(line)), 0)
    if not seq or wanted.step not in ("", step.name) or wanted.attempt not in (0, attempt.attempt):
        return 0, None
    row = await pages.row_of(kernel, run.run_id, wanted, seq)
    return row, row


async def _context(request: Request, known: _Known) -> dict[str, Any]:
    """Return what the live parts of the page are made of."""
    run, now = known.run, datetime.now(UTC)
    moments = await _or_none(_moments(request, known)) or []
    seconds = None if run.started_at is None else ((run.finished_at or now) - run.started_at).total_seconds()
    usual, p95 = usual_of(without_run(known.stats, run.run_id))
    definition = dict(known.job.definition or {}) if known.job is not None else {}
    trees, short = JsonTrees(), without_values(run)
    changed = bool(definition and run.definition_digest and known.job and known.job.digest != run.definition_digest)
    return {
        "run": short,
        "params": trees.tree(run.params) if run.params else "",
        "params_count": len(run.params),
        "here": f"/runs/{run.run_id}",
        "schedule_zone": run_words.schedule_zone(known.job, run.preset),
        "sign": run_sign(run),
        "sentence": run_sentence(run),
        "why": reason_sentence(run),
        "words": run_words,
        "seconds": seconds,
        "usual": usually(seconds or 0.0, usual=usual, p95=p95),
        "timezone": known.job.timezone if known.job is not None else "",
        "children": known.children,
        "late": known.late,
        "beside": known.status.beside,
        "replays": known.replays,
        "generation_now": known.status.generations.get(run.host, 0),
        "generations": sorted({try_.generation for step in run.steps for try_ in step.attempts if try_.generation}),
        "difference": run_words.difference(run.definition, definition) if changed and run.definition else (),
        "definition_changed": changed,
        "timeline": timeline(short, now=now, moments=moments, children=known.children),
        "failed": run_words.failed_try(short),
        "listed_tries": _tries(request, run, trees),
        "all_tries": _address_of_all_tries(request),
        "seal": run_words.seal_of_run(run),
    }


def _tries(request: Request, run: RunView, trees: JsonTrees) -> tuple[TryRow, ...]:
    """Return the tries that the page lists; the one that the log is about is never left out."""
    wanted = filter_of(request)
    everything = request.query_params.get("tries") == "all"
    return tuple(tries(run, trees, everything=everything, named=(wanted.step, wanted.attempt)))


def _address_of_all_tries(request: Request) -> str:
    kept = [(name, value) for name, value in request.query_params.multi_items() if name in _OF_THE_LOG]
    return f"?{urlencode([*kept, ('tries', 'all')])}#run-tries"


async def _moments(request: Request, known: _Known) -> list[Moment]:
    """Return when warnings and errors were logged; of a long log, when the blocks with them begin."""
    if known.loud is None:
        rows = await log_pages(request).rows(kernel_of(request), known.run.run_id, ALL_LINES)
        blocks = rows.moments(_LOUD)
        found = [(step, attempt, at_us, bool(levels & _ERRORS)) for step, attempt, at_us, levels in blocks]
    else:
        found = [(line.step, line.attempt, line.at_us, line.level >= _ERROR) for line in known.loud]
    return [
        Moment(step=step, attempt=attempt, at=from_micros(at_us), kind="error" if error else "warning")
        for step, attempt, at_us, error in found
    ]


async def as_json(request: Request) -> Response:
    """Return the run as the command line prints it with ``-o json``."""
    run = await kernel_of(request).get_run(request.path_params["run_id"])
    return JsonAnswer(run.to_json())


async def report(request: Request) -> Response:
    """Return the report of a run as text: its error with the traceback, its values, and the address of its page."""
    kernel, run_id = kernel_of(request), request.path_params["run_id"]
    run = await kernel.get_run(run_id)
    message = ""
    failed = run_words.failed_try(run)
    if failed is not None:
        step, attempt = failed
        blocks = kernel.read_log_blocks(run_id, step=step.name, attempt=attempt.attempt, min_level=_ERROR, limit=1)
        async for block in blocks:
            message = block[0].message
    settings: ConsoleSettings = request.app.state.settings
    scheme = "https" if settings.secure else "http"  # a proxy may have TLS, and the console none
    address = str(request.url.replace(scheme=scheme, path=f"/runs/{run_id}", query=""))
    return PlainTextResponse(run_words.written_report(run, address=address, error_line=message))


async def inspect(request: Request) -> Response:
    """Return what a try does now: its processes and the stacks of its threads, as its host sees them."""
    run_id, step, attempt = _try_of(request)
    seen = await kernel_of(request).inspect_attempt(run_id, step=step, attempt=attempt)
    return page(
        request, "inspect.html", title=f"What {step} does now", seen=seen, run_id=run_id, step=step, attempt=attempt,
        beside=(await status_of(request)).beside(f"{run_id}/{step}/{attempt}"),
    )  # fmt: skip


async def inspect_json(request: Request) -> Response:
    """Return it in the shape of ``nomaflow inspect -o json``."""
    run_id, step, attempt = _try_of(request)
    return JsonAnswer((await kernel_of(request).inspect_attempt(run_id, step=step, attempt=attempt)).to_json())


def _try_of(request: Request) -> tuple[str, str, int]:
    given = request.path_params
    return given["run_id"], given["step"], min(given["attempt"], MOST_SMALL_NUMBER)


def _concerns(event: EventView, request: Request) -> bool:
    """Return True for events of the run and of those that it called, and if another run of its job begins or ends.

    The first parts tell which runs these are.
    """
    known: _Known | None = getattr(request.state, "known", None)
    if known is None or event.run_id == known.run.run_id or event.run_id in known.children:
        return bool(event.run_id)
    return event.job_id == known.run.job_id and event.kind.startswith("run.")


def _fresh_seconds(request: Request) -> float:
    """Return how long the timeline is good: its axis ends when it was drawn, so it is a tenth too short at most."""
    known: _Known | None = getattr(request.state, "known", None)
    if known is None:
        return _NEW_SECONDS
    run = known.run
    if run.terminal or run.queued_at is None:
        return math.inf
    return max((datetime.now(UTC) - run.queued_at).total_seconds() / 10, _NEW_SECONDS)


async def _read_parts(request: Request) -> dict[str, Any]:
    """Return what the header, the timeline, the tries and the seal of the log are made of."""
    known = await _known(request, request.query_params.get("run_id", ""))
    request.state.known = known
    return await _context(request, known)


async def _log_as_it_grows(request: Request) -> AsyncIterator[ServerEvent]:
    """Yield the log as it grows: how many rows it has now, and the last ones. No line comes twice.

    A step may log 100,000 lines in a second, so that at most the last 200 come each time; the page asks for others
    when somebody looks at them.
    """
    kernel, run_id, wanted = kernel_of(request), request.query_params.get("run_id", ""), filter_of(request)
    pages, seen_seq = log_pages(request), request.state.cursor.log_seq
    rows = await pages.rows(kernel, run_id, wanted)
    seen = rows.count if seen_seq >= rows.last_seq else await pages.row_of(kernel, run_id, wanted, seen_seq + 1)
    async with aclosing(log_feed(request).changes(run_id, seen_seq)) as changes:
        async for _ in changes:
            rows = await pages.rows(kernel, run_id, wanted)
            if rows.count > seen:
                data = await _tail(request, run_id, seen, rows.count)
                seen = rows.count
                yield ServerEvent(event="log", data=json.dumps(data), log_seq=rows.last_seq)
            if request.state.cursor.once:
                return


async def _tail(request: Request, run_id: str, seen: int, rows: int) -> dict[str, Any]:
    """Return the rows that are new of a log of so many rows, at most the last 200 of them."""
    first = max(seen, rows - _TAIL)
    return {**await shown_window(request, run_id, row=first, count=rows - first, before=0), "rows": rows}


_PARTS = ("run-head", "run-timeline", "run-tries", "run-waits", "run-seal")

ROUTES = [
    Route("/runs/{run_id}.json", as_json),
    Route("/runs/{run_id}", show),
    Route("/runs/{run_id}/report.txt", report),
    Route("/runs/{run_id}/inspect/{step:path}/{attempt:int}", inspect),
    Route("/runs/{run_id}/inspect/{step:path}/{attempt:int}.json", inspect_json),
]
LIVE = {
    "run": LiveView(
        concerns=_concerns,
        parts=rendered({name: f"parts/{name.replace('-', '_')}.html" for name in _PARTS}, _read_parts),
        fresh_seconds=_fresh_seconds,
        extra=_log_as_it_grows,
    )
}
