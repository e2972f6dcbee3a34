"""The page of runs."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache, partial
from typing import Any, TypeAlias

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomaflow.client import InvalidRequest, KernelClient, NotFound
from nomaflow.client.values import JobPageView, RunCountView, RunPageView, RunView
from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of, principal_of
from nomaflow_console.kernel.catalogue import job_choices, job_zones, unknown_names
from nomaflow_console.kernel.kept_answers import KeptAnswers
from nomaflow_console.kernel.kept_steps import kept_steps
from nomaflow_console.live import LiveView, of_kinds
from nomaflow_console.rendering import live_part, page, streamed
from nomaflow_console.views.run_filters import COLUMNS, SPANS, TRIGGERS, RunQuery, filter_name
from nomaflow_console.views.run_rows import run_rows
from nomaflow_console.views.states import RUN_STATES, sign_of
from nomaflow_console.views.times import Zone
from nomaflow_telemetry.visible_text import visible

PAGE = 50
_CSV_ROWS = 100_000
_LONGEST_TALLY = timedelta(days=31)
_COUNTED = ("trigger", "host", "tag")
"""The filters whose values have a number beside them."""
_MOST_OFFERED = 20
_Counts: TypeAlias = Sequence[RunCountView] | None
_few_counts = partial(KeptAnswers[_Counts], None, patience_seconds=1.0)
_many_counts = partial(KeptAnswers[_Counts], None, least_seconds=5.0, patience_seconds=0.03)
_COLUMNS = (
    "run_id", "job_id", "state", "reason", "error", "rows_affected", "trigger", "by", "host", "preset", "queued_at",
    "started_at", "finished_at", "fires",
)  # fmt: skip


async def page_of_runs(kernel: KernelClient, query: RunQuery, now: datetime) -> tuple[RunPageView, str, str]:
    """Return the runs of a page, and the run ids that the newer and the older page begin at; empty if there is none."""
    filters = query.filters(now)
    if query.after:
        found = await kernel.list_runs_page(page_size=PAGE, page_token=query.after, oldest_first=True, **filters)
        runs = tuple(reversed(found.runs))
        newer = found.next_page_token and (runs[0].run_id if runs else "")
        shown = RunPageView(runs=runs)
        return shown, newer, runs[-1].run_id if runs else query.after
    found = await kernel.list_runs_page(page_size=PAGE, page_token=query.before, **filters)
    newer = (found.runs[0].run_id if found.runs else query.before) if query.before else ""
    return found, newer, found.next_page_token


async def _page_or_refusal(
    kernel: KernelClient, query: RunQuery, now: datetime
) -> tuple[RunPageView, str, str, list[str]]:
    """Return a page of runs; if the kernel refuses a filter, none and its sentence, so that the filters stay."""
    try:
        return *await page_of_runs(kernel, query, now), []
    except (InvalidRequest, NotFound) as error:
        return RunPageView(), "", "", [error.message]


async def _counts(request: Request, query: RunQuery, now: datetime) -> _Counts:
    """Return the counts of the time that the page shows, by state, whatever else is filtered; None if not known yet."""
    return await _tally(request, query, now, _few_counts, group_by="job" if query.hidden else "state")


async def _counts_of_values(request: Request, query: RunQuery, now: datetime) -> dict[str, dict[str, int]]:
    """Return the counts of the same runs by trigger, host and tag; without a value for those that are not known yet."""
    found: dict[str, dict[str, int]] = {}
    for each in await _tally(request, query, now, _many_counts, also_by=_COUNTED) or ():
        if each.grouping:
            of_value = found.setdefault(each.grouping.lower(), {})
            of_value[each.group] = of_value.get(each.group, 0) + each.runs
    return found


async def _no_counts() -> dict[str, dict[str, int]]:
    return {}


async def _tally(
    request: Request, query: RunQuery, now: datetime, new: Callable[[], KeptAnswers[_Counts]], **asked: Any
) -> _Counts:
    """Return counts of the time that the page shows, of its last 31 days at most: kept for whoever has the same token.

    :param new: makes what keeps them for a token
    """
    since = query.since_at(now)
    since = max(since, now - _LONGEST_TALLY) if since is not None else now - _LONGEST_TALLY
    until = query.filters(now)["until"]
    if until is not None and until <= since:
        return []
    ask = partial(kernel_of(request).summarize_runs, since=since, until=until, **asked)
    kept = principal_of(request).kept(("counts of runs", *asked), new)
    return await kept.of((query.since, query.until, *asked.values()), ask)


def _menu(known: Sequence[str], counts: Mapping[str, int], chosen: str) -> list[tuple[str, int | None]]:
    """Return what a filter offers with the number of runs, those with the most first; None where it is not known."""
    most = sorted(known, key=lambda value: (value != chosen, -counts.get(value, 0)))[:_MOST_OFFERED]
    return [(value, counts.get(value, 0) if counts else None) for value in most]


def _zone(request: Request) -> tzinfo:
    return Zone.of_cookie(request.state.session.zone).info


def _query(request: Request) -> tuple[RunQuery, list[str]]:
    return RunQuery.of(request.query_params.multi_items(), _zone(request))


def _understood(request: Request) -> RunQuery:
    """Return the filters of an address that a program asks.

    :raises InvalidRequest: if one is not understood; the page warns of it, which a program would not see
    """
    query, problems = _query(request)
    if problems:
        raise InvalidRequest("; ".join(problems))
    return query


async def _load(request: Request, *, filters: bool = True) -> dict[str, Any]:
    """Return what the page is made of.

    :param filters: False where the table alone is shown: what filters have beside their values costs the kernel more
    """
    query, problems = _query(request)
    now, kernel = datetime.now(UTC), kernel_of(request)
    (found, newer, older, refused), counts, by_value, choices = await asyncio.gather(
        _page_or_refusal(kernel, query, now), _counts(request, query, now),
        _counts_of_values(request, query, now) if filters else _no_counts(), job_choices(request),
    )  # fmt: skip
    runs, zones = await asyncio.gather(
        kept_steps(request).into(kernel, found.runs), job_zones(request, [run.job_id for run in found.runs])
    )
    by_state = {state: sum(each.runs for each in counts or () if each.state == state) for state in RUN_STATES}
    looks = filters and not (found.runs or refused)
    unknown = await unknown_names(request, job=query.job, host=query.host, tag=query.tag) if looks else []
    hidden = {job: sum(each.runs for each in counts or () if each.group == job) for job in query.hidden}
    chips = query.chips(_zone(request), now)
    return {
        "query": query,
        "here": query.address(before=query.before, after=query.after),
        "period": query.period(_zone(request), now),
        "heading": " · ".join([*(chip.text for chip in chips[:3]), "Runs"]),
        "problems": [*problems, *refused, *unknown],
        "rows": run_rows(runs, zones, query),
        "rows_sum": sum(run.rows_affected or 0 for run in found.runs),
        "newer": query.address(after=newer) if newer else "",
        "older": query.address(before=older) if older else "",
        "scanned_until": found.scanned_until,
        "total": sum(by_state.values()),
        "states": [(sign_of(state), state, None if counts is None else by_state[state]) for state in RUN_STATES],
        **_offered(query, by_value, choices),
        "spans": SPANS,
        "columns": COLUMNS,
        "toggled": _toggled,
        "chips": chips,
        "hidden_chips": [(chip, hidden[job]) for chip, job in zip(query.hidden_chips(), query.hidden, strict=True)],
        "shown_filters": {
            "job": query.job, "host": query.host, "tag": query.tag, "by": filter_name(query.by), "id": query.prefix,
            "reason": ", ".join(query.reasons),
        },
        "kept": _kept(query),
        "known_jobs": _options(tuple(dict.fromkeys(job.job_id for job in choices.jobs))),
        "more_jobs": choices.total > len(choices.jobs),
    }  # fmt: skip


def _offered(query: RunQuery, counts: Mapping[str, Mapping[str, int]], choices: JobPageView) -> dict[str, Any]:
    """Return what triggers, hosts and tags the filters offer, with the number of runs of each."""
    hosts = [each.host for each in choices.counts if each.host]
    tags = [each.tag for each in choices.counts if each.tag]
    triggers = counts.get("trigger", {})
    return {
        "triggers": [(each, triggers.get(each, 0) if triggers else None) for each in TRIGGERS],
        "hosts_offered": _menu(hosts, counts.get("host", {}), query.host),
        "tags_offered": _menu(tags, counts.get("tag", {}), query.tag),
        "known_hosts": hosts,
        "known_tags": tags,
    }


@lru_cache(maxsize=8)
def _options(names: tuple[str, ...]) -> Markup:
    """Return what a field offers: hundreds of jobs, which are the same from page to page."""
    return Markup("").join(Markup('<option value="{}">').format(visible(name)) for name in names)


def _toggled(values: Sequence[str], one: str) -> tuple[str, ...]:
    return tuple(each for each in values if each != one) if one in values else (*values, one)


def _kept(query: RunQuery) -> list[tuple[str, str]]:
    """Return the filters that the small form has no field for."""
    pairs = [("state", each) for each in query.states] + [("trigger", each) for each in query.triggers]
    pairs += [("not", each) for each in query.hidden] + [("off", each) for each in query.off]
    pairs += [("run", each) for each in query.runs]
    single = (("level", query.level), ("replay_of", query.replay_of), ("parent", query.parent))
    return pairs + [(name, value) for name, value in single if value]


async def show(request: Request) -> Response:
    """Return the page."""
    return page(request, "runs.html", live="runs", **await _load(request))


async def show_json(request: Request) -> Response:
    """Return one page of runs in the shape of ``nomaflow runs -o json``, and where the next page begins."""
    query = _understood(request)
    found, newer, older = await page_of_runs(kernel_of(request), query, datetime.now(UTC))
    shape = {
        "runs": [run.to_json() for run in found.runs],
        "newer": query.address(path="/runs.json", after=newer) if newer else None,
        "older": query.address(path="/runs.json", before=older) if older else None,
    }
    return JsonAnswer(shape)


async def show_csv(request: Request) -> Response:
    """Return all runs that the filters keep as a table, at most 100,000."""
    query = _understood(request)
    runs = kernel_of(request).list_runs(page_size=500, **query.filters(datetime.now(UTC)))
    return await streamed(
        _csv(runs),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": 'attachment; filename="runs.csv"'},
    )


async def _csv(runs: AsyncIterator[RunView]) -> AsyncIterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    count = 0
    async for run in runs:
        writer.writerow([_cell(value) for value in _row(run)])
        count += 1
        if text.tell() > 32_768:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
        if count >= _CSV_ROWS:
            break
    yield text.getvalue()


def _row(run: RunView) -> list[Any]:
    return [
        run.run_id, run.job_id, run.state, run.reason.code if run.reason else "", run.error, run.rows_affected,
        run.trigger.kind, run.trigger.by, run.host, run.preset, run.queued_at, run.started_at, run.finished_at,
        run.fold.count if run.fold else 1,
    ]  # fmt: skip


def _cell(value: Any) -> Any:
    """Return a cell that a spreadsheet takes for text, never for a formula."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


async def _table(request: Request) -> Mapping[str, str]:
    """Return the table; nothing for an older page, which does not change.

    A script keeps new rows back while somebody works with the old ones.
    """
    query, _ = _query(request)
    if query.before or query.after:
        return {}
    return {"runs": live_part(request, "parts/runs_table.html", **await _load(request, filters=False))}


LIVE = {"runs": LiveView(concerns=of_kinds("run.", "attempt."), parts=_table)}
ROUTES = [
    Route("/runs", show),
    Route("/runs.json", show_json),
    Route("/runs.csv", show_csv),
]
