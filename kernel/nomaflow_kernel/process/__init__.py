"""The kernel as a process: its settings."""

from __future__ import annotations
