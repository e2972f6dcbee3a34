"""The hooks of a plugin host, and Nomaflow's own plugins on them."""

from __future__ import annotations

from nomaflow_host.hooks.manager import HookHost, build_hooks, defines_hooks
from nomaflow_host.hooks.problems import Problem

__all__ = ["HookHost", "Problem", "build_hooks", "defines_hooks"]
