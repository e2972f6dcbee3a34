"""Every command line that a page shows is one that the command line understands."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime

import pytest

import cli_command
from nomaflow_cli.application import run
from nomaflow_console.assets import STATIC
from nomaflow_console.forms.commands import break_command, replay_command, run_command
from nomaflow_console.forms.merging import Wanted
from nomaflow_console.forms.sending import Options

EVERYTHING = Wanted(params={"day": "2026-11-26", "n": 3}, op_kwargs={"score": {"batch": 7}}, steps={"load": False})
_PROGRAMS = ("console", "host")
"""Commands that become another program."""
END = datetime(2026, 11, 27, 9, tzinfo=UTC)
MADE = [
    run_command("report", EVERYTHING, Options(preset="full", log_level="DEBUG", allow_overlap=True)),
    replay_command("run_1", EVERYTHING, Options(start="failed", current_definition=True, allow_overlap=True)),
    replay_command("run_1", Wanted(), Options(start="score", log_level="DEBUG")),
    break_command("pause", job="report", host="", why="holiday", span="4h"),
    break_command("pause", job="", host="demo", why="holiday", span="", until=END),
    break_command("alerts mute", job="report", host="", why="holiday", span="4h"),
]
IN_TEMPLATES = [
    found
    for template in sorted((STATIC.parent / "templates").rglob("*.html"))
    for found in re.findall(r'command\("(nomaflow [^"]*)"(?: ~ [a-z_.]+)?\)', template.read_text(encoding="utf-8"))
]


def is_understood(line: str) -> bool:
    """Return whether the command line knows the command and its options: it reads them before it prints its help."""
    words = [*shlex.split(line)[1:], "--help"]
    return (cli_command.run_command(*words, folder=STATIC).code if words[0] in _PROGRAMS else run(words)) == 0


@pytest.mark.parametrize("line", MADE)
def test_a_command_of_a_form_is_one(line: str) -> None:
    """With every option that a form has."""
    assert is_understood(line)


def test_an_option_that_there_is_not_is_noticed() -> None:
    """And the commands of templates are found, so that a new one is tried too."""
    assert not is_understood("nomaflow replay run_1 --current-definition")
    assert len(IN_TEMPLATES) > 5


@pytest.mark.parametrize("line", IN_TEMPLATES)
def test_a_command_of_a_template_is_one(line: str) -> None:
    """It ends with what the template adds: an id, or a name."""
    assert is_understood(line + "that-one" if line.endswith(" ") else line)
