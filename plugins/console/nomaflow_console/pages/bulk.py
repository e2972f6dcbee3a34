"""Many runs at once: those that are selected, or all that match, after a question; and two runs side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from nomaflow.client import ClientError, KernelClient, KernelUnreachable, ReplayOrder
from nomaflow.client.values import RunView
from nomaflow_console.json_answer import joined, json_bytes
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.kernel.kept_steps import MOST_OPEN
from nomaflow_console.pages.return_targets import target_of
from nomaflow_console.rendering import page
from nomaflow_console.views.run_comparison import compare, differences, grouped
from nomaflow_console.views.run_filters import MOST, RunQuery, filter_name
from nomaflow_console.views.run_rows import run_rows
from nomaflow_console.views.sentences import Sentence, line

ASKS_FROM = 200
"""More runs than this are acted on only after their number was typed."""
_MOST = 5_000
_MOST_SHOWN = 100
_AT_ONCE = 8
_VERBS = {"cancel": "Cancel", "cancel-all": "Cancel", "replay": "Replay", "replay-all": "Replay"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome:
    """The result of an action on one run.

    :param new_run: the run that a replay started
    """

    run: RunView
    problem: str = ""
    new_run: str = ""


async def not_asked(_: Request) -> Response:
    """Lead to the runs: whoever opens the address of the question again has sent no form."""
    return RedirectResponse("/runs", status_code=303)


async def ask(request: Request) -> Response:
    """Return the question, with everything that would be acted on; or go on to the comparison."""
    sent = request.state.form
    act, run_ids = sent.get("do", ""), _run_ids(sent)
    if act == "compare":
        return RedirectResponse(f"/runs/compare?{urlencode([('run', one) for one in run_ids[:2]])}", status_code=303)
    runs = await _selected(kernel_of(request), act, run_ids, sent)
    return await _question(request, act, runs, number=len(run_ids))


def _run_ids(sent: ImmutableMultiDict[str, str]) -> list[str]:
    """Return the runs that a form names: in fields of their own in the list, in one field in the question."""
    return list(dict.fromkeys([*sent.getlist("run"), *sent.get("runs", "").split()]))


async def _question(request: Request, act: str, runs: Sequence[RunView], *, number: int, problem: str = "") -> Response:
    sent = request.state.form
    fit = [run for run in runs if _fits(act, run)]
    rows = run_rows(await _with_steps(kernel_of(request), fit[:_MOST_SHOWN]), {}, RunQuery())
    if act.startswith("replay"):
        rows = [replace(row, said=_begins(row.run, row.said)) for row in rows]
    back = _back(sent)
    return page(
        request, "bulk.html", status=409 if problem else 200, title=f"{_VERBS.get(act, 'Act on')} many runs", act=act,
        verb=_VERBS.get(act, "Act on"), rows=rows, fit=fit,
        unfit=len(runs) - len(fit), chosen=number, asks=len(fit) > ASKS_FROM, problem=problem, back=back,
        filters=sent.get("filters", ""), why=sent.get("why", ""), most=_MOST,
    )  # fmt: skip


async def _with_steps(kernel: KernelClient, runs: Sequence[RunView]) -> list[RunView]:
    """Return runs with their steps; one that was removed meanwhile is left out."""
    found: list[RunView] = []
    for start in range(0, len(runs), MOST_OPEN):
        run_ids = [run.run_id for run in runs[start : start + MOST_OPEN]]
        found += [run async for run in kernel.list_runs(run_ids=run_ids, with_steps=True, page_size=MOST_OPEN)]
    return found


def _begins(run: RunView, said: Sentence) -> Sentence:
    """Return the sentence of a run, after the step at which its replay begins."""
    steps = [step for step in run.steps if step.enabled]
    if _begins_at_failed(run):
        steps = [step for step in steps if step.last.state != "SUCCEEDED"]
    begins = [f"begins at {line(step.name)}" for step in steps[:1]]
    return replace(said, text=" · ".join(filter(None, (*begins, said.text))))


def _begins_at_failed(run: RunView) -> bool:
    return run.state in ("FAILED", "CANCELED") and run.started_at is not None


def _back(sent: Mapping[str, str]) -> str:
    filters = sent.get("filters", "")
    return target_of({"next": f"/runs?{filters}"}, "/runs") if filters else "/runs"


def _fits(act: str, run: RunView) -> bool:
    if act.startswith("cancel"):
        return not run.terminal and run.cancel is None
    return run.terminal and run.state not in ("MISSED", "SKIPPED")


async def _selected(kernel: KernelClient, act: str, run_ids: Sequence[str], sent: Mapping[str, str]) -> list[RunView]:
    """Return the runs that are selected; for *all that match* those that the filters of the page keep."""
    if act.endswith("-all"):
        query, _ = RunQuery.of(parse_qsl(sent.get("filters", "")))
        filters = query.filters(datetime.now(UTC))
        filters["states"] = _states(act, query.states)
        found: list[RunView] = []
        if filters["states"]:
            async for run in kernel.list_runs(page_size=500, **filters):
                found.append(run)
                if len(found) >= _MOST:
                    break
        return found
    found = []
    for start in range(0, min(len(run_ids), _MOST), 500):
        part = run_ids[start : start + 500]
        found += [run async for run in kernel.list_runs(run_ids=part, page_size=500)]
    return found


def _states(act: str, filtered: Sequence[str]) -> list[str]:
    """Return the states of *all that match*: the open ones, or those that failed or were canceled, and all others only
    where the filter names them.
    """
    if act == "cancel-all":
        return [state for state in ("QUEUED", "RUNNING") if not filtered or state in filtered]
    return [state for state in ("FAILED", "CANCELED", "SUCCEEDED") if state in (filtered or ("FAILED", "CANCELED"))]


async def do(request: Request) -> Response:
    """Do what was asked for, and tell what became of each run."""
    sent, kernel = request.state.form, kernel_of(request)
    act, run_ids = sent.get("do", ""), _run_ids(sent)
    # The runs of the question, whatever else matches by now.
    runs = [run for run in await _selected(kernel, "", run_ids, sent) if _fits(act, run)]
    if len(run_ids) > ASKS_FROM and sent.get("count", "").replace(",", "").strip() != str(len(run_ids)):
        text = f"type the number of runs, {len(run_ids)}, to act on all of them"
        return await _question(request, act, runs, number=len(run_ids), problem=text)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(run: RunView) -> _Outcome:
        async with gate:
            return await _act(kernel, act, run, why=sent.get("why", ""), request_id=sent.get("request_id", ""))

    outcomes = await asyncio.gather(*(one(run) for run in runs))
    return page(
        request, "bulk_done.html", title=f"{_VERBS.get(act, '')} many runs", act=act, outcomes=outcomes,
        failed=[each for each in outcomes if each.problem], gone=len(run_ids) - len(runs),
        listed=await _list_of(kernel, outcomes), back=_back(sent),
    )  # fmt: skip


async def _list_of(kernel: KernelClient, outcomes: Sequence[_Outcome]) -> str:
    """Return the address of the list of what was started or canceled, where the states are live; empty for nothing.

    What was done is told also where the kernel has gone since: without the address.
    """
    done = [each for each in outcomes if not each.problem]
    started = [each.new_run for each in done if each.new_run]
    if not started:
        return _list_of_canceled([each.run for each in done])
    try:
        ends = (await kernel.list_runs_page(run_ids=list({min(started), max(started)}))).runs  # in the order of time
    except ClientError:
        return ""
    return _of_their_time(ends, triggers=("replay",), by=filter_name(ends[0].trigger.by)) if ends else ""


def _list_of_canceled(runs: Sequence[RunView]) -> str:
    """Return the address of the list of runs; of very many the list of all of their time, which an address can hold."""
    if len(runs) > MOST:
        return _of_their_time(runs, states=("QUEUED", "RUNNING", "CANCELED"))
    return RunQuery(runs=tuple(run.run_id for run in runs), since="ever").address() if runs else ""


def _of_their_time(runs: Sequence[RunView], **filters: Any) -> str:
    """Return the address of the list of what was queued as long as some runs were; empty if none of them was."""
    times = [run.queued_at for run in runs if run.queued_at is not None]
    if not times:
        return ""
    until = max(times) + timedelta(milliseconds=1)
    return RunQuery(since=min(times).isoformat(), until=until.isoformat(), **filters).address()


async def _act(kernel: KernelClient, act: str, run: RunView, *, why: str, request_id: str) -> _Outcome:
    try:
        if act.startswith("cancel"):
            await kernel.cancel(run.run_id, why=why.strip())
            return _Outcome(run=run)
        started = await kernel.replay(
            ReplayOrder(
                run_id=run.run_id,
                from_failed_step=_begins_at_failed(run),
                request_id=f"{request_id[:32]}.{run.run_id}",
            )
        )
        return _Outcome(run=run, new_run=started.run_id)
    except KernelUnreachable as error:
        return _Outcome(run=run, problem=f"{error.message}; it may have been done all the same")
    except ClientError as error:
        return _Outcome(run=run, problem=error.advice)


async def _two_runs(request: Request) -> list[RunView]:
    kernel = kernel_of(request)
    return await asyncio.gather(*(kernel.get_run(each) for each in request.query_params.getlist("run")[:2]))


async def show_comparison(request: Request) -> Response:
    """Return two runs side by side."""
    runs = await _two_runs(request)
    # A thread, since results may have a million values: others are answered meanwhile.
    groups = await asyncio.to_thread(lambda: grouped(compare(*runs))) if len(runs) == 2 else ()
    return page(request, "compare.html", title="Compare two runs", runs=runs, groups=groups)


async def show_comparison_json(request: Request) -> Response:
    """Return two runs in the shape of ``nomaflow show -o json``, and the facts in which they differ."""
    # Its parts are made in a thread, while others are answered.
    return StreamingResponse(comparison_json(await _two_runs(request)), media_type="application/json")


def comparison_json(runs: Sequence[RunView]) -> Iterator[bytes]:
    """Yield the parts of the JSON of a comparison: the runs, step by step, and the differences."""
    shapes = [run.to_json() for run in runs]
    yield b'{"runs":['
    for number, shape in enumerate(shapes):
        steps = shape.pop("steps")
        yield (b"," if number else b"") + json_bytes(shape).removesuffix(b"}") + b',"steps":['
        yield from joined(map(json_bytes, steps))
        yield b"]}"
    yield b'],"differences":['
    rows = differences(compare(*runs)) if len(runs) == 2 else iter(())
    fields = ({"group": row.group, "name": row.name, "one": row.one, "other": row.other} for row in rows)
    yield from joined(map(json_bytes, fields))
    yield b"]}"


ROUTES = [
    Route("/runs/bulk", ask, methods=["POST"]),
    Route("/runs/bulk", not_asked),
    Route("/runs/bulk/do", do, methods=["POST"]),
    Route("/runs/bulk/do", not_asked),
    Route("/runs/compare", show_comparison),
    Route("/runs/compare.json", show_comparison_json),
]
