"""The host's process as an engine starts it: its command, its variables, its log."""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from nomaflow_api.private_file import create_private
from nomaflow_launchers.engines.engine import EngineError
from nomaflow_launchers.planning import Order
from nomaflow_project.models.launcher_section import LauncherSection

JOIN_SECONDS = 7 * 86_400
"""How long a join string waits to be used: as long as an instance may wait for a machine."""

_ALWAYS_PASSED = ("PATH", "HOME", "USER", "LANG")


def host_command(section: LauncherSection, *, project: Path, order: Order) -> list[str]:
    """Return the command, but for what only the machine knows: the state's folder, the labels, the end of its time."""
    python = section.python or sys.executable
    return [python, "-P", "-m", "nomaflow_host", "--project", str(project), *host_flags(section, order)]


def host_flags(section: LauncherSection, order: Order) -> list[str]:
    """Return the flags that are the same on every engine."""
    shape = order.shape
    return [
        *("--name", order.host),
        *("--capacity", f"cpu={shape.cpu:g},memory_mb={shape.memory_mb},gpus={shape.gpus}"),
        *("--idle-exit-seconds", f"{section.idle_exit_seconds:g}"),
        *(("--for-attempt", order.attempt_key) if order.attempt_key else ()),
    ]


def passed_on(section: LauncherSection, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the launcher that an instance gets. The launcher's token is not among them."""
    return {name: environ[name] for name in (*_ALWAYS_PASSED, *section.pass_env) if name in environ}


def log_folder(project: Path) -> Path:
    """Return the folder of the logs of a project's instances, on the disk that the machines share."""
    return project / ".nomaflow" / "launcher"


def made_log_folder(project: Path) -> Path:
    """Return the folder of the logs, and make it if it is missing.

    :raises EngineError: if it cannot be made
    """
    folder = log_folder(project)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(f"the folder of logs {str(folder)!r} cannot be made: {error.strerror}") from None
    return folder


def keep_join_string(project: Path, join: str) -> Path:
    """Write a join string into a new file that only the launcher's user can read, and return its path.

    Who uses it moves it away. Those that nobody has used in time are no longer good, and are removed here.

    :raises EngineError: if it cannot be written
    """
    folder = log_folder(project) / "join"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its instance has just moved it away
                if file.stat().st_mtime < time.time() - JOIN_SECONDS:
                    file.unlink()
        made = folder / secrets.token_hex(8)
        create_private(made, f"{join}\n".encode())
    except OSError as error:
        raise EngineError(f"a join string cannot be kept in {str(folder)!r}: {error.strerror}") from None
    return made
