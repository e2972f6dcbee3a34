"""Mutes the alerts of a job, of a host, or of everything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from nomaflow_console.forms.commands import break_command
from nomaflow_console.kernel.incidents import alerts_of
from nomaflow_console.pages.return_targets import target_of
from nomaflow_console.rendering import page

_SPANS = {"1h": ("for 1 hour", 1), "4h": ("for 4 hours", 4), "1d": ("for a day", 24), "7d": ("for a week", 168)}


async def show(request: Request) -> Response:
    """Return the form."""
    await alerts_of(request).close()  # who may not mute is told now
    return _page(request)


async def send(request: Request) -> Response:
    """Mute, or only show the command that would."""
    sent = request.state.form
    why, span = sent.get("why", "").strip(), _SPANS.get(sent.get("until", ""))
    if sent.get("do") == "check":
        return _page(request)
    if not why or span is None:
        errors = {} if why else {"why": "say why: each message shows it meanwhile"}
        return _page(request, errors=errors | ({} if span else {"until": "choose how long"}), status=400)
    async with alerts_of(request) as client:
        await client.mute(
            until=datetime.now(UTC) + timedelta(hours=span[1]), by=request.state.session.name, why=why,
            job_id=sent.get("job") or None, host=sent.get("host") or None,
        )  # fmt: skip
    return RedirectResponse(target_of(sent, "/"), status_code=303)


def _page(request: Request, *, errors: dict[str, str] | None = None, status: int = 200) -> Response:
    sent = request.state.form if request.method == "POST" else request.query_params
    job, host = sent.get("job", ""), sent.get("host", "")
    why, chosen = sent.get("why", "").strip(), sent.get("until", "1h")
    return page(
        request, "mute.html", status=status, title=f"Mute {job or host or 'everything'}", job_id=job, host=host,
        back=target_of(sent, "/"), spans=_SPANS, why=why, chosen=chosen, errors=errors or {},
        command_line=break_command("alerts mute", job=job, host=host, why=why, span=chosen),
    )  # fmt: skip


ROUTES = [
    Route("/alerts/mute", show, methods=["GET"]),
    Route("/alerts/mute", send, methods=["POST"]),
]
