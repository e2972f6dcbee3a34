"""The registry that callables get as ``connectors``."""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any

from nomaflow.connectors import ApiConnector, ConnectorRegistry, SqlConnector
from nomaflow_host.connectors.errors import ConnectorsError, ConnectorUnknown, ConnectorUnusable
from nomaflow_host.connectors.pools import HostPools
from nomaflow_host.connectors.types import BUILTIN_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow.calls import ConnectorFactory
    from nomaflow_host.connectors.resolved import ResolvedConnectors

__all__ = ["HostConnectorRegistry"]


class HostConnectorRegistry(ConnectorRegistry):
    """The pools and connectors of one worker, each made on first use. Safe to use from several threads.

    ``await registry.aclose()`` closes all of them; it may be called again, and later requests make them anew.
    """

    def __init__(self, resolved: ResolvedConnectors, *, types: Mapping[str, ConnectorFactory] = BUILTIN_TYPES) -> None:
        """Make no connector yet.

        :param types: the factory of each type
        """
        self._tables = resolved.connectors
        self._unusable = resolved.unusable
        self._types = types
        self._pools = HostPools(resolved.pools, root=resolved.root, unusable=resolved.unusable)
        self._made: dict[str, Any] = {}
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        pools, connectors = ", ".join(self._pools.names()), ", ".join(self.names())
        return f"ConnectorRegistry(pools=[{pools}], connectors=[{connectors}])"

    @property
    def pools(self) -> HostPools:
        """The database pools."""
        return self._pools

    def names(self) -> tuple[str, ...]:
        """Return the names of all connectors, sorted."""
        unusable = (path.partition(".")[2] for path in self._unusable if path.startswith("connectors."))
        return tuple(sorted({*self._tables, *unusable}))

    def sql(self, name: str) -> SqlConnector:
        """Return the SQL connector *name*."""
        connector = self._of_type(name, "sql")
        assert isinstance(connector, SqlConnector)
        return connector

    def api(self, name: str) -> ApiConnector:
        """Return the API connector *name*."""
        connector = self._of_type(name, "api")
        assert isinstance(connector, ApiConnector)
        return connector

    def connector(self, name: str) -> Any:
        """Return the connector *name*, of any type."""
        table = self._tables.get(name)
        if table is None:
            self._refuse_unusable(name)
            raise ConnectorUnknown("connector", name, self._tables)
        with self._lock:
            if name not in self._made:
                factory = self._types.get(table["type"])
                if factory is None:
                    raise ConnectorUnknown(f"type for connector {name!r} named", table["type"], self._types)
                self._made[name] = factory(name, table, self)
            return self._made[name]

    async def aclose(self) -> None:
        """Close every connector that can be closed, then the pools."""
        with self._lock:
            made, self._made = list(self._made.values()), {}
        for connector in made:
            close = getattr(connector, "aclose", None)
            closing = close() if callable(close) else None
            if inspect.isawaitable(closing):
                await closing
        await self._pools.aclose()

    def _refuse_unusable(self, name: str) -> None:
        """Raise if the file has the connector but it cannot be used.

        :raises ConnectorUnusable: with the reason
        """
        reason = self._unusable.get(f"connectors.{name}") or self._unusable.get("")
        if reason:
            raise ConnectorUnusable("connector", name, reason)

    def _of_type(self, name: str, kind: str) -> Any:
        same = [each for each, table in self._tables.items() if table["type"] == kind]
        table = self._tables.get(name)
        if table is None:
            self._refuse_unusable(name)
            raise ConnectorUnknown(f"connector of type {kind!r} named", name, same)
        if table["type"] != kind:
            problem = f"the connector {name!r} is of type {table['type']!r}, not {kind!r} (known: {sorted(same)})"
            raise ConnectorsError(problem, path=f"connectors.{name}")
        return self.connector(name)
