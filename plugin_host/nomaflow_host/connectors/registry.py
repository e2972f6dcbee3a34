"""The registry that callables get as ``connectors``."""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any

from nomaflow.connectors import ApiConnector, ConnectorRegistry, SqlConnector
from nomaflow_host.connectors.api import HostApiConnector
from nomaflow_host.connectors.deferred import DeferredTables
from nomaflow_host.connectors.errors import ConnectorsError, ConnectorUnknown, values_of
from nomaflow_host.connectors.named_queries import HostSqlConnector
from nomaflow_host.connectors.pools import HostPools

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow.calls import ConnectorFactory
    from nomaflow_project.connectors.connector_set import ConnectorSet
    from nomaflow_project.reading.sources import ValueSource

BUILTIN_TYPES: Mapping[str, ConnectorFactory] = {
    "api": lambda name, table, _: HostApiConnector(name, table),
    "sql": lambda name, table, registry: HostSqlConnector(name, table, pools=registry.pools),
}
"""The factory of each built-in type."""


class HostConnectorRegistry(ConnectorRegistry):
    """The pools and connectors of one worker, each made on first use. Safe to use from several threads.

    ``await registry.aclose()`` closes all of them; it may be called again, and later requests make them anew.
    """

    def __init__(self, resolved: ConnectorSet, *, types: Mapping[str, ConnectorFactory] = BUILTIN_TYPES) -> None:
        """Make no connector yet.

        :param types: the factory of each type
        """
        self._resolved = resolved
        self._types = types
        self._pools = HostPools(resolved)
        self._deferred = DeferredTables(resolved) if resolved.deferred else None
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
        return self._resolved.names("connectors")

    @property
    def deferred(self) -> bool:
        """True if tables have references for plugins, which `renew` resolves."""
        return self._deferred is not None

    async def renew(self, values: ValueSource) -> None:
        """Put the current values into the tables that have references for plugins.

        What was made from an old value is made anew at the next request. A table whose value is missing cannot be used
        until a later call.
        """
        if self._deferred is None:
            return
        changed = self._deferred.renew(values)
        with self._lock:
            for path in changed:
                self._made.pop(path.removeprefix("connectors."), None)
        await self._pools.forget({path.removeprefix("pools.") for path in changed if path.startswith("pools.")})

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
        values = values_of(self._resolved, "connectors", name)
        with self._lock:
            if name not in self._made:
                factory = self._types.get(values["type"])
                if factory is None:
                    raise ConnectorUnknown(f"type for connector {name!r} named", values["type"], self._types)
                made = factory(name, values, self)
                if inspect.iscoroutine(made):
                    made.close()
                    problem = f"the factory of type {values['type']!r} is async, expected a plain function"
                    raise ConnectorsError(problem, path=f"connectors.{name}")
                self._made[name] = made
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

    def _of_type(self, name: str, kind: str) -> Any:
        same = [each for each, values in self._resolved.connectors.items() if values["type"] == kind]
        sought = f"connector of type {kind!r} named"
        actual = values_of(self._resolved, "connectors", name, sought=sought, named=same)["type"]
        if actual != kind:
            getter = actual if actual in ("sql", "api") else "connector"
            problem = f"the connector {name!r} is of type {actual!r}, not {kind!r} (use connectors.{getter}({name!r}))"
            raise ConnectorsError(problem, path=f"connectors.{name}")
        return self.connector(name)
