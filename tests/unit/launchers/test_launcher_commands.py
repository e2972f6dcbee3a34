"""Processes of an engine that end before they are spoken to, on the event loop that a launcher runs on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from nomaflow_api import event_loop
from nomaflow_launchers.engines.engine import EngineError
from nomaflow_launchers.engines.ray import _Driver
from nomaflow_launchers.engines.slurm import Slurm
from nomaflow_project.models.launcher_section import LauncherSection


def test_a_command_that_ends_at_once_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's commands may end before the launcher has looked after their input: what they said counts."""
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho '7|RUNNING|0|nomaflow/store/team/default'\n", "utf-8")
    squeue.chmod(0o700)
    start = asyncio.create_subprocess_exec

    async def ended(*command: str, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*command, **options)
        await process.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", ended)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    engine = Slurm(LauncherSection(engine="slurm"), project=tmp_path, environ=os.environ)
    listed = event_loop.run(engine.listed("store"))
    assert [(each.engine_id, each.host) for each in listed] == [("7", "team")]


def test_a_driver_that_has_ended_is_told() -> None:
    """The process that speaks to Ray may be killed between two requests: the next one is an error of the engine."""

    async def ask_the_dead() -> None:
        driver = await _Driver.start(os.environ)
        await driver.kill()
        with pytest.raises(EngineError, match="the connection to Ray has ended"):
            await driver.ask("listed")

    event_loop.run(ask_the_dead())
