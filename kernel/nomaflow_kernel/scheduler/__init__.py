"""Cron: the schedules, their next fires, and the treatment of late fires."""

from __future__ import annotations

from nomaflow_kernel.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
