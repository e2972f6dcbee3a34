"""The place of a Unix socket: a directory that others cannot enter, and no socket that somebody else answers on."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from nomaflow_kernel.domain.errors import CannotStart
from nomaflow_project.models.kernel_addresses import unfit_socket
from nomaflow_project.reading.regular_files import reason_of

_PROBE_SECONDS = 2.0


def default_socket(project: Path, environ: Mapping[str, str]) -> str:
    """Return the address of a project's own Unix socket; its directory is created with mode 0700.

    If the path in the project is too long for a socket, or not usable as an address, the socket is in a private
    directory of the user.

    :raises CannotStart: if that directory is not this user's, cannot be created, or has too long a path
    """
    own = project / ".nomaflow" / "run" / "kernel.sock"
    if unfit_socket(str(own)) is None:
        private_directory(own.parent)
        return f"unix:{own}"
    runtime = environ.get("XDG_RUNTIME_DIR")
    directory = Path(runtime) / "nomaflow" if runtime else Path(f"/tmp/nomaflow-{os.geteuid()}")  # noqa: S108  # its owner and mode are checked
    private_directory(directory)
    name = hashlib.sha256(os.fsencode(project)).hexdigest()[:16]
    path = f"{directory / name}.sock"
    if told := unfit_socket(path):
        raise CannotStart("; ".join(told))
    return f"unix:{path}"


def private_directory(path: Path) -> None:
    """Create a directory that only this user can enter, or make an existing one private.

    :raises CannotStart: if it belongs to somebody else, is not a directory, or cannot be created
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise CannotStart(
                f"{str(path)!r} does not belong to this user or is not a directory; run the kernel as its owner, "
                "change its owner, or choose another address"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise CannotStart(f"cannot make the directory {str(path)!r}: {reason_of(error)}") from None


def refuse_answered(address: str) -> None:
    """Check that nobody answers on a Unix socket; nothing is changed.

    :raises CannotStart: if somebody answers, or if that is unknown
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(address.removeprefix("unix:"))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as error:
            why = f"cannot tell whether a kernel listens on {address!r}: {error}"
            raise CannotStart(why, exit_code=os.EX_TEMPFAIL) from None
    why = f"another kernel listens on {address!r} already; stop that one first"
    raise CannotStart(why, exit_code=os.EX_TEMPFAIL)


def claim_socket(address: str) -> None:
    """Make sure that a Unix socket can be bound: remove the socket of a dead kernel.

    :raises CannotStart: if somebody answers on it, the path is not a socket, or its directory is open to others
    """
    path = Path(address.removeprefix("unix:"))
    _check_private(path.parent)
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket() or path.is_symlink():
        raise CannotStart(f"{str(path)!r} exists and is not a socket; remove it, or choose another address")
    refuse_answered(address)
    path.unlink(missing_ok=True)


def _check_private(directory: Path) -> None:
    """Check the directory, the only guard of a Unix socket: gRPC makes the socket itself open to all."""
    try:
        found = directory.stat()
    except OSError as error:
        raise CannotStart(f"cannot use the directory {str(directory)!r} for a socket: {reason_of(error)}") from None
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise CannotStart(
            f"the directory {str(directory)!r} is accessible to other users, who could use a socket in it; "
            f"run `chmod 700 {directory}`, or choose another address"
        )
