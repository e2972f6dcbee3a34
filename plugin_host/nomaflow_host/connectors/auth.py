"""How an API connector proves who it is. Imports httpx, so it is itself imported on first use."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from nomaflow import StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

__all__ = ["auth_for"]

_EARLY_SECONDS = 30.0


def auth_for(table: Mapping[str, Any], *, clock: Callable[[], float] = time.monotonic) -> httpx.Auth | None:
    """Return httpx's form of an ``auth`` table, None for ``none``.

    :param clock: seconds; a token of oauth2 is fetched anew 30 s before it ends
    """
    kind = table["type"]
    if kind == "basic":
        return httpx.BasicAuth(table["username"], table["password"])
    if kind == "bearer":
        return _KeyAuth("Authorization", f"Bearer {table['token']}", in_query=False)
    if kind == "api_key":
        return _KeyAuth(table["name"], table["value"], in_query=table.get("in", "header") == "query")
    if kind == "oauth2":
        return _ClientCredentials(table, clock)
    return None


class _KeyAuth(httpx.Auth):
    """Puts one value into a header or the query of each request."""

    def __init__(self, name: str, value: str, *, in_query: bool) -> None:
        self._name = name
        self._value = value
        self._in_query = in_query

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._in_query:
            request.url = request.url.copy_merge_params({self._name: self._value})
        else:
            request.headers[self._name] = self._value
        yield request


class _ClientCredentials(httpx.Auth):
    """The client credentials grant of OAuth 2: a token is fetched when there is none, and once after a 401."""

    requires_response_body = True

    def __init__(self, table: Mapping[str, Any], clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock
        self._token = ""
        self._good_until = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        fresh = not self._token or self._clock() >= self._good_until
        if fresh:
            self._keep((yield self._token_request()))
        request.headers["Authorization"] = f"Bearer {self._token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED and not fresh:
            self._keep((yield self._token_request()))
            request.headers["Authorization"] = f"Bearer {self._token}"
            yield request

    def _token_request(self) -> httpx.Request:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._table["client_id"],
            "client_secret": self._table["client_secret"],
        }
        form |= {key: self._table[key] for key in ("scope", "audience") if key in self._table}
        return httpx.Request("POST", self._table["token_url"], data=form)

    def _keep(self, response: httpx.Response) -> None:
        try:
            answer = response.json() if response.is_success else {}
            token, seconds = str(answer["access_token"]), float(answer.get("expires_in", 300))
        except (ValueError, KeyError, TypeError, AttributeError):
            self._token = ""
            problem = f"the token_url answered {response.status_code} without an access_token"
            raise StepFailed(f"{problem} (check client_id and client_secret)") from None
        self._token = token
        self._good_until = self._clock() + max(seconds - _EARLY_SECONDS, 0.0)
