"""Login by a link or a token, and logout."""

from __future__ import annotations

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from nomaflow.client import ClientError, KernelUnreachable
from nomaflow_console.access.links import LoginLinks, LoginRefused
from nomaflow_console.access.sessions import Session, Sessions
from nomaflow_console.kernel.calls import Kernels
from nomaflow_console.pages.return_targets import target_of
from nomaflow_console.rendering import page
from nomaflow_console.settings import ConsoleSettings

_LONGEST_TOKEN = 1_024


async def show(request: Request) -> Response:
    """Return the page to which a login link leads; its script posts the code, which no server has seen until then."""
    return _page(request, target=target_of(request.query_params, "/"))


def _page(request: Request, *, target: str, problem: str = "", status: int = 200) -> Response:
    settings: ConsoleSettings = request.app.state.settings
    return page(
        request,
        "login.html",
        status=status,
        title="Log in",
        next=target,
        problem=problem,
        takes_links=settings.has_access,
        takes_tokens=settings.takes_tokens,
    )


async def log_in(request: Request) -> Response:
    """Start a session for a code, or for a token."""
    form: ImmutableMultiDict[str, str] = request.state.form
    sessions: Sessions = request.app.state.sessions
    target = target_of(form, "/")
    try:
        token = form.get("token", "").strip()
        session = await _by_token(request, token) if token else _by_link(request, form.get("code", ""))
    except LoginRefused as error:
        return _page(request, target=target, problem=str(error), status=403)
    return RedirectResponse(target, status_code=303, headers={"set-cookie": sessions.set_cookie(session)})


def _by_link(request: Request, code: str) -> Session:
    links: LoginLinks = request.app.state.links
    sessions: Sessions = request.app.state.sessions
    settings: ConsoleSettings = request.app.state.settings
    if not settings.has_access:
        raise LoginRefused("this console has no access of its own to the kernel: log in with a token")
    return sessions.start(name=links.use(code), principal="owner")


async def _by_token(request: Request, token: str) -> Session:
    """Return a session whose calls carry a token.

    :raises LoginRefused: if the kernel does not take it
    """
    kernels: Kernels = request.app.state.kernels
    sessions: Sessions = request.app.state.sessions
    settings: ConsoleSettings = request.app.state.settings
    if not settings.takes_tokens:
        raise LoginRefused(
            "this console calls the kernel at its owner's socket, where a token says nothing: use a login link, or "
            "start the console with --address tls://HOST:PORT"
        )
    if len(token) > _LONGEST_TOKEN or not token.isascii() or not token.isprintable():
        raise LoginRefused(
            "this is not a token; `nomaflow token create --user NAME --role operator --no-join` prints one "
            "(a join string is for `nomaflow login`)"
        )
    try:
        name = await kernels.name_of(token)
    except KernelUnreachable as error:
        raise LoginRefused(f"{error.message}: try again in a moment") from None
    except ClientError as error:
        raise LoginRefused(error.message) from None
    return sessions.start(name=name, principal=f"token of {name}", token=token)


async def log_out(request: Request) -> Response:
    """End the session."""
    session: Session = request.state.session
    sessions: Sessions = request.app.state.sessions
    return RedirectResponse("/login", status_code=303, headers={"set-cookie": sessions.end(session)})


ROUTES = [
    Route("/login", show),
    Route("/login", log_in, methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
]
