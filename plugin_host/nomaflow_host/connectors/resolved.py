"""connectors.toml, read and resolved. Credentials are in it, and never in its repr."""

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
    :param password: put into the URL; None where it has its own, or none
    :param pool_size: connections kept; None for SQLAlchemy's default, as for the others
    :param pool_recycle: seconds after which a connection is replaced
    :param show_parameters: whether errors and echoed statements show the values bound to them
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
        """Return the keyword arguments for SQLAlchemy that were given."""
        return {name: value for name in _OPTIONS if (value := getattr(self, name)) is not None}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PoolConfig:
        """Return the part of a pool's values that makes its engine."""
        return cls(**{name: values[name] for name in ("url", "password", *_OPTIONS)})


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedConnectors:
    """All pools and connectors of a project, with credentials.

    The host's main process makes it and hands it to workers over their socket; it is never logged or stored.

    :param root: the project's directory, which SQLite paths are relative to
    :param pools: those that can be used
    :param connectors: the values of each connector that can be used
    :param unusable: why a pool (``pools.NAME``), a connector (``connectors.NAME``) or all of the file (empty) cannot
        be used, in a sentence
    :param secret_env_names: the variables that the file names, which workers do not inherit
    :param problems: what is wrong with the file, for the manifest
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
        """Every credential in it, sorted, for masking."""
        found: set[str] = set()
        for pool in self.pools.values():
            found.update({pool.password or "", *_url_secrets(pool.url)})
        for table in self.connectors.values():
            found.update(_table_secrets(table))
        return tuple(sorted(found - {""}))

    def modules(self) -> tuple[str, ...]:
        """Return the modules that engines of these pools will need, for a template to import ahead of its workers."""
        if not self.pools:
            return ()
        backends = {pool.url.partition(":")[0].partition("+")[0] for pool in self.pools.values()}
        drivers = sorted({_DRIVERS[backend] for backend in backends if backend in _DRIVERS})
        return ("sqlalchemy.ext.asyncio", *drivers)

    def to_json(self) -> dict[str, Any]:
        """Return what workers need of it as a JSON-able dict, credentials included."""
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
        """Return what `to_json` made *tree* of."""
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
