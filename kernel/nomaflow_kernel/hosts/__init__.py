"""The kernel's side of its hosts: sessions, reports, manifests."""

from __future__ import annotations

from nomaflow_kernel.hosts.errors import (
    HostAttached,
    HostLoading,
    HostNotAttached,
    OperationInProgress,
    ProtocolUnsupported,
    ReloadUnanswered,
    SessionSuperseded,
)
from nomaflow_kernel.hosts.gateway import AttemptEngine, GatewaySettings, HostGateway, ManifestKeeper
from nomaflow_kernel.hosts.registry import SessionRegistry
from nomaflow_kernel.hosts.session import Session

__all__ = [
    "AttemptEngine",
    "GatewaySettings",
    "HostAttached",
    "HostGateway",
    "HostLoading",
    "HostNotAttached",
    "ManifestKeeper",
    "OperationInProgress",
    "ProtocolUnsupported",
    "ReloadUnanswered",
    "Session",
    "SessionRegistry",
    "SessionSuperseded",
]
