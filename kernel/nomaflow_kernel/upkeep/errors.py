"""The one error of maintenance."""

from __future__ import annotations

__all__ = ["MaintenanceRefused"]


class MaintenanceRefused(Exception):
    """Raised when an operation is refused; nothing was changed.

    :param reason: stable, for programs
    :param fix: the way out
    """

    def __init__(self, message: str, *, reason: str, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.fix = fix
