"""The by-hand session: init, up, and every command against a real kernel and a real host."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from cli_command import Command, command_in
from waiting import PATIENCE

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

SLOW_JOB = """
[[jobs]]
id = "slow"

[[jobs.steps]]
type = "python"
name = "sleep"
callable = "myapp.slow:sleep"

[[jobs]]
id = "broken"
shedule = "* * * * *"

[[jobs.steps]]
type = "python"
callable = "myapp.cleanup:purge_old_sessions"
"""
SLOW_CODE = '''"""A step that says what it does and takes its time."""

import asyncio
import logging


async def sleep(*, ctx, rounds: int = 600, **_):
    for number in range(rounds):
        logging.getLogger("slow").info("round %d", number)
        ctx.progress(number, rounds)
        await asyncio.sleep(0.1)
    return {"rows_affected": rounds}
'''


@dataclass(kw_only=True)
class Up:
    """A running ``nomaflow up -o json`` and the commands of a second terminal."""

    process: asyncio.subprocess.Process
    project: Path
    command: Command
    ready: dict[str, Any]

    async def line(self, **wanted: Any) -> dict[str, Any]:
        """Return the next line of ``up`` that has these values."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while True:
                text = await self.process.stdout.readline()
                assert text, "up has ended"
                line: dict[str, Any] = json.loads(text)
                if all(line.get(key) == value for key, value in wanted.items()):
                    return line

    async def json(self, *arguments: str, code: int = 0) -> Any:
        """Run a command with ``-o json`` and return its object."""
        done = await self.command(*arguments, "-o", "json")
        assert done.code == code, done.err
        return json.loads(done.out)


async def start_up(project: Path) -> Up:
    """Start ``up`` and wait until it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "nomaflow_cli",
        "up",
        str(project),
        "-o",
        "json",
        "--no-console",
        stdout=asyncio.subprocess.PIPE,
    )
    started = Up(process=process, project=project, command=command_in(project), ready={})
    started.ready = await started.line(type="ready")
    return started


async def stop_up(started: Up) -> None:
    """Stop ``up`` if it still runs, and check that nothing is left of the project."""
    if started.process.returncode is None:
        started.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE):
        await started.process.communicate()
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if str(started.project) in (process.info["cmdline"] or [])
    ]
    assert left == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """Make a project with ``init``, give it a slow and a broken job, and start ``up``."""
    project = tmp_path_factory.mktemp("by-hand") / "team"
    done = await command_in(project.parent)("init", str(project))
    assert done.code == 0
    with (project / "jobs.toml").open("a") as jobs:
        jobs.write(SLOW_JOB)
    (project / "plugins" / "myapp" / "slow.py").write_text(SLOW_CODE)
    started = await start_up(project)
    yield started
    await stop_up(started)


async def test_a_session_by_hand(up: Up) -> None:
    """Every command does what it says; the broken job is named and the others keep working."""
    assert up.ready["jobs"] == ["broken", "cleanup", "slow"]
    run = await up.json("run", "cleanup", "--wait")
    assert (run["state"], [step["state"] for step in run["steps"]]) == ("SUCCEEDED", ["SUCCEEDED"] * 2)
    assert run["rows_affected"] == sum(step["rows_affected"] for step in run["steps"])
    assert await up.json("show", run["run_id"]) == run
    lines = [json.loads(text) for text in (await up.command("logs", run["run_id"], "-o", "json")).out.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert "wrote 500 sessions" in [line["message"] for line in lines]
    jobs = {job["job_id"]: job for job in (await up.json("jobs"))["jobs"]}
    assert jobs["cleanup"]["next_fires"]
    assert jobs["broken"]["valid"] is False
    assert jobs["broken"]["problems"][0]["path"] == "jobs[2].shedule"
    assert (await up.json("runs"))["runs"][0]["run_id"] == run["run_id"]
    [host] = (await up.json("hosts"))["hosts"]
    ready = up.ready["host"]["instances"][0]
    assert (host["state"], host["instances"][0]["pid"]) == ("ATTACHED", ready["pid"])
    refused = await up.command("run", "broken", "-o", "json")
    assert (refused.code, json.loads(refused.err)["error"]["reason"]) == (2, "JOB_DISABLED")
    unknown = await up.command("run", "claenup")
    assert unknown.code == 2
    assert "cleanup" in unknown.err
    again = await up.json("replay", run["run_id"], "--wait")
    assert (again["state"], again["replay_of"]) == ("SUCCEEDED", run["run_id"])
    by_hand = [await up.command(name) for name in ("jobs", "runs", "hosts")]
    assert all(done.code == 0 and "\x1b" not in done.out for done in by_hand)


async def test_a_run_is_canceled(up: Up) -> None:
    """``cancel --wait`` returns when the run is CANCELED, and who waits for the run exits with 3."""
    waiting = asyncio.create_task(up.command("run", "slow", "--follow", "-o", "json"))
    event = await up.line(type="event", job_id="slow", run_state="RUNNING")
    run = await up.json("cancel", event["run_id"], "--wait", "--why", "enough")
    assert (run["state"], run["cancel"]["why"]) == ("CANCELED", "enough")
    done = await waiting
    assert (done.code, json.loads(done.out.splitlines()[-1])["state"]) == (3, "CANCELED")


async def test_a_pause_holds_and_a_reload_serves(up: Up) -> None:
    """A paused job waits until it is resumed; a reload serves what was written; the audit has all three (V9)."""
    await up.json("pause", "cleanup", "--why", "audit")
    job = await up.json("job", "cleanup")
    assert job["pause"]["why"] == "audit"
    assert (await up.json("resume", "cleanup"))["was_paused"] is True
    (up.project / "plugins" / "myapp" / "slow.py").write_text(SLOW_CODE.replace("rounds: int = 600", "rounds: int = 3"))
    [outcome] = (await up.json("reload", code=1))["instances"]
    assert (outcome["accepted"], outcome["generation"]) == (True, 2)
    [problem] = outcome["problems"]
    assert problem["message"].startswith("job 'broken' is disabled: unknown key 'shedule'")
    rows = [json.loads(line) for line in (await up.command("audit", "-n", "9", "-o", "json")).out.splitlines()]
    told = {(row["principal"], row["action"], row["target"], row["outcome"]) for row in rows}
    done = (("Pause", "job:cleanup"), ("Resume", "job:cleanup"), ("ReloadHost", "*"))
    assert told >= {("owner", action, target, "ok") for action, target in done}
    run = await up.json("run", "slow", "--wait")
    assert run["rows_affected"] == 3
    (up.project / "plugins" / "myapp" / "slow.py").write_text(SLOW_CODE)
    await up.json("reload", code=1)


async def test_ctrl_c_without_a_terminal_detaches(up: Up) -> None:
    """SIGINT to a ``--follow`` without a terminal leaves the run running and says how to watch it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nomaflow_cli", "run", "slow", "--follow"),
        cwd=up.project,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    while b"round 1" not in await process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert b"detached; the run continues" in err
    [run] = (await up.json("runs", "slow", "--state", "RUNNING"))["runs"]
    await up.json("cancel", run["run_id"], "--wait")


async def test_a_second_up_of_a_project_is_refused(up: Up) -> None:
    """A project whose kernel runs cannot be started a second time; the first kernel keeps running."""
    done = await up.command("up", str(up.project), "-o", "json")
    assert done.code == 1
    assert json.loads(done.err)["error"]["reason"] == "PART_FAILED"
    assert (await up.json("run", "cleanup", "--wait"))["state"] == "SUCCEEDED"
