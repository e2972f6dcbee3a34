"""The Unix socket of the alerts, and the file that tells where it is."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from nomaflow.client.alerts import alerts_address_file
from nomaflow_alerts.settings import CannotServe
from nomaflow_api.private_file import write_private
from nomaflow_project.models.kernel_addresses import unfit_socket


def socket_path(project: Path, environ: Mapping[str, str]) -> Path:
    """Return the path of the socket, in a directory that only this user can enter; a left one is removed.

    :raises CannotServe: if that directory is not this user's, cannot be made, or has too long a path
    """
    path = project / ".nomaflow" / "run" / "alerts.sock"
    if unfit_socket(str(path)):
        runtime = environ.get("XDG_RUNTIME_DIR")
        folder = Path(runtime) / "nomaflow" if runtime else Path(f"/tmp/nomaflow-{os.geteuid()}")  # noqa: S108
        path = folder / f"{hashlib.sha256(os.fsencode(project)).hexdigest()[:16]}-alerts.sock"
        if told := unfit_socket(str(path)):
            raise CannotServe("; ".join(told))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.parent.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            why = f"{str(path.parent)!r} is not a directory of this user; run it as the project's owner"
            raise CannotServe(why, exit_code=os.EX_TEMPFAIL)
        if stat.S_IMODE(found.st_mode) & 0o077:
            path.parent.chmod(0o700)
        # Whoever had it is dead: the file's lock is ours.
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CannotServe(f"cannot make {str(path)!r}: {error.strerror}", exit_code=os.EX_TEMPFAIL) from None
    return path


def publish_socket(project: Path, path: Path) -> None:
    """Write the file that tells clients where the socket is, atomically.

    :raises CannotServe: if it cannot be written
    """
    file = alerts_address_file(project)
    try:
        write_private(file, f"unix:{path}\n".encode())
    except OSError as error:
        raise CannotServe(f"cannot write {str(file)!r}: {error.strerror}", exit_code=os.EX_TEMPFAIL) from None


def forget_socket(project: Path) -> None:
    """Remove that file."""
    with contextlib.suppress(OSError):
        alerts_address_file(project).unlink()
