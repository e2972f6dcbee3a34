"""A small client of the vault's HTTP interface: log in, and read a secret of a KV store, version 2."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from nomaflow.secrets import SecretRefused, SecretUnavailable
from nomaflow_vault.settings import VaultSettings

_REFERENCE = re.compile(r"(?P<mount>[^/#\s]+)/(?P<path>[^#\s]+)#(?P<field>[^#]+)")
_MAX_BYTES = 1024 * 1024
_RENEW = 0.8
"""The part of a lease after which it counts as over."""


@dataclass(frozen=True, slots=True)
class _Kept:
    data: Mapping[str, Any] = field(repr=False)
    until: float


class Vault:
    """Reads secrets. Safe to use from several threads.

    The fields of one path that an attempt needs belong together, so a secret is read once and used for a second at
    least. Nothing that has run out is used, even if the vault is away.
    """

    def __init__(self, settings: VaultSettings) -> None:
        self._settings = settings
        try:
            context = ssl.create_default_context(cafile=settings.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise SecretRefused(f"VAULT_CACERT cannot be used: {_reason(error)}") from None
        self._http = httpx.Client(base_url=settings.address, verify=context, timeout=settings.timeout, trust_env=False)
        self._kept: dict[str, _Kept] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._login = threading.Lock()
        self._token = settings.token
        self._token_until = float("inf")

    def read(self, reference: str) -> str:
        """Return a field of a secret.

        :param reference: ``MOUNT/PATH#FIELD``
        :raises SecretUnavailable: if the vault is away, slow, sealed or answers nonsense
        :raises SecretRefused: if there is no such secret or field, or it may not be read
        """
        match = _REFERENCE.fullmatch(reference)
        if match is None or not {".", "..", ""}.isdisjoint(f"{match['mount']}/{match['path']}".split("/")):
            raise SecretRefused(f"{reference!r} is not of the form MOUNT/PATH#FIELD")
        data = self._secret(match["mount"], match["path"])
        if match["field"] not in data:
            raise SecretRefused(f"the secret {match['mount']}/{match['path']} has no field {match['field']!r}")
        value = data[match["field"]]
        if not isinstance(value, str):
            raise SecretRefused(f"the field {match['field']!r} is {type(value).__name__}, expected a text")
        return value

    def _secret(self, mount: str, path: str) -> Mapping[str, Any]:
        name = f"{mount}/{path}"
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            kept = self._kept.get(name)
            if kept is not None and time.monotonic() < kept.until:
                return kept.data
            self._kept.pop(name, None)
            answer = self._ask(f"/v1/{quote(mount)}/data/{quote(path)}", what=f"the secret {name}")
            data = _table(_table(answer, "data"), "data")
            seconds = max(self._settings.cache_seconds, _RENEW * _lease(answer))
            self._kept[name] = _Kept(data, time.monotonic() + seconds)
            return data

    def _ask(self, path: str, *, what: str) -> Mapping[str, Any]:
        """Return the answer to a question with a token. A token of AppRole that is refused is replaced once."""
        token = self._current_token()
        status, body = self._call("GET", path, token=token)
        if status == httpx.codes.FORBIDDEN and not self._settings.token:
            token = self._current_token(not_this=token)
            status, body = self._call("GET", path, token=token)
        return _answer(status, body, what)

    def _current_token(self, *, not_this: str = "") -> str:
        if self._settings.token:
            return self._settings.token
        with self._login:
            if not self._token or self._token == not_this or time.monotonic() >= self._token_until:
                login = {"role_id": self._settings.role_id, "secret_id": self._settings.secret_id}
                status, body = self._call("POST", "/v1/auth/approle/login", json=login)
                auth = _table(_answer(status, body, "the login by AppRole"), "auth")
                if not isinstance(auth.get("client_token"), str):
                    raise SecretUnavailable("the vault's answer to the login has no token")
                self._token = auth["client_token"]
                self._token_until = time.monotonic() + (_RENEW * _lease(auth) or float("inf"))
            return self._token

    def _call(self, method: str, path: str, *, token: str = "", **options: Any) -> tuple[int, bytes]:
        """Return status and body of a call.

        :raises SecretUnavailable: if there is no complete answer in time
        """
        headers = {"X-Vault-Request": "true"}
        if token:
            headers["X-Vault-Token"] = token
        if self._settings.namespace:
            headers["X-Vault-Namespace"] = self._settings.namespace
        until = time.monotonic() + self._settings.timeout
        try:
            with self._http.stream(method, path, headers=headers, **options) as response:
                body = b""
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise SecretUnavailable(f"the vault's answer is larger than {_MAX_BYTES} bytes")
                    if time.monotonic() > until:
                        raise SecretUnavailable(f"the vault did not answer within {self._settings.timeout:g} s")
                return response.status_code, body
        except httpx.TimeoutException:
            raise SecretUnavailable(f"the vault did not answer within {self._settings.timeout:g} s") from None
        except (httpx.HTTPError, ValueError) as error:
            raise SecretUnavailable(f"the vault cannot be reached: {_reason(error)}") from None


def _answer(status: int, body: bytes, what: str) -> Mapping[str, Any]:
    """Return the JSON object of a good answer. No text of the vault is passed on: it might hold a secret.

    :raises SecretRefused: if the vault refuses for good
    :raises SecretUnavailable: if it may answer later
    """
    if status == httpx.codes.NOT_FOUND:
        raise SecretRefused(f"the vault does not have {what}, or it was deleted (404)")
    if status == httpx.codes.FORBIDDEN:
        raise SecretRefused(f"the vault does not permit {what} (403): look at the token and its policies")
    if status == httpx.codes.BAD_REQUEST:
        raise SecretRefused(f"the vault refuses {what} as malformed (400)")
    if status != httpx.codes.OK:
        sealed = "; it is sealed or a standby" if status in (307, 472, 473, 503) else ""
        raise SecretUnavailable(f"the vault answered {status}{sealed}")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise SecretUnavailable("the vault's answer is malformed; is VAULT_ADDR the address of a vault?")
    return answer


def _table(answer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = answer.get(name)
    if not isinstance(table, dict):
        raise SecretUnavailable(f"the vault's answer has no {name!r}; a KV store of version 2 is expected")
    return table


def _lease(answer: Mapping[str, Any]) -> float:
    seconds = answer.get("lease_duration")
    return float(seconds) if isinstance(seconds, (int, float)) and seconds > 0 else 0.0


def _reason(error: Exception) -> str:
    """Return why a call failed, without the URL that it went to."""
    cause = error.__cause__ or error
    return (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)[:200]
