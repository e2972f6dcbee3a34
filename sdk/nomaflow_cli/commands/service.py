"""``nomaflow service install``, ``status`` and ``uninstall``."""

from __future__ import annotations

import os
import pwd
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.invocation import Directory, Invocation, command_group, local_command, missing_modules, require_extra
from nomaflow_cli.options import argument, flag, option
from nomaflow_cli.output import answer, print_warnings
from nomaflow_cli.project import absolute, host_table, project_of, wants_alerts
from nomaflow_cli.service.files import remove, write
from nomaflow_cli.service.systemd import Places, UnitState, require_systemd, unit_states
from nomaflow_cli.service.units import Installation, Part, host_unit, installed_units
from nomaflow_project.reading.names import HOST_NAME, host_name_of
from nomaflow_telemetry.visible_text import printable

_GROUP = command_group("service", "Run a project's kernel and hosts as systemd services.")


_USER = flag("Use this user's systemd instead of the system's.")
_ROOT = option("Root of another file system, for example of an image being built.", default=Path("/"))
_FORCE = flag("Also replace or remove files that were edited by hand.")


@local_command("install", group=_GROUP)
def install(
    *,
    invocation: Invocation,
    directory: Directory = None,
    user: bool = _USER,
    only: Part | None = option(
        "Install only the unit of the kernel, the host, the console or the alerts.", default=None
    ),
    name: str = option("The host's name; default: \\[host] name of nomaflow.toml."),
    run_as: str = option("User to run as; default: the project's owner."),
    root: Path = _ROOT,
    dry_run: bool = flag("Print the files instead of writing them.", "--print", "--dry-run"),
    force: bool = _FORCE,
) -> None:
    """Write systemd units for a project's kernel, host, console and alerts, and print the command that starts them."""
    if user and run_as:
        raise CliError(
            "--user and --run-as cannot be used together", fix="a user's units run as that user: leave one out"
        )
    wanted_parts = {only} if only else {Part.KERNEL, Part.HOST}
    for part in sorted(wanted_parts):
        require_extra(part.value)
    if only is None and not missing_modules("console"):
        wanted_parts.add(Part.CONSOLE)
    project = project_of(invocation, directory)
    if only is None and wants_alerts(project) and not missing_modules("alerts"):
        wanted_parts.add(Part.ALERTS)
    places = Places.of(os.environ, user=user, root=absolute(root))
    wanted = Installation(
        places=places,
        project=project,
        python=Path(sys.executable),
        user="" if user else run_as or _owner(project),
        parts=wanted_parts,
        host=_host_name(project, name) if Part.HOST in wanted_parts else "",
    )
    files = wanted.files()
    if dry_run:
        shape = {"files": [{"path": str(file.path), "text": file.text} for file in files]}
        answer(invocation, shape, "\n".join(f"# {printable(str(file.path))}\n{file.text}" for file in files))
        return
    if not places.elsewhere:
        require_systemd()
    done = write(files, places, force=force)
    if wanted.user == "root":
        warning = (
            "steps will run as root; a separate user is safer: change the project's owner, or name a user with --run-as"
        )
        print_warnings([warning], as_json=invocation.as_json)
    _print_done(invocation, done, _next_commands(wanted))


def _owner(project: Path) -> str:
    owner = project.stat().st_uid
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        raise CliError(
            f"the project {str(project)!r} belongs to the user id {owner}, which has no name on this machine",
            fix="change its owner, or name a user with --run-as",
        ) from None


def _host_name(project: Path, given: str) -> str:
    """Return the given name, else the one that the host would have by itself.

    :raises CliError: if that is none for a host
    """
    name = given or str(host_table(project).get("name") or host_name_of(project.name))
    if not HOST_NAME.fullmatch(name):
        raise CliError(
            f"{name!r} is not a valid host name; expected at most 64 lower-case letters, digits, '-' and '_'",
            fix="name the host with --name, or in nomaflow.toml below [host]",
        )
    return name


def _next_commands(wanted: Installation) -> list[str]:
    systemctl, places = shlex.join(wanted.places.systemctl), wanted.places
    if places.elsewhere:
        return [f"{systemctl} --root={shlex.quote(str(places.root))} enable {shlex.join(wanted.units)}"]
    linger = ["loginctl enable-linger"] if places.user else []  # else they end with the last log-out
    return [*linger, f"{systemctl} daemon-reload", f"{systemctl} enable --now {shlex.join(wanted.units)}"]


def _print_done(invocation: Invocation, done: Mapping[Path, str], commands: Sequence[str]) -> None:
    shape = {"files": [{"path": str(path), "outcome": outcome} for path, outcome in done.items()], "next": commands}
    lines = [f"  {outcome:<9}  {printable(str(path))}" for path, outcome in done.items()]
    if commands:
        lines.append(f"\nnow: {printable(' && '.join(commands))}")
    answer(invocation, shape, "\n".join(lines))


@local_command("status", group=_GROUP)
def status(*, invocation: Invocation, user: bool = _USER) -> None:
    """Show the installed units and the status that their processes report."""
    require_systemd()
    places = Places.of(os.environ, user=user)
    states = unit_states(list(installed_units(places)), places)
    nothing = "no units are installed; install them with: nomaflow service install DIR"
    answer(invocation, {"units": [asdict(state) for state in states]}, "\n".join(map(_line, states)) or nothing)


def _line(state: UnitState) -> str:
    facts = [f"{state.active} ({state.sub})", state.enabled, f"pid {state.pid}" if state.pid else "", state.text]
    return f"  {state.unit:<32} {printable(' · '.join(filter(None, facts)))}"


@local_command("uninstall", group=_GROUP)
def uninstall(
    *,
    invocation: Invocation,
    host: list[str] = argument("Names of the hosts; default: everything.", default=[]),
    user: bool = _USER,
    root: Path = _ROOT,
    force: bool = _FORCE,
) -> None:
    """Remove stopped units. Settings, projects and history are kept."""
    places = Places.of(os.environ, user=user, root=absolute(root))
    found = installed_units(places)
    named = [host_unit(name) for name in host]
    missing = [unit for unit in named if unit not in found]
    if missing:
        raise CliError(
            f"not installed: {', '.join(missing)}", fix="list the installed units with: nomaflow service status"
        )
    units = named or list(found)
    running = [] if places.elsewhere else [one.unit for one in unit_states(units, places) if one.runs]
    if running:
        raise CliError(
            f"still running: {', '.join(running)}; nothing was removed",
            reason="STILL_RUNNING",
            fix=f"stop them first: {shlex.join([*places.systemctl, 'disable', '--now', *running])}",
            exit_code=ExitCode.FAILED,
        )
    if not units:
        answer(invocation, {"files": [], "next": []}, "no units are installed")
        return
    paths = [path for unit in units for path in found[unit]]
    remove(paths, places, force=force)
    reload = [shlex.join([*places.systemctl, "daemon-reload"])] if not places.elsewhere else []
    _print_done(invocation, dict.fromkeys(paths, "removed"), reload)
