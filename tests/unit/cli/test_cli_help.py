"""The help, and what a command says to words that it does not understand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cli_command import Command
from fake_kernel import FakeKernel

WIDTH = {"COLUMNS": "80"}


async def test_the_help_has_one_line_for_each_command(command: Command) -> None:
    """Every command is below a heading, and nothing is longer than the 80 columns of a terminal."""
    helped = await command("--help", env=WIDTH)
    rows = re.findall(r"^│ ([a-z ]{9,10})  \S", helped.out, re.MULTILINE)
    assert len(rows) >= 35
    assert [row for row in rows if not row.strip()] == []
    headings = re.findall(r"^╭─ ([A-Za-z ]+) ─", helped.out, re.MULTILINE)
    assert headings[:3] == ["Options", "Projects", "Jobs and runs"]
    assert "Commands" not in headings


@pytest.mark.parametrize("words", [(), ("alerts",)])
async def test_a_group_without_a_command_prints_its_help_alone(command: Command, words: tuple[str, ...]) -> None:
    """The help is not followed by an error that refers to it; a program gets one."""
    done = await command(*words, env=WIDTH)
    assert (done.code, done.err) == (2, "")
    assert "Usage: nomaflow" in done.out
    told = await command(*words, env={**WIDTH, "NOMAFLOW_OUTPUT": "json"})
    assert json.loads(told.err)["error"]["reason"] == "USAGE"


async def test_help_names_only_the_variables_of_shared_options(command: Command) -> None:
    """Those of a command's own options follow a rule, so they do not double the length of each page."""
    helped = await command("runs", "--help", env=WIDTH)
    assert "NOMAFLOW_OUTPUT" in helped.out
    assert "NOMAFLOW_RUNS" not in helped.out
    assert "[JOB]" in helped.out
    assert (await command("runs", env={**WIDTH, "NOMAFLOW_RUNS_LIMIT": "x"})).err.startswith("✘ '--limit'")


async def test_an_option_without_its_value_leads_to_the_help_of_its_command(command: Command) -> None:
    """The help of the whole program does not have the option."""
    done = await command("run", "nightly", "-p")
    assert (done.code, done.err.splitlines()[1]) == (2, "  → see nomaflow run --help")


async def test_a_time_that_is_none_is_named(command: Command) -> None:
    """In words of the command line, not of Python's parser."""
    done = await command("runs", "--since", "yesterday", "--address", "unix:/x")
    assert done.err.splitlines()[0] == "✘ --since: not a time: 'yesterday'"


async def test_a_file_is_no_project(command: Command, tmp_path: Path) -> None:
    """The message does not tell to create a project where a file is."""
    (tmp_path / "jobs.toml").touch()
    done = await command("check", str(tmp_path / "jobs.toml"))
    assert done.code == 2
    assert done.err.splitlines() == [
        f"✘ not a directory: '{tmp_path}/jobs.toml'",
        f"  → name the project's directory, such as {tmp_path}",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("hosts --address unix:/other forget team", "--address stands before 'forget'"),
        ("audit -n 5 verify", "--tail stands before 'verify'"),
    ],
)
async def test_an_option_before_a_command_of_a_group_is_not_lost(
    kernel: FakeKernel, command: Command, words: str, told: str
) -> None:
    """Behind `hosts --address OTHER`, `forget` would turn to the kernel of the project or of the environment."""
    done = await command(*words.split(), env={"NOMAFLOW_ADDRESS": kernel.address})
    assert (done.code, told in done.err, kernel.requests) == (2, True, {}), done
