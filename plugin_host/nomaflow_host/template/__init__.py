"""A template: a fresh interpreter that has loaded one generation of plugin code, and forks workers from it."""

from __future__ import annotations

from nomaflow_host.template.process import Template, main

__all__ = ["Template", "main"]
