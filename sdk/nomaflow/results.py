"""The result type for callables that return more than a count or a dict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["StepResult"]


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of a step.

    It is recorded as it is. The extras must be JSON-safe: text, numbers, bools, None, lists and dicts of them
    with text keys.

    :param rows_affected: a count within 64 bits, added to the run's total; None for none
    :param extras: kept with the step; None means no extras
    """

    rows_affected: int | None = None
    extras: Mapping[str, Any] | None = field(default_factory=dict)
