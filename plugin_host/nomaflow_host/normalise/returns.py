"""The four shapes that a callable may return."""

from __future__ import annotations

from typing import Any

from nomaflow.results import StepResult
from nomaflow_host.normalise.records import ReturnRefused

__all__ = ["result_of"]

_SHAPES = "None, int, dict or StepResult"


def result_of(value: Any) -> StepResult:
    """Return None, an int, a dict or a StepResult as a StepResult.

    :raises ReturnRefused: for anything else, with its type and the way out
    """
    if value is None:
        return StepResult()
    if isinstance(value, StepResult):
        return value
    if isinstance(value, bool):
        advice = f"return a dict, such as {{'ok': {value!r}}}"
        raise ReturnRefused(f"the callable returned the bool {value!r}, expected {_SHAPES} ({advice})")
    if isinstance(value, int):
        return StepResult(rows_affected=value)
    if isinstance(value, dict):
        extras = dict(dict.items(value))
        return StepResult(rows_affected=extras.pop("rows_affected", None), extras=extras)
    problem = f"the callable returned a value of type {_type_name(value)}, expected {_SHAPES}{_hint(value)}"
    raise ReturnRefused(problem)


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _hint(value: object) -> str:
    if hasattr(value, "__await__"):
        return " (an await is missing)"
    if isinstance(value, (list, tuple, set, frozenset)):
        return " (return its length, or a dict that holds it)"
    if isinstance(value, (str, float)):
        return " (return a dict that holds it)"
    return ""
