"""The kernel's tool for store files, run as its own process, since the command line knows no database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.formatting import exit_words
from nomaflow_project.reading.store_password import STORE_VARIABLE

_CLEANING_SECONDS = 10.0


def run_store_tool(
    work: str, *arguments: str, project: Path, store: str = "", shows_progress: bool = False
) -> dict[str, Any]:
    """Return the tool's result.

    :param work: ``backup``, ``restore``, ``inspect``, ``certificate``, ``copy`` or ``reclaim``
    :param store: the store's URL; empty for the one in the project's settings
    :param shows_progress: let it write to the terminal
    :raises CliError: if it refuses, with its reason, or fails
    """
    command = [sys.executable, "-P", "-m", "nomaflow_kernel.upkeep", work, *arguments]
    tool = subprocess.Popen(
        [*command, "--project", str(project)],
        env={**os.environ, STORE_VARIABLE: store} if store else None,  # it may have a password
        stdout=subprocess.PIPE,
        stderr=None if shows_progress else subprocess.PIPE,
    )
    try:
        said, errors = tool.communicate()
    except KeyboardInterrupt:
        _end(tool)
        raise
    try:
        answer: dict[str, Any] = json.loads(said)
    except ValueError:
        tail = (errors or b"").decode("utf-8", "replace").strip().splitlines()[-5:]
        words, fix = exit_words(tool.returncode), "find out who killed it (journalctl -k), and begin again"
        if tool.returncode >= 0:
            fix = "install the same version of nomaflow with its kernel: pip install 'nomaflow[kernel]'"
        raise CliError(
            "\n".join([f"the {work} {'was' if tool.returncode < 0 else 'ended with'} {words}", *tail]),
            reason="TOOL_FAILED",
            fix=fix,
            exit_code=ExitCode.FAILED,
        ) from None
    refused = answer.get("refused")
    if refused is not None:
        raise CliError(refused["message"], reason=refused["reason"], fix=refused["fix"], exit_code=ExitCode.FAILED)
    found: dict[str, Any] = answer["done"]
    return found


def _end(tool: subprocess.Popen[bytes]) -> None:
    """Interrupt the tool, as a terminal has already done, and let it remove unfinished files."""
    tool.send_signal(signal.SIGINT)
    try:
        tool.communicate(timeout=_CLEANING_SECONDS)
    except subprocess.TimeoutExpired:
        tool.kill()
        tool.communicate()
