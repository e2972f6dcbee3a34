"""``nomaflow service install``, ``status`` and ``uninstall``."""

from __future__ import annotations

import enum
import os
import pwd
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomaflow_cli.commands.processes import require_extra
from nomaflow_cli.errors import CliError, ExitCode
from nomaflow_cli.invocation import Invocation, local_command
from nomaflow_cli.output import print_json, print_warnings
from nomaflow_cli.project import read_settings, require_project
from nomaflow_cli.wording import printable

if TYPE_CHECKING:
    from nomaflow_cli.service import Installation, Places, UnitFile, UnitState, Written

__all__ = ["register"]


class Part(enum.StrEnum):
    """The processes that have a unit."""

    KERNEL = "kernel"
    HOST = "host"


_User = Annotated[bool, typer.Option("--user", help="Use this user's systemd instead of the system's.")]
_Root = Annotated[
    Path, typer.Option("--root", help="Root of another file system, for example of an image being built.")
]
_Force = Annotated[bool, typer.Option("--force", help="Also replace or remove files that were edited by hand.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True)
    group.command("install")(local_command(install))
    group.command("status")(local_command(status))
    group.command("uninstall")(local_command(uninstall))
    app.add_typer(group, name="service", help="Run a project's kernel and hosts as systemd services.")


def install(
    *,
    invocation: Invocation,
    directory: Annotated[
        Path | None, typer.Argument(help="Project directory; default: found from the working directory.")
    ] = None,
    user: _User = False,
    only: Annotated[
        Part | None, typer.Option("--only", help="Install only the kernel's unit, or only the host's.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The host's name; default: [host] name of nomaflow.toml.")] = "",
    run_as: Annotated[str, typer.Option("--run-as", help="User to run as; default: the project's owner.")] = "",
    root: _Root = Path("/"),
    dry_run: Annotated[
        bool, typer.Option("--print", "--dry-run", help="Print the files instead of writing them.")
    ] = False,
    force: _Force = False,
) -> None:
    """Write systemd units for a project's kernel and host, and print the command that starts them."""
    from nomaflow_cli.service import Installation, require_systemd, write

    for part in Part:
        if only in (None, part):
            require_extra(part.value)
    project = require_project(directory or invocation.project)
    places = _places(user=user, root=root)
    wanted = Installation(
        places=places,
        project=project,
        python=Path(sys.executable),
        user="" if user else run_as or _owner(project),
        host="" if only is Part.KERNEL else name or _host_name(project),
        kernel=only is not Part.HOST,
    )
    files = wanted.files()
    if dry_run:
        _print_files(files, as_json=invocation.as_json)
        return
    if root == Path("/"):
        require_systemd()
    written = write(files, places, force=force)
    if wanted.user == "root":
        warning = (
            "steps will run as root; a separate user is safer: change the project's owner, or name a user with --run-as"
        )
        print_warnings([warning], as_json=invocation.as_json)
    _print_written(written, _next_commands(wanted), as_json=invocation.as_json)


def _places(*, user: bool, root: Path) -> Places:
    from nomaflow_cli.service import Places

    root = root.absolute()
    return Places.of_user(os.environ, root=root) if user else Places.of_system(root=root)


def _owner(project: Path) -> str:
    owner = project.stat().st_uid
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        raise CliError(
            f"the project {str(project)!r} belongs to the user id {owner}, which has no name on this machine",
            fix="change its owner, or name a user with --run-as",
        ) from None


def _host_name(project: Path) -> str:
    """Return the name that the host would have by itself; where its folder's is none, a person has to give one."""
    from nomaflow_cli.service.units import HOST_NAME

    try:
        table = read_settings(project).get("host", {})
    except FileNotFoundError:
        table = {}
    except (OSError, ValueError) as error:
        raise CliError(f"nomaflow.toml cannot be read: {error}", fix="find the error with: nomaflow check") from None
    name = str(table.get("name", "") if isinstance(table, dict) else "") or project.name
    if not HOST_NAME.fullmatch(name):
        raise CliError(
            f"{name!r} is not a valid host name; expected at most 64 lower-case letters, digits, '-' and '_'",
            fix="name the host with --name, or in nomaflow.toml below [host]",
        )
    return name


def _print_files(files: Sequence[UnitFile], *, as_json: bool) -> None:
    if as_json:
        print_json({"files": [{"path": str(file.path), "text": file.text} for file in files]})
        return
    for file in files:
        print(f"# {printable(str(file.path))}\n{file.text}")


def _next_commands(wanted: Installation) -> list[str]:
    systemctl = shlex.join(wanted.places.systemctl)
    if wanted.places.root != Path("/"):
        return [f"{systemctl} --root={shlex.quote(str(wanted.places.root))} enable {shlex.join(wanted.units)}"]
    linger = ["loginctl enable-linger"] if wanted.places.user else []  # else they end with the last log-out
    return [*linger, f"{systemctl} daemon-reload", f"{systemctl} enable --now {shlex.join(wanted.units)}"]


def _print_written(written: Sequence[Written], commands: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        shape = [{"path": str(one.path), "outcome": one.outcome.value} for one in written]
        print_json({"files": shape, "next": list(commands)})
        return
    for one in written:
        print(f"  {one.outcome:<9}  {printable(str(one.path))}")
    if commands:
        print(f"\nnow: {printable(' && '.join(commands))}")


def status(*, invocation: Invocation, user: _User = False) -> None:
    """Show the installed units and the status that their processes report."""
    from nomaflow_cli.service import installed_units, require_systemd, unit_states

    require_systemd()
    places = _places(user=user, root=Path("/"))
    states = unit_states(_startable(installed_units(places)), places)
    if invocation.as_json:
        print_json({"units": [_shape(state) for state in states]})
        return
    if not states:
        print("no units are installed; install them with: nomaflow service install DIR")
    for state in states:
        facts = [f"{state.active} ({state.sub})", state.enabled, f"pid {state.pid}" if state.pid else "", state.text]
        print(f"  {state.unit:<32} {printable(' · '.join(filter(None, facts)))}")


def _require_stopped(units: Iterable[str], places: Places) -> None:
    from nomaflow_cli.service import unit_states

    running = [one.unit for one in unit_states(_startable(units), places) if one.runs]
    if running:
        raise CliError(
            f"still running: {', '.join(running)}; nothing was removed",
            reason="STILL_RUNNING",
            fix=f"stop them first: {shlex.join([*places.systemctl, 'disable', '--now', *running])}",
            exit_code=ExitCode.FAILED,
        )


def _startable(units: Iterable[str]) -> list[str]:
    return [unit for unit in units if not unit.endswith("@.service")]


def _shape(state: UnitState) -> dict[str, Any]:
    shape = asdict(state)
    return {**shape, "pid": state.pid or None, "text": state.text or None}


def uninstall(
    *,
    invocation: Invocation,
    host: Annotated[list[str] | None, typer.Argument(help="Names of the hosts; default: all hosts and the kernel.")] = (
        None
    ),
    user: _User = False,
    root: _Root = Path("/"),
    force: _Force = False,
) -> None:
    """Remove stopped units. Settings, projects and history are kept."""
    from nomaflow_cli.service import installed_units, remove

    places = _places(user=user, root=root)
    found = installed_units(places)
    named = [f"nomaflow-host@{name}.service" for name in host or ()]
    missing = [unit for unit in named if unit not in found]
    if missing:
        raise CliError(
            f"not installed: {', '.join(missing)}", fix="list the installed units with: nomaflow service status"
        )
    units = named or list(found)
    if places.root == Path("/"):
        _require_stopped(units, places)
    removed = remove([path for unit in units for path in found[unit]], places, force=force)
    reload = [shlex.join([*places.systemctl, "daemon-reload"])] if removed and places.root == Path("/") else []
    _print_written(removed, reload, as_json=invocation.as_json)
