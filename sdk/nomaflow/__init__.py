"""The names that authors of callables import: the contract's types, its errors, and the marker for hooks.

The import loads none of gRPC, typer, pydantic and SQLAlchemy.
"""

from __future__ import annotations

from nomaflow.connectors import ConnectorRegistry
from nomaflow.context import PreviousStep, RunContext
from nomaflow.errors import NomaflowError, StepCancelled, StepFailed
from nomaflow.hookspecs import hookimpl
from nomaflow.results import StepResult
from nomaflow.settings import Settings
from nomaflow.triggers import Trigger

__all__ = [
    "ConnectorRegistry",
    "NomaflowError",
    "PreviousStep",
    "RunContext",
    "Settings",
    "StepCancelled",
    "StepFailed",
    "StepResult",
    "Trigger",
    "hookimpl",
]
