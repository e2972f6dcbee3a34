"""Every command line that a page shows is one that the command line understands."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime

import click
import pytest
import typer

from nomaflow_cli.application import application
from nomaflow_console.assets import STATIC
from nomaflow_console.forms.commands import break_command, replay_command, run_command
from nomaflow_console.forms.merging import Wanted

EVERYTHING = Wanted(params={"day": "2026-11-26", "n": 3}, op_kwargs={"score": {"batch": 7}}, steps={"load": False})
END = datetime(2026, 11, 27, 9, tzinfo=UTC)
MADE = [
    run_command("report", EVERYTHING, preset="full", log_level="DEBUG", allow_overlap=True),
    replay_command("run_1", EVERYTHING, start="failed", current_definition=True, allow_overlap=True),
    replay_command("run_1", Wanted(), start="score", log_level="DEBUG"),
    break_command("pause", job="report", host="", why="holiday", span="4h"),
    break_command("pause", job="", host="demo", why="holiday", span="", until=END),
    break_command("alerts mute", job="report", host="", why="holiday", span="4h"),
]
IN_TEMPLATES = [
    found
    for template in sorted((STATIC.parent / "templates").rglob("*.html"))
    for found in re.findall(r'command\("(nomaflow [^"]*)"(?: ~ [a-z_.]+)?\)', template.read_text(encoding="utf-8"))
]


def parsed(line: str) -> None:
    """Parse a command line as the program does, and do nothing.

    :raises click.UsageError: if it is none
    """
    words, command = shlex.split(line)[1:], typer.main.get_command(application())
    context = command.make_context("nomaflow", words, resilient_parsing=False)
    while isinstance(command, click.Group):
        _, found, words = command.resolve_command(context, [*context.protected_args, *context.args])
        assert found is not None
        command, context = found, found.make_context(found.name, list(words), parent=context)


@pytest.mark.parametrize("line", MADE)
def test_a_command_of_a_form_is_one(line: str) -> None:
    """With every option that a form has."""
    parsed(line)


def test_commands_of_templates_are_some() -> None:
    """Each is found by its text, so that a new one is tried too."""
    assert len(IN_TEMPLATES) > 5


@pytest.mark.parametrize("line", IN_TEMPLATES)
def test_a_command_of_a_template_is_one(line: str) -> None:
    """It ends with what the template adds: an id, or a name."""
    parsed(line + "that-one" if line.endswith(" ") else line)
