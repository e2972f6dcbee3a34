"""Odd surroundings of a command: its directory is gone, its readers have left, its input is no text."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from cli_command import Command
from fake_kernel import FakeKernel, make_run
from nomaflow_api.v1 import run_pb2
from nomaflow_cli.application import run
from nomaflow_cli.kernel_access import is_elsewhere

PATIENCE = 60.0
NOMAFLOW = (sys.executable, "-P", "-m", "nomaflow_cli")


@pytest.mark.parametrize(
    "words",
    [
        ("check", "."),
        ("up", "."),
        ("backup", "history.db", "--project", "PROJECT"),
        ("restore", "history.db", "PROJECT"),
        ("service", "uninstall", "--root", "image"),
    ],
)
def test_a_working_directory_that_is_gone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """It is needed for relative paths only, and a command that has one says so, without a traceback."""
    (tmp_path / "gone").mkdir()
    (tmp_path / "jobs.toml").touch()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run([word.replace("PROJECT", str(tmp_path)) for word in words]) == 2
    assert "the working directory cannot be found" in capsys.readouterr().err


def test_input_that_is_no_text_is_a_wrong_line() -> None:
    """A batch goes on after a line that no encoding has."""
    asked = b'\xff\n{"expr": "0 0 * * *", "from": "2026-01-01T00:00:00Z"}\n'
    environ = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}  # as in a locale such as en_US.UTF-8
    done = subprocess.run([*NOMAFLOW, "cron", "--batch"], env=environ, input=asked, capture_output=True, check=False)
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (done.returncode, set(first)) == (0, {"error"}), done.stderr
    assert second == {"fires": ["2026-01-02T00:00:00Z"]}


async def test_a_follower_ends_with_its_reader(kernel: FakeKernel) -> None:
    """``nomaflow run JOB --follow | head -1`` ends at the next change of the run, though it logs nothing."""
    words = ("run", "nightly", "--follow", "--address", kernel.address)
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(*NOMAFLOW, *words, stdin=DEVNULL, stdout=writer, stderr=PIPE)
    try:
        os.close(writer)
        assert b"nightly QUEUED" in await asyncio.to_thread(os.read, reader, 4096)
        os.close(reader)
        await kernel.requested("WatchRun")
        async with kernel.changed:  # it has shown what the watch begins with once it asks for the run again
            shown = len(kernel.requests["GetRun"])
            await kernel.changed.wait_for(lambda: len(kernel.requests["GetRun"]) > shown + 1)
        attempts = kernel.runs["run_1"].steps.add(name="load").attempts
        attempts.add(attempt=1, state=run_pb2.ATTEMPT_STATE_RUNNING)
        async with asyncio.timeout(PATIENCE / 4):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, said) == (1, b"")


async def test_an_error_that_nobody_reads_keeps_its_exit_code(kernel: FakeKernel) -> None:
    """``nomaflow show RUN 2> >(head -0)`` fails as it would have."""
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(
        *NOMAFLOW, "show", "run_none", "--address", kernel.address, stdin=DEVNULL, stdout=PIPE, stderr=writer
    )
    os.close(writer)
    await process.communicate()
    assert process.returncode == 2


@pytest.mark.parametrize("words", [("version",), ("cron", "@daily"), ("--help",)])
def test_output_that_nobody_takes_is_no_traceback(words: tuple[str, ...]) -> None:
    """A reader that has gone is no news, and a full disk is told in a line, whatever the command."""
    reader, writer = os.pipe()
    os.close(reader)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    unread = subprocess.run([*NOMAFLOW, *words], env=environ, stdout=writer, stderr=PIPE, check=False)
    os.close(writer)
    assert (unread.returncode, unread.stderr) == (1, b"")
    with Path("/dev/full").open("w") as full:
        command = [*NOMAFLOW, *words]
        unwritten = subprocess.run(command, env=environ, stdout=full, stderr=PIPE, text=True, check=False)
    assert (unwritten.returncode, unwritten.stderr.count("\n")) == (1, 1), unwritten.stderr
    assert "the output cannot be written: No space left on device" in unwritten.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("pause", "nightly", "--for", f"{'9' * 12}d"),
        ("alerts", "mute", "--why", "x", "--for", f"{'9' * 7}d"),
        ("token", "create", "--user", "ann", "--role", "viewer", "--for", f"{'9' * 400}d"),
        ("runs", "--since", f"{'9' * 20}d"),
    ],
)
async def test_a_span_beyond_the_calendar_is_told(kernel: FakeKernel, command: Command, words: tuple[str, ...]) -> None:
    """It is a mistake of the person, with the option's name."""
    done = await command(*words, env={"NOMAFLOW_ADDRESS": kernel.address})
    assert (done.code, f"{words[-2]}: " in done.err, "longer than 1,000 years" in done.err) == (2, True, True), done


@pytest.mark.parametrize(
    "words",
    [
        ("schedule", "--from", "9999-12-30", "--days", "9"),
        ("schedule", "--live", "--from", "9999-12-30", "--days", "9"),
        ("logs", "run_1", "--level", "9" * 5000),
        ("audit", "verify", "--anchor", f"{'9' * 5000}:{'0' * 64}"),
    ],
)
async def test_a_number_beyond_all_bounds_is_a_mistake(
    kernel: FakeKernel, command: Command, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """It is told in a line, as any other one."""
    (tmp_path / "cwd" / "jobs.toml").touch()
    done = await command(*words, env={"NOMAFLOW_ADDRESS": kernel.address})
    assert (done.code, "Traceback" in done.err) == (2, False), done


@pytest.mark.parametrize("columns", ["0", "-5", "wide"])
async def test_an_odd_width_is_no_width(kernel: FakeKernel, command: Command, columns: str) -> None:
    """A table is then as wide as in any pipe."""
    kernel.runs["run_1"] = make_run("run_1", "SUCCEEDED")
    done = await command("runs", env={"NOMAFLOW_ADDRESS": kernel.address, "COLUMNS": columns})
    assert (done.code, "nightly" in done.out) == (0, True), done


async def test_half_a_project_is_not_left(command: Command, tmp_path: Path) -> None:
    """``init`` can be repeated after whatever it stumbled over is gone."""
    project = tmp_path / "team"
    project.mkdir()
    (project / "plugins").touch()
    refused = await command("init", str(project))
    assert (refused.code, [each.name for each in project.iterdir()]) == (2, ["plugins"]), refused
    (project / "plugins").unlink()
    assert (await command("init", str(project))).code == 0


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (("init", "x" * 300), "→ name another directory"),
        (("login", "none"), "→ name a file that you may read"),
        (("secret", "keygen", "none/team.key"), "→ name a file in a directory that you may write"),
    ],
)
async def test_a_path_that_cannot_be_used_leads_to_one_that_can(
    command: Command, words: tuple[str, ...], way_out: str
) -> None:
    """A closed directory is met like a name that is too long: no traceback."""
    done = await command(*words)
    assert (done.code, "Traceback" in done.err, way_out in done.err) == (2, False, True), done


async def test_alerts_that_do_not_answer_are_there(command: Command, tmp_path: Path) -> None:
    """A process that is stopped, or whose channel takes long, need not be started once more."""
    state = tmp_path / "cwd" / ".nomaflow"
    state.mkdir()
    (state / "alerts.address").write_text(f"unix:{tmp_path}/a.sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/a.sock")
        silent.listen()
        done = await command("alerts", "open")
        (tmp_path / "cwd" / "nomaflow.toml").write_text('[alerts.channels.ops]\nurl = "json://localhost"\n')
        asked = await command("doctor")
    assert (done.code, "have not answered within 5 s" in done.err) == (5, True), done
    assert "have not answered within 5 s: nobody is told of problems" in asked.out
    assert "no alerts process runs" not in asked.out


def test_a_stopped_kernel_with_many_callers_is_there(tmp_path: Path) -> None:
    """A command learns at once that no more fit into its queue."""
    (tmp_path / ".nomaflow").mkdir()
    path = tmp_path / "k.sock"
    (tmp_path / ".nomaflow" / "address").write_text(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as kernel, socket.socket(socket.AF_UNIX) as caller:
        kernel.bind(str(path))
        kernel.listen(0)
        caller.connect(str(path))
        assert not is_elsewhere(tmp_path)
