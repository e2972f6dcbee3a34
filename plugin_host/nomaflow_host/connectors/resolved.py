"""The resolved contents of connectors.toml. They hold credentials, which the repr never shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

__all__ = ["PoolConfig", "ResolvedConnectors"]

_URL_PASSWORD = re.compile(r"^[\w+]+://[^:/@]*:([^@]*)@")
_QUERY_PASSWORD = re.compile(r"[?&](?:password|passwd|pwd|sslpassword)=([^&]*)", re.IGNORECASE)
_SECRET_KEYS = frozenset({"password", "token", "value", "client_secret"})
_SECRET_HEADER = re.compile(r"auth|token|key|secret|cookie", re.IGNORECASE)
_OPTIONS = ("pool_size", "max_overflow", "pool_pre_ping", "pool_recycle", "echo")
_DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "postgres": "asyncpg"}


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolConfig:
    """One ``[pools.NAME]``.

    :param url: an SQLAlchemy URL; may hold a password
    :param password: put into the URL; None if the URL has its own, or there is none
    :param pool_size: number of kept connections; None means SQLAlchemy's default, here and in the other options
    :param pool_recycle: seconds after which a connection is replaced
    :param show_parameters: True if errors and echoed statements show the bound values
    """

    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    pool_size: int | None = None
    max_overflow: int | None = None
    pool_pre_ping: bool | None = None
    pool_recycle: int | None = None
    echo: bool | None = None
    show_parameters: bool | None = None

    def options(self) -> dict[str, Any]:
        """Return the given keyword arguments for SQLAlchemy."""
        return {name: value for name in _OPTIONS if (value := getattr(self, name)) is not None}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PoolConfig:
        """Return the engine options among a pool's values."""
        return cls(**{name: values[name] for name in ("url", "password", "show_parameters", *_OPTIONS)})


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedConnectors:
    """All pools and connectors of a project, with credentials.

    The host's main process makes it and hands it to workers over their socket; it is never logged or stored.

    :param root: the project's directory, which SQLite paths are relative to
    :param pools: the usable pools
    :param connectors: the values of each usable connector
    :param unusable: why a pool (``pools.NAME``), a connector (``connectors.NAME``) or all of the file (empty) cannot
        be used, in a sentence
    :param secret_env_names: the variables that the file names; workers do not inherit them
    :param problems: the file's problems, for the manifest
    """

    root: str = ""
    file: str = ""
    pools: Mapping[str, PoolConfig] = field(default_factory=dict)
    connectors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    unusable: Mapping[str, str] = field(default_factory=dict)
    secret_env_names: tuple[str, ...] = ()
    problems: tuple[Mapping[str, Any], ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """All credentials, sorted, for masking."""
        found: set[str] = set()
        for pool in self.pools.values():
            found.update({pool.password or "", *_url_secrets(pool.url)})
        for table in self.connectors.values():
            found.update(_table_secrets(table))
        return tuple(sorted(found - {""}))

    def modules(self) -> tuple[str, ...]:
        """Return the modules that engines of these pools need; a template imports them before it forks workers."""
        if not self.pools:
            return ()
        backends = {pool.url.partition(":")[0].partition("+")[0] for pool in self.pools.values()}
        drivers = sorted({_DRIVERS[backend] for backend in backends if backend in _DRIVERS})
        return ("sqlalchemy.ext.asyncio", *drivers)

    def to_json(self) -> dict[str, Any]:
        """Return the part that workers need as a JSON-able dict, credentials included."""
        names = PoolConfig.__dataclass_fields__
        return {
            "root": self.root,
            "file": self.file,
            "pools": {key: {name: getattr(pool, name) for name in names} for key, pool in self.pools.items()},
            "connectors": {key: dict(table) for key, table in self.connectors.items()},
            "unusable": dict(self.unusable),
            "secret_env_names": list(self.secret_env_names),
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> ResolvedConnectors:
        """Return the connectors that `to_json` made *tree* of."""
        return cls(
            root=tree["root"],
            file=tree["file"],
            pools={name: PoolConfig(**pool) for name, pool in tree["pools"].items()},
            connectors=tree["connectors"],
            unusable=tree["unusable"],
            secret_env_names=tuple(tree["secret_env_names"]),
        )


def _url_secrets(url: str) -> set[str]:
    matches = [_URL_PASSWORD.match(url), *_QUERY_PASSWORD.finditer(url)]
    written = {match[1] for match in matches if match}
    return written | {unquote(each) for each in written}


def _table_secrets(table: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for key, value in table.items():
        if isinstance(value, Mapping) and key == "headers":
            shown = [str(text) for name, text in value.items() if _SECRET_HEADER.search(name)]
            found.update(part for text in shown for part in (text, text.rpartition(" ")[2]))  # "Bearer …" and its token
        elif isinstance(value, Mapping):
            found |= _table_secrets(value)
        elif isinstance(value, str) and key in _SECRET_KEYS:
            found.add(value)
        elif isinstance(value, str) and "://" in value:
            found |= _url_secrets(value)
    return found
