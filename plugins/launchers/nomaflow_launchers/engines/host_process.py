"""The host's process as an engine starts it: its command, its variables, its log."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from nomaflow_launchers.engines.engine import Order
from nomaflow_project.models.launcher_section import LauncherSection

__all__ = ["host_command", "log_folder", "passed_on"]

_ALWAYS_PASSED = ("PATH", "HOME", "USER", "LANG")


def host_command(section: LauncherSection, *, project: Path, order: Order) -> list[str]:
    """Return the command, but for what only the machine knows: the state's folder, the labels, the end of its time."""
    shape = order.shape
    return [
        *(section.python or sys.executable, "-P", "-m", "nomaflow_host"),
        *("--project", str(project), "--name", order.host),
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
