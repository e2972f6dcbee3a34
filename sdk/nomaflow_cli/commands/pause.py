"""``nomaflow pause`` and ``resume``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from nomaflow.client.values import PauseView
from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.output import print_json
from nomaflow_cli.values import parse_instant, parse_span
from nomaflow_cli.wording import moment

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("pause")(remote_command(pause))
    app.command("resume")(remote_command(resume))


def pause(
    *,
    invocation: Invocation,
    job: Annotated[str, typer.Argument(help="The job's id; default: everything, unless --host is given.")] = "",
    host: Annotated[str, typer.Option("--host", help="Pause all jobs of this host.")] = "",
    why: Annotated[
        str, typer.Option("--why", help="The reason; shown for everything that waits for the pause to end.")
    ] = "",
    until: Annotated[str, typer.Option("--until", help="End the pause at this ISO 8601 time.")] = "",
    span: Annotated[str, typer.Option("--for", help="End the pause after this time, for example 30m or 2h.")] = "",
) -> None:
    """Pause a job, a host or everything: schedules do not fire and runs do not start."""
    _at_most_one(job, host, names="JOB and --host")
    _at_most_one(until, span, names="--until and --for")
    end = parse_instant(until, option="--until") if until else None
    end = datetime.now(UTC) + parse_span(span) if span else end
    found: PauseView = talk(invocation, lambda kernel: kernel.pause(job_id=job, host=host, why=why, until=end))
    if invocation.as_json:
        print_json(found.to_json())
    else:
        ending = (
            f"until {moment(found.until)}" if found.until else f"until: nomaflow resume {_target(job, host)}".rstrip()
        )
        print(f"paused {_name(job, host)} {ending}")


def resume(
    *,
    invocation: Invocation,
    job: Annotated[str, typer.Argument(help="The job's id; default: everything, unless --host is given.")] = "",
    host: Annotated[str, typer.Option("--host", help="Resume this host.")] = "",
) -> None:
    """End a pause."""
    _at_most_one(job, host, names="JOB and --host")
    was_paused: bool = talk(invocation, lambda kernel: kernel.resume(job_id=job, host=host))
    if invocation.as_json:
        print_json({"job_id": job or None, "host": host or None, "was_paused": was_paused})
    else:
        print(f"resumed {_name(job, host)}" if was_paused else f"{_name(job, host)} was not paused")


def _at_most_one(one: str, other: str, *, names: str) -> None:
    if one and other:
        raise CliError(f"{names} cannot be used together", fix="give only one of them")


def _name(job: str, host: str) -> str:
    return f"job {job!r}" if job else f"host {host!r}" if host else "everything"


def _target(job: str, host: str) -> str:
    return job or (f"--host {host}" if host else "")
