"""connectors.toml: read by a host's main process, used by its workers.

Neither SQLAlchemy nor httpx is imported before a callable uses a pool or an API.
"""

from __future__ import annotations

from nomaflow_host.connectors.errors import ConnectorsError
from nomaflow_host.connectors.registry import BUILTIN_TYPES, HostConnectorRegistry
from nomaflow_host.connectors.resolved import ResolvedConnectors, read_connectors

__all__ = [
    "BUILTIN_TYPES",
    "ConnectorsError",
    "HostConnectorRegistry",
    "ResolvedConnectors",
    "read_connectors",
]
