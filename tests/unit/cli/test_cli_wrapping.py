"""Lines on narrow terminals: they keep their indentation, and what is to be pasted stays whole."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from cli_command import run_command
from fake_kernel import make_run
from nomaflow.client.values import RunView
from nomaflow_api.v1.message_codec import decode
from nomaflow_cli.output import console
from nomaflow_cli.pages.access import tokens_page
from nomaflow_cli.pages.runs import run_page, started_page
from nomaflow_cli.wrapping import broken

PATIENCE = 60.0


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("✘ one two three four five", ["✘ one two three four", "  five"]),
        ("  → one two three four", ["  → one two three", "    four"]),
        ("  in jobs.toml:3 › jobs[0]", ["  in jobs.toml:3 ›", "     jobs[0]"]),
        ("  → mend it, then: nomaflow reload a", ["  → mend it, then:", "    nomaflow reload a"]),
        ("  → nomaflow run a --param b=1; and look", ["  → nomaflow run a --param b=1;", "    and look"]),
        ("  → see `nomaflow hosts`, or ask", ["  → see", "    `nomaflow hosts`,", "    or ask"]),
        ("  → write: [host] a = ['b', 'c']; go", ["  → write:", "    [host] a = ['b', 'c'];", "    go"]),
        ("  → give: --trust 'a b', or go", ["  → give:", "    --trust 'a b',", "    or go"]),
        ("  → the host's own", ["  → the host's own"]),
        ("/a/path/that/is/longer/than/a/line", ["/a/path/that/is/longer/than/a/line"]),
        ("", [""]),
    ],
)
def test_a_line_is_broken_between_words_and_not_in_a_command(line: str, parts: list[str]) -> None:
    """Its further lines begin below its first word."""
    assert list(broken(line, 20)) == parts


@pytest.mark.parametrize("columns", [60, 80])
def test_a_page_is_legible_on_a_narrow_terminal(tmp_path: Path, columns: int) -> None:
    """No line of a problem begins at the left but its first, and the command of its fix is on one line."""
    project = tmp_path / "a project with a name that is so long that no command which names it fits"
    project.mkdir()
    (project / "jobs.toml").write_text("jobs = [{ id = 'a', host = 'another', steps = [{ callable = 'm:f' }] }]\n")
    (project / "nomaflow.toml").write_text("[host]\nname = 'team'\n")
    done = run_command("check", str(project), "--no-import", folder=tmp_path, environ={"COLUMNS": str(columns)})
    problem = done.out.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    assert [line[0] for line in problem] == ["!"] + [" "] * (len(problem) - 1), done.out
    assert any(line.endswith('[host] accept_jobs_from = ["team"]') for line in problem), done.out


def test_the_next_command_on_the_page_of_a_run_is_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command is not broken, whatever stands around it; nor is the one that a list without tokens names."""
    monkeypatch.setenv("COLUMNS", "40")
    run_id = f"run_{'1' * 26}"
    waits, done = (decode(RunView, make_run(run_id, state, log_lines=3)) for state in ("QUEUED", "SUCCEEDED"))
    for page in (started_page(waits), started_page(done), run_page(done), tokens_page([], [])):
        console().print(page)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    logs = f"nomaflow logs {run_id}"
    assert [line for line in lines if "nomaflow" in line] == [
        f"  {logs} --follow",
        f"{logs}",
        f"{logs}",
        "nomaflow token create",
    ]


def test_an_error_is_legible_on_a_narrow_terminal(tmp_path: Path) -> None:
    """The way out of a path with blanks can be pasted, however narrow the terminal is."""
    missing = tmp_path / "not there yet, and with a long name"
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "nomaflow_cli", "check", str(missing)]
    environ = {**os.environ, "COLUMNS": "60", "NO_COLOR": "1"}
    process = subprocess.Popen(command, stderr=slave, stdout=subprocess.DEVNULL, env=environ, cwd=tmp_path)
    os.close(slave)
    assert process.wait(PATIENCE) == 2
    lines = os.read(master, 65_536).decode().splitlines()
    os.close(master)
    assert lines[0] == "✘ no such directory:"
    assert lines[-1] == f"    nomaflow init '{missing}'"
    assert all(line.startswith("  ") for line in lines[1:]), lines
