"""The errors that end a host, each with the exit code of its process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nomaflow_project.reading.regular_files import reason_of

if TYPE_CHECKING:
    from nomaflow_project.reading.problems import Problem


class HostError(Exception):
    """Raised when a host cannot continue. Its text is for the person who started it.

    :ivar exit_code: the exit code of the process
    """

    exit_code = os.EX_SOFTWARE


class ProjectError(HostError):
    """Raised when a project, or the command line that names it, cannot be used at all.

    :ivar problem: what is wrong, where, and the way out
    """

    exit_code = os.EX_CONFIG

    def __init__(self, problem: Problem, *, folder: Path = Path()) -> None:
        """Build the message from place, problem and way out.

        :param folder: the folder that the problem's file is relative to
        """
        said = ": ".join(part for part in (str(folder / problem.place), problem.path, problem.message) if part)
        super().__init__(f"{said}\n  fix: {problem.fix}")
        self.problem = problem


class HostBusy(HostError):
    """Raised when another process is already this host."""

    exit_code = os.EX_TEMPFAIL


class LeftoverAlive(HostError):
    """Raised when a process of an earlier life of this host cannot be killed."""

    exit_code = os.EX_TEMPFAIL


class StateUnwritable(HostError, OSError):
    """Raised when a host cannot write in its state directory, as on a full disk.

    During the start it ends the host, with an exit code after which the service manager starts it again. A later
    failure to record a new reaper is treated like any other OSError: the host tries again.
    """

    def __init__(self, directory: Path, error: OSError) -> None:
        """Name the directory, the cause and the way out."""
        super().__init__(
            f"the host's state cannot be written to {str(directory)!r}: {reason_of(error)}\n"
            "  fix: free disk space, or make the directory writable for the host's user; then start the host again"
        )


class ProtocolUnsupported(HostError):
    """Raised when kernel and host have no version of the protocol in common."""

    exit_code = os.EX_PROTOCOL

    def __init__(self, *, spoken: str, minimum: str, maximum: str, version: str) -> None:
        """Take both ranges; those of the kernel are empty if it did not say."""
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
        self.exit_code = os.EX_TEMPFAIL if taken else 0


class NotJoined(HostError):
    """Raised when a host has no identity that it could show to a kernel on TCP, or cannot get one.

    :ivar problem: what is wrong, in one sentence
    :ivar fix: the way out
    """

    exit_code = os.EX_CONFIG
    JOIN = "on the kernel's machine: nomaflow token create --host NAME; with its output: nomaflow host DIR --join FILE"

    def __init__(self, problem: str, *, fix: str = "", exit_code: int = os.EX_CONFIG) -> None:
        """Build the message from problem and way out, by default that of joining."""
        fix = fix or self.JOIN
        super().__init__(f"{problem}\n  fix: {fix}")
        self.problem = problem
        self.fix = fix
        self.exit_code = exit_code
