"""``nomaflow hosts``, ``hosts forget`` and ``reload``."""

from __future__ import annotations

from typing import Annotated

import typer

from nomaflow.client.values import HostView, ReloadView
from nomaflow_cli.errors import ExitCode
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.output import console, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(remote_command(hosts))
    group.command("forget")(remote_command(forget))
    app.add_typer(group, name="hosts", help="List hosts with their instances, or forget one.")
    app.command("reload")(remote_command(reload))


def hosts(*, context: typer.Context, invocation: Invocation) -> None:
    """List the known hosts, their instances and the code they have loaded."""
    if context.invoked_subcommand is not None:
        return
    found: list[HostView] = talk(invocation, lambda kernel: kernel.list_hosts())
    if invocation.as_json:
        print_json({"hosts": [host.to_json() for host in found]})
        return
    from nomaflow_cli.pages.tables import hosts_page

    console().print(hosts_page(found) if found else "no host has attached yet; start one with: nomaflow host DIR")


def forget(*, invocation: Invocation, name: Annotated[str, typer.Argument(help="The host's name.")]) -> None:
    """Remove a detached host and release its job ids."""
    released = talk(invocation, lambda kernel: kernel.forget_host(name))
    if invocation.as_json:
        print_json({"host": name, "released_job_ids": list(released)})
    else:
        print(f"removed host {name!r}; released job ids: {', '.join(released) or 'none'}")


def reload(
    *,
    invocation: Invocation,
    host: Annotated[str, typer.Argument(help="The host's name; may be omitted if there is only one host.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Use the new code even if a job or callable is broken.")
    ] = False,
) -> None:
    """Reload a host's code and jobs. Running steps finish on the old code."""
    outcomes: list[ReloadView] = talk(
        invocation, lambda kernel: kernel.reload_host(host, force=force), retry_seconds=70
    )
    if invocation.as_json:
        print_json({"instances": [outcome.to_json() for outcome in outcomes]})
    else:
        from nomaflow_cli.pages.tables import reload_page

        console().print(reload_page(outcomes))
    if not all(outcome.accepted for outcome in outcomes):
        raise typer.Exit(ExitCode.FAILED)
