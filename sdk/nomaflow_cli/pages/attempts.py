"""Prints an attempt's values, stop, end and log seal on the page of a run, and a look at a running attempt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.table import Column as GridColumn
from rich.table import Table
from rich.text import Text

from nomaflow.client.values import AttemptView, InspectionView, ProcessView, RunView, StepView
from nomaflow_api.byte_sizes import byte_size
from nomaflow_api.time_spans import time_span
from nomaflow_cli.formatting import Excerpt, amount, count
from nomaflow_cli.pages.cells import Column, Rows, when
from nomaflow_telemetry.visible_text import paragraph, printable


def values_table(by_step: Mapping[str, Mapping[str, object]]) -> Table:
    """Return the first values of each step."""
    columns = GridColumn(no_wrap=True), GridColumn(style="dim", no_wrap=True), GridColumn(overflow="fold")
    shape = Table.grid(*columns, padding=(0, 2))
    for step, values in by_step.items():
        excerpt = Excerpt.of(values)
        rows = [(key, Text(text)) for key, text in excerpt.texts]
        note = excerpt.rest if rows else "no values"
        rows += [("", Text(note, style="dim"))] if note else []
        for number, (key, text) in enumerate(rows):
            shape.add_row("" if number else printable(step), key, text)
    return shape


def attempt_notes(run: RunView) -> Iterator[RenderableType]:
    """Yield how attempts were stopped, how their processes ended, and what was noted about them."""
    for step in run.steps:
        for attempt in step.attempts:
            lines = [*_stop_lines(attempt), *_end_lines(attempt)]
            if lines:
                name = Text.assemble("\n", (printable(step.name), "bold"), (_try(step, attempt), "dim"))
                yield Text("\n").join([name, *lines])


def _try(step: StepView, attempt: AttemptView) -> str:
    return f"  try {attempt.attempt} of {step.max_attempts}" if step.max_attempts > 1 or attempt.attempt > 1 else ""


def _stop_lines(attempt: AttemptView) -> Iterator[Text]:
    if attempt.stop is None:
        return
    for rung in attempt.stop.rungs:
        line = Text.assemble((f"  {time_span(rung.after_seconds):>8}  ", "dim"), (f"{rung.rung} ", "yellow"))
        yield line.append(printable(f"{rung.what} ({rung.why})" if rung.why else rung.what))
    first, stopped = attempt.stop.rungs[0].at if attempt.stop.rungs else None, attempt.stop.stopped_at
    if stopped is None:
        if not attempt.finished_at:
            yield Text("            being stopped", style="yellow")
        return
    seconds = (stopped - first).total_seconds() if first is not None else 0.0
    yield Text.assemble(
        (f"  {time_span(seconds):>8}  ", "dim"), ("✔ ", "green"), "stopped: none of its code runs any more"
    )


def _end_lines(attempt: AttemptView) -> Iterator[Text]:
    if attempt.exit is not None:
        yield Text.assemble(("  process  ", "dim"), printable(attempt.exit.text))
    for warning in attempt.warnings:
        yield Text.assemble(("  ! ", "yellow"), paragraph(warning, indent=4))


def log_seal(run: RunView) -> str:
    """Return whether the log of a run is all there is: complete, open, or what is missing of it."""
    logs = [attempt.log for step in run.steps for attempt in step.attempts if attempt.log is not None]
    dropped, lost = sum(log.dropped_lines for log in logs), sum(log.lost_lines for log in logs)
    told = [f"{count(run.log_lines, 'line')}"]
    if dropped:
        size = sum(log.dropped_bytes for log in logs)
        told.append(f"{count(dropped, 'line')} of {amount(size)} bytes dropped by max_log_bytes")
    if lost:
        told.append(f"{count(lost, 'line')} lost by the host")
    states = {attempt.state for step in run.steps for attempt in step.attempts}
    if "LOST" in states:
        told.append("what a lost host had not sent is missing")
    elif not run.terminal:
        told.append("open")
    elif all(log.complete for log in logs):
        told.append("complete" if not dropped else "nothing else is missing")
    elif not lost:
        told.append("events of the host are missing")
    return ", ".join(told)


def inspection_page(seen: InspectionView) -> RenderableType:
    """Return what a host sees of a running attempt."""
    head = Text.assemble(
        (printable(seen.attempt_key), "bold"), f" on host {printable(seen.host)}  ", when(seen.seen_at)
    )
    parts: list[RenderableType] = [head]
    if seen.processes:
        columns: list[Column[ProcessView]] = [
            Column("pid", lambda one: str(one.pid), right=True),
            Column("parent", lambda one: str(one.ppid), right=True, from_width=70),
            Column("state", lambda one: printable(one.state)),
            Column("memory", lambda one: byte_size(one.rss_bytes), right=True),
            Column("cpu", lambda one: time_span(one.cpu_seconds), right=True),
            Column("started", lambda one: when(one.started_at), from_width=90),
            Column("command", lambda one: Text(printable(one.command)), loose=True),
        ]
        parts += ["", Rows(columns, seen.processes)]
    for stack in seen.stacks:
        title = Text.assemble("\n", ("● " if stack.of_attempt else "○ ", "cyan"), (printable(stack.name), "bold"))
        frames = Text("\n").join(Text(f"    {printable(frame)}") for frame in stack.frames)
        parts += [title.append("" if stack.of_attempt else "  not the attempt's own", style="dim"), frames]
    if seen.note:
        parts.append(Text(f"\n! {printable(seen.note)}", style="yellow"))
    return Group(*parts)
