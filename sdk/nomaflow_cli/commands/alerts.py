"""``nomaflow alerts serve``, ``test``, ``open``, ``mute``, ``unmute``, ``messages`` and ``replay``."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from nomaflow.client.errors import ClientError, ReplyTimeout
from nomaflow_cli import pages
from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.formatting import exit_words, subject
from nomaflow_cli.invocation import Directory, Invocation, command_group, local_command, require_extra
from nomaflow_cli.kernel_access import caller_name, quiet_grpc
from nomaflow_cli.options import argument, flag, option
from nomaflow_cli.output import answer, print_json_line, print_warnings, say
from nomaflow_cli.parsers import parse_end, parse_target
from nomaflow_cli.project import project_of
from nomaflow_cli.up.kept_running import become_part, part_command
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from nomaflow.client.alerts import AlertsClient
    from nomaflow.client.values.alerts import AlertsView, IncidentsView

_GROUP = command_group("alerts", "Tell people when something needs them.")

R = TypeVar("R")

_PART_NAME = "nomaflow alerts: "
"""What the part writes before an error."""
_DEFAULT_MUTE = timedelta(hours=1)
_ONE_OR_ALL = argument("The job's id; default: everything, unless --host is given.", default="")
_HOST = option("A host and its jobs.")


@local_command("serve", group=_GROUP)
def serve(*, invocation: Invocation, directory: Directory = None) -> None:
    """Watch the kernel and send messages, in the foreground. A second process waits until the first ends."""
    require_extra("alerts")
    become_part("alerts", project_of(invocation, directory))


@local_command("test", group=_GROUP)
def try_channels(
    *,
    invocation: Invocation,
    channels: list[str] = argument("Names of channels; default: all, or those of the job.", default=[]),
    job: str = option("Send it as for an incident of this job."),
    condition: str = option("The incident's condition, with --job; default: failed."),
) -> ExitCode:
    """Send a real message, marked as a test, on each channel, and print each answer; exits 1 if one fails."""
    results = _talk(
        invocation,
        lambda client: client.test_channels(channels, job_id=job, condition=condition, by=caller_name()),
    )
    answer(invocation, {"results": [each.to_json() for each in results]}, lambda: pages.alerts.tested_page(results))
    return ExitCode.of(all(each.sent for each in results))


@local_command("open", group=_GROUP)
def open_(
    *,
    invocation: Invocation,
    job: str = option("Show only incidents of this job."),
    host: str = _HOST,
    all_: bool = flag("Also show closed incidents.", "--all"),
    limit: int = option("Maximum number of incidents.", "-n", default=200, min=1, max=1000),
) -> None:
    """List open incidents, and the mutes in force."""

    async def ask(client: AlertsClient) -> tuple[IncidentsView, AlertsView]:
        found = await client.list_incidents(job_id=job, host=host, include_closed=all_, limit=limit)
        return found, await client.get_alerts()

    found, alerts = _talk(invocation, ask)
    shape = {**found.to_json(), "alerts": alerts.to_json()}
    answer(invocation, shape, lambda: pages.alerts.incidents_page(found, alerts, job=job, host=host))


@local_command("mute", group=_GROUP)
def mute(
    *,
    invocation: Invocation,
    job: str = _ONE_OR_ALL,
    host: str = _HOST,
    why: str = option("The reason; every message shows it meanwhile."),
    span: str = option("How long, for example 30m or 2h; default: one hour.", "--for"),
    until: str = option("End it at this ISO 8601 time."),
) -> None:
    """Hold back messages about a job, a host or everything. Incidents that are open at the end are reported then."""
    target = parse_target(job, host)
    end = parse_end(until, span) or datetime.now(UTC) + _DEFAULT_MUTE
    if not why.strip():
        raise CliError("a mute needs a reason", fix='give one: --why "moving to the new database"')
    found = _talk(invocation, lambda client: client.mute(until=end, by=caller_name(), why=why, **target))
    answer(invocation, found.to_json(), lambda: f"muted {pages.alerts.mute_text(found)}")


@local_command("unmute", group=_GROUP)
def unmute(*, invocation: Invocation, job: str = _ONE_OR_ALL, host: str = _HOST) -> None:
    """End a mute."""
    target = parse_target(job, host)
    was = _talk(invocation, lambda client: client.unmute(**target))
    name = printable(subject(job, host))
    shape = {**target, "was_muted": was}
    answer(invocation, shape, f"unmuted {name}" if was else f"there was no mute of {name}")


@local_command("messages", group=_GROUP)
def messages(
    *,
    invocation: Invocation,
    channel: str = option("Show only messages of this channel."),
    state: str = option("pending, sent or undeliverable."),
    limit: int = option("Maximum number of messages.", "-n", default=50, min=1, max=1000),
) -> None:
    """List outgoing messages, newest first."""
    found = _talk(invocation, lambda client: client.list_messages(channel=channel, state=state, limit=limit))
    answer(
        invocation,
        {"messages": [each.to_json() for each in found]},
        lambda: pages.alerts.messages_page(found, filtered=bool(channel or state)),
    )


@local_command("replay", group=_GROUP)
def replay(
    *,
    invocation: Invocation,
    directory: Directory = None,
    since: int = option("The event to begin after; 0 for all.", default=0, min=0),
    dry_run: bool = flag("Required: nothing is sent."),
) -> None:
    """Print what the present rules would have sent about past events."""
    require_extra("alerts")
    if not dry_run:
        raise CliError("old events are never sent again", fix="print what would have been sent: --dry-run")
    project = project_of(invocation, directory)
    command = (*part_command("alerts", project), "--replay-since", str(since))
    told = 0
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8") as process,
    ):
        for line in process.stdout or ():
            told += 1
            message = json.loads(line)
            if invocation.as_json:
                print_json_line(message)
            else:
                body = "\n".join(f"    {printable(each)}" for each in message["body"].splitlines())
                say(f"{message['at']}  {printable(message['channel'])}  {printable(message['subject'])}\n{body}\n")
        process.wait()
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip()
    if process.returncode:
        raise CliError(
            said.removeprefix(_PART_NAME) or f"the alerts' process ended: {exit_words(process.returncode)}",
            reason="REPLAY_FAILED",
            exit_code=ExitCode.UNREACHABLE if process.returncode == os.EX_TEMPFAIL else ExitCode.FAILED,
        )
    print_warnings(said.splitlines(), as_json=invocation.as_json)
    if not told and not invocation.as_json:
        say("nothing would have been sent")


def _talk(invocation: Invocation, conversation: Callable[[AlertsClient], Awaitable[R]]) -> R:
    """Ask the alerts' process of the project and return the result.

    :raises CliError: with message, reason and exit code of the error
    """
    project = project_of(invocation)
    with quiet_grpc():
        from nomaflow.client.alerts import AlertsClient, AlertsUnreachable

    async def connected() -> R:
        async with AlertsClient(project) as client:
            return await conversation(client)

    try:
        return asyncio.run(connected())
    except ClientError as error:
        code = ExitCode.UNREACHABLE if isinstance(error, AlertsUnreachable | ReplyTimeout) else ExitCode.USAGE
        raise CliError(error.message, reason=error.reason, fix=error.fix, exit_code=code) from None
