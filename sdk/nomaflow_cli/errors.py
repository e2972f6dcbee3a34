"""Exit codes, and the error that ends a command."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class ExitCode(enum.IntEnum):
    """The exit codes of the command; docs/cli.md has the table."""

    SUCCEEDED = 0
    FAILED = 1
    USAGE = 2
    CANCELED = 3
    SKIPPED = 4
    UNREACHABLE = 5
    INTERRUPTED = 130

    @classmethod
    def of(cls, good: object) -> ExitCode:
        """Return the code of a command that found everything good, or not."""
        return cls.SUCCEEDED if good else cls.FAILED

    @classmethod
    def of_run(cls, state: str) -> ExitCode:
        """Return the code of a command by the state of its run."""
        return RUN_EXIT_CODES.get(state, cls.FAILED)


RUN_EXIT_CODES: Mapping[str, ExitCode] = {
    "SUCCEEDED": ExitCode.SUCCEEDED,
    "FAILED": ExitCode.FAILED,
    "CANCELED": ExitCode.CANCELED,
    "SKIPPED": ExitCode.SKIPPED,
    "MISSED": ExitCode.SKIPPED,
    "QUEUED": ExitCode.SUCCEEDED,
    "RUNNING": ExitCode.SUCCEEDED,
}
"""The exit code of a command by the state of its run; a run is open only if nobody waited for it."""


class CliError(Exception):
    """Raised by a command that cannot do its task; shown as one screen, never with a traceback.

    :param message: description of the error
    :param reason: stable, for programs
    :param fix: the way out, may be empty
    """

    def __init__(
        self, message: str, *, reason: str = "USAGE", fix: str = "", exit_code: ExitCode = ExitCode.USAGE
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.fix = fix
        self.exit_code = exit_code
