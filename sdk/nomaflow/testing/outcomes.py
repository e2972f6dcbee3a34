"""The outcome of a callable, for assertions in tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

__all__ = ["CallableOutcome"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CallableOutcome:
    """The outcome of a callable, as it would be in the run's record.

    :param state: ``SUCCEEDED``, ``FAILED`` or ``CANCELED``
    :param rows_affected: the count that would be added to the run's total
    :param extras: the other keys, as the record returns them
    :param error: the short error text, empty if there is none
    :param reason_code: the reason's code, empty for ``SUCCEEDED``
    :param exception: the exception that the callable raised; None if it raised none, or was never called
    :param warnings: notes on the result, such as large extras
    :param progress: each reported (done, total, message)
    :param records: the log records of the call
    """

    state: str
    rows_affected: int | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    reason_code: str = ""
    exception: BaseException | None = None
    warnings: tuple[str, ...] = ()
    progress: tuple[tuple[float, float | None, str], ...] = ()
    records: tuple[logging.LogRecord, ...] = field(default=(), repr=False)

    @property
    def logs(self) -> list[str]:
        """The messages of the log records."""
        return [record.getMessage() for record in self.records]
