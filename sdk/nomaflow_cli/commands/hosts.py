"""``nomaflow hosts``, ``hosts forget``, ``callables`` and ``reload``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from nomaflow_cli import pages
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.invocation import Invocation, command_group, names_subcommand, remote_command
from nomaflow_cli.kernel_access import talk, why_none
from nomaflow_cli.options import argument, flag
from nomaflow_cli.output import answer
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.values import HostView

_HOST = argument("The host's name; may be omitted if you see only one host.", default="")
_GROUP = command_group("hosts", "List hosts with their instances, or forget one.", runs_alone=True)


@remote_command(group=_GROUP)
def hosts(*, context: typer.Context, invocation: Invocation) -> None:
    """List the known hosts, their instances and the code they have loaded."""
    if names_subcommand(context):
        return

    async def ask(kernel: KernelClient) -> tuple[Sequence[HostView], str]:
        found = await kernel.list_hosts()
        nothing = "no host has attached yet; start one with: nomaflow host DIR"
        return found, "" if found else await why_none(kernel, "hosts", nothing)

    found, nothing = talk(invocation, ask)
    shape = {"hosts": [host.to_json() for host in found]}
    answer(invocation, shape, lambda: pages.hosts.hosts_page(found) if found else nothing)


@remote_command("forget", group=_GROUP)
def forget(*, invocation: Invocation, name: str = argument("The host's name.")) -> None:
    """Remove a detached host and release its job ids."""
    released = talk(invocation, lambda kernel: kernel.forget_host(name))
    shape = {"host": name, "released_job_ids": list(released)}
    answer(invocation, shape, f"removed host {name!r}; released job ids: {printable(', '.join(released)) or 'none'}")


@remote_command("callables")
def callables(*, invocation: Invocation, host: str = _HOST) -> None:
    """List a host's callables, and the jobs that use them.

    Also the modules that do not import.
    """
    offered = talk(invocation, lambda kernel: kernel.list_callables(host))
    answer(invocation, offered.to_json(), lambda: pages.callables.callables_page(offered))


@remote_command("reload")
def reload(
    *,
    invocation: Invocation,
    host: str = _HOST,
    force: bool = flag("Use the new code even if a job or callable is broken."),
) -> ExitCode:
    """Reload a host's code and jobs.

    Running steps finish on the old code. Exits 1 if a job is disabled.
    """
    outcomes = talk(invocation, lambda kernel: kernel.reload_host(host, force=force), retry_seconds=70)
    shape = {"instances": [outcome.to_json() for outcome in outcomes]}
    answer(invocation, shape, lambda: pages.hosts.reload_page(outcomes))
    return ExitCode.of(all(outcome.accepted if force else outcome.complete for outcome in outcomes))
