"""Failures of an attempt before its callable is called, and values that do not fit."""

from __future__ import annotations


class Misfit(ValueError):
    """Raised when a value does not fit; its text states the expected form."""


class PreparationFailed(Exception):
    """Raised when an attempt cannot be started and the host is not at fault.

    :ivar reason_code: explained in docs/reason_codes.md
    :ivar message: one sentence for the run's record; there is no traceback to show
    """

    def __init__(self, reason_code: str, message: str) -> None:
        """Take the reason and a sentence about it."""
        super().__init__(message)
        self.reason_code = reason_code
        self.message = message
