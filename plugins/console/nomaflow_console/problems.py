"""Pages of what went wrong: a kernel that refuses or is away, an unknown address, an error of the console."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nomaflow.client import (
    ClientError,
    InvalidRequest,
    KernelUnreachable,
    NotFound,
    PermissionDenied,
    Refused,
    Unauthenticated,
)
from nomaflow_console.rendering import page

__all__ = ["PROBLEMS", "problem"]

_log = logging.getLogger(__name__)

_STATUS: Mapping[type[ClientError], int] = {
    NotFound: 404,
    InvalidRequest: 400,
    Refused: 409,
    PermissionDenied: 403,
    Unauthenticated: 401,
    KernelUnreachable: 503,
}


def problem(
    request: Request, status: int, message: str, *, title: str, fix: str = "", near: tuple[tuple[str, str], ...] = (),
    reason: str = "",
) -> Response:  # fmt: skip
    """Return the page of a problem; JSON if the address ends with ``.json``.

    :param near: name and address of what was probably meant
    """
    if request.url.path.endswith(".json"):
        return JSONResponse({"error": {"reason": reason, "message": message, "fix": fix}}, status_code=status)
    return page(request, "error.html", status=status, title=title, message=message, fix=fix, near=near)


async def _of_kernel(request: Request, error: Exception) -> Response:
    assert isinstance(error, ClientError)
    status = next((number for kind, number in _STATUS.items() if isinstance(error, kind)), 502)
    title = {404: "Not found", 503: "The kernel does not answer", 403: "Not permitted"}.get(status, "Refused")
    return problem(request, status, error.message, title=title, fix=error.fix, reason=error.reason)


async def _of_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = "Not found" if error.status_code == 404 else "Refused"
    message = f"there is no page {request.url.path!r}" if error.status_code == 404 else error.detail
    return problem(request, error.status_code, message, title=title, reason="UNKNOWN_PAGE")


async def _of_console(request: Request, error: Exception) -> Response:
    number = secrets.token_hex(4)
    _log.error("error %s at %s", number, request.url.path, exc_info=error)
    message = f"the console met an error, {number}; its log has the cause under that number"
    return problem(request, 500, message, title="An error of the console", reason="INTERNAL")


PROBLEMS: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    ClientError: _of_kernel,
    HTTPException: _of_address,
    Exception: _of_console,
}
"""What answers where a page raises an error."""
