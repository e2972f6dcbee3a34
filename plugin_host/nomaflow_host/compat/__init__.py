"""Compatibility modules, so that callables of the original run unchanged."""

from __future__ import annotations

from nomaflow_host.compat.liberty import install_liberty_aliases

__all__ = ["install_liberty_aliases"]
