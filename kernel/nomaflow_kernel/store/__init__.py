"""History: runs, attempts, events and logs, on SQLite or PostgreSQL."""

from __future__ import annotations

from nomaflow_kernel.store.leases import LeasePolicy
from nomaflow_kernel.store.opening import open_store

__all__ = ["LeasePolicy", "open_store"]
