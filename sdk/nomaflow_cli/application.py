"""Runs one command: loads the module that has it, and turns every end into an exit code."""

from __future__ import annotations

import copy
import errno
import importlib
import io
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import typer
from typer.models import CommandInfo, TyperInfo

from nomaflow_api.import_freeze import imports_frozen
from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.invocation import APP
from nomaflow_cli.output import discard_output, print_error
from nomaflow_cli.parsers import require_values

_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_PANELS: Mapping[str, Mapping[str, str]] = {
    "Projects": {
        "init": "init", "up": "processes", "check": "check", "call": "call", "doctor": "doctor", "version": "doctor",
    },
    "Jobs and runs": {
        "jobs": "jobs", "job": "jobs", "run": "trigger", "replay": "trigger", "runs": "runs", "show": "runs",
        "logs": "attempts", "inspect": "attempts", "cancel": "runs", "pause": "jobs", "resume": "jobs",
        "schedule": "check", "cron": "check", "events": "events",
    },
    "Code": {"hosts": "hosts", "callables": "hosts", "reload": "hosts"},
    "Processes": {
        "kernel": "processes", "host": "processes", "console": "processes", "alerts": "alerts",
        "launcher": "processes", "service": "service",
    },
    "History": {"backup": "history", "restore": "history", "store": "history"},
    "Access and secrets": {
        "login": "login", "logout": "login", "token": "token", "pki": "pki", "audit": "audit", "secret": "secret",
    },
}  # fmt: skip
"""The commands below each heading of the help, in its order, each with the module that has it."""
_MODULES = {name: module for panel in _PANELS.values() for name, module in panel.items()}


@APP.callback()
def _root() -> None:
    """Run, watch and cancel an organisation's operational jobs.

    Start with: nomaflow init DIR, then nomaflow up DIR, then nomaflow run JOB --follow.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    _fill_standard_streams()
    _spell_out_foreign_characters()
    as_json = _wants_json(arguments)
    usage_error = cast("type[Exception]", typer.BadParameter.__base__)
    try:
        require_values(arguments)
        answer = _application(arguments)(args=list(arguments), prog_name="nomaflow", standalone_mode=False)
        sys.stdout.flush()
    except CliError as error:
        print_error(error, as_json=as_json)
        return error.exit_code
    except usage_error as error:
        told = _as_cli_error(error, arguments)
        if str(told) or as_json:  # a command group without a command has printed its help, and says no more
            print_error(told, as_json=as_json)
        return ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        discard_output(1)  # its reader has gone, as in `nomaflow logs RUN | head`
        return ExitCode.FAILED
    except OSError as error:
        if error.errno not in _CANNOT_WRITE or error.filename is not None:
            raise
        discard_output(1)
        print_error(CliError(f"the output cannot be written: {error.strerror}", reason="UNWRITABLE"), as_json=as_json)
        return ExitCode.FAILED
    return answer if isinstance(answer, int) else 0


def _application(arguments: Sequence[str]) -> typer.Typer:
    """Load the named command and return an application of it alone; of all for the help, and for an unknown name."""
    named = _named_command(arguments)
    with imports_frozen():
        for module in dict.fromkeys(_MODULES[name] for name in named or _MODULES):
            importlib.import_module(f"nomaflow_cli.commands.{module}")
    if named:
        alone = copy.copy(APP)  # typer makes each option of each command that an application has
        alone.registered_commands = [each for each in APP.registered_commands if each.name in named]
        alone.registered_groups = [each for each in APP.registered_groups if each.name in named]
        return alone
    panels = {name: panel for panel, names in _PANELS.items() for name in names}
    registered: Sequence[CommandInfo | TyperInfo] = [*APP.registered_commands, *APP.registered_groups]
    for command in registered:
        command.rich_help_panel = panels[str(command.name)]
    APP.registered_commands.sort(key=lambda command: list(panels).index(str(command.name)))
    return APP


def _fill_standard_streams() -> None:
    """Open the null device for each closed standard stream, so that no socket gets its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            # The lowest free number is taken, and all lower ones are open by now.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def _spell_out_foreign_characters() -> None:
    """Write what an encoding lacks as an escape, such as ``\\u2714``, and read what is no text in it likewise."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _as_cli_error(error: Exception, arguments: Sequence[str]) -> CliError:
    text = _of_number(error) or (error.format_message() if hasattr(error, "format_message") else str(error))
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else " ".join(["nomaflow", *_named_command(arguments)])
    text = (text[:1].lower() + text[1:]).rstrip(".")
    return CliError(text, fix=f"see {path} --help")


def _of_number(error: Any) -> str:
    """Return the message for an option whose value is no number, or one out of bounds; empty for another error."""
    option: Any = getattr(error, "param", None)
    least, most = (getattr(getattr(option, "type", None), name, None) for name in ("min", "max"))
    given, found, _ = getattr(error, "message", "").partition(" is not ")
    if least is None or not found:
        return ""
    bounds = f"of at least {least:,}" if most is None else f"from {least:,} to {most:,}"
    return f"{option.get_error_hint(error.ctx)}: expected a whole number {bounds}, got {given}"


def _named_command(arguments: Sequence[str]) -> list[str]:
    """Return the first argument if it is a command, else nothing."""
    return [name for name in arguments[:1] if name in _MODULES]


def _wants_json(arguments: Sequence[str]) -> bool:
    """Return True if errors are printed for a program, even those found before the options are read."""
    options = {"-ojson", "--output=json", "-o=json"}
    pairs = itertools.pairwise(arguments)
    return (
        any(option in ("-o", "--output") and value == "json" for option, value in pairs)
        or not options.isdisjoint(arguments)
        or os.environ.get("NOMAFLOW_OUTPUT") == "json"
    )
