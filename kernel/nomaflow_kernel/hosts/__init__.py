"""The kernel's side of its hosts: sessions, reports, manifests."""

from __future__ import annotations

from nomaflow_kernel.hosts.gateway import HostGateway
from nomaflow_kernel.hosts.registry import SessionRegistry

__all__ = [
    "HostGateway",
    "SessionRegistry",
]
