"""The host's end of its session with the kernel. The only part of a host that imports gRPC."""

from __future__ import annotations

from nomaflow_host.session.addresses import AddressSource
from nomaflow_host.session.facts import HostIdentity, HostStatus, Manifest
from nomaflow_host.session.session import HostSession

__all__ = ["AddressSource", "HostIdentity", "HostSession", "HostStatus", "Manifest"]
