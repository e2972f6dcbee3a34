"""Normalises None, int, dict and StepResult."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomaflow import hookimpl
from nomaflow_host.normalise import result_of

if TYPE_CHECKING:
    from nomaflow import StepResult

__all__ = ["nomaflow_normalise_return"]


@hookimpl(trylast=True)
def nomaflow_normalise_return(value: Any) -> StepResult:
    """Apply the rules of the authoring contract."""
    return result_of(value)
