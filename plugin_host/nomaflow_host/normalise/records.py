"""A StepResult, validated and encoded for the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nomaflow.errors import StepFailed
from nomaflow_api.v1.values import ValueCodecError, dumps_plain
from nomaflow_api.value_class import value_class

if TYPE_CHECKING:
    from nomaflow.results import StepResult

__all__ = ["EXTRAS_LIMIT", "EXTRAS_WARNING", "NormalisedResult", "ReturnRefused", "record_of"]

EXTRAS_WARNING = 64 * 1024
"""Bytes of encoded extras above which a warning is recorded."""
EXTRAS_LIMIT = 1024 * 1024
"""Bytes of encoded extras above which the step fails, where the host's settings name no other limit."""

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


@value_class
class NormalisedResult:
    """The recorded form of a returned value.

    :param extras_json: a JSON object in ASCII, without tags; empty if there are no extras
    :param has_result: always True: a call that returned has a result
    :param warnings: sentences to record with it
    """

    rows_affected: int | None = None
    extras_json: bytes = b""
    has_result: bool = True
    warnings: tuple[str, ...] = ()


def record_of(result: StepResult, *, max_extras_bytes: int = EXTRAS_LIMIT) -> NormalisedResult:
    """Validate and encode a result.

    :param max_extras_bytes: the limit of the encoded extras
    :raises ReturnRefused: with the path of the value that cannot be recorded, or with size and limit
    """
    rows = _count(result.rows_affected)
    extras: Any = result.extras
    if extras is None:
        return NormalisedResult(rows_affected=rows)
    if not isinstance(extras, dict):
        if not isinstance(extras, Mapping):
            raise ReturnRefused(f"extras is {type(extras).__name__}, expected a dict")
        extras = dict(extras)
    if not extras:
        return NormalisedResult(rows_affected=rows)
    try:
        encoded = dumps_plain(extras, path="extras").encode("ascii")
    except ValueCodecError as error:
        raise ReturnRefused(f"the returned value cannot be kept: {error}") from None
    return NormalisedResult(
        rows_affected=rows, extras_json=encoded, warnings=_size_warnings(len(encoded), max_extras_bytes)
    )


def _count(rows: Any) -> int | None:
    if rows is None:
        return None
    if isinstance(rows, bool) or not isinstance(rows, int):
        raise ReturnRefused(f"rows_affected is {type(rows).__name__}, expected int or None")
    plain = int.__index__(rows)
    if not _INT64_MIN <= plain <= _INT64_MAX:
        raise ReturnRefused("rows_affected is beyond 64 bits, expected an int from -2**63 to 2**63 - 1")
    return plain


def _size_warnings(size: int, limit: int) -> tuple[str, ...]:
    if size > limit:
        message = f"the extras take {size:,} bytes, over the limit of {limit:,}: {_ADVICE}"
        raise ReturnRefused(message, reason_code="result_too_large")
    if size > EXTRAS_WARNING:
        return (f"the extras take {size:,} bytes, expected at most {EXTRAS_WARNING:,}: {_ADVICE}",)
    return ()
