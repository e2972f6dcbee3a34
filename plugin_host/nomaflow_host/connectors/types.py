"""The built-in connector types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomaflow_host.connectors.api import HostApiConnector
from nomaflow_host.connectors.sql import HostSqlConnector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow.calls import ConnectorFactory
    from nomaflow.connectors import ConnectorRegistry

__all__ = ["BUILTIN_TYPES"]


def _sql(name: str, table: Mapping[str, Any], registry: ConnectorRegistry) -> HostSqlConnector:
    return HostSqlConnector(name, table, pools=registry.pools)


def _api(name: str, table: Mapping[str, Any], registry: ConnectorRegistry) -> HostApiConnector:
    return HostApiConnector(name, table)


BUILTIN_TYPES: Mapping[str, ConnectorFactory] = {"api": _api, "sql": _sql}
"""Type name to what makes a connector of it."""
