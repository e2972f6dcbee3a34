"""Connectors of type ``api``: an HTTP service, called with httpx."""

from __future__ import annotations

import asyncio
import functools
import random
import threading
import urllib.parse
import weakref
from typing import TYPE_CHECKING, Any

from nomaflow import StepFailed
from nomaflow.connectors import ApiConnector
from nomaflow_host.connectors.errors import ConnectorUnknown, ConnectorUnusable
from nomaflow_host.connectors.placeholders import filled, filled_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_RETRIED_STATUS = frozenset({429, 502, 503, 504})
_MAX_WAIT_SECONDS = 30.0
_DETOURS = frozenset({".", ".."})
_quoted = functools.partial(urllib.parse.quote, safe="")


class HostApiConnector(ApiConnector):
    """An HTTP service with one client per worker, made on first use, and one per further event loop that a step brings.

    The clients of further loops keep no connection open, since nobody closes them when their loop ends.
    """

    def __init__(self, name: str, table: Mapping[str, Any]) -> None:
        """Take the connector's table of connectors.toml, references resolved."""
        self._name = name
        self._table = table
        self._clients = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, "httpx.AsyncClient"]()

    def __repr__(self) -> str:
        return f"HostApiConnector({self._name!r})"

    @property
    def name(self) -> str:
        """The connector's name."""
        return self._name

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request and return the response, whatever its status.

        Requests that are safe to repeat are tried again after a broken connection, a timeout, and 429, 502, 503 or 504.
        """
        import httpx  # only a worker that uses an API pays for it

        target, own = httpx.URL(path.lstrip("/")), httpx.URL(self._table["base_url"])
        if target.is_absolute_url and _server_of(target) != _server_of(own):
            problem = f"the connector {self._name!r} has credentials for {own.host}, and sends none to {target.host}"
            raise StepFailed(f"{problem} (call another server without the connector)")
        return await self._sent(method.upper(), path, options)

    async def _sent(self, method: str, path: str, options: Mapping[str, Any]) -> httpx.Response:
        import httpx  # only a worker that uses an API pays for it

        tries = 1 + (self._table["retries"] if method in _IDEMPOTENT else 0)
        for number in range(1, tries + 1):
            try:
                response = await self._opened().request(method, path.lstrip("/"), **options)
            except httpx.TransportError as error:
                if number == tries:
                    problem = f"the connector {self._name!r} had no answer to {method} {path}: {type(error).__name__}"
                    raise StepFailed(f"{problem} after {_tries(tries)}") from error
            else:
                if response.status_code not in _RETRIED_STATUS or number == tries:
                    return response
            await asyncio.sleep(self._wait(number))
        raise AssertionError("the last try returns or raises")

    async def call(self, endpoint: str, /, *, path: Mapping[str, Any] | None = None, **options: Any) -> httpx.Response:
        """Send the request that *endpoint* names; raise StepFailed for a status of 400 or above."""
        known = self._table["endpoints"].get(endpoint)
        if known is None:
            raise ConnectorUnknown(f"endpoint of connector {self._name!r} named", endpoint, self._table["endpoints"])
        method = known["method"]
        if "values" in known:
            target, options = self._in_the_original_form(endpoint, known, path or {}, options)
        else:
            target = self._filled(endpoint, known["path"], path or {})
            for key in ("params", "headers"):
                options[key] = {**known[key], **(options.get(key) or {})}
        if _DETOURS & _parts_of(target) - _parts_of(known["path"]):
            place = f"the endpoint {endpoint!r} of connector {self._name!r}"
            raise StepFailed(f"{place} cannot have '.' or '..' as a part of its path: that would name another one")
        response = await self._sent(method.upper(), target, options)
        if response.status_code >= 400:
            problem = f"the connector {self._name!r} answered {method} {target} with {response.status_code}"
            raise StepFailed(f"{problem} {response.reason_phrase}".rstrip())
        return response

    async def aclose(self) -> None:
        """Close the client of this loop. May be called again."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _opened(self) -> httpx.AsyncClient:
        import httpx  # only a worker that uses an API pays for it

        from nomaflow_host.connectors.auth import auth_for

        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            stays = threading.current_thread() is threading.main_thread()
            timeout, connect = float(self._table["timeout_seconds"]), float(self._table["connect_timeout_seconds"])
            client = self._clients[loop] = httpx.AsyncClient(
                base_url=self._table["base_url"],
                headers=self._table["headers"],
                auth=auth_for(self._table["auth"]),
                timeout=httpx.Timeout(timeout or None, connect=min(connect, timeout) if timeout else connect),
                verify=self._table["verify"],
                follow_redirects=self._table.get("follow_redirects", False),
                limits=httpx.Limits(max_connections=100, max_keepalive_connections=20 if stays else 0),
            )
        return client

    def _filled(self, endpoint: str, template: str, values: Mapping[str, Any]) -> str:
        try:
            return template.format_map({key: _quoted(str(value)) for key, value in values.items()})
        except (KeyError, IndexError) as error:
            problem = f"the endpoint {endpoint!r} of connector {self._name!r} needs {error} for its path {template!r}"
            raise StepFailed(f"{problem} (give it in path=)") from None
        except (ValueError, AttributeError) as error:
            reason = f"its path {template!r} is malformed: {error} (write {{name}} for a value, {{{{ for a brace)"
            raise ConnectorUnusable(f"endpoint of connector {self._name!r} named", endpoint, reason) from None

    def _in_the_original_form(
        self, endpoint: str, known: Mapping[str, Any], path: Mapping[str, Any], options: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """Return path and options of a request; like ``path``, ``params`` fills ``{{name}}``."""
        if known["refused"]:
            raise ConnectorUnusable(f"endpoint of connector {self._name!r} named", endpoint, known["refused"])
        values = {**known["values"], **(options.pop("params", None) or {}), **path}
        headers = {**self._table["headers"], **known["headers"]}
        try:
            target = filled(known["path"], values, _quoted)
            query = {name: filled(text, values) for name, text in known["params"].items()}
            sent = {name: filled(text, values) for name, text in headers.items()}
            if known["body"] is not None:
                options.setdefault("content", filled_body(known["body"], values, known["content_type"]))
                sent.setdefault("Content-Type", known["content_type"])
        except KeyError as error:
            problem = f"the endpoint {endpoint!r} of connector {self._name!r} needs a value for {error}"
            raise StepFailed(f"{problem} (give it in path=)") from None
        options["headers"] = {**sent, **(options.get("headers") or {})}
        if query:
            options["params"] = query
        return target, options

    def _wait(self, number: int) -> float:
        base = float(self._table["retry_backoff_seconds"])
        share = 0.5 + random.random() / 2  # noqa: S311  # spreads the tries of many workers
        return min(base * float(2 ** (number - 1)) * share, _MAX_WAIT_SECONDS)


def _server_of(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _parts_of(path: str) -> set[str]:
    return set(path.partition("?")[0].split("/"))


def _tries(number: int) -> str:
    return f"{number} tries" if number > 1 else "one try"
