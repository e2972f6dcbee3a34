"""Command lines and exit codes of ``init``, ``kernel``, ``host`` and the store's tool."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from cli_command import Command
from fake_kernel import FakeKernel
from nomaflow_cli.commands.processes import _hung_up
from nomaflow_cli.errors import CliError
from nomaflow_cli.store_tool import run_store_tool
from nomaflow_cli.up.supervising import ProjectSupervisor


async def test_init_here_names_no_directory(command: Command) -> None:
    """In the working directory the next commands need no path and no change of directory."""
    made = await command("init", ".")
    assert "now: nomaflow up\nand in another terminal, here: nomaflow run cleanup --follow" in made.out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("init", ""), "an argument"),
        (("up", ""), "an argument"),
        (("pause", ""), "an argument"),
        (("pause", "--host", ""), "--host"),
        (("resume", "--host="), "--host"),
        (("check", "--trust", ""), "--trust"),
        (("runs", "--token="), "--token"),
        (("kernel", ".", "--store", ""), "--store"),
        (("run", "nightly", "--key", ""), "--key"),
        (("run", "nightly", "--token=nft1.secret", "-p", "api_key=secret", ""), "an argument"),
    ],
)
async def test_an_empty_value_is_not_one_that_is_not_given(
    kernel: FakeKernel, command: Command, tmp_path: Path, words: tuple[str, ...], named: str
) -> None:
    """It is that of a variable that is not set; else it would mean everything, the working directory, or a login."""
    done = await command(*words, env={"NOMAFLOW_ADDRESS": kernel.address})
    assert (done.code, done.err.splitlines()[0]) == (2, f"✘ {named} is empty")
    assert (kernel.requests, list((tmp_path / "cwd").iterdir())) == ({}, [])


@pytest.mark.parametrize("words", ["pause", "resume", "alerts mute --why x", "alerts unmute"])
async def test_a_job_and_a_host_at_once_are_refused(command: Command, tmp_path: Path, words: str) -> None:
    """There is no mute of both, so that an end of it would say that nothing was muted."""
    (tmp_path / "cwd" / "jobs.toml").touch()
    done = await command(*words.split(), "nightly", "--host", "team")
    assert (done.code, "JOB and --host cannot be used together" in done.err) == (2, True), done


@pytest.mark.parametrize("environ", [{}, {"NOMAFLOW_PROFILE": "prod"}])
async def test_a_backup_is_not_one_of_another_kernel_than_named(
    command: Command, tmp_path: Path, environ: dict[str, str]
) -> None:
    """The history of the project that one happens to be in would pass for that of the kernel of a login."""
    (tmp_path / "cwd" / "jobs.toml").touch()
    named = () if environ else ("--profile", "prod")
    done = await command("backup", "history.db", *named, "-o", "json", env=environ)
    assert (done.code, json.loads(done.err)["error"]["reason"]) == (2, "OTHER_MACHINE")


_INTERRUPTED = """
import os, signal, sys

import nomaflow_cli

class Finder:
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

module = sys.argv.pop(1)
sys.meta_path.insert(0, Finder())
sys.exit(nomaflow_cli.main())
"""
"""Runs a command, with Ctrl-C as it begins to load a module."""


@pytest.mark.parametrize("part", ["kernel", "host"])
@pytest.mark.parametrize("given", ["--nonsense=1", "--project={project} --nonsense=1", "{project} --nonsense=1"])
async def test_a_parts_own_options_are_not_taken_for_the_directory(
    command: Command, tmp_path: Path, part: str, given: str
) -> None:
    """Each reaches the part, which names it, wherever the project comes from."""
    project = tmp_path / "cwd"
    (project / "nomaflow.toml").write_text("")
    done = await command(part, *given.format(project=project).split())
    assert "no such option: --nonsense; --help lists the options" in done.err
    assert "no such directory" not in done.err


@pytest.mark.parametrize(("part", "option"), [("kernel", "--store"), ("host", "--join")])
@pytest.mark.parametrize("given", [["--help"], ["-h"], ["somewhere", "--help"]])
async def test_help_tells_of_a_parts_own_options(command: Command, part: str, option: str, given: list[str]) -> None:
    """Anywhere, also outside a project."""
    done = await command(part, *given)
    assert done.code == 0
    assert f"usage: nomaflow {part}" in done.out
    assert option in done.out


@pytest.mark.parametrize("part", ["kernel", "host"])
async def test_the_variable_names_the_project(command: Command, tmp_path: Path, part: str) -> None:
    """Outside a project, as for every other command."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "nomaflow.toml").write_text("[broken\n")
    done = await command(part, env={"NOMAFLOW_PROJECT": str(tmp_path / "there")})
    assert (done.code, "line 1" in done.err or "nomaflow.toml:1" in done.err) == (78, True), done.err


def test_a_store_tool_that_is_killed_is_not_to_be_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal is named, and who may have sent it."""
    tool = tmp_path / "python"
    tool.write_text("#!/bin/sh\nkill -9 $$\n")
    tool.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tool))
    with pytest.raises(CliError, match="the copy was killed by SIGKILL") as caught:
        run_store_tool("copy", project=tmp_path)
    assert "pip install" not in caught.value.fix


def test_a_hang_up_means_a_reload_until_the_other_end_of_the_terminal_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGHUP is passed on before that, and is a request to stop after; nothing is written to the terminal any more."""
    outside, inside = os.openpty()
    asked, redirected, handled = os.isatty, list[int](), list[signal.Signals]()
    monkeypatch.setattr(os, "isatty", lambda _fd: asked(inside))
    monkeypatch.setattr(os, "dup2", lambda _from, to: redirected.append(to))
    supervisor = cast("ProjectSupervisor", SimpleNamespace(handle=handled.append))
    _hung_up(supervisor)
    os.close(outside)
    _hung_up(supervisor)
    os.close(inside)
    assert handled == [signal.SIGHUP, signal.SIGTERM]
    assert redirected == [1, 2]


@pytest.mark.parametrize("part", ["kernel", "host", "console", "alerts", "launchers"])
def test_ctrl_c_during_the_start_of_a_part_prints_nothing(tmp_path: Path, part: str) -> None:
    """The start takes a second or two, most of it for imports: this one is interrupted while it imports gRPC."""
    (tmp_path / "nomaflow.toml").write_text(
        '[alerts]\nchannels.hook = { type = "webhook", url = "http://127.0.0.1:9/" }\n'
        '[launcher]\nhosts = ["team"]\nshapes = [{ name = "small" }]\n'
    )
    command = [sys.executable, "-m", f"nomaflow_{part}", "--project", str(tmp_path)]
    environ = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("grpc._compression" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        told = [line for line in process.stderr.read().splitlines() if not line.startswith("import time:")]
    assert (process.returncode, told) == (-signal.SIGINT, [])


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (["kernel", "--store", "sqlite:///x.db"], "nomaflow_api.credential_signs"),
        (["version"], "nomaflow_api"),
        (["jobs"], "nomaflow_cli.errors"),
    ],
)
def test_ctrl_c_while_a_command_loads_its_modules_prints_nothing(words: list[str], module: str) -> None:
    """Whatever the first words of the command need is loaded first: it has not done anything yet."""
    command = [sys.executable, "-c", _INTERRUPTED, module, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
