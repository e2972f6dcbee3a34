"""Pauses and resumes a job, a host, or everything."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from nomaflow.client import ClientError, KernelUnreachable, NotFound, PermissionDenied
from nomaflow_console.forms.commands import break_command
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.kernel.catalogue import known_host
from nomaflow_console.pages.return_targets import target_of
from nomaflow_console.rendering import page
from nomaflow_console.views.needs_you import job_address
from nomaflow_console.views.pause_ends import SPANS, WrongEnd, example, pause_end, pause_ends
from nomaflow_console.views.times import Zone


def _what(request: Request) -> tuple[str, str, str]:
    """Return the job, the host (both empty for everything), and the address that shows what is paused."""
    job, host = request.path_params.get("job_id", ""), request.path_params.get("name", "")
    if job:
        return job, host, job_address(job)
    return job, host, f"/hosts/{quote(host, safe='')}" if host else "/"


async def show(request: Request) -> Response:
    """Return the form."""
    job, host, _ = _what(request)
    if job:
        await kernel_of(request).get_job(job)  # an unknown one is told now
    elif host:
        await known_host(request, host)
    return _page(request)


async def send(request: Request) -> Response:
    """Pause, or only show the command that would."""
    if request.state.form.get("do") == "check":
        return _page(request)
    job, host, address = _what(request)
    sent, now = request.state.form, datetime.now(UTC)
    why = sent.get("why", "").strip()
    zone = Zone.of_cookie(request.state.session.zone).info
    errors = {} if why else {"why": "say why: whoever looks for the runs that do not come reads it"}
    until = None
    try:
        until = pause_end(sent.get("until", ""), sent.get("at", ""), now, zone)
    except WrongEnd as error:
        errors["at"] = str(error)
    if errors:
        return _page(request, errors=errors, status=400)
    try:
        await kernel_of(request).pause(job_id=job or None, host=host or None, why=why, until=until)
    except (NotFound, PermissionDenied, KernelUnreachable):
        raise
    except ClientError as error:
        return _page(request, errors=dict(error.fields), problem=error.message, status=409)
    return RedirectResponse(target_of(sent, address), status_code=303)


async def resume(request: Request) -> Response:
    """End the pause."""
    job, host, address = _what(request)
    await kernel_of(request).resume(job_id=job or None, host=host or None)
    return RedirectResponse(target_of(request.state.form, address), status_code=303)


def _page(request: Request, *, errors: dict[str, str] | None = None, problem: str = "", status: int = 200) -> Response:
    job, host, address = _what(request)
    sent = request.state.form if request.method == "POST" else {}
    zone = Zone.of_cookie(request.state.session.zone)
    choice, at, why = sent.get("until", "4h"), sent.get("at", ""), sent.get("why", "").strip()
    now = datetime.now(UTC)
    return page(
        request, "pause.html", status=status, title=f"Pause {job or host or 'everything'}", job_id=job, host=host,
        back=target_of(sent or request.query_params, address), ends=pause_ends(now, zone.info),
        zone_name=zone.name, example=example(now, zone.info), why=why, chosen=choice, at=at, errors=errors or {},
        problem=problem,
        action=request.url.path, command_line=_command(job, host, why, choice, at, zone),
    )  # fmt: skip


def _command(job: str, host: str, why: str, choice: str, at: str, zone: Zone) -> str:
    """Return the command that pauses until the end that is chosen; empty while the time that is typed in is none."""
    try:
        end = pause_end(choice, at, datetime.now(UTC), zone.info)
    except WrongEnd:
        return ""
    span = choice if choice in SPANS else ""
    until = end.astimezone(zone.info) if end else None
    return break_command("pause", job=job, host=host, why=why, span=span, until=until)


ROUTES = [
    Route(f"{place}/{act}", handler, methods=[method])
    for place in ("", "/jobs/{job_id}", "/hosts/{name}")
    for act, method, handler in (("pause", "GET", show), ("pause", "POST", send), ("resume", "POST", resume))
]
