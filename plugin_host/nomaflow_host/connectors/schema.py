"""The keys of connectors.toml: names, types, bounds."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from nomaflow_host.connectors.errors import ConnectorsError
from nomaflow_host.connectors.resolved import url_password
from nomaflow_host.injection.scalars import SCALARS, Misfit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["check_connector", "check_pool", "check_tables", "is_literal_secret"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_REFERENCE = re.compile(r"\$\{[^}]*\}")
_TABLES = ("pools", "connectors")
_POOL_KEYS: Mapping[str, type] = {
    "url": str,
    "password": str,
    "pool_size": int,
    "max_overflow": int,
    "pool_pre_ping": bool,
    "pool_recycle": int,
    "echo": bool,
    "show_parameters": bool,
}
_SQL_KEYS: Mapping[str, type] = {"type": str, "pool": str, "queries": dict}
_API_KEYS: Mapping[str, type] = {
    "type": str,
    "base_url": str,
    "headers": dict,
    "auth": dict,
    "endpoints": dict,
    "timeout_seconds": float,
    "connect_timeout_seconds": float,
    "retries": int,
    "retry_backoff_seconds": float,
    "verify": bool,
}
_ENDPOINT_KEYS: Mapping[str, type] = {"method": str, "path": str, "params": dict, "headers": dict}
_AUTH_KEYS: Mapping[str, tuple[Collection[str], Collection[str]]] = {
    "none": ((), ()),
    "basic": (("username", "password"), ()),
    "bearer": (("token",), ()),
    "api_key": (("name", "value"), ("in",)),
    "oauth2": (("token_url", "client_id", "client_secret"), ("scope", "audience")),
}
_SECRET_KEYS = frozenset({"password", "token", "client_secret"})
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"})


def is_literal_secret(path: str, key: str, value: str) -> bool:
    """Return True where the file itself holds a credential, not a reference to one."""
    literal = _REFERENCE.sub("", value)
    if not literal:
        return False
    parent = path.rpartition(".")[0]
    if key in _SECRET_KEYS or (key == "value" and parent.endswith("auth")):
        return True
    if parent.endswith("headers") and key.lower() in _SECRET_HEADERS:
        return bool(literal.removeprefix("Bearer ").removeprefix("Basic ").strip())
    return "://" in value and bool(_REFERENCE.sub("", url_password(value)))


def check_tables(tree: Mapping[str, Any], file: str) -> None:
    """Refuse top-level keys other than ``pools`` and ``connectors``, and entries that are no tables.

    :raises ConnectorsError: with the near match
    """
    _check_known(tree, _TABLES, file, "")
    for section, entries in tree.items():
        if not isinstance(entries, dict):
            raise ConnectorsError(f"expected a table, got {_kind(entries)}", file=file, path=section)
        for name, table in entries.items():
            path = f"{section}.{name}"
            if not _NAME.fullmatch(name):
                problem = "expected a name of at most 64 letters, digits, '-' and '_'"
                raise ConnectorsError(problem, file=file, path=path)
            if not isinstance(table, dict):
                raise ConnectorsError(f"expected a table, got {_kind(table)}", file=file, path=path)


def check_pool(name: str, table: Mapping[str, Any], file: str) -> Mapping[str, Any]:
    """Return the table of a pool, checked.

    :raises ConnectorsError: for an unknown or missing key, a wrong type, a URL that is none
    """
    path = f"pools.{name}"
    table = {key: _from_text(value, _POOL_KEYS.get(key, str)) for key, value in table.items()}
    _check_typed(table, _POOL_KEYS, file, path)
    _check_present(table, ("url",), file, path)
    if not re.match(r"[A-Za-z][\w+]*://", table["url"]):
        problem = "expected an SQLAlchemy URL, such as 'sqlite:///data.db' or 'postgresql://user@host/name'"
        raise ConnectorsError(problem, file=file, path=f"{path}.url")
    minimum = {"pool_size": 0, "max_overflow": -1, "pool_recycle": -1}
    for key, least in minimum.items():
        if table.get(key, least) < least:
            raise ConnectorsError(f"expected at least {least}, got {table[key]}", file=file, path=f"{path}.{key}")
    return table


def check_connector(name: str, table: Mapping[str, Any], pools: Collection[str], file: str) -> list[str]:
    """Check the table of a connector of a built-in type; return warnings about those of other types.

    :raises ConnectorsError: for an unknown or missing key, a wrong type, an unknown pool
    """
    path = f"connectors.{name}"
    _check_present(table, ("type",), file, path)
    kind = table["type"]
    if not isinstance(kind, str):
        raise ConnectorsError(f"expected str, got {_kind(kind)}", file=file, path=f"{path}.type")
    if kind == "sql":
        _check_sql(table, pools, file, path)
    elif kind == "api":
        _check_api(table, file, path)
    else:
        return [f"{file}: {path}.type: {kind!r} is not built in (sql, api), so a plugin must contribute it"]
    return []


def _check_sql(table: Mapping[str, Any], pools: Collection[str], file: str, path: str) -> None:
    _check_typed(table, _SQL_KEYS, file, path)
    _check_present(table, ("pool",), file, path)
    if table["pool"] not in pools:
        hint = _near(table["pool"], pools)
        listed = ", ".join(map(repr, sorted(pools))) or "none"
        problem = f"there is no pool {table['pool']!r} ({hint}known: {listed})"
        raise ConnectorsError(problem, file=file, path=f"{path}.pool")
    _check_values(table.get("queries", {}), str, file, f"{path}.queries")


def _check_api(table: Mapping[str, Any], file: str, path: str) -> None:
    _check_typed(table, _API_KEYS, file, path)
    _check_present(table, ("base_url",), file, path)
    if not re.match(r"https?://", table["base_url"]):
        raise ConnectorsError("expected an http:// or https:// URL", file=file, path=f"{path}.base_url")
    _check_values(table.get("headers", {}), str, file, f"{path}.headers")
    for key in ("timeout_seconds", "connect_timeout_seconds", "retries", "retry_backoff_seconds"):
        if table.get(key, 0) < 0:
            raise ConnectorsError("expected no negative number", file=file, path=f"{path}.{key}")
    _check_auth(table.get("auth", {"type": "none"}), file, f"{path}.auth")
    endpoints = table.get("endpoints", {})
    for name, endpoint in endpoints.items():
        below = f"{path}.endpoints.{name}"
        if not isinstance(endpoint, dict):
            raise ConnectorsError(f"expected a table, got {_kind(endpoint)}", file=file, path=below)
        _check_typed(endpoint, _ENDPOINT_KEYS, file, below)
        _check_present(endpoint, ("path",), file, below)


def _check_auth(auth: Mapping[str, Any], file: str, path: str) -> None:
    _check_present(auth, ("type",), file, path)
    kind = auth["type"]
    if not isinstance(kind, str):
        raise ConnectorsError(f"expected str, got {_kind(kind)}", file=file, path=f"{path}.type")
    if kind not in _AUTH_KEYS:
        problem = f"there is no such kind ({_near(kind, _AUTH_KEYS)}known: {', '.join(_AUTH_KEYS)})"
        raise ConnectorsError(problem, file=file, path=f"{path}.type")
    needed, optional = _AUTH_KEYS[kind]
    _check_typed(auth, dict.fromkeys(("type", *needed, *optional), str), file, path)
    _check_present(auth, needed, file, path)
    if auth.get("in", "header") not in ("header", "query"):
        raise ConnectorsError("expected 'header' or 'query'", file=file, path=f"{path}.in")


def _check_typed(table: Mapping[str, Any], keys: Mapping[str, type], file: str, path: str) -> None:
    _check_known(table, keys, file, path)
    for key, value in table.items():
        wanted = keys[key]
        fits = type(value) is wanted or (wanted is float and type(value) is int)
        if not fits:
            expected = "table" if wanted is dict else "number" if wanted is float else wanted.__name__
            raise ConnectorsError(f"expected {expected}, got {_kind(value)}", file=file, path=f"{path}.{key}")


def _from_text(value: Any, wanted: type) -> Any:
    """Read numbers and switches from text, which is what a reference to the environment gives."""
    if isinstance(value, str) and wanted is not str:
        try:
            return SCALARS[wanted](value)
        except Misfit:
            return value
    return value


def _check_values(table: Mapping[str, Any], wanted: type, file: str, path: str) -> None:
    for key, value in table.items():
        if type(value) is not wanted:
            problem = f"expected {wanted.__name__}, got {_kind(value)}"
            raise ConnectorsError(problem, file=file, path=f"{path}.{key}")


def _check_known(table: Mapping[str, Any], known: Collection[str], file: str, path: str) -> None:
    for key in table:
        if key not in known:
            problem = f"unknown key {key!r} ({_near(key, known)}known: {', '.join(sorted(known))})"
            raise ConnectorsError(problem, file=file, path=path)


def _check_present(table: Mapping[str, Any], needed: Collection[str], file: str, path: str) -> None:
    for key in needed:
        if key not in table:
            raise ConnectorsError(f"the key {key!r} is missing", file=file, path=path)


def _near(name: object, known: Collection[str]) -> str:
    matches = difflib.get_close_matches(str(name), sorted(known), n=1)
    return f"did you mean {matches[0]!r}? " if matches else ""


def _kind(value: object) -> str:
    return "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else type(value).__name__
