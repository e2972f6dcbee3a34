"""``nomaflow up``, ``kernel``, ``host``, ``console`` and ``launcher``."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from nomaflow_api.private_memory import keep_memory_private
from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.invocation import (
    APP,
    Directory,
    Invocation,
    ProjectOption,
    TrustOption,
    local_command,
    missing_modules,
    require_extra,
)
from nomaflow_cli.options import flag, option
from nomaflow_cli.output import console, discard_output, print_warnings
from nomaflow_cli.project import host_table, project_of, require_project, wants_alerts
from nomaflow_cli.up.kept_running import PartFailed, become_part
from nomaflow_cli.up.reporting import JsonReporter, TextReporter
from nomaflow_cli.up.supervising import ProjectSupervisor

_DRAIN_SECONDS = 30.0
_DRAIN_MARGIN = 10.0
_LAST_PORT = 65_535
_PASSING = {"allow_extra_args": True, "ignore_unknown_options": True}


@local_command("up", needs=("kernel", "host"))
def up(
    *,
    invocation: Invocation,
    directory: Directory = None,
    address: str = option("Address that the kernel listens on; default: a Unix socket."),
    store: str = option("The kernel's store; default: SQLite in .nomaflow/."),
    name: str = option("The host's name; default: \\[host] name of nomaflow.toml."),
    watch: bool = flag("Reload the host's code when a file is saved."),
    log_format: str = option("Format of the log files: text or json."),
    no_console: bool = flag("Run no console, the web page."),
    metrics: str = option(
        "Address of the kernel's metrics, IP:PORT or unix:PATH; the host's use PORT + 1 or PATH-host."
    ),
) -> None:
    """Run a project: kernel, host, console and alerts.

    In the foreground; Ctrl-C drains and stops them.
    """
    keep_memory_private()  # it has the environment of both
    project = project_of(invocation, directory, runs_code=True)
    _require_state_folder(project)
    both = _given("--log-format", log_format)
    kernel_options = (*_given("--address", address), *_given("--store", store), *_given("--metrics", metrics), *both)
    host_options = (
        *_given("--name", name), *(["--watch"] if watch else ()),
        *_given("--metrics", _next_port(metrics)), *both,
    )  # fmt: skip
    drain_seconds = _drain_seconds(project)
    reporter = JsonReporter() if invocation.as_json else TextReporter(console=console(), drain_seconds=drain_seconds)

    async def supervise() -> None:
        supervisor = ProjectSupervisor(
            project=project,
            reporter=reporter,
            kernel_options=kernel_options,
            host_options=host_options,
            drain_seconds=drain_seconds + _DRAIN_MARGIN,
            with_console=not no_console and not missing_modules("console"),
            with_alerts=_with_alerts(project, invocation),
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            loop.add_signal_handler(number, supervisor.handle, number)
        if sys.stdout.isatty():
            loop.add_signal_handler(signal.SIGHUP, _hung_up, supervisor)
        try:
            await supervisor.run()
            await supervisor.stop()
        except OSError:  # its reader has gone, as `tee` does at Ctrl-C; the parts still stop in order
            discard_output(1)
            raise
        finally:
            await supervisor.stop()

    try:
        asyncio.run(supervise())
    except PartFailed as error:
        text = "\n".join([str(error), *error.tail])
        fix = f"see its log: {error.log}"
        raise CliError(text, reason="PART_FAILED", fix=fix, exit_code=ExitCode.FAILED) from None


def _with_alerts(project: Path, invocation: Invocation) -> bool:
    """Return whether there are alerts; warn if the project asks for some and they are not installed."""
    wanted = wants_alerts(project)
    if wanted and missing_modules("alerts"):
        told = "nomaflow.toml has [alerts], but the alerts are not installed: pip install 'nomaflow[alerts]'"
        print_warnings([told], as_json=invocation.as_json)
        return False
    return wanted


def _require_state_folder(project: Path) -> None:
    """Make the folder in which kernel and host keep their state, if it does not exist.

    :raises CliError: if this user may not write to it
    """
    folder, words, me = project / ".nomaflow", "", os.geteuid()
    fix = "run the command as the project's owner"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            words = os.strerror(errno.EROFS)
        elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            words = os.strerror(errno.EACCES)
            if project.stat().st_uid == me != folder.stat().st_uid:
                fix = f"another user, such as root, created it: chown -R {me} {shlex.quote(str(folder))}"
    except OSError as error:
        words = error.strerror or str(error)
    if words == os.strerror(errno.EROFS):
        fix = "make that file system writable, or move the project to another"
    if words:
        raise CliError(f"cannot write to {str(folder)!r}: {words}", reason="UNWRITABLE", fix=fix)


def _next_port(address: str) -> str:
    """Return the address of the host's metrics beside the kernel's: the next port, or PATH-host for a Unix socket.

    A malformed one is the kernel's to refuse.

    :raises CliError: if there is no next port
    """
    if address.startswith("unix:"):
        return f"{address}-host"
    place, _, port = address.rpartition(":")
    if not port.isdecimal():
        return address
    if int(port) == _LAST_PORT:
        why = f"the host's metrics are at the port after that of --metrics {address}, and there is none"
        raise CliError(why, fix="choose a lower port")
    return f"{place}:{int(port) + 1}" if int(port) else address


def _given(option: str, value: str) -> list[str]:
    return [option, value] if value else []


def _hung_up(supervisor: ProjectSupervisor) -> None:
    """Reload; or stop, and stop writing to the terminal, if that is gone."""
    if os.isatty(1):  # no longer once the other end of the terminal is closed
        supervisor.handle(signal.SIGHUP)
        return
    discard_output(1, 2)
    supervisor.handle(signal.SIGTERM)


def _drain_seconds(project: Path) -> float:
    """Return the host's own limit, so that it is not killed before it. The host itself reports a malformed one."""
    try:
        return float(host_table(project).get("drain_seconds", _DRAIN_SECONDS))
    except (CliError, ValueError, TypeError):
        return _DRAIN_SECONDS


@APP.command("kernel", context_settings=_PASSING, add_help_option=False)
def kernel(
    context: typer.Context, directory: Directory = None, project: ProjectOption = None, trust: TrustOption = None
) -> None:
    """Run only a project's kernel."""
    _become("kernel", directory, project, trust, context.args)


@APP.command("host", context_settings=_PASSING, add_help_option=False)
def host(
    context: typer.Context, directory: Directory = None, project: ProjectOption = None, trust: TrustOption = None
) -> None:
    """Run only a project's host."""
    _become("host", directory, project, trust, context.args)


@APP.command("console", context_settings=_PASSING, add_help_option=False)
def run_console(
    context: typer.Context, directory: Directory = None, project: ProjectOption = None, trust: TrustOption = None
) -> None:
    """Run only a project's console, the web page, or link to it."""
    options = list(context.args)
    if directory == Path("link"):
        directory = Path(options.pop(0)) if options and not options[0].startswith("-") else None
        options.insert(0, "link")
    _become("console", directory, project, trust, options)


def _become(
    part: str, directory: Path | None, project: Path | None, trust: Path | None, options: Sequence[str]
) -> None:
    """Replace this process with the part, which has the help for its options.

    :param directory: the first of the options if no directory is given
    :raises CliError: if the part is not installed, or there is no project
    """
    require_extra(part)
    first = () if directory is None or not str(directory).startswith("-") else (str(directory),)
    if {"-h", "--help"} & {*first, *options}:
        become_part(part, Path(), "--help")
    named = project if first else directory or project
    become_part(part, require_project(named, trust, runs_code=part == "host"), *first, *options)


@local_command("launcher", needs=("slurm",))
def launcher(*, invocation: Invocation, directory: Directory = None) -> None:
    """Start hosts on Slurm, Kubernetes or Ray when steps wait.

    \\[launcher] of nomaflow.toml says which.
    """
    become_part("launchers", project_of(invocation, directory))
