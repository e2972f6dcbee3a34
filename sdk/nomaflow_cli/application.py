"""The typer application: all commands in one place, with one way to end."""

from __future__ import annotations

import errno
import itertools
import os
import sys
from collections.abc import Sequence
from typing import cast

import typer

from nomaflow_cli.commands import (
    backup,
    call,
    check,
    cron,
    doctor,
    hosts,
    init,
    jobs,
    logs,
    pause,
    processes,
    runs,
    service,
    store,
    trigger,
    version,
)
from nomaflow_cli.errors import CliError, ExitCode
from nomaflow_cli.output import print_error

__all__ = ["build", "run"]

_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_HELP = """Run, watch and cancel an organisation's operational jobs.

Start with: nomaflow init DIR, then nomaflow up DIR, then nomaflow run JOB --follow.
"""


_GROUPS = (
    init,
    processes,
    check,
    jobs,
    trigger,
    runs,
    logs,
    hosts,
    pause,
    cron,
    call,
    backup,
    store,
    doctor,
    service,
    version,
)
"""In the order of the help."""


def build() -> typer.Typer:
    """Return the application with all its commands."""
    app = typer.Typer(
        name="nomaflow",
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"auto_envvar_prefix": "NOMAFLOW", "help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for group in _GROUPS:
        group.register(app)
    return app


def _root() -> None:
    """Run, watch and cancel an organisation's operational jobs."""


_root.__doc__ = _HELP


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    _fill_standard_streams()
    as_json = _wants_json(arguments)
    usage_error = cast("type[Exception]", typer.BadParameter.__base__)
    try:
        answer = build()(args=list(arguments), prog_name="nomaflow", standalone_mode=False)
        sys.stdout.flush()
    except CliError as error:
        print_error(error, as_json=as_json)
        return error.exit_code
    except usage_error as error:
        print_error(_as_cli_error(error), as_json=as_json)
        return ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as in `nomaflow logs RUN | head`. Python would complain again at exit.
        _discard_output()
        return ExitCode.FAILED
    except OSError as error:
        if error.errno not in _CANNOT_WRITE or error.filename is not None:
            raise
        _discard_output()
        print_error(CliError(f"the output cannot be written: {error.strerror}", reason="UNWRITABLE"), as_json=as_json)
        return ExitCode.FAILED
    return answer if isinstance(answer, int) else 0


def _fill_standard_streams() -> None:
    """Open the null device for each closed standard stream, so that no socket gets its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            # The lowest free number is taken, and all lower ones are open by now.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _as_cli_error(error: Exception) -> CliError:
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "nomaflow"
    text = (text[:1].lower() + text[1:]).rstrip(".")
    return CliError(text or "nothing to do", fix=f"see {path} --help")


def _wants_json(arguments: Sequence[str]) -> bool:
    """Return True if errors are printed for a program, even those found before the options are read."""
    given = list(arguments)
    pairs = itertools.pairwise(given)
    if any(option in ("-o", "--output") and value == "json" for option, value in pairs):
        return True
    if any(one in ("-ojson", "--output=json", "-o=json") for one in given):
        return True
    return os.environ.get("NOMAFLOW_OUTPUT") == "json"
