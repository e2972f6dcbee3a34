"""SQLAlchemy engines of the pools, made on first use. The only module of a host that imports SQLAlchemy."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nomaflow.connectors import ConnectorPools
from nomaflow_host.connectors.errors import ConnectorsError, values_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sqlalchemy import URL, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nomaflow_project.connectors.connector_set import ConnectorSet

_ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_SYNC_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}
_EITHER = frozenset({"postgresql+psycopg"})
_OPTIONS = ("pool_size", "max_overflow", "pool_pre_ping", "pool_recycle", "echo")
_DISTRIBUTIONS = {
    "asyncpg": "nomaflow[postgres]",
    "psycopg": "nomaflow[postgres]",
    "aiosqlite": "nomaflow[host]",
    "MySQLdb": "mysqlclient",
}
"""Names to install for drivers that are not called like their modules."""
_MODULES = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "postgres": "asyncpg"}


def modules_of(pools: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the modules that engines of these pools need; a template imports them before it forks workers."""
    backends = {pool["url"].partition(":")[0].partition("+")[0] for pool in pools}
    drivers = sorted({_MODULES[each] for each in backends if each in _MODULES})
    return ("sqlalchemy.ext.asyncio", *drivers) if backends else ()


class HostPools(ConnectorPools):
    """The pools of one worker. Safe to use from several threads.

    The connections of a pool belong to the event loop that opened them: the main thread's loop, on which coroutines of
    steps run. A step that brings its own loop, in a thread, gets engines that open a connection for each use.
    """

    def __init__(self, resolved: ConnectorSet) -> None:
        """Create no engine yet."""
        self._resolved = resolved
        self._lock = threading.Lock()
        self._engines: dict[tuple[str, str], Any] = {}

    def __repr__(self) -> str:
        return f"HostPools({', '.join(self.names())})"

    def names(self) -> tuple[str, ...]:
        """Return the names of all pools, sorted."""
        return self._resolved.names("pools")

    def engine(self, name: str) -> AsyncEngine:
        """Return the async engine of the pool *name*."""
        pool = values_of(self._resolved, "pools", name)
        pooled = threading.current_thread() is threading.main_thread() or _is_memory_url(pool["url"])
        engine: AsyncEngine = self._engine(name, pool, "async" if pooled else "unpooled")
        return engine

    def sync_engine(self, name: str) -> Engine:
        """Return the engine of the pool *name*, for plain functions."""
        engine: Engine = self._engine(name, values_of(self._resolved, "pools", name), "sync")
        return engine

    async def aclose(self) -> None:
        """Dispose of every engine. May be called again."""
        await self.forget({name for name, _ in list(self._engines)})

    async def forget(self, names: Collection[str]) -> None:
        """Dispose of the engines of some pools, whose tables have changed. Connections in use are not closed."""
        with self._lock:
            engines = [self._engines.pop(key) for key in list(self._engines) if key[0] in names]
        for engine in engines:
            disposing = engine.dispose()
            if disposing is not None:
                await disposing

    def _engine(self, name: str, pool: Mapping[str, Any], form: str) -> Any:
        """Return the engine of a pool in one of three forms: ``async``, ``unpooled`` (async as well) or ``sync``."""
        with self._lock:
            if (name, form) not in self._engines:
                self._engines[name, form] = _made(f"pools.{name}", pool, form, self._resolved.root)
            return self._engines[name, form]


def _made(path: str, pool: Mapping[str, Any], form: str, root: str) -> Any:
    from sqlalchemy import NullPool, create_engine  # only a worker that uses a pool pays for it
    from sqlalchemy.ext.asyncio import create_async_engine

    url = _url_of(pool, path, _SYNC_DRIVERS if form == "sync" else _ASYNC_DRIVERS, root)
    options = {name: pool[name] for name in _OPTIONS if pool.get(name) is not None}
    if form == "unpooled" or (url.get_backend_name() == "sqlite" and _is_memory(url.database)):
        options = {key: value for key, value in options.items() if key not in ("pool_size", "max_overflow")}
    if form == "unpooled":
        options["poolclass"] = NullPool
    make = create_engine if form == "sync" else create_async_engine
    try:
        return make(url, hide_parameters=not pool.get("show_parameters"), **options)
    except ModuleNotFoundError as error:
        distribution = _DISTRIBUTIONS.get(error.name or "", error.name)
        problem = f"its driver {error.name!r} is not installed (pip install {distribution!r})"
        raise ConnectorsError(problem, path=path) from None
    except Exception as error:  # noqa: BLE001 - an error of a dialect may quote the URL, password included
        problem = f"{url.drivername} made no engine from it: {type(error).__name__}"
        raise ConnectorsError(f"{problem} (check url and the other keys)", path=path) from None


def _url_of(pool: Mapping[str, Any], path: str, drivers: Mapping[str, str], root: str) -> URL:
    from sqlalchemy import make_url  # only a worker that uses a pool pays for it
    from sqlalchemy.exc import ArgumentError

    text = pool["url"]
    if text.startswith("postgres:"):
        text = "postgresql:" + text.removeprefix("postgres:")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConnectorsError("expected an SQLAlchemy URL", path=f"{path}.url") from None
    if pool.get("password") is not None:
        url = url.set(password=pool["password"])
    driver = drivers.get(url.get_backend_name())
    if driver is not None and url.drivername not in _EITHER:
        url = url.set(drivername=driver)
    if url.get_backend_name() == "sqlite" and not _is_memory(url.database):
        url = url.set(database=_absolute(str(url.database), root))
    if url.drivername == "postgresql+asyncpg" and "sslmode" in url.query:
        query = dict(url.query)
        query["ssl"] = query.pop("sslmode")
        url = url.set(query=query)
    return url


def _is_memory_url(url: str) -> bool:
    scheme, _, database = url.partition(":")
    return scheme.startswith("sqlite") and _is_memory(database.removeprefix("//").removeprefix("/").partition("?")[0])


def _is_memory(database: str | None) -> bool:
    return not database or database == ":memory:" or "mode=memory" in database


def _absolute(database: str, root: str) -> str:
    if database.startswith("file:"):
        location = database.removeprefix("file:")
        return database if location.startswith("/") else f"file:{Path(root, location)}"
    return str(Path(root, database))
