"""``nomaflow backup``, ``restore`` and ``store``: a project's history, to a file or another database, and back."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from nomaflow.client import KernelUnreachable, ProjectAddress
from nomaflow.client.values import KernelView, iso
from nomaflow_api.byte_sizes import byte_size
from nomaflow_api.time_spans import time_span
from nomaflow_cli.errors import CliError
from nomaflow_cli.formatting import age, amount, count
from nomaflow_cli.invocation import Directory, Invocation, command_group, local_command, remote_command
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.options import argument, flag, option
from nomaflow_cli.output import answer
from nomaflow_cli.project import absolute, known_project, project_of, working_directory
from nomaflow_cli.store_tool import run_store_tool
from nomaflow_telemetry.visible_text import printable

_STORE = option("The kernel's store, if it was started with --store; default: \\[kernel] store.")
_URL = "sqlite:///PATH, relative to the project, or postgresql+asyncpg://USER:PASSWORD@HOST/NAME."
_RESUME = "everything is paused: start the kernel, check nomaflow runs, then run nomaflow resume"
_MASKED = ":***@"
_GROUP = command_group("store", "Move a history to another database, or reclaim a moved one.")


@remote_command("backup", needs=("kernel",))
def backup(
    *,
    invocation: Invocation,
    file: Path = argument("The new file to write, on this machine; an existing file is not overwritten."),
    store: str = _STORE,
) -> None:
    """Write the history to a file.

    The file is on the kernel's machine. The kernel may be running.
    """
    project = project_of(invocation)
    try:
        [published] = ProjectAddress(project=project).addresses()
    except KernelUnreachable:
        published = ""
    named = invocation.addresses or tuple(filter(None, (invocation.profile,)))
    if named not in ((), (published,)):  # the store of another kernel may be on another machine
        given = ", ".join(named)
        raise CliError(
            f"a backup is made from a project's files, and project {str(project)!r} is not that of kernel {given!r}",
            reason="OTHER_MACHINE",
            fix="run the command in the kernel's project, on the kernel's machine, without --address and --profile",
        )
    beside = replace(invocation, project=project, address=[published])
    kernel = _running_kernel(beside) if published else None
    if kernel is not None and kernel.store != "sqlite":
        raise CliError(
            f"the kernel's store is {kernel.store}, and nomaflow backup supports only SQLite",
            reason="OTHER_STORE",
            fix="use pg_dump, or the server's own backups",
        )
    back_up = partial(run_store_tool, "backup", os.path.abspath(absolute(file)), project=project, store=store)
    done = _backed_up(back_up, beside, kernel)
    text = f"{_summary(done['path'], done)}\ncomplete and checked, in {time_span(done['seconds'])}"
    answer(invocation, _shape(done), text)


def _backed_up(back_up: Callable[..., dict[str, Any]], beside: Invocation, kernel: KernelView | None) -> dict[str, Any]:
    """Have the backup written, of a store that the kernel holds if one runs.

    One that has stopped since it was asked, or has been replaced, holds none: then the kernel is asked for again.
    """
    try:
        return back_up("--held") if kernel else back_up()
    except CliError as refusal:
        if kernel is None or refusal.reason != "OTHER_STORE":
            raise
        now = _running_kernel(beside)
        if now is not None and now.pid == kernel.pid:
            raise
    return _backed_up(back_up, beside, now)


def _running_kernel(invocation: Invocation) -> KernelView | None:
    """Return the kernel at the given address if it answers; a backup needs none."""
    try:
        return talk(invocation, lambda kernel: kernel.get_kernel())
    except CliError:
        return None


@local_command("restore", needs=("kernel",))
def restore(
    *,
    invocation: Invocation,
    file: Path = argument("A file written by nomaflow backup."),
    directory: Directory = None,
    store: str = _STORE,
    force: bool = flag("Replace an existing history; the old one is kept beside the new one."),
    no_pause: bool = flag("Do not pause everything; runs start as soon as the kernel does."),
) -> None:
    """Restore a project's history from a backup.

    Its kernel must be stopped. Nothing starts until nomaflow resume.
    """
    project = project_of(invocation, directory)
    options = [option for option, on in (("--force", force), ("--no-pause", no_pause)) if on]
    done = run_store_tool("restore", os.path.abspath(absolute(file)), *options, project=project, store=store)
    answer(invocation, _shape(done), "\n".join(_restored(done)))


def _restored(done: dict[str, Any]) -> Iterator[str]:
    yield _summary(done["store"], done)
    if done["replaced"]:
        yield f"the old history was kept as {printable(done['replaced'])}"
    lost, at = done["lost_events"], _newest_event(done)
    since = f"{at:%Y-%m-%d %H:%M:%S UTC}" if at else "it was made"
    gone = "" if lost is None else f" ({count(lost, 'event')} of the old history)"
    yield f"! everything recorded after {since} is lost, including triggers{gone}"
    if done["open_runs"]:
        yield (
            f"! open at that time: {count(done['open_runs'], 'run')}; a host that kept running reports the outcome, "
            "any other may run it again"
        )
    if done["paused"]:
        yield f"! {_RESUME}"


@local_command("copy", group=_GROUP, needs=("kernel",))
def copy(
    *,
    invocation: Invocation,
    source: str = argument(f"The store: {_URL}", metavar="FROM"),
    target: str = argument("The new store: a file that does not exist yet, or an empty database.", metavar="TO"),
) -> None:
    """Move a history to an empty store while its kernel is stopped. Kernels then start only on the new store."""
    done = run_store_tool("copy", source, "--to", target, project=_folder(invocation), shows_progress=True)
    rows, source = done["rows"], printable(done["source"])
    way_back = source.replace(_MASKED, "@", 1)
    told = "" if way_back == source else ", with its password in PGPASSWORD"
    text = (
        f"{printable(done['target'])}: {count(rows['runs'], 'run')}, {count(rows['events'], 'event')}\n"
        f"{amount(sum(rows.values()))} rows copied and compared, in {time_span(done['seconds'])}\n"
        "start the kernel with that store: [kernel] store, or --store\n"
        f"! kernels no longer start on {source}; to undo the move{told}: nomaflow store reclaim {shlex.quote(way_back)}"
    )
    answer(invocation, {**done, "seconds": round(done["seconds"], 3)}, text)


@local_command("reclaim", group=_GROUP, needs=("kernel",))
def reclaim(*, invocation: Invocation, store: str = argument(f"The store: {_URL}", metavar="STORE")) -> None:
    """Reclaim a history that was moved, as it was before the move. Nothing starts until nomaflow resume."""
    done = run_store_tool("reclaim", store, project=_folder(invocation))
    text = (
        f"{printable(done['store'])}: a kernel may start on it again\n"
        f"! make sure that no kernel runs on {printable(done['moved_to'])}: schedules would fire twice\n"
        f"! {_RESUME}"
    )
    answer(invocation, done, text)


def _folder(invocation: Invocation) -> Path:
    """Return the folder at which relative paths begin: stores named in full need no project."""
    return known_project(invocation) or working_directory()


def _newest_event(done: dict[str, Any]) -> datetime | None:
    at_us = done["newest_event_at_us"]
    return None if at_us is None else datetime.fromtimestamp(at_us / 1_000_000, UTC)


def _summary(path: str, done: dict[str, Any]) -> str:
    at = _newest_event(done)
    newest = f"newest event {age(at)}, at {at:%Y-%m-%d %H:%M:%S UTC}" if at else "no event"
    return f"{printable(path)}: {byte_size(done['bytes'])}, {count(done['runs'], 'run')}, {newest}"


def _shape(done: dict[str, Any]) -> dict[str, Any]:
    shape = {name: value for name, value in done.items() if name != "newest_event_at_us"}
    return {**shape, "newest_event_at": iso(_newest_event(done)), "seconds": round(done["seconds"], 3)}
