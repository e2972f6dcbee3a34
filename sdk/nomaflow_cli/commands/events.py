"""``nomaflow events``: what happened, and who asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow_cli import pages
from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import similar_caller, talk
from nomaflow_cli.options import flag, option, repeated
from nomaflow_cli.output import console, print_json_line
from nomaflow_cli.parsers import parse_moment

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.figure_reading import EventFilters
    from nomaflow.client.values import EventView

_MOST_IN_A_PAGE = 500


@remote_command("events")
def events(
    *,
    invocation: Invocation,
    kind: list[str] = repeated("Show only this kind, such as run.finished, or all of run; repeatable."),
    job: str = option("Show only events of this job and its runs."),
    run: str = option("Show only events of this run."),
    host: str = option("Show only events of this host."),
    by: str = option("Show only what this user or service asked for, or others for it."),
    acts: bool = flag("Show only what somebody asked for."),
    since: str = option("Show only events since: a span such as 1h, or an ISO 8601 time."),
    until: str = option("Show only events before: a span such as 1h, or an ISO 8601 time."),
    follow: bool = flag("Keep printing new events.", "-f"),
    tail: int = option("Number of events to show, the newest.", "-n", default=50, min=1, max=100_000),
) -> None:
    """Print stored events, oldest first.

    With -o json, each event is one object.
    """
    filters: EventFilters = {
        "kinds": kind,
        "run_id": run,
        "job_id": job,
        "host": host,
        "by": by,
        "acts": acts,
        "since": parse_moment(since, option="--since"),
        "until": parse_moment(until, option="--until"),
    }
    if follow and until:
        raise CliError("--follow and --until exclude each other: what follows comes later", fix="leave one of them out")
    out = None if invocation.as_json else console()

    def show(event: EventView) -> None:
        if out is None:
            print_json_line(event.to_json())
        else:
            out.print(pages.events.event_line(event), soft_wrap=True)

    async def ask(kernel: KernelClient) -> None:
        last = (await kernel.get_kernel()).last_event_seq if follow else 0
        newest = await _newest(kernel, filters, tail, before_seq=last + 1 if last else 0)
        if not newest:
            await kernel.check_names(job_id=job, run_ids=[run], host=host)
        for event in newest:
            show(event)
        if not newest and not follow and out is not None:
            console(stderr=True).print(f"no events match{await similar_caller(kernel, by)}")
        if follow:
            async for event in kernel.watch_events(after_seq=last, kinds=filters["kinds"], job_id=job, host=host):
                if run in ("", event.run_id) and _is_of(event, by, acts=acts):
                    show(event)

    talk(invocation, ask, retry_seconds=300)


async def _newest(kernel: KernelClient, filters: EventFilters, count: int, *, before_seq: int) -> list[EventView]:
    """Return so many of the newest events, oldest first."""
    found: list[EventView] = []
    while len(found) < count:
        size = min(count - len(found), _MOST_IN_A_PAGE)
        page = await kernel.list_events(before_seq=before_seq, page_size=size, **filters)
        found += page.events
        before_seq = page.next_before_seq
        if not before_seq:
            break
    return found[::-1]


def _is_of(event: EventView, by: str, *, acts: bool) -> bool:
    if by:
        return event.by == by or event.by.startswith(f"{by} (for ") or event.by.endswith(f" (for {by})")
    return bool(event.by) or not acts
