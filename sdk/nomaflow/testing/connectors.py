"""Registries for tests: a fake one with the test's own objects, or the real one of a connectors.toml."""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nomaflow.connectors import ConnectorPools, ConnectorRegistry
from nomaflow_project.reading.project_files import ProjectFiles


class FakeConnectors(ConnectorRegistry):
    """A registry of objects that a test supplies.

    ``FakeConnectors(engines={"default": engine})`` answers ``connectors.pools.engine("default")`` with that engine.

    :param engines: async engines, or objects in their place
    :param sync_engines: engines for plain functions
    :param connectors: the results of `sql`, `api` and `connector`, by name
    """

    def __init__(
        self,
        *,
        engines: Mapping[str, Any] | None = None,
        sync_engines: Mapping[str, Any] | None = None,
        connectors: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the objects by name."""
        self._pools = _FakePools(engines or {}, sync_engines or {})
        self._connectors = connectors or {}

    @property
    def pools(self) -> ConnectorPools:
        """The supplied pools."""
        return self._pools

    def names(self) -> tuple[str, ...]:
        """Return the names of the supplied connectors."""
        return tuple(sorted(self._connectors))

    def connector(self, name: str) -> Any:
        """Return the connector *name*."""
        return _found("connector", name, self._connectors)

    sql = api = connector


class _FakePools(ConnectorPools):
    def __init__(self, engines: Mapping[str, Any], sync_engines: Mapping[str, Any]) -> None:
        self._engines = engines
        self._sync_engines = sync_engines

    def names(self) -> tuple[str, ...]:
        return tuple(sorted({*self._engines, *self._sync_engines}))

    def engine(self, name: str) -> Any:
        return _found("pool", name, self._engines)

    def sync_engine(self, name: str) -> Any:
        return _found("pool", name, self._sync_engines)


class ClosableRegistry(ConnectorRegistry):
    """A registry with connections that a test closes; a worker closes its own."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Close every connector that can be closed, then the pools."""


def connectors_from(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> ClosableRegistry:
    """Return the real registry of a connectors.toml. Close it with ``await registry.aclose()``.

    References for plugins, such as those to a vault, are not resolved: an entry that has one cannot be used.

    :param environ: variables for ``${NAME}``, in place of this process's environment
    :raises RuntimeError: if the host's machinery is not installed
    :raises Exception: if the file cannot be read; a mistake in one pool or connector is raised when it is used
    """
    from nomaflow.testing.host_machinery import host_machinery
    from nomaflow_project.connectors.reading import read_connectors

    machinery = host_machinery()
    files = ProjectFiles(Path(path).parent, os.environ if environ is None else environ)
    resolved = read_connectors(Path(path), files.sources, required=True)
    if "" in resolved.unusable:
        raise machinery.ConnectorsError(resolved.unusable[""])
    registry: ClosableRegistry = machinery.HostConnectorRegistry(resolved)
    return registry


def _found(what: str, name: str, things: Mapping[str, Any]) -> Any:
    try:
        return things[name]
    except KeyError:
        known = ", ".join(map(repr, sorted(things))) or "none"
        raise LookupError(f"there is no {what} {name!r} in the test's registry (known: {known})") from None
