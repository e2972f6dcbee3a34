"""``nomaflow cron``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from nomaflow_cli.commands.processes import require_extra
from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation, local_command
from nomaflow_cli.output import print_json
from nomaflow_cli.values import parse_instant

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("cron")(local_command(cron))


def cron(
    *,
    invocation: Invocation,
    expression: Annotated[
        str, typer.Argument(help="Cron expression of five or six fields, or a name such as @daily; quote it.")
    ] = "",
    tz: Annotated[str, typer.Option("--tz", help="IANA time zone.")] = "UTC",
    start: Annotated[
        str, typer.Option("--from", help="Start, as an ISO 8601 time; UTC if it has no zone; default: now.")
    ] = "",
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=10_000, help="Number of fires to print.")] = 5,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch", help="Read JSON lines {expr, tz, from, n} from standard input and print one line for each."
        ),
    ] = False,
) -> None:
    """Print the next fires of a cron expression as ISO 8601 times in UTC."""
    require_extra("kernel")
    if batch:
        _batch()
        return
    if not expression:
        raise CliError("no cron expression", fix="give one, as in: nomaflow cron '*/5 * * * *', or --batch")
    from nomaflow_project.check.planning import cron_fires
    from nomaflow_project.cron import CronError

    try:
        fires = cron_fires(expression, tz, _start(start), count)
    except CronError as error:
        raise CliError(str(error), reason="BAD_CRON") from None
    if invocation.as_json:
        print_json({"expression": expression, "timezone": tz, "fires": fires})
    else:
        print("\n".join(fires))


def _batch() -> None:
    from nomaflow_project.check.planning import cron_batch

    for answer in cron_batch(sys.stdin, now=lambda: datetime.now(UTC)):
        print(answer, flush=True)


def _start(text: str) -> datetime:
    """Return the start; a time without a zone is UTC, as everything this command prints."""
    if not text:
        return datetime.now(UTC)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return parse_instant(text, option="--from")
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
