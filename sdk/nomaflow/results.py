"""What a callable may return when a count or a dict is not enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StepResult"]


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of a step.

    It is taken as it is. The extras must be JSON-safe: text, numbers, bools, None, lists and dicts of them
    with text keys.

    :param rows_affected: a count within 64 bits, summed up into the run's; None for none
    :param extras: kept with the step; None counts as none
    """

    rows_affected: int | None = None
    extras: Mapping[str, Any] | None = field(default_factory=dict)
