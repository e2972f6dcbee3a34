"""``nomaflow up``, ``kernel`` and ``host``."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import os
import shlex
import signal
import sys
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from nomaflow_cli.errors import CliError, ExitCode
from nomaflow_cli.invocation import CaOption, Invocation, local_command
from nomaflow_cli.output import console
from nomaflow_cli.project import read_settings, require_project

if TYPE_CHECKING:
    from nomaflow_cli.up import PartFailed, ProjectSupervisor

__all__ = ["register", "require_extra"]

_HELP = {"-h", "--help"}
_DRAIN_SECONDS = 30.0
_DRAIN_MARGIN = 10.0
_EXTRAS = {"kernel": ("sqlalchemy", "alembic", "pydantic"), "host": ("sqlalchemy", "pydantic")}

_Directory = Annotated[
    Path | None, typer.Argument(help="Project directory; default: found from the working directory.")
]
_Project = Annotated[
    Path | None,
    typer.Option(
        "--project", envvar="NOMAFLOW_PROJECT", help="Project directory; default: found from the working directory."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    passing = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command("up")(local_command(up))
    # The parts tell of their own options themselves.
    app.command("kernel", context_settings=passing, add_help_option=False)(kernel)
    app.command("host", context_settings=passing, add_help_option=False)(host)


def require_extra(name: str) -> None:
    """Return where the dependencies of a part are installed.

    :raises CliError: where one is missing
    """
    missing = [module for module in _EXTRAS[name] if importlib.util.find_spec(module) is None]
    if missing:
        raise CliError(
            f"the {name} is not installed: {', '.join(missing)} cannot be imported",
            reason="EXTRA_MISSING",
            fix=f"pip install 'nomaflow[{name}]'",
            exit_code=ExitCode.USAGE,
        )


def up(
    *,
    invocation: Invocation,
    directory: _Directory = None,
    address: Annotated[
        str, typer.Option("--address", help="Address that the kernel listens on; default: a Unix socket.")
    ] = "",
    store: Annotated[str, typer.Option("--store", help="The kernel's store; default: SQLite in .nomaflow/.")] = "",
    name: Annotated[str, typer.Option("--name", help="The host's name; default: [host] name of nomaflow.toml.")] = "",
    ca: CaOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Reload the host's code when a file is saved.")] = False,
    log_format: Annotated[str, typer.Option("--log-format", help="Format of the log files: text or json.")] = "",
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics", help="Address of the kernel's metrics, as 127.0.0.1:PORT; the host's use the next port."
        ),
    ] = "",
) -> None:
    """Run a project's kernel and host in the foreground. Ctrl-C drains and stops them."""
    require_extra("kernel")
    require_extra("host")
    project = require_project(directory or invocation.project)
    _require_state_folder(project)
    both = _given("--log-format", log_format)
    kernel_options = [*_given("--address", address), *_given("--store", store), *_given("--metrics", metrics), *both]
    host_options = [
        *_given("--name", name), *_given("--ca", str(ca or "")), *(["--watch"] if watch else []),
        *_given("--metrics", _next_port(metrics)), *both,
    ]  # fmt: skip
    asyncio.run(_up(project, kernel_options, host_options, ca=ca, as_json=invocation.as_json))


def _require_state_folder(project: Path) -> None:
    """Make the folder that kernel and host keep their state in, where it is not there.

    :raises CliError: where this user may not
    """
    folder = project / ".nomaflow"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        readable = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
        words = "" if readable else os.strerror(errno.EACCES)
    except OSError as error:
        words = error.strerror or str(error)
    if words:
        raise CliError(f"cannot write to {str(folder)!r}: {words}", reason="UNWRITABLE", fix=_writable_again(folder))


def _writable_again(folder: Path) -> str:
    try:
        if folder.parent.stat().st_uid == os.geteuid() != folder.stat().st_uid:
            return f"another user, such as root, created it: chown -R {os.geteuid()} {shlex.quote(str(folder))}"
    except OSError:
        pass
    return "run the command as the project's owner"


def _next_port(address: str) -> str:
    """Return the address of the host's metrics beside the kernel's. A malformed one is the kernel's to refuse."""
    place, _, port = address.rpartition(":")
    if not port.isdecimal():
        return address
    return f"{place}:{int(port) + 1}" if int(port) else address


def _given(option: str, value: str) -> list[str]:
    return [option, value] if value else []


async def _up(
    project: Path, kernel_options: Sequence[str], host_options: Sequence[str], *, ca: Path | None, as_json: bool
) -> None:
    from nomaflow_cli.up import JsonReporter, PartFailed, ProjectSupervisor, TextReporter

    reporter = JsonReporter() if as_json else TextReporter(console=console())
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    if sys.stdout.isatty():
        loop.add_signal_handler(signal.SIGHUP, _hung_up, signals)
    supervisor = ProjectSupervisor(
        project=project,
        reporter=reporter,
        kernel_options=tuple(kernel_options),
        host_options=tuple(host_options),
        ca=ca,
        drain_seconds=_drain_seconds(project) + _DRAIN_MARGIN,
    )
    loop.add_signal_handler(signal.SIGUSR1, supervisor.pass_on, signal.SIGUSR1)
    try:
        up_now = await _started(supervisor, signals)  # where that fails, nobody's steps are waited for
        try:
            if up_now:
                await supervisor.run_until(signals)
        finally:
            reporter.stopping()
    except PartFailed as error:
        raise _as_cli_error(error) from None
    finally:
        await supervisor.stop(signals)


def _hung_up(signals: asyncio.Queue[signal.Signals]) -> None:
    """Stop, where the terminal is gone, and stop writing to it; else SIGHUP means reload."""
    if _terminal_lives():
        signals.put_nowait(signal.SIGHUP)
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    signals.put_nowait(signal.SIGTERM)


def _terminal_lives() -> bool:
    try:
        termios.tcgetattr(1)
    except termios.error:
        return False
    return True


async def _started(supervisor: ProjectSupervisor, signals: asyncio.Queue[signal.Signals]) -> bool:
    """Return True once everything is up, False where a signal to stop came first; SIGHUP is passed on."""
    starting = asyncio.create_task(supervisor.start())
    while True:
        asked = asyncio.create_task(signals.get())
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            if asked.done():
                signals.put_nowait(asked.result())
            asked.cancel()
            await starting
            return True
        if asked.result() is not signal.SIGHUP:
            break
        supervisor.pass_on(signal.SIGHUP)
    starting.cancel()
    await asyncio.wait({starting})
    return False


def _drain_seconds(project: Path) -> float:
    """Return the host's own limit, so that it is not killed before it."""
    try:
        host = read_settings(project).get("host", {})
        return float(host.get("drain_seconds", _DRAIN_SECONDS))
    except (OSError, ValueError, TypeError, AttributeError):
        return _DRAIN_SECONDS  # A malformed file is the parts' own error to report.


def _as_cli_error(error: PartFailed) -> CliError:
    words = "\n".join(error.tail)
    return CliError(
        f"{error}\n{words}" if words else str(error),
        reason="PART_FAILED",
        fix=f"see its log: {error.log}",
        exit_code=ExitCode.FAILED,
    )


def kernel(context: typer.Context, directory: _Directory = None, project: _Project = None) -> None:
    """Run only a project's kernel. Other options, such as --address and --store, are passed to it."""
    require_extra("kernel")
    from nomaflow_cli.up import kernel_command

    root, options = _project_and_options(directory, project, context.args)
    _become(kernel_command(root, *options))


def host(context: typer.Context, directory: _Directory = None, project: _Project = None) -> None:
    """Run only a project's host. Other options, such as --kernel ADDRESS and --watch, are passed to it."""
    require_extra("host")
    from nomaflow_cli.up import host_command

    root, options = _project_and_options(directory, project, context.args)
    _become(host_command(root, *options))


def _project_and_options(directory: Path | None, project: Path | None, rest: Sequence[str]) -> tuple[Path, list[str]]:
    """Tell the directory from the part's own options: where no directory is given, the first of them is taken for it.

    :raises CliError: where there is no project, and it is not help that is wanted
    """
    if _HELP & {str(directory), *rest}:
        return Path(), ["--help"]
    if directory is not None and str(directory).startswith("-"):
        return require_project(project), [str(directory), *rest]
    return require_project(directory or project), list(rest)


def _become(command: Sequence[str]) -> NoReturn:
    os.execv(command[0], list(command))  # noqa: S606  # no shell is wanted
