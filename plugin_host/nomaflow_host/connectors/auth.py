"""Authentication of API connectors. Imports httpx, so it is itself imported on first use."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import httpx

from nomaflow import StepFailed
from nomaflow_host.connectors.placeholders import filled, filled_body

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

_EARLY_SECONDS = 30.0
"""The time before it expires when an oauth2 token is fetched anew."""

_UNTOLD_SECONDS = 300.0
"""The lifetime of a token of which none is told."""


def auth_for(table: Mapping[str, Any]) -> httpx.Auth | Callable[[httpx.Request], httpx.Request] | None:
    """Return httpx's form of an ``auth`` table, None for ``none``."""
    kind = table["type"]
    if kind == "basic":
        return httpx.BasicAuth(table["username"], table["password"])
    if kind == "bearer":
        return functools.partial(_in_header, "Authorization", f"Bearer {table['token']}")
    if kind == "api_key":
        put = _in_query if table.get("in", "header") == "query" else _in_header
        return functools.partial(put, table["name"], table["value"])
    if kind == "oauth2":
        return _FetchedToken(_client_credentials(table), keys=("token_url", "client_id", "client_secret"))
    if kind == "token_request":
        keys = ("auth_token_endpoint", "auth_username", "auth_password")
        field, seconds = table["field"], float(table["seconds"])
        return _FetchedToken(_original_request(table), keys=keys, field=field, seconds=seconds)
    return None


def _in_header(name: str, value: str, request: httpx.Request) -> httpx.Request:
    request.headers[name] = value
    return request


def _in_query(name: str, value: str, request: httpx.Request) -> httpx.Request:
    request.url = request.url.copy_merge_params({name: value})
    return request


class _FetchedToken(httpx.Auth):
    """A bearer token, fetched on first use and once more after a 401.

    :param ask: builds the request for a token
    :param keys: the keys of connectors.toml that have its address, and the two that have its credentials
    :param field: the token's place in the answer, such as ``user.token``; empty for the usual names
    :param seconds: the token's lifetime; None means the one in the answer, or 300 s
    """

    requires_response_body = True

    def __init__(
        self,
        ask: Callable[[], httpx.Request],
        *,
        keys: tuple[str, str, str],
        field: str = "",
        seconds: float | None = None,
    ) -> None:
        self._ask = ask
        self._keys = keys
        self._field = field
        self._seconds = seconds
        self._token = ""
        self._good_until = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        fresh = not self._token or time.monotonic() >= self._good_until
        if fresh:
            self._keep((yield self._ask()))
        request.headers["Authorization"] = f"Bearer {self._token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED and not fresh:
            self._keep((yield self._ask()))
            request.headers["Authorization"] = f"Bearer {self._token}"
            yield request

    def _keep(self, response: httpx.Response) -> None:
        try:
            answer = response.json() if response.is_success else {}
            token, lifetime = _token_in(answer, self._field), answer.get("expires_in")
            told = _UNTOLD_SECONDS if lifetime is None else float(lifetime)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            self._token = ""
            address, name, secret = self._keys
            problem = f"the {address} answered {response.status_code} without {self._field or 'an access_token'}"
            raise StepFailed(f"{problem} (check {name} and {secret})") from None
        self._token = token
        seconds = told - _EARLY_SECONDS if self._seconds is None else self._seconds
        self._good_until = time.monotonic() + max(seconds, 0.0)


def _client_credentials(table: Mapping[str, Any]) -> Callable[[], httpx.Request]:
    """Return a function that builds the token request of OAuth 2's client credentials grant."""
    form = {
        "grant_type": "client_credentials",
        "client_id": table["client_id"],
        "client_secret": table["client_secret"],
    }
    form |= {key: table[key] for key in ("scope", "audience") if table.get(key)}
    return lambda: httpx.Request("POST", table["token_url"], data=form)


def _original_request(table: Mapping[str, Any]) -> Callable[[], httpx.Request]:
    """Return a function that builds the original's token request: the author's body, a form, or user and password."""
    values = {"username": table["username"], "password": table["password"]}
    headers = {name: filled(text, values) for name, text in table["headers"].items()}
    options: dict[str, Any]
    if table["body"]:
        headers = {"Content-Type": table["content_type"], **headers}
        options = {"content": filled_body(table["body"], values, table["content_type"])}
    elif "x-www-form-urlencoded" in table["content_type"].lower():
        options = {
            "data": {
                "grant_type": "client_credentials",
                "client_id": table["username"],
                "client_secret": table["password"],
            }
        }
    else:
        options = {"json": values}
    return lambda: httpx.Request("POST", table["token_url"], headers=headers, **options)


def _token_in(answer: Any, field: str) -> str:
    """Return the token in an answer.

    :raises LookupError: if there is none
    :raises TypeError: if it is not of the expected form
    """
    found = answer
    if field:
        for part in field.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
    else:
        found = next((answer[name] for name in ("access_token", "token", "id_token") if answer.get(name)), None)
    if found is None:
        raise KeyError(field)
    return str(found)
