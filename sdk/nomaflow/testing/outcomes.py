"""What a test looks at after a callable ran."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

__all__ = ["CallableOutcome"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CallableOutcome:
    """How a callable ended, as the run's record would have it.

    :param state: ``SUCCEEDED``, ``FAILED`` or ``CANCELED``
    :param rows_affected: the count that would be rolled up
    :param extras: the other keys, as they come back from the record
    :param error: the short error text, empty where there is none
    :param reason_code: the reason's code, empty for ``SUCCEEDED``
    :param exception: what the callable raised; None where it did not, or was never called
    :param warnings: notes on the result, such as large extras
    :param progress: each (done, total, message) it reported
    :param records: the log records made while it ran
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
