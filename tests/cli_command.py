"""Runs the command line as its users do: in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import warm_start

__all__ = ["CLI_MODULES", "Answer", "Command", "command_in", "run_as_given", "run_command"]

CLI_MODULES = (
    "nomaflow_cli.*", "nomaflow.*", "nomaflow_project.*", "nomaflow_telemetry.*",
    "nomaflow_project.models.settings_file:SettingsFile", "nomaflow_project.jobs.definitions:JobDefinition",
    "nomaflow_project.jobs.definitions:StepDefinition", "google.protobuf.descriptor_pb2", "pydantic.dataclasses",
    "rapidfuzz.process", "tree_sitter_toml", "typer.rich_utils", "rich.markdown",
)  # fmt: skip
"""What commands import, some of it only for a page of help, a check or a word that is misspelt."""
_SECONDS = 240.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The object it printed."""
        return json.loads(self.out)


Command = Callable[..., Awaitable[Answer]]


def run_command(*arguments: str, folder: Path, stdin: str = "", environ: Mapping[str, str] | None = None) -> Answer:
    """Run the command line in a folder, with wide columns.

    :param environ: what its environment has in addition to that of the tests
    """
    env = {**os.environ, "COLUMNS": "200", **(environ or {})}
    return run_as_given(*arguments, folder=folder, stdin=stdin, env=env)


def run_as_given(*arguments: str, folder: Path, env: Mapping[str, str], stdin: str = "") -> Answer:
    """Run the command line in a folder, with this environment and no other."""
    program = ["nomaflow_cli", *arguments]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        process: subprocess.Popen[bytes] | warm_start.Forked
        if warm_start.as_at_start(env):
            streams = (given, out, err)
            process = warm_start.fork(
                program, modules=CLI_MODULES, cwd=folder, env=env, streams=streams, path=str(folder)
            )
        else:
            command = [sys.executable, "-m", *program]
            process = subprocess.Popen(command, cwd=folder, env=env, stdin=given, stdout=out, stderr=err)
        try:
            code = process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        out.seek(0)
        err.seek(0)
        return Answer(code=code, out=out.read().decode(), err=err.read().decode())


def command_in(folder: Path) -> Command:
    """Return a function that runs the command in a directory."""

    async def run(*arguments: str, env: dict[str, str] | None = None, stdin: str = "") -> Answer:
        return await asyncio.to_thread(run_command, *arguments, folder=folder, stdin=stdin, environ=env)

    return run
