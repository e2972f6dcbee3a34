"""``nomaflow events``: what happened, and who asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nomaflow_cli import pages
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.output import console, print_json_line
from nomaflow_cli.values import parse_moment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from nomaflow.client import KernelClient
    from nomaflow.client.values import EventView

_MOST_IN_A_PAGE = 500


@remote_command("events")
def events(
    *,
    invocation: Invocation,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="Show only this kind, such as run.finished, or all of run; repeatable."),
    ] = None,
    job: Annotated[str, typer.Option("--job", help="Show only events of this job and its runs.")] = "",
    run: Annotated[str, typer.Option("--run", help="Show only events of this run.")] = "",
    host: Annotated[str, typer.Option("--host", help="Show only events of this host.")] = "",
    by: Annotated[str, typer.Option("--by", help="Show only what this user or service asked for.")] = "",
    acts: Annotated[bool, typer.Option("--acts", help="Show only what somebody asked for.")] = False,
    since: Annotated[
        str, typer.Option("--since", help="Show only events since: a span such as 1h, or an ISO 8601 time.")
    ] = "",
    until: Annotated[
        str, typer.Option("--until", help="Show only events before: a span such as 1h, or an ISO 8601 time.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new events.")] = False,
    tail: Annotated[
        int, typer.Option("--tail", "-n", min=1, max=100_000, help="Number of events to show, the newest.")
    ] = 50,
) -> None:
    """Print stored events, oldest first. With -o json, each event is one object."""
    begin = parse_moment(since, option="--since") if since else None
    end = parse_moment(until, option="--until") if until else None
    kinds = kind or []
    out = None if invocation.as_json else console()

    def show(found: Iterable[EventView]) -> None:
        for event in found:
            if out is None:
                print_json_line(event.to_json())
            else:
                out.print(pages.event_line(event), soft_wrap=True)

    async def newest(kernel: KernelClient, before: int, since_: datetime | None) -> list[EventView]:
        found: list[EventView] = []
        while len(found) < tail:
            page = await kernel.list_events(
                before_seq=before,
                page_size=min(tail - len(found), _MOST_IN_A_PAGE),
                kinds=kinds,
                run_id=run,
                job_id=job,
                host=host,
                by=by,
                acts=acts,
                since=since_,
                until=end,
            )
            found += page.events
            before = page.next_before_seq
            if not before:
                break
        return found[::-1]

    async def ask(kernel: KernelClient) -> None:
        last = (await kernel.get_kernel()).last_event_seq if follow else 0
        show(await newest(kernel, last + 1 if last else 0, begin))
        if follow:
            async for event in kernel.watch_events(after_seq=last, kinds=kinds, job_id=job, host=host):
                if run in ("", event.run_id) and _is_of(event, by, acts=acts):
                    show([event])

    talk(invocation, ask, retry_seconds=300)


def _is_of(event: EventView, by: str, *, acts: bool) -> bool:
    if by:
        return event.by == by or event.by.startswith(f"{by} (for ")
    return bool(event.by) or not acts
