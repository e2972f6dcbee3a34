"""Runs the command line as its users do: in a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Command", "Done", "command_in"]

Command = Callable[..., Awaitable["Done"]]


@dataclass(frozen=True, slots=True)
class Done:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str


def command_in(folder: Path) -> Command:
    """Return a function that runs the command in a directory."""

    async def run(*arguments: str, env: dict[str, str] | None = None, stdin: str = "") -> Done:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "nomaflow_cli",
            *arguments,
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin.encode())
        return Done(process.returncode or 0, out.decode(), err.decode())

    return run
