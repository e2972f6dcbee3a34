"""The errors that end a host, each with the exit code of its process."""

from __future__ import annotations

from pathlib import Path

EX_SOFTWARE = 70
EX_TEMPFAIL = 75
EX_PROTOCOL = 76
EX_CONFIG = 78


class HostError(Exception):
    """Raised when a host cannot continue. Its text is for the person who started it.

    :ivar exit_code: the exit code of the process
    """

    exit_code = EX_SOFTWARE


class ProjectError(HostError):
    """Raised when a project, or the command line that names it, cannot be used at all.

    :ivar file: the file or directory concerned
    :ivar name: short form of `file` for messages about a known project: the file's name without its folder
    :ivar path: the key in the file, such as ``host.max_sync``; empty for none
    :ivar line: counts from 1; None if unknown
    :ivar fix: the way out
    """

    exit_code = EX_CONFIG

    def __init__(self, problem: str, *, file: str, fix: str, line: int | None = None, path: str = "") -> None:
        """Build the message from file, problem and way out."""
        place = file if line is None else f"{file}:{line}"
        super().__init__(f"{place}: {problem}\n  fix: {fix}")
        self.file = file
        self.name = file.rpartition("/")[2]
        self.path = path
        self.line = line
        self.problem = problem
        self.fix = fix


class HostBusy(HostError):
    """Raised when another process is already this host, or a leftover of an earlier one cannot be removed."""

    exit_code = EX_TEMPFAIL


class StateUnwritable(HostError, OSError):
    """Raised when a host cannot write in its state directory, as on a full disk.

    During the start it ends the host, with an exit code after which the service manager starts it again. A later
    failure to record a new reaper is treated like any other OSError: the host tries again.
    """

    def __init__(self, directory: Path, error: OSError) -> None:
        """Name the directory, the cause and the way out."""
        reason = (error.strerror or type(error).__name__).lower()
        super().__init__(
            f"the host's state cannot be written to {str(directory)!r}: {reason}\n"
            "  fix: free disk space, or make the directory writable for the host's user; then start the host again"
        )


class ProtocolUnsupported(HostError):
    """Raised when kernel and host have no version of the protocol in common.

    :ivar minimum: the lowest version that the kernel speaks; empty if it did not say
    :ivar maximum: the highest
    """

    exit_code = EX_PROTOCOL

    def __init__(self, *, spoken: str, minimum: str, maximum: str, version: str) -> None:
        """Take both ranges, to say which side to upgrade."""
        wanted = f"{minimum} to {maximum}" if minimum or maximum else "another one"
        super().__init__(
            f"this host (nomaflow {version}) speaks protocol {spoken}, the kernel requires {wanted}\n"
            "  fix: install the same nomaflow release for host and kernel"
        )


class NotNeeded(HostError):
    """Raised when the kernel has no use for an instance that was started for one attempt.

    It exits with 0 if nothing is left to do, since that is no failure, otherwise like a host that already runs.
    """

    def __init__(self, problem: str, *, taken: bool) -> None:
        super().__init__(problem)
        self.exit_code = EX_TEMPFAIL if taken else 0


class NotJoined(HostError):
    """Raised when a host has no identity that it could show to a kernel on TCP, or cannot get one.

    :ivar problem: what is wrong, in one sentence
    :ivar fix: the way out
    """

    exit_code = EX_CONFIG
    _JOIN = "on the kernel's machine: nomaflow token create --host NAME; with its output: nomaflow host DIR --join FILE"

    def __init__(self, problem: str, *, fix: str = "", exit_code: int = EX_CONFIG) -> None:
        """Build the message from problem and way out, by default that of joining."""
        fix = fix or self._JOIN
        super().__init__(f"{problem}\n  fix: {fix}")
        self.problem = problem
        self.fix = fix
        self.exit_code = exit_code
