"""Cancels a run."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from nomaflow.client import ClientError, KernelUnreachable, NotFound, PermissionDenied
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.pages.return_targets import target_of
from nomaflow_console.rendering import page


async def show(request: Request) -> Response:
    """Return the question whether to cancel, for those who come by a link or a key."""
    return await _page(request)


async def send(request: Request) -> Response:
    """Ask the kernel to stop the run; it becomes CANCELED when its code has stopped."""
    run_id = request.path_params["run_id"]
    sent = request.state.form
    try:
        await kernel_of(request).cancel(run_id, why=sent.get("why", "").strip())
    except (NotFound, PermissionDenied, KernelUnreachable):
        raise
    except ClientError as error:
        return await _page(request, problem=error.message, fix=error.fix, status=409)
    return RedirectResponse(target_of(sent, f"/runs/{run_id}"), status_code=303)


async def _page(request: Request, *, problem: str = "", fix: str = "", status: int = 200) -> Response:
    run = await kernel_of(request).get_run(request.path_params["run_id"])
    sent = request.state.form if request.method == "POST" else request.query_params
    return page(
        request, "cancel.html", status=status, title=f"Cancel {run.job_id}?", run=run, problem=problem, fix=fix,
        why=sent.get("why", ""), target=target_of(sent, f"/runs/{run.run_id}"),
    )  # fmt: skip


ROUTES = [
    Route("/runs/{run_id}/cancel", show),
    Route("/runs/{run_id}/cancel", send, methods=["POST"]),
]
