"""The host's process as an engine starts it: its command, its variables, its log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from nomaflow_api.private_file import create_private
from nomaflow_launchers.engines.engine import EngineError
from nomaflow_launchers.planning import Order
from nomaflow_project.models.launcher_section import LauncherSection

_LOG = logging.getLogger(__name__)
_DAY_SECONDS = 86_400.0
_LOG_SECONDS = 90 * _DAY_SECONDS
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


class InstanceLogs:
    """The logs of a project's instances, a file each, on the disk that the machines share. Old ones are removed.

    :param longest_seconds: the longest life of an instance: one that has written nothing for as long has ended
    """

    def __init__(self, project: Path, *, longest_seconds: float) -> None:
        self._folder = _folder(project)
        self._kept_seconds = _LOG_SECONDS + longest_seconds
        self._looked_at = -math.inf

    def path(self, engine_id: str) -> Path:
        """Return the path of an instance's log."""
        return self._folder / f"{engine_id}.log"

    async def prepare(self) -> None:
        """Make the folder if it is missing; once a day, remove from it what is too old.

        :raises EngineError: if it cannot be made
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"the folder of logs {str(self._folder)!r} cannot be made: {error.strerror}") from None
        if time.monotonic() - self._looked_at > _DAY_SECONDS:
            self._looked_at = time.monotonic()
            await asyncio.to_thread(self._remove_old)  # there may be many, on a slow disk

    def _remove_old(self) -> None:
        before = time.time() - self._kept_seconds
        try:
            for file in self._folder.glob("*.log"):
                with contextlib.suppress(FileNotFoundError):  # somebody else removes them, too
                    if file.stat().st_mtime < before:
                        file.unlink()
        except OSError as error:
            _LOG.warning("old logs in %r cannot be removed: %s", str(self._folder), error.strerror)


def _folder(project: Path) -> Path:
    return project / ".nomaflow" / "launcher"


def keep_join_string(project: Path, join: str) -> Path:
    """Write a join string into a new file that only the launcher's user can read, and return its path.

    Who uses it moves it away. Those that nobody has used in time are no longer good, and are removed here.

    :raises EngineError: if it cannot be written
    """
    folder = _folder(project) / "join"
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
