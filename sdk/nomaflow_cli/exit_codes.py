"""Exit codes of the command, and the code of a run by its state."""

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
