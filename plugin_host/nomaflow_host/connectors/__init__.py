"""connectors.toml: read by a host's main process, used by its workers.

Neither SQLAlchemy nor httpx is imported before a callable uses a pool or an API.
"""

from __future__ import annotations

from nomaflow_host.connectors.errors import ConnectorsError, ConnectorUnknown, ConnectorUnusable
from nomaflow_host.connectors.reading import read_connectors
from nomaflow_host.connectors.registry import HostConnectorRegistry
from nomaflow_host.connectors.resolved import PoolConfig, ResolvedConnectors

__all__ = [
    "ConnectorUnknown",
    "ConnectorUnusable",
    "ConnectorsError",
    "HostConnectorRegistry",
    "PoolConfig",
    "ResolvedConnectors",
    "read_connectors",
]
