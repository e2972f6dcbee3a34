"""``nomaflow backup`` and ``restore``: a project's history, to a file and back."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomaflow_cli.commands.processes import require_extra
from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation, local_command, remote_command
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.output import print_json
from nomaflow_cli.project import require_project
from nomaflow_cli.store_tool import run_store_tool
from nomaflow_cli.wording import age, amount, count, duration, printable

if TYPE_CHECKING:
    from nomaflow.client.values import KernelView

__all__ = ["register"]

_Store = Annotated[
    str,
    typer.Option("--store", help="The kernel's store, if it was started with --store; default: [kernel] store."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backup")(remote_command(backup))
    app.command("restore")(local_command(restore))


def backup(
    *,
    invocation: Invocation,
    file: Annotated[
        Path, typer.Argument(help="The new file to write, on this machine; an existing file is not overwritten.")
    ],
    store: _Store = "",
) -> None:
    """Write the history to a file on the kernel's machine. The kernel may be running."""
    require_extra("kernel")
    project = require_project(invocation.project)
    _refuse_elsewhere(invocation, project)
    kernel = _running_kernel(invocation, project)
    if kernel is not None and kernel.store != "sqlite":
        raise CliError(
            f"the kernel's store is {kernel.store}, and nomaflow backup supports only SQLite",
            reason="OTHER_STORE",
            fix="use pg_dump, or the server's own backups",
        )
    done = run_store_tool("backup", _path(file), *(["--held"] if kernel else []), project=project, store=store)
    if invocation.as_json:
        print_json(_shape(done))
        return
    print(f"{printable(done['path'])}: {_size(done['bytes'])}, {count(done['runs'], 'run')}, {_newest(done)}")
    print(f"complete and checked, in {duration(done['seconds'])}")


def _refuse_elsewhere(invocation: Invocation, project: Path) -> None:
    """Accept only the kernel of the project's own files: another's store may be on another machine."""
    if not invocation.address or invocation.address == (_published(project),):
        return
    given = ", ".join(invocation.address)
    raise CliError(
        f"a backup is made from a project's files, and project {str(project)!r} is not that of kernel {given!r}",
        reason="OTHER_MACHINE",
        fix="run the command in the kernel's project, on the kernel's machine, without --address",
    )


def _published(project: Path) -> str:
    try:
        return (project / ".nomaflow" / "address").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _running_kernel(invocation: Invocation, project: Path) -> KernelView | None:
    """Return the project's kernel where one answers. One that does not is no hindrance."""
    address = _published(project)
    if not address:
        return None
    # By its address, since else the kernel that the project's host dials would be asked where the own one is gone.
    own = replace(invocation, project=project, address=(address,))
    try:
        return talk(own, lambda kernel: kernel.get_kernel())
    except CliError:
        return None


def restore(
    *,
    invocation: Invocation,
    file: Annotated[Path, typer.Argument(help="A file written by nomaflow backup.")],
    directory: Annotated[
        Path | None, typer.Argument(help="Project directory; default: found from the working directory.")
    ] = None,
    store: _Store = "",
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing history; the old one is kept beside the new one.")
    ] = False,
    no_pause: Annotated[
        bool, typer.Option("--no-pause", help="Do not pause everything; runs start as soon as the kernel does.")
    ] = False,
) -> None:
    """Restore a project's history from a backup while its kernel is stopped. Nothing starts until nomaflow resume."""
    require_extra("kernel")
    project = require_project(directory or invocation.project)
    options = [option for option, on in (("--force", force), ("--no-pause", no_pause)) if on]
    done = run_store_tool("restore", _path(file), *options, project=project, store=store)
    if invocation.as_json:
        print_json(_shape(done))
        return
    print(f"{printable(done['store'])}: {_size(done['bytes'])}, {count(done['runs'], 'run')}, {_newest(done)}")
    if done["replaced"]:
        print(f"the old history was kept as {printable(done['replaced'])}")
    for line in _warnings(done):
        print(f"! {line}")


def _warnings(done: dict[str, Any]) -> list[str]:
    lost = done["lost_events"]
    gone = "" if lost is None else f" ({count(lost, 'event')} of the old history)"
    lines = [f"everything recorded after {_instant(done)} is lost, including triggers{gone}"]
    if done["open_runs"]:
        lines.append(
            f"open at that time: {count(done['open_runs'], 'run')}; a host that kept running reports the outcome, "
            "any other may run it again"
        )
    if done["paused"]:
        lines.append("everything is paused: start the kernel, check nomaflow runs, then run nomaflow resume")
    return lines


def _path(file: Path) -> str:
    return os.path.abspath(file)


def _instant(done: dict[str, Any]) -> str:
    at = _at(done)
    return at.strftime("%Y-%m-%d %H:%M:%S UTC") if at else "it was made"


def _newest(done: dict[str, Any]) -> str:
    at = _at(done)
    return f"newest event {age(at)}, at {_instant(done)}" if at else "no event"


def _at(done: dict[str, Any]) -> datetime | None:
    at_us = done["newest_event_at_us"]
    return None if at_us is None else datetime.fromtimestamp(at_us / 1_000_000, UTC)


def _size(number: int) -> str:
    if number < 1 << 20:
        return f"{amount(number / 1024)} KiB"
    return f"{number / (1 << 20):,.1f} MiB"


def _shape(done: dict[str, Any]) -> dict[str, Any]:
    from nomaflow.client.values import iso

    shape = dict(done)
    del shape["newest_event_at_us"]
    return {**shape, "newest_event_at": iso(_at(done)), "seconds": round(done["seconds"], 3)}
