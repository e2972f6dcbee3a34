"""The engine: it decides what happens to every run. ``Engine`` is its interface; other modules hold the decisions."""

from __future__ import annotations

from nomaflow_kernel.engine.commands import TriggerCommand, TriggerOutcome, UnrunCommand
from nomaflow_kernel.engine.engine import Engine
from nomaflow_kernel.engine.state import EngineSettings

__all__ = ["Engine", "EngineSettings", "TriggerCommand", "TriggerOutcome", "UnrunCommand"]
