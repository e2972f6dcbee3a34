"""The error that ends a command."""

from __future__ import annotations

from nomaflow_cli.exit_codes import ExitCode


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
