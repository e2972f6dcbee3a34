"""The log of a run: windows for the page's script, search, the map, and files."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import tzinfo
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomaflow_api.bounds import MOST_NUMBER, MOST_SMALL_NUMBER
from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of, principal_of
from nomaflow_console.kernel.catalogue import job_zones
from nomaflow_console.kernel.log_feed import LogFeed
from nomaflow_console.kernel.log_index import LogFilter
from nomaflow_console.kernel.log_pages import LogPages
from nomaflow_console.kernel.log_search import search
from nomaflow_console.rendering import streamed
from nomaflow_console.views.log_lines import LONGEST, file_line, raw_line, shown_line
from nomaflow_console.views.times import Zone

_MOST_LEVEL = 1_000
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_MOST_LINE = 1 << 20
_MOST_SEQS = 20_000
_WINDOW = 200
_BEFORE = 60
_MOST_JOBS = 1_000


def log_pages(request: Request) -> LogPages:
    """Return the windows over the logs that a session may read."""
    return principal_of(request).kept(LogPages, LogPages)


def log_feed(request: Request) -> LogFeed:
    """Return the followers of the logs that a session may read."""
    principal = principal_of(request)
    return principal.kept(LogFeed, lambda: LogFeed(principal.watching))


async def log_zone(request: Request, run_id: str) -> tzinfo:
    """Return the zone of the times of a run's log: as on the rest of its page, its job's where the reader wants it."""
    zone = Zone.of_cookie(request.state.session.zone)
    if not zone.of_jobs:
        return zone.info
    jobs: dict[str, str] = principal_of(request).kept("jobs of runs", dict)
    if run_id not in jobs:
        if len(jobs) > _MOST_JOBS:
            jobs.clear()
        jobs[run_id] = (await kernel_of(request).get_run(run_id)).job_id
    job_id = jobs[run_id]
    return zone.for_job((await job_zones(request, [job_id]))[job_id])[0]


def number(request: Request, name: str, otherwise: int = 0, *, least: int = 0, most: int = MOST_NUMBER) -> int:
    """Return a whole number of the query, brought into a range; *otherwise* if it is missing or no number."""
    text = request.query_params.get(name, "")
    return max(least, min(most, int(text))) if _NUMBER.fullmatch(text) else otherwise


def filter_of(request: Request) -> LogFilter:
    """Return which lines the query wants: ``step``, ``try`` and ``level``."""
    return LogFilter(
        step=request.query_params.get("step", ""),
        attempt=number(request, "try", most=MOST_SMALL_NUMBER),
        level=number(request, "level", most=_MOST_LEVEL),
    )


async def shown_window(request: Request, run_id: str, *, row: int, count: int, before: int) -> dict[str, Any]:
    """Return rows of a log as the page's script gets them."""
    window = await log_pages(request).window(
        kernel_of(request), run_id, filter_of(request), row=row, count=count, before=before
    )
    zone = await log_zone(request, run_id)
    longest = _MOST_LINE if number(request, "whole") else LONGEST
    return {
        "rows": window.rows,
        "first": window.first_row,
        "row": window.row,
        "last_seq": window.last_seq,
        "lines": [
            shown_line(line, window.first_row + place, zone, longest=longest) for place, line in enumerate(window.lines)
        ],
    }


async def lines(request: Request) -> Response:
    """Return a window: around a row (``row``), a line (``seq``), or the next error after or before a line."""
    run_id, kernel, wanted, pages = _log(request)
    row = number(request, "row", least=-MOST_NUMBER)
    if "seq" in request.query_params:
        row = await pages.row_of(kernel, run_id, wanted, number(request, "seq"))
    for name, side in (("error_after", "after_seq"), ("error_before", "before_seq")):
        if name in request.query_params:
            seq = await pages.next_error(kernel, run_id, wanted, **{side: number(request, name)})
            if not seq:
                return JsonAnswer({"row": -1, "lines": []})
            row = await pages.row_of(kernel, run_id, wanted, seq)
    count = number(request, "count", _WINDOW)
    shown = await shown_window(request, run_id, row=row, count=count, before=number(request, "before", _BEFORE))
    if number(request, "map"):
        shown["map"] = await pages.map(kernel, run_id, wanted)
    return JsonAnswer(shown)


async def find(request: Request) -> Response:
    """Return the lines that hold a text (``q``) as they are found: one JSON object a line."""
    run_id, kernel, wanted, pages = _log(request)
    rows = await pages.rows(kernel, run_id, wanted)
    after = number(request, "after")

    async def found() -> AsyncIterator[bytes]:
        count = sent = 0
        async for part in search(kernel, run_id, request.query_params.get("q", ""), wanted, after_seq=after):
            count += len(part)
            seqs = part[: _MOST_SEQS - sent]
            sent += len(seqs)
            marks = sorted({rows.mark(seq) for seq in part[:: max(1, len(part) // 50)]})
            shape = {"count": count, "seqs": seqs, "marks": marks}
            yield json.dumps(shape, separators=(",", ":")).encode() + b"\n"
        yield b'{"done":true}\n'

    return await streamed(found(), media_type="application/x-ndjson")


async def text(request: Request) -> Response:
    """Return the log as a file: all of it, or what the query keeps; with ``raw``, just what was printed."""
    run_id, kernel, wanted, _ = _log(request)
    as_line = raw_line if number(request, "raw") else file_line
    blocks = kernel.read_log_blocks(
        run_id,
        step=wanted.step,
        attempt=wanted.attempt,
        min_level=wanted.level,
        after_seq=max(0, number(request, "from", 1) - 1),
        before_seq=number(request, "to") + 1 if number(request, "to") else 0,
    )

    async def file() -> AsyncIterator[bytes]:
        async for block in blocks:
            yield b"".join(map(as_line, block))

    headers = {"content-disposition": f'attachment; filename="{_plain(run_id)}.log.txt"'}
    return await streamed(file(), media_type="text/plain; charset=utf-8", headers=headers)


async def objects(request: Request) -> Response:
    """Return the log as the command line prints it with ``-o json``: one JSON object a line."""
    run_id, kernel, wanted, _ = _log(request)
    blocks = kernel.read_log_blocks(run_id, step=wanted.step, attempt=wanted.attempt, min_level=wanted.level)

    async def file() -> AsyncIterator[bytes]:
        async for block in blocks:
            yield b"".join(json.dumps(line.to_json()).encode() + b"\n" for line in block)

    return await streamed(file(), media_type="application/x-ndjson")


def _log(request: Request) -> tuple[str, Any, LogFilter, LogPages]:
    return request.path_params["run_id"], kernel_of(request), filter_of(request), log_pages(request)


def _plain(name: str) -> str:
    return "".join(each if each.isalnum() or each in "_-" else "-" for each in name)[:80]


ROUTES = [
    Route("/runs/{run_id}/log/lines", lines),
    Route("/runs/{run_id}/log/search", find),
    Route("/runs/{run_id}/log.txt", text),
    Route("/runs/{run_id}/log.json", objects),
]
