"""Connectors of type ``api``: an HTTP service, spoken to with httpx."""

from __future__ import annotations

import asyncio
import random
import threading
import urllib.parse
import weakref
from typing import TYPE_CHECKING, Any

from nomaflow import StepFailed
from nomaflow.connectors import ApiConnector
from nomaflow_host.connectors.errors import ConnectorUnknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import httpx

__all__ = ["HostApiConnector"]

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_RETRIED_STATUS = frozenset({429, 502, 503, 504})
_MAX_WAIT_SECONDS = 30.0


class HostApiConnector(ApiConnector):
    """One client for each worker, made on first use, and one for each further event loop that a step brings.

    Those keep no connection open, since nobody closes them when their loop ends.

    :param sleep: waits between tries, seconds
    """

    def __init__(
        self,
        name: str,
        table: Mapping[str, Any],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Take the connector's table of connectors.toml, references resolved."""
        self._name = name
        self._table = table
        self._sleep = sleep
        self._jitter = jitter
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient]
        self._clients = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"HostApiConnector({self._name!r})"

    @property
    def name(self) -> str:
        """The connector's name."""
        return self._name

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request and return the response, whatever its status.

        What is safe to repeat is tried again after a broken connection, a timeout, and 429, 502, 503 or 504.
        """
        import httpx  # only a worker that uses an API pays for it

        method = method.upper()
        tries = 1 + (self._table.get("retries", 2) if method in _IDEMPOTENT else 0)
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
                await response.aclose()
            await self._sleep(self._wait(number))
        raise AssertionError("the last try returns or raises")

    async def call(self, endpoint: str, /, *, path: Mapping[str, Any] | None = None, **options: Any) -> httpx.Response:
        """Send the request that *endpoint* names; a status of 400 or above is a StepFailed."""
        endpoints: Mapping[str, Any] = self._table.get("endpoints", {})
        known = endpoints.get(endpoint)
        if known is None:
            raise ConnectorUnknown(f"endpoint of connector {self._name!r} named", endpoint, endpoints)
        for key in ("params", "headers"):
            if key in known:
                options[key] = {**known[key], **(options.get(key) or {})}
        method, target = known.get("method", "GET"), self._filled(endpoint, known["path"], path or {})
        response = await self.request(method, target, **options)
        if response.status_code >= 400:
            problem = f"the connector {self._name!r} answered {method} {target} with {response.status_code}"
            raise StepFailed(f"{problem} {response.reason_phrase}".rstrip())
        return response

    async def aclose(self) -> None:
        """Close the client of this loop. Calling it again is legal."""
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
            timeout = float(self._table.get("timeout_seconds", 30))
            connect = float(self._table.get("connect_timeout_seconds", min(timeout, 10) if timeout else 10))
            client = self._clients[loop] = httpx.AsyncClient(
                base_url=self._table["base_url"],
                headers=self._table.get("headers", {}),
                auth=auth_for(self._table.get("auth", {"type": "none"})),
                timeout=httpx.Timeout(timeout or None, connect=connect),
                verify=self._table.get("verify", True),
                limits=httpx.Limits(max_connections=100, max_keepalive_connections=20 if stays else 0),
            )
        return client

    def _filled(self, endpoint: str, template: str, values: Mapping[str, Any]) -> str:
        quoted = {key: urllib.parse.quote(str(value), safe="") for key, value in values.items()}
        try:
            return template.format_map(quoted)
        except (KeyError, IndexError) as error:
            problem = f"the endpoint {endpoint!r} of connector {self._name!r} needs {error} for its path {template!r}"
            raise StepFailed(f"{problem} (give it in path=)") from None

    def _wait(self, number: int) -> float:
        base = float(self._table.get("retry_backoff_seconds", 0.5))
        return min(base * float(2 ** (number - 1)) * (0.5 + self._jitter() / 2), _MAX_WAIT_SECONDS)


def _tries(number: int) -> str:
    return f"{number} tries" if number > 1 else "one try"
