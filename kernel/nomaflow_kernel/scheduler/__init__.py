"""Cron: which schedules there are, when they fire next, and what becomes of fires that came too late."""

from __future__ import annotations

from nomaflow_kernel.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
