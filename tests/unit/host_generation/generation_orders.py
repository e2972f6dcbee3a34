"""Orders for the callables of a generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nomaflow_host.attempt.messages import AttemptOrder
from nomaflow_host.generation import Generation

Project = Callable[..., Generation]


def order_of(callable_: str, **rest: Any) -> AttemptOrder:
    """Return an order for a callable."""
    given = {
        "attempt_key": "run_1/step/1",
        "epoch": 1,
        "run_id": "run_1",
        "job_id": "job",
        "step": "step",
        "attempt": 1,
    }
    return AttemptOrder(**{**given, "callable": callable_, **rest})
