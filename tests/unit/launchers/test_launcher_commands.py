"""Processes of an engine that end before they are spoken to, and commands that start while gRPC is at work."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nomaflow_launchers.engines.engine import EngineError
from nomaflow_launchers.engines.ray import _Driver
from nomaflow_launchers.engines.slurm import Slurm
from nomaflow_project.models.launcher_section import LauncherSection


def squeue_of(folder: Path) -> Path:
    """Return the folder, with a squeue in it that knows one job."""
    squeue = folder / "squeue"
    squeue.write_text("#!/bin/sh\necho '7|RUNNING|0|nomaflow/store/team/default'\n", "utf-8")
    squeue.chmod(0o700)
    return folder


def test_a_command_that_ends_at_once_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's commands may end before the launcher has looked after their input: what they said counts."""
    monkeypatch.setenv("PATH", f"{squeue_of(tmp_path)}:{os.environ['PATH']}")
    start = asyncio.create_subprocess_exec

    async def ended(*command: str, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*command, **options)
        await process.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", ended)
    engine = Slurm(LauncherSection(engine="slurm"), project=tmp_path, environ=os.environ)
    listed = asyncio.run(engine.listed("store"))
    assert [(each.engine_id, each.host) for each in listed] == [("7", "team")]


def test_a_driver_that_has_ended_is_told() -> None:
    """The process that speaks to Ray may be killed between two requests: the next one is an error of the engine."""

    async def ask_the_dead() -> None:
        driver = await _Driver.start(os.environ)
        await driver.kill()
        with pytest.raises(EngineError, match="the connection to Ray has ended"):
            await driver.ask("listed")

    asyncio.run(ask_the_dead())


def test_commands_start_while_the_kernel_is_called(tmp_path: Path) -> None:
    """gRPC's fork handlers crash a child now and then (13 of 300 on uvloop): no command of a launcher runs them."""
    (tmp_path / "nomaflow.toml").write_text(
        "[launcher]\nengine = 'slurm'\nhosts = ['team']\nkernel = '127.0.0.1:1'\n", "utf-8"
    )
    command = [sys.executable, str(Path(__file__).with_name("launcher_beside_calls.py")), str(tmp_path)]
    path = f"{squeue_of(tmp_path)}:{os.environ['PATH']}"
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
