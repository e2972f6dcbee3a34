"""SQLAlchemy engines of the pools, made on first use. The only module of a host that imports SQLAlchemy."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nomaflow.connectors import ConnectorPools
from nomaflow_host.connectors.errors import ConnectorsError, ConnectorUnknown, ConnectorUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import URL, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nomaflow_host.connectors.resolved import PoolConfig

__all__ = ["HostPools"]

_ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_SYNC_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}
_EITHER = frozenset({"postgresql+psycopg"})
_EXTRAS = {"asyncpg": "nomaflow[postgres]", "psycopg": "nomaflow[postgres]", "aiosqlite": "nomaflow[host]"}


class HostPools(ConnectorPools):
    """The pools of one worker. Safe to use from several threads.

    The connections of a pool belong to the event loop that opened them: the main thread's loop, on which coroutines of
    steps run. A step that brings its own loop, in a thread, gets engines that open a connection for each use.
    """

    def __init__(
        self, configs: Mapping[str, PoolConfig], *, root: str, unusable: Mapping[str, str] | None = None
    ) -> None:
        """Create no engine yet.

        :param root: directory that SQLite paths are relative to
        :param unusable: as `ResolvedConnectors.unusable`
        """
        self._configs = configs
        self._unusable = unusable or {}
        self._root = root
        self._lock = threading.Lock()
        self._async: dict[str, AsyncEngine] = {}
        self._unpooled: dict[str, AsyncEngine] = {}
        self._sync: dict[str, Engine] = {}

    def __repr__(self) -> str:
        return f"HostPools({', '.join(self.names())})"

    def names(self) -> tuple[str, ...]:
        """Return the names of all pools, sorted."""
        unusable = (path.partition(".")[2] for path in self._unusable if path.startswith("pools."))
        return tuple(sorted({*self._configs, *unusable}))

    def engine(self, name: str) -> AsyncEngine:
        """Return the async engine of the pool *name*."""
        config = self._config(name)
        with self._lock:
            pooled = threading.current_thread() is threading.main_thread() or _is_memory_url(config.url)
            engines = self._async if pooled else self._unpooled
            if name not in engines:
                from sqlalchemy.ext.asyncio import create_async_engine  # only a worker that uses a pool pays for it

                engines[name] = self._made(name, config, create_async_engine, _ASYNC_DRIVERS, pooled=pooled)
            return engines[name]

    def sync_engine(self, name: str) -> Engine:
        """Return the engine of the pool *name*, for plain functions."""
        config = self._config(name)
        with self._lock:
            if name not in self._sync:
                from sqlalchemy import create_engine  # only a worker that uses a pool pays for it

                self._sync[name] = self._made(name, config, create_engine, _SYNC_DRIVERS)
            return self._sync[name]

    async def aclose(self) -> None:
        """Dispose of every engine. May be called again."""
        with self._lock:
            asynchronous = [*self._async.values(), *self._unpooled.values()]
            self._async, self._unpooled = {}, {}
            synchronous, self._sync = list(self._sync.values()), {}
        for engine in asynchronous:
            await engine.dispose()
        for plain in synchronous:
            plain.dispose()

    def _config(self, name: str) -> PoolConfig:
        config = self._configs.get(name)
        if config is not None:
            return config
        reason = self._unusable.get(f"pools.{name}") or self._unusable.get("")
        if reason:
            raise ConnectorUnusable("pool", name, reason)
        raise ConnectorUnknown("pool", name, self.names())

    def _made(
        self,
        name: str,
        config: PoolConfig,
        make: Callable[..., Any],
        drivers: Mapping[str, str],
        *,
        pooled: bool = True,
    ) -> Any:
        path = f"pools.{name}"
        url = _url_of(config, path, drivers, self._root)
        options = {"hide_parameters": not config.show_parameters, **config.options()}
        if not pooled or (url.get_backend_name() == "sqlite" and _is_memory(url.database)):
            options = {key: value for key, value in options.items() if key not in ("pool_size", "max_overflow")}
        if not pooled:
            from sqlalchemy.pool import NullPool  # as above

            options["poolclass"] = NullPool
        try:
            return make(url, **options)
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get(error.name or "", error.name)
            problem = f"its driver {error.name!r} is not installed (pip install {extra!r})"
            raise ConnectorsError(problem, path=path) from None
        except Exception as error:  # noqa: BLE001 - an error of a dialect may quote the URL, password included
            problem = f"{url.drivername} made no engine of it: {type(error).__name__}"
            raise ConnectorsError(f"{problem} (check url and the other keys)", path=path) from None


def _url_of(config: PoolConfig, path: str, drivers: Mapping[str, str], root: str) -> URL:
    from sqlalchemy import make_url  # only a worker that uses a pool pays for it
    from sqlalchemy.exc import ArgumentError

    text = config.url
    if text.startswith("postgres:"):
        text = "postgresql:" + text.removeprefix("postgres:")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConnectorsError("expected an SQLAlchemy URL", path=f"{path}.url") from None
    if config.password is not None:
        url = url.set(password=config.password)
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
