"""Events, one line each, and counts of runs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from nomaflow.client.values import EventView, RunCountView
from nomaflow_cli.formatting import amount, moment
from nomaflow_cli.pages.cells import Column, Rows, state
from nomaflow_cli.pages.hosts import job_changes
from nomaflow_telemetry.visible_text import printable

_KIND = 22
_TOLD = ("why", "change", "message", "released_job_ids")
"""Keys of an event's data that a person wants to see, beside the state and the reason."""


def event_line(event: EventView) -> Text:
    """Return an event as one line: when, what, about what, who, and why."""
    about = [
        event.job_id,
        event.run_id,
        event.step + (f" try {event.attempt}" if event.attempt > 1 else ""),
        event.host,
    ]
    line = Text.assemble(
        (f"{moment(event.at):<12} ", "dim"),
        f"{printable(event.kind):<{_KIND}} ",
        printable("  ".join(part for part in about if part)),
    )
    now = event.run_state or event.attempt_state
    if now and event.kind.endswith("finished"):
        line.append("  ").append(state(now))
    if event.by:
        line.append(f"  by {printable(event.by)}", style="bold")
    told = [printable(event.reason.message or event.reason.code)] if event.reason is not None else []
    told += [printable(str(event.data[key])) for key in _TOLD if event.data.get(key)]
    told += [change.plain for change in job_changes(event.data)]
    if told:
        line.append(f"  {' · '.join(dict.fromkeys(told))}", style="dim")
    return line


def counts_table(counts: Sequence[RunCountView], group_by: str) -> RenderableType:
    """Return counts of runs as a table.

    :param group_by: what they are counted by: state, job, host, trigger or tag
    """
    groups: list[Column[RunCountView]] = []
    if group_by != "state":
        groups.append(Column(group_by, lambda each: Text(printable(each.group)), folds=True))
    columns: list[Column[RunCountView]] = [
        *groups,
        Column("state", lambda each: state(each.state)),
        Column("runs", lambda each: amount(each.runs), right=True),
        Column("fires", lambda each: amount(each.fires) if each.fires != each.runs else "", right=True, from_width=60),
        Column("rows", lambda each: amount(each.rows_affected or None), right=True),
    ]
    return Rows(columns, counts)
