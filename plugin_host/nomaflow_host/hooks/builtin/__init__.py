"""Nomaflow's own behaviour, as plugins on the public hooks."""

from __future__ import annotations

from nomaflow_host.hooks.builtin import connecting, injecting, normalising, settings
from nomaflow_host.hooks.builtin.resolving import ImportResolver

__all__ = ["ImportResolver", "connecting", "injecting", "normalising", "settings"]
