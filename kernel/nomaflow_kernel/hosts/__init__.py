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
from nomaflow_kernel.hosts.gateway import GatewaySettings, HostGateway
from nomaflow_kernel.hosts.registry import SessionRegistry
from nomaflow_kernel.hosts.session import Session

__all__ = [
    "GatewaySettings",
    "HostAttached",
    "HostGateway",
    "HostLoading",
    "HostNotAttached",
    "OperationInProgress",
    "ProtocolUnsupported",
    "ReloadUnanswered",
    "Session",
    "SessionRegistry",
    "SessionSuperseded",
]
