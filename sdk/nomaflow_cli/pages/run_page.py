"""The page of one run: for ``show``, and its summary at the end of ``run --follow``."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nomaflow.client.values import AttemptView, RunView, StepView
from nomaflow_cli.pages.cells import FittingTable, grid, run_state, state, table, took, when
from nomaflow_cli.wording import GLYPHS, STYLES, amount, count, duration, elapsed, extras_text, paragraph, printable

__all__ = ["headline", "run_page", "started_line", "steps_table", "summary"]


def headline(run: RunView) -> Text:
    """Return the run's outcome in one line."""
    style = STYLES.get(run.state, "")
    text = Text.assemble((f"{GLYPHS.get(run.state, '·')} ", style), (printable(run.job_id), "bold"))
    text.append(f" {run_state(run).plain.split(' ', 1)[-1]}", style=f"{style} bold")
    facts = []
    if run.terminal and run.started_at is not None:
        text.append(f" in {took(run)}")
    elif since := run.started_at if run.cancel is None else run.cancel.requested_at:
        text.append(f" for {elapsed(since, None)}")
    if run.rows_affected is not None:
        facts.append(count(run.rows_affected, "row"))
    if run.log_lines:
        facts.append(count(run.log_lines, "log line"))
    return text.append(" · ".join(["", *facts]) if facts else "", style="")


def started_line(run: RunView) -> Text:
    """Return the answer to a trigger without ``--follow``."""
    text = Text.assemble(run_state(run), "  ", (printable(run.job_id), "bold"), f"  {run.run_id}")
    if run.reason is not None and run.reason.message:
        text.append(f"  {printable(run.reason.message)}", style="dim")
    return text.append(f"\n  nomaflow logs {run.run_id} --follow", style="dim")


def summary(run: RunView) -> RenderableType:
    """Return outcome, steps with rows and extras, and the reason of a failure."""
    parts: list[RenderableType] = [headline(run)]
    if run.steps:
        parts.append(steps_table(run))
    parts.extend(_trouble(run))
    return Group(*parts)


def run_page(run: RunView) -> RenderableType:
    """Return everything about a run except its log."""
    parts: list[RenderableType] = [headline(run), Padding(_facts(run), (1, 0, 1, 2))]
    if run.steps:
        parts.append(steps_table(run))
    if any(len(step.attempts) > 1 for step in run.steps):
        parts.append(_attempts_table(run))
    parts.extend(_trouble(run))
    if run.log_lines:
        parts.append(Text(f"\nlog: nomaflow logs {run.run_id}", style="dim"))
    return Group(*parts)


def steps_table(run: RunView) -> RenderableType:
    """Return the steps with their last attempt."""
    return FittingTable(
        headers=("step", "state", "took", "rows", "result"),
        rows=tuple(_step_row(step) for step in run.steps),
        spare={"took": 64, "rows": 50},
        right=("took", "rows"),
        loose=("result",),
    )


def _step_row(step: StepView) -> tuple[RenderableType, ...]:
    last = step.last
    return (
        Text(printable(step.name)) + Text(_tries(step), style="dim"),
        state(last.state),
        elapsed(last.started_at, last.finished_at),
        amount(last.rows_affected),
        _result(last),
    )


def _tries(step: StepView) -> str:
    return f"  try {step.last.attempt}" if step.last.attempt > 1 else ""


def _result(attempt: AttemptView) -> Text:
    if attempt.state == "RUNNING" and attempt.progress is not None:
        total = f" of {amount(attempt.progress.total)}" if attempt.progress.total else ""
        return Text(f"{amount(attempt.progress.done)}{total}  {printable(attempt.progress.message)}", style="cyan")
    if attempt.child_run_id:
        told = {key: value for key, value in attempt.extras.items() if not key.startswith("child_")}
        ran = Text(f"ran {attempt.child_run_id} of {printable(attempt.child_job_id)}", style="dim")
        return ran.append(f"  {extras_text(told)}" if told else "", style="default")
    if attempt.extras:
        return Text(extras_text(attempt.extras))
    if attempt.state == "SKIPPED" and attempt.reason is not None:
        return Text(printable(attempt.reason.message or attempt.reason.code), style="dim")
    return Text("")


def _attempts_table(run: RunView) -> RenderableType:
    shape = table("attempt", "state", "started", "took", "worker", "why", right=("took",), loose=("why",))
    for step in run.steps:
        for one in step.attempts:
            worker = f"{one.host} pid {one.worker_pid}" if one.worker_pid else one.host
            why = one.error or (one.reason.message if one.reason else "")
            shape.add_row(
                Text(f"{printable(step.name)} {one.attempt}"),
                state(one.state),
                when(one.started_at),
                elapsed(one.started_at, one.finished_at),
                worker,
                Text(printable(why.splitlines()[0] if why else "")),
            )
    return shape


def _trouble(run: RunView) -> Iterator[RenderableType]:
    """Yield the failures step by step, and the run's own reason if no step has stated it."""
    codes = set()
    for step in run.steps:
        last = step.last
        if last.state not in ("FAILED", "CANCELED", "LOST"):
            continue
        text = last.error or (last.reason.message if last.reason else "")
        style = STYLES[last.state]
        line = Text.assemble((f"{GLYPHS[last.state]} ", style), (printable(step.name), "bold"), "  ")
        line.append(paragraph(text, indent=2))
        yield line
        if last.reason is not None:
            codes.add(last.reason.code)
            sentence = f": {printable(last.reason.message)}" if last.reason.message not in ("", text) else ""
            yield Text(f"  {last.reason.code}{sentence}", style="dim")
    if run.reason is not None and run.reason.code not in codes:
        yield Text(f"  {run.reason.code}: {paragraph(run.reason.message, indent=2)}", style="dim")


def _facts(run: RunView) -> Table:
    shape = grid()
    shape.add_row("run", run.run_id)
    shape.add_row("trigger", f"{run.trigger.kind}" + (f" by {printable(run.trigger.by)}" if run.trigger.by else ""))
    shape.add_row("queued", when(run.queued_at))
    if run.started_at is not None:
        shape.add_row("started", when(run.started_at))
    if run.finished_at is not None:
        shape.add_row("finished", when(run.finished_at))
    for name, value in _more_facts(run):
        shape.add_row(name, printable(value))
    return shape


def _more_facts(run: RunView) -> Iterator[tuple[str, str]]:
    if run.started_at is not None and run.queued_at is not None:
        yield "waited", duration((run.started_at - run.queued_at).total_seconds())
    if run.host:
        yield "host", run.host
    if run.preset:
        yield "preset", run.preset
    if run.params:
        yield "params", json.dumps(run.params, ensure_ascii=False)
    if run.parent_chain:
        yield "called by", " › ".join(f"{one.job_id} {one.run_id}" for one in run.parent_chain)
    if run.replay_of:
        yield "replay of", run.replay_of
    if run.fold is not None:
        yield "stands for", f"{run.fold.count} fires"
    if run.cancel is not None:
        why = f": {run.cancel.why}" if run.cancel.why else ""
        yield "cancel", f"requested by {run.cancel.by or 'unknown'}{why}"
    children = [one.child_run_id for step in run.steps for one in step.attempts if one.child_run_id]
    if children:
        yield "started runs", ", ".join(children)
