"""Execution of orders in the host's main process: workers, their logs, their limits, and the stop ladder."""

from __future__ import annotations

from nomaflow_host.supervisor.settings import SupervisorSettings, reaper_environment
from nomaflow_host.supervisor.supervisor import Supervisor
from nomaflow_host.supervisor.values import (
    LoadOutcome,
    ProjectLoad,
    Refused,
    WorkerStatus,
)

__all__ = [
    "LoadOutcome",
    "ProjectLoad",
    "Refused",
    "Supervisor",
    "SupervisorSettings",
    "WorkerStatus",
    "reaper_environment",
]
