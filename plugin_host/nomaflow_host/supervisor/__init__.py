"""Execution of orders in the host's main process: workers, their logs, their limits, and the stop ladder."""

from __future__ import annotations
