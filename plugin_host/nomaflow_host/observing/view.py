"""The parts of a host that are observed."""

from __future__ import annotations

from dataclasses import dataclass

from nomaflow_host.outbox import Outbox
from nomaflow_host.session import HostIdentity, HostSession
from nomaflow_host.supervisor import Supervisor

__all__ = ["HostView"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HostView:
    """References to the observed parts."""

    identity: HostIdentity
    supervisor: Supervisor
    session: HostSession
    outbox: Outbox
