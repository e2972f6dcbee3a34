"""Execution of orders in the host's main process: workers, their logs, their limits, and the stop ladder."""

from __future__ import annotations

from nomaflow_host.supervisor.settings import SupervisorSettings, reaper_environment, worker_environment
from nomaflow_host.supervisor.supervisor import Supervisor
from nomaflow_host.supervisor.values import (
    GenerationInfo,
    LoadOutcome,
    ProjectLoad,
    ProjectSource,
    Refused,
    WorkerStatus,
)

__all__ = [
    "GenerationInfo",
    "LoadOutcome",
    "ProjectLoad",
    "ProjectSource",
    "Refused",
    "Supervisor",
    "SupervisorSettings",
    "WorkerStatus",
    "reaper_environment",
    "worker_environment",
]
