"""Checks each request before a page sees it, and puts the headers on each answer."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, quote

from starlette.datastructures import Headers, ImmutableMultiDict, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nomaflow_console.access.origins import Origins
from nomaflow_console.access.sessions import CSRF_FIELD, Session, Sessions

MOST_BYTES = 512 * 1024
_MOST_FIELDS = 50_000
"""The form of a job of a thousand steps has five thousand, if each step takes three values."""
_LONGEST_NAME = 128
_READS = ("GET", "HEAD")
_OPEN = ("/login", "/static/")
"""What needs no session."""
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    # With no-referrer Chromium sends "Origin: null" on plain forms, which the check of the origin refuses.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""What each answer carries unless it says otherwise."""
_TLS_HEADERS = {"strict-transport-security": "max-age=31536000"}
_Refusal = Callable[[Request, int, str], Response]
"""Makes the page of a request that is refused, from a status and a message."""


class Gate:
    """The checks of each request; see docs/console.md, Security."""

    def __init__(
        self, app: ASGIApp, *, origins: Origins, sessions: Sessions, refusal: _Refusal, user_header: str = ""
    ) -> None:
        self._app = app
        self._origins = origins
        self._sessions = sessions
        self._refusal = refusal
        self._user_header = user_header
        self._headers = _HEADERS | (_TLS_HEADERS if sessions.secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        session = self._sessions.read(headers)
        renews = session is not None and scope["path"] != "/live" and self._sessions.wants_renewal(session)
        cookie = self._sessions.set_cookie(session) if session is not None and renews else ""
        if session is not None and self._user_header and (named := _name(headers.get(self._user_header, ""))):
            session = replace(session, name=named)
        scope.setdefault("state", {})["session"] = session

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    given.setdefault(name, value)
                if cookie and "set-cookie" not in given:
                    given.append("set-cookie", cookie)
            await send(message)

        request = Request(scope, receive)
        try:
            refused = await self._refused(request, headers, session)
        except ClientDisconnect:
            return  # nobody is left to answer
        await (self._app if refused is None else refused)(scope, receive, sending)

    async def _refused(self, request: Request, headers: Mapping[str, str], session: Session | None) -> Response | None:
        """Return the answer to a request that goes no further; None if it does."""
        path = request.url.path
        if not self._origins.knows_host(headers.get("host", "")):
            text = "this console does not answer at that host name; see docs/console.md\n"
            return PlainTextResponse(text, status_code=403)
        is_read = request.method in _READS
        if not is_read:
            if not self._origins.allows_change(headers):
                return self._refusal(request, 403, "this request does not come from a page of this console")
            body = await _bounded_body(request)
            if body is None:
                return self._refusal(request, 413, f"a request has at most {MOST_BYTES} bytes")
            request.state.form = _form(body)
        if path.startswith(_OPEN):
            return None
        if session is None:
            return self._without_session(request, is_read=is_read)
        given = "" if is_read else request.state.form.get(CSRF_FIELD, "")
        if not is_read and not hmac.compare_digest(session.csrf.encode(), given.encode()):
            request.state.may_repeat = True  # it comes from a page of ours, of somebody else's session
            return self._refusal(request, 403, "this form was made in another session")
        return None

    def _without_session(self, request: Request, *, is_read: bool) -> Response:
        wants_page = "text/html" in request.headers.get("accept", "")
        if is_read and wants_page and request.url.path != "/live":  # a page is no answer to who reads a stream
            target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?next={quote(target)}", status_code=303)
        return self._refusal(request, 401, "you are not logged in, or your session is over")


def _name(told: str) -> str:
    """Return the name that a header tells: proxies write UTF-8, which a header is not read as."""
    return told.encode("latin-1").decode("utf-8", "replace").strip()[:_LONGEST_NAME]


def _form(body: bytes) -> ImmutableMultiDict[str, str]:
    """Return the fields of a form; none if it is no form."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        pairs = []
    return ImmutableMultiDict(pairs)


async def _bounded_body(request: Request) -> bytes | None:
    """Return the body of a request; None if it is too long."""
    if int(request.headers.get("content-length", "0") or 0) > MOST_BYTES:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return None
    return bytes(body)
