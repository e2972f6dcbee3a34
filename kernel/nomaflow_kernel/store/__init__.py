"""History: runs, attempts, events and logs, on SQLite or PostgreSQL."""

from __future__ import annotations

from nomaflow_kernel.store.lease_row import LeasePolicy
from nomaflow_kernel.store.opening import open_store
from nomaflow_kernel.store.sql_store import Store

__all__ = ["LeasePolicy", "Store", "open_store"]
