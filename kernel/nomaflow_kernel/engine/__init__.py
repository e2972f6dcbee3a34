"""The engine: what becomes of every run. ``Engine`` is the loop; the other modules are the decisions it takes."""

from __future__ import annotations

from nomaflow_kernel.engine.commands import (
    EngineSettings,
    FireCommand,
    JobSource,
    KnownJob,
    ReplayCommand,
    TriggerCommand,
    TriggerOutcome,
    UnrunCommand,
)
from nomaflow_kernel.engine.engine import Engine

__all__ = [
    "Engine",
    "EngineSettings",
    "FireCommand",
    "JobSource",
    "KnownJob",
    "ReplayCommand",
    "TriggerCommand",
    "TriggerOutcome",
    "UnrunCommand",
]
