"""The hooks of a plugin host, and Nomaflow's own plugins on them."""

from __future__ import annotations

from nomaflow_host.hooks.manager import HookHost, build_hooks, defines_hooks

__all__ = ["HookHost", "build_hooks", "defines_hooks"]
