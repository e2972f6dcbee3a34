"""Turns the value that a callable returned into the outcome in the run's record."""

from __future__ import annotations

from collections.abc import Mapping
from types import CoroutineType
from typing import Any, cast

from nomaflow.errors import StepFailed
from nomaflow.results import StepResult
from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import CallOutcome
from nomaflow_api.v1.lossless_json import ValueCodecError, dumps_plain

EXTRAS_WARNING = 64 * 1024
"""Bytes of encoded extras above which a warning is recorded."""
EXTRAS_LIMIT = 1024 * 1024
"""Bytes of encoded extras above which the step fails, unless the host's settings give another limit."""

_SHAPES = "None, int, dict or StepResult"
_INT64_MAX = 2**63 - 1
_INT64_MIN = -(2**63)
_ADVICE = "store the data in a table or a file, and return its row count and key"


class ReturnRefused(StepFailed):
    """Raised when a returned value cannot be recorded exactly.

    :ivar reason_code: ``return_invalid`` or ``result_too_large``
    """

    def __init__(self, message: str, *, reason_code: str = "return_invalid") -> None:
        """Take a sentence about the refused value."""
        super().__init__(message)
        self.reason_code = reason_code


def result_of(value: Any) -> StepResult:
    """Return None, an int, a dict or a StepResult as a StepResult.

    :raises ReturnRefused: for anything else, with its type and the way out
    """
    kind = type(value)  # not `isinstance`: a proxy's __class__ is that of another object
    if value is None:
        return StepResult()
    if issubclass(kind, StepResult):
        return cast("StepResult", value)
    if kind is bool:
        advice = f"return a dict, such as {{'ok': {value!r}}}"
        raise ReturnRefused(f"the callable returned the bool {value!r}, expected {_SHAPES} ({advice})")
    if issubclass(kind, int):
        return StepResult(rows_affected=value)
    if issubclass(kind, dict):
        extras = dict(dict.items(value))
        return StepResult(rows_affected=extras.pop("rows_affected", None), extras=extras)
    problem = f"the callable returned a value of type {_type_name(value)}, expected {_SHAPES}{_hint(value)}"
    if kind is CoroutineType:
        value.close()  # Python's warning would come at a later collection, in the log of another step
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


def outcome_of(result: StepResult, *, max_extras_bytes: int = EXTRAS_LIMIT) -> CallOutcome:
    """Return the outcome of a call that has returned a result, which is validated and encoded.

    :param max_extras_bytes: the limit of the encoded extras
    :raises ReturnRefused: with the path of the value that cannot be recorded, or with size and limit
    """
    rows = _count(result.rows_affected)
    extras: Any = {} if result.extras is None else result.extras
    if not isinstance(extras, dict):
        if not isinstance(extras, Mapping):
            raise ReturnRefused(f"extras is {type(extras).__name__}, expected a dict")
        extras = dict(extras)
    if not extras:
        return CallOutcome(state=FinishedState.SUCCEEDED, rows_affected=rows, has_result=True)
    try:
        encoded = dumps_plain(extras, path="extras").encode("ascii")
    except ValueCodecError as error:
        raise ReturnRefused(f"the returned value cannot be stored: {error}") from None
    if (size := len(encoded)) > max_extras_bytes:
        problem = f"the extras take {size:,} bytes, over the limit of {max_extras_bytes:,}: {_ADVICE}"
        raise ReturnRefused(problem, reason_code="result_too_large")
    warnings: tuple[str, ...] = ()
    if size > EXTRAS_WARNING:
        warnings = (f"the extras take {size:,} bytes, expected at most {EXTRAS_WARNING:,}: {_ADVICE}",)
    return CallOutcome(
        state=FinishedState.SUCCEEDED, rows_affected=rows, extras_json=encoded, has_result=True, warnings=warnings
    )


def _count(rows: Any) -> int | None:
    if rows is None:
        return None
    if not issubclass(type(rows), int) or type(rows) is bool:
        advice = "an await is missing" if hasattr(type(rows), "__await__") else "give int(value), or leave it out"
        raise ReturnRefused(f"rows_affected is {type(rows).__name__}, expected int or None ({advice})")
    plain = int.__index__(rows)
    if not _INT64_MIN <= plain <= _INT64_MAX:
        raise ReturnRefused("rows_affected is beyond 64 bits, expected an int from -2**63 to 2**63 - 1")
    return plain
