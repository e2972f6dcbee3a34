"""An API server of Kubernetes, as the launcher sees it: a few calls, each answered or refused in words.

Not by a client library: five calls are needed, an answer that makes no sense has to be told as such, and the smallest
library would be another HTTP client beside the one that a host has.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from nomaflow_launchers.engines.engine import EngineError
from nomaflow_launchers.engines.kubernetes.reading import Listed
from nomaflow_telemetry.visible_text import printable

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SECONDS = 30.0
_MOST_BYTES = 64 << 20
_AT_ONCE = "500"
_WAIT = frozenset({429, 503})
_SOCKET = "unix:"
T = TypeVar("T")
logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log each request of each look


class Missing(EngineError):
    """Raised when there is no such object."""


class Forbidden(EngineError):
    """Raised when the launcher's service account may not do that."""


class Exists(EngineError):
    """Raised when there is such an object already, or it is no longer the one that is meant."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiPlace:
    """The place of an API server.

    :param url: of its own, or that of ``kubectl proxy``, which may listen on a socket: ``unix:PATH``
    :param namespace: the namespace in which instances are started
    :param account: folder of the service account, with ``token`` and ``ca.crt``; None for ``kubectl proxy``
    """

    url: str
    namespace: str
    account: Path | None = None

    @classmethod
    def of(cls, url: str, namespace: str, environ: Mapping[str, str], *, account: Path = _ACCOUNT) -> ApiPlace:
        """Return the place that settings name, else that of the cluster in which this runs.

        :param url: of ``kubectl proxy``; empty for the cluster's own
        :raises EngineError: if there is none, or it must not be used
        """
        if url:
            if not _is_of_proxy(url):
                raise EngineError(
                    f"[launcher] api is {url!r}, and has to be that of kubectl proxy, such as unix:/home/me/kube.sock "
                    "or http://127.0.0.1:8001; in a pod leave it out"
                )
            return cls(url=url.rstrip("/"), namespace=namespace or "default")
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise EngineError(
                "this is no pod of Kubernetes (KUBERNETES_SERVICE_HOST is not set); "
                "run kubectl proxy and set [launcher] api"
            )
        shown = f"[{host}]" if ":" in host else host
        namespace = namespace or _text_of(account / "namespace")
        return cls(url=f"https://{shown}:{port}", namespace=namespace, account=account)


class ApiServer:
    """An API server.

    :raises EngineError: if the account's authority cannot be read
    """

    def __init__(self, place: ApiPlace) -> None:
        self.place = place
        self.clock = time.time()  # by the server's clock, as of its last answer
        context: ssl.SSLContext | bool = False
        if place.account is not None:
            context = ssl.create_default_context(cadata=_text_of(place.account / "ca.crt"))
        url, transport = place.url, None
        if url.startswith(_SOCKET):
            url, transport = "http://localhost", httpx.AsyncHTTPTransport(uds=url.removeprefix(_SOCKET))
        # The environment's proxies are for the world outside, and a redirect would take the token elsewhere.
        self._client = httpx.AsyncClient(
            base_url=url, verify=context, timeout=_SECONDS, trust_env=False, transport=transport
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def get(self, path: str, kind: type[T], **params: str) -> T:
        """Return an object.

        :raises Missing: if there is none
        :raises EngineError: if the server refuses, does not answer, or answers with something else
        """
        return await self._ask("GET", path, kind, params=params)

    async def items(self, path: str, kind: type[T], **params: str) -> AsyncIterator[T]:
        """Yield the objects of a list, part by part.

        :raises EngineError: if the whole list cannot be had
        """
        while True:
            part = await self._ask("GET", path, Listed[kind], params={**params, "limit": _AT_ONCE})  # type: ignore[valid-type]
            for item in part.items or ():
                yield item
            if not part.metadata.next_part:
                return
            params["continue"] = part.metadata.next_part

    async def create(self, path: str, kind: type[T], body: Mapping[str, Any]) -> T:
        """Make an object and return it.

        :raises Exists: if there is one of its name
        :raises EngineError: if the server refuses, or its answer is not known
        """
        return await self._ask("POST", path, kind, json=body)

    async def change(self, path: str, body: Mapping[str, Any]) -> None:
        """Change the fields of an object that are given; None removes one.

        :raises Missing: if there is none
        :raises EngineError: if the server refuses, or its answer is not known
        """
        kind = {"content-type": "application/merge-patch+json"}
        await self._ask("PATCH", path, dict, content=msgspec.json.encode(body), headers=kind)

    async def delete(self, path: str, *, uid: str) -> None:
        """Delete an object, and in time whatever belongs to it. One that is gone, or another of its name, is no error.

        :raises EngineError: if the server refuses, or its answer is not known
        """
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._ask("DELETE", path, dict, json=body)
        except (Missing, Exists):
            return

    async def _ask(
        self, method: str, path: str, kind: type[T], *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> T:
        what = f"{method} {path} of Kubernetes"
        headers = {**(headers or {})}
        if self.place.account is not None:  # read each time: the kubelet replaces it every hour
            headers["authorization"] = f"Bearer {_text_of(self.place.account / 'token')}"
        try:
            async with self._client.stream(method, path, headers=headers, **more) as answer:
                body = await _body_of(answer)
        except httpx.TimeoutException:
            raise EngineError(f"{what} at {self.place.url} has not been answered for {_SECONDS:g} s") from None
        except (httpx.HTTPError, ssl.SSLError) as error:
            text = printable(str(error) or type(error).__name__)
            raise EngineError(f"{what} at {self.place.url} got no answer: {text[:500]}") from None
        self._set_clock(answer.headers.get("date", ""))
        if answer.status_code >= 300:
            raise _refusal(what, answer, body)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EngineError(f"{what} was answered with something else than that: {printable(str(error))}") from None

    def _set_clock(self, date: str) -> None:
        """Take the time of an answer: ages are by the cluster's clock, and not by this machine's."""
        try:
            self.clock = parsedate_to_datetime(date).timestamp()
        except ValueError:
            self.clock = time.time()


class _Status(msgspec.Struct, frozen=True):
    message: str = ""
    reason: str = ""


async def _body_of(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > _MOST_BYTES:
            raise EngineError(f"Kubernetes has answered with more than {_MOST_BYTES >> 20} MiB")
    return bytes(body)


def _refusal(what: str, answer: httpx.Response, body: bytes) -> EngineError:
    try:
        said = msgspec.json.decode(body, type=_Status)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = _Status()
    code = answer.status_code
    text = f"{what}: {printable(' '.join(said.message.split()))[:500] or f'HTTP status {code}'}"
    match code:
        case 401:
            return EngineError(f"Kubernetes does not know the launcher's token: {text}")
        case 403:
            return Forbidden(f"Kubernetes forbids the launcher's service account to do that: {text}")
        case 404 if said.reason == "NotFound":  # by the API server itself, and not by what is before it
            return Missing(f"Kubernetes does not have that: {text}")
        case 409:
            return Exists(f"Kubernetes has that already, or another one: {text}")
        case _ if code in _WAIT:
            return EngineError(f"Kubernetes asks to wait: {text}", retry_after=_seconds(answer))
    return EngineError(f"Kubernetes refuses: {text}")


def _seconds(answer: httpx.Response) -> float:
    given = answer.headers.get("retry-after", "")
    return min(float(given), 600.0) if given.isascii() and given.isdigit() else 0.0


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise EngineError(f"the service account's {file} cannot be read: {reason}") from None


def _is_of_proxy(url: str) -> bool:
    if url.startswith(_SOCKET):
        return Path(url.removeprefix(_SOCKET)).is_absolute()
    try:
        parts = httpx.URL(url)
        return parts.scheme == "http" and (parts.host == "localhost" or ipaddress.ip_address(parts.host).is_loopback)
    except (httpx.InvalidURL, ValueError):
        return False
