"""Pages of what went wrong: a kernel that refuses or is away, an unknown address, an error of the console."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from nomaflow.client import (
    ClientError,
    InvalidRequest,
    KernelUnreachable,
    NotFound,
    PermissionDenied,
    Refused,
    Unauthenticated,
)
from nomaflow.client.values import RunPageView
from nomaflow_api.near_names import near_names
from nomaflow_console.access.sessions import CSRF_FIELD
from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.rendering import NAVIGATION, page

_log = logging.getLogger(__name__)

_STATUS: Mapping[type[ClientError], int] = {
    NotFound: 404,
    InvalidRequest: 400,
    Refused: 409,
    PermissionDenied: 403,
    Unauthenticated: 401,
    KernelUnreachable: 503,
}
_TITLES = {401: "Not logged in", 403: "Not permitted", 404: "Not found", 503: "The kernel does not answer"}
_SHOWN = 200
_OF_A_TIME = 10
"""The first characters of a run's id, which runs of the same quarter of an hour share."""
_ASKED = "did you mean "
"""The beginning of a way out that a page leaves away: it has links to what was probably meant."""
_MOST_RUNS, _MOST_NEAR = 500, 3
_RUN_PART = re.compile("run_[0-9a-z]{1,26}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """An explanation of a request that was not carried out.

    :param reason: stable, for programs
    :param fix: the way out
    :param near: name and address of what was probably meant
    :param again: the label of a button that sends the same form again; empty for none
    """

    status: int
    message: str
    reason: str
    title: str = ""
    fix: str = ""
    near: tuple[tuple[str, str], ...] = ()
    again: str = ""


def answer(request: Request, problem: Problem) -> Response:
    """Return a problem as a page; as JSON where the address ends with ``.json``, as text for a stream."""
    path = request.url.path
    if path.endswith(".json"):
        told = {"reason": problem.reason, "message": problem.message, "fix": problem.fix}
        return JsonAnswer({"error": told}, status_code=problem.status)
    if path == "/live" or path.startswith("/static/"):
        return PlainTextResponse(problem.message + "\n", status_code=problem.status)
    form = getattr(request.state, "form", None)
    kept = [(name, value) for name, value in form.multi_items() if name != CSRF_FIELD] if form is not None else []
    return page(
        request,
        "error.html",
        status=problem.status,
        title=problem.title or _TITLES.get(problem.status, "Refused"),
        message=problem.message.partition(f"; {_ASKED}")[0] if problem.near else problem.message,
        fix="" if problem.near and problem.fix.startswith(_ASKED) else problem.fix,
        near=problem.near,
        denied=problem.status == 403,
        again=problem.again if form is not None else "",
        kept=kept,
        sent_csrf=form.get(CSRF_FIELD, "") if form is not None else "",
        reload_when_back=problem.status == 503 and form is None,
    )


def refusal(request: Request, status: int, message: str) -> Response:
    """Return the answer to a request that was refused before any page saw it; the values of its form are kept."""
    if status == 401:
        fix = "log in in another tab and come back: what you sent is kept here"
        again, reason = "Send again", "SESSION_OVER"
    elif getattr(request.state, "may_repeat", False):
        fix, again, reason = "check it, and send it again", "Send again", "CSRF"
    else:
        fix, again, reason = "", "", "REFUSED"
    title = "Your session is over" if status == 401 else ""
    return answer(request, Problem(status=status, message=message, reason=reason, fix=fix, again=again, title=title))


async def of_error(request: Request, error: Exception) -> Response:
    """Return the answer for an error that left a page."""
    if isinstance(error, HTTPException):
        if error.status_code == 405 and request.method in ("GET", "HEAD"):
            # A form is sent there, as to /hosts/billing/reload and /logout; the page above it can be read.
            return RedirectResponse(quote(request.url.path.rpartition("/")[0]) or "/", status_code=303)
        return answer(request, _of_address(request, error))
    if isinstance(error, ClientError):
        return answer(request, await _of_kernel(request, error))
    if isinstance(error, TimeoutError):
        late = Problem(
            status=503, message="the kernel did not answer in time", reason="DEADLINE_EXCEEDED", again="Try again"
        )
        return answer(request, late)
    number = secrets.token_hex(4)
    _log.error("error %s at %s %s", number, request.method, request.url.path[:_SHOWN], exc_info=error)
    message = f"internal error of the console, {number}"
    fix = "look for that number in the console's log: .nomaflow/console.log of the project, or the journal"
    return answer(
        request, Problem(status=500, message=message, reason="INTERNAL", fix=fix, title="An error of the console")
    )


async def _of_kernel(request: Request, error: ClientError) -> Problem:
    status = next((number for kind, number in _STATUS.items() if isinstance(error, kind)), 502)
    if isinstance(error, InvalidRequest) and request.method == "GET" and "run_id" in error.fields:
        status = 404  # half an id, or a word in its place
    near = await _near(request) if status == 404 else ()
    again = "Try again" if status == 503 else ""
    fix = "wait: this page opens as soon as there is an answer" if status == 503 else error.fix
    return Problem(status=status, message=error.message, reason=error.reason, fix=fix, near=near, again=again)


def _of_address(request: Request, error: HTTPException) -> Problem:
    if error.status_code != 404:
        return Problem(status=error.status_code, message=error.detail, reason="REFUSED")
    path = request.url.path[:_SHOWN]
    known = {address: name for name, address in (*NAVIGATION, ("Kernel", "/kernel"), ("Jobs", "/jobs"))}
    near = tuple((known[address], "/" if address == "/jobs" else address) for address in near_names(path, known))
    return Problem(status=404, message=f"there is no page {path!r}", reason="UNKNOWN_PAGE", near=near)


async def _near(request: Request) -> tuple[tuple[str, str], ...]:
    """Return the jobs, runs or hosts with names like the unknown one of an address."""
    asked = request.path_params
    try:
        if "job_id" in asked:
            jobs = await kernel_of(request).list_jobs()
            return _links("/jobs/", asked["job_id"], (job.job_id for job in jobs.jobs))
        if "run_id" in asked:
            return await _runs_like(request, asked["run_id"])
        if "name" in asked:
            hosts = await kernel_of(request).list_hosts()
            return _links("/hosts/", asked["name"], (host.name for host in hosts))
    except ClientError:
        pass  # the answer is a 404 anyway
    return ()


async def _runs_like(request: Request, asked: str) -> tuple[tuple[str, str], ...]:
    """Return the runs whose ids begin as the unknown one of an address, then those whose ids are like it."""
    kernel, asked = kernel_of(request), asked.casefold()
    of_the_time = await kernel.list_runs_page(run_id_prefix=asked[:_OF_A_TIME], page_size=_MOST_RUNS)
    alike = (run.run_id for run in of_the_time.runs)
    begun = RunPageView()
    if _RUN_PART.fullmatch(asked):
        begun = await kernel.list_runs_page(run_id_prefix=asked, page_size=_MOST_NEAR)
    found = dict([*((run.run_id, f"/runs/{run.run_id}") for run in begun.runs), *_links("/runs/", asked, alike)])
    return tuple(found.items())[:_MOST_NEAR]


def _links(place: str, name: str, known: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple((each, place + each) for each in near_names(name.removesuffix(".json"), known))
