"""History: runs, attempts, events and logs, on SQLite or PostgreSQL."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nomaflow_kernel.store.lease_row import LeasePolicy
    from nomaflow_kernel.store.opening import open_store
    from nomaflow_kernel.store.sql_store import Store

__all__ = ["LeasePolicy", "Store", "open_store"]

_MODULES = {"LeasePolicy": "lease_row", "Store": "sql_store", "open_store": "opening"}


def __getattr__(name: str) -> Any:
    """Return a name from its module, which loads SQLAlchemy: a tool for the store's file does without."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
