"""The kernel's gRPC side: services for clients, checks, errors, the server itself."""

from __future__ import annotations

from nomaflow_kernel.rpc.endpoints import Endpoints
from nomaflow_kernel.rpc.health import Health
from nomaflow_kernel.rpc.parts import KernelParts
from nomaflow_kernel.rpc.services import door_servers
from nomaflow_kernel.rpc.standby import standby_servers

__all__ = ["Endpoints", "Health", "KernelParts", "door_servers", "standby_servers"]
