"""The hooks of a plugin host, and Nomaflow's own plugins on them."""

from __future__ import annotations

from nomaflow_host.hooks.manager import ENTRY_POINT_GROUP, HookHost, build_hooks, defines_hooks
from nomaflow_host.hooks.tracing import TRACE_VARIABLE

__all__ = [
    "ENTRY_POINT_GROUP",
    "TRACE_VARIABLE",
    "HookHost",
    "build_hooks",
    "defines_hooks",
]
