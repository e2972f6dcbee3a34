"""Orders for the callables of a generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nomaflow_api.v1.letters import AttemptOrder
from nomaflow_host.generation.generation import Generation

Project = Callable[..., Generation]


def order_of(callable_: str, **rest: Any) -> AttemptOrder:
    """Return an order for a callable."""
    given = {
        "attempt_key": "run_1/step/1",
        "run_id": "run_1",
        "job_id": "job",
        "step": "step",
        "attempt": 1,
    }
    texts = {name: text.encode() for name, text in rest.items() if isinstance(text, str) and name.endswith("_json")}
    return AttemptOrder(**{**given, "callable": callable_, **rest, **texts})
