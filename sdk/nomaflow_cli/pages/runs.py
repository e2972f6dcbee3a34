"""Pages about runs: the list, one run for ``show``, and its summary at the end of ``run --follow``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nomaflow.client.values import AttemptView, ReasonView, RunView, StepView
from nomaflow_api.time_spans import time_span
from nomaflow_cli.formatting import Excerpt, age, amount, count, elapsed, extras_text, moment, sign, trigger_words
from nomaflow_cli.pages.attempts import attempt_notes, log_seal, values_table
from nomaflow_cli.pages.cells import Column, Rows, facts, run_state, state, when, why
from nomaflow_cli.wrapping import Hanging
from nomaflow_telemetry.visible_text import first_line, paragraph, printable


def runs_table(runs: Sequence[RunView]) -> RenderableType:
    """Return runs as a table."""
    columns: list[Column[RunView]] = [
        Column("run", lambda run: Text(printable(run.run_id), no_wrap=True), min_width=30),
        Column("job", lambda run: Text(printable(run.job_id)), folds=True),
        Column("state", _state_and_folds),
        Column("started by", _started_by, from_width=70),
        Column("took", _took, right=True, from_width=90),
        Column("rows", lambda run: amount(run.rows_affected), right=True, from_width=90),
        Column("why", _why, loose=True, from_width=110),
    ]
    return Rows(columns, runs)


def _state_and_folds(run: RunView) -> Text:
    folds = f" ×{run.fold.count}" if run.fold and run.fold.count > 1 else ""
    return run_state(run) + Text(folds, style="dim")


def _started_by(run: RunView) -> Text:
    """Return the trigger of a run and how long ago it fired, or the day if that is long ago."""
    at = run.started_at or run.queued_at
    old = at is not None and (datetime.now(UTC) - at).days >= 1
    return Text.assemble(f"{printable(run.trigger.kind)} ", (moment(at) if old else age(at), "dim"))


def _took(run: RunView) -> str:
    return elapsed(run.started_at, run.finished_at)


def _why(run: RunView) -> Text:
    text = run.error.splitlines()[0] if run.error else run.reason.message or run.reason.code if run.reason else ""
    return Text(printable(text), overflow="ellipsis", no_wrap=True)


def headline(run: RunView) -> Text:
    """Return the run's outcome in one line."""
    glyph, style = sign(run.state)
    text = Text.assemble((f"{glyph} ", style), (printable(run.job_id), "bold"))
    text.append(f" {run_state(run).plain.split(' ', 1)[-1]}", style=f"{style} bold")
    if run.terminal and run.started_at is not None:
        text.append(f" in {_took(run)}")
    elif since := run.started_at if run.cancel is None else run.cancel.requested_at:
        text.append(f" for {elapsed(since, None)}")
    if run.rows_affected is not None:
        text.append(f" · {count(run.rows_affected, 'row')}")
    if run.log_lines:
        text.append(f" · {count(run.log_lines, 'log line')}")
    return text


def started_line(run: RunView) -> RenderableType:
    """Return the answer to a trigger without ``--follow``."""
    text = Text.assemble(run_state(run), "  ", (printable(run.job_id), "bold"), f"  {printable(run.run_id)}")
    if run.reason is not None and run.reason.message:
        text.append(f"  {printable(run.reason.message)}", style="dim")
        text.append(f"\n  → {printable(run.reason.fix)}" if run.reason.fix else "")
    return Hanging(text.append(f"\n  nomaflow logs {printable(run.run_id)} --follow", style="dim"))


def started_page(run: RunView) -> RenderableType:
    """Return the summary of a run if it is over, else the answer to its trigger."""
    if not run.terminal:
        return started_line(run)
    log = Hanging(Text(f"log: nomaflow logs {printable(run.run_id)}", style="dim"))
    return Group(summary(run), log) if run.log_lines else summary(run)


def summary(run: RunView) -> RenderableType:
    """Return outcome, steps with rows and extras, and the reason of a failure."""
    cut = [_whole(run)] if any(map(_is_cut, run.steps)) else []
    return Group(headline(run), *([_steps_table(run)] if run.steps else ()), *cut, *_trouble(run))


def _is_cut(step: StepView) -> bool:
    return Excerpt.of_extras(step.last.extras).is_cut


def _whole(run: RunView) -> Hanging:
    """Return how to see all of what a page has cut."""
    return Hanging(Text(f"shortened; whole: nomaflow show {printable(run.run_id)} -o json", style="dim"))


def run_page(run: RunView) -> RenderableType:
    """Return everything about a run except its log."""
    parts: list[RenderableType] = [headline(run), Padding(_facts(run), (1, 0, 1, 2))]
    if run.steps:
        parts.append(_steps_table(run))
    if any(len(step.attempts) > 1 for step in run.steps):
        parts.append(_attempts_table(run))
    parts.extend(_trouble(run))
    given = {step.name: step.last.kwargs for step in run.steps if step.last.kwargs}
    if given:
        parts += [Text("\nvalues", style="dim"), Padding(values_table(given), (0, 0, 0, 2))]
    if any(map(_is_cut, run.steps)) or any(Excerpt.of(each).is_cut for each in (run.params, *given.values())):
        parts.append(_whole(run))
    parts.extend(attempt_notes(run))
    if run.log_lines:
        log = Text(f"\nlog: nomaflow logs {printable(run.run_id)}  ({log_seal(run)})", style="dim")
        parts.append(Hanging(log))
    return Group(*parts)


def _steps_table(run: RunView) -> RenderableType:
    """Return the steps with their last attempt."""
    columns: list[Column[StepView]] = [
        Column("step", lambda step: Text(printable(step.name)) + Text(_tries(step), style="dim"), folds=True),
        Column("state", lambda step: state(step.last.state)),
        Column("took", lambda step: _attempt_took(step.last), right=True, from_width=64),
        Column("rows", lambda step: amount(step.last.rows_affected), right=True, from_width=50),
        Column("result", lambda step: _result(step.last), loose=True),
    ]
    return Rows(columns, run.steps)


def _tries(step: StepView) -> str:
    return f"  try {step.last.attempt}" if step.last.attempt > 1 else ""


def _attempt_took(attempt: AttemptView) -> str:
    return elapsed(attempt.started_at, attempt.finished_at)


def _result(attempt: AttemptView) -> Text:
    if attempt.state == "RUNNING" and attempt.progress is not None:
        total = f" of {amount(attempt.progress.total)}" if attempt.progress.total else ""
        return Text(f"{amount(attempt.progress.done)}{total}  {printable(attempt.progress.message)}", style="cyan")
    if attempt.child_run_id:
        told = {key: value for key, value in attempt.extras.items() if not key.startswith("child_")}
        ran = Text(printable(f"ran {attempt.child_run_id} of {attempt.child_job_id}"), style="dim")
        return ran.append(f"  {extras_text(told)}" if told else "", style="default")
    if not attempt.extras and attempt.state == "SKIPPED" and attempt.reason is not None:
        return Text(printable(attempt.reason.message or attempt.reason.code), style="dim")
    return Text(extras_text(attempt.extras))


def _attempts_table(run: RunView) -> RenderableType:
    columns: list[Column[tuple[StepView, AttemptView]]] = [
        Column("attempt", lambda row: Text(f"{printable(row[0].name)} {row[1].attempt}"), folds=True),
        Column("state", lambda row: state(row[1].state)),
        Column("started", lambda row: when(row[1].started_at)),
        Column("took", lambda row: _attempt_took(row[1]), right=True),
        Column("worker", lambda row: _worker(row[1])),
        Column("why", lambda row: Text(first_line(why(row[1]))), loose=True),
    ]
    return Rows(columns, [(step, attempt) for step in run.steps for attempt in step.attempts])


def _worker(attempt: AttemptView) -> str:
    return printable(f"{attempt.host} pid {attempt.worker_pid}" if attempt.worker_pid else attempt.host)


def _trouble(run: RunView) -> Iterator[RenderableType]:
    """Yield the failures step by step, and the run's own reason if no step has stated it."""
    codes = set()
    for step in run.steps:
        last = step.last
        if last.state not in ("FAILED", "CANCELED", "LOST"):
            continue
        line = Text.assemble(sign(last.state), " ", (printable(step.name), "bold"), "  ")
        yield line.append(paragraph(why(last), indent=2))
        if last.reason is not None:
            codes.add(last.reason.code)
            sentence = f": {printable(last.reason.message)}" if last.reason.message not in ("", why(last)) else ""
            yield Text(f"  {printable(last.reason.code)}{sentence}", style="dim")
            yield from _fix(last.reason)
    if run.reason is not None and run.reason.code not in codes:
        yield Text(f"  {printable(run.reason.code)}: {paragraph(run.reason.message, indent=2)}", style="dim")
        yield from _fix(run.reason)


def _fix(reason: ReasonView) -> Iterator[Hanging]:
    if reason.fix:
        yield Hanging(Text(f"  → {paragraph(reason.fix, indent=4)}"))


def _params(params: Mapping[str, Any]) -> str:
    excerpt = Excerpt.of(params)
    return ", ".join([*(f"{key} = {text}" for key, text in excerpt.texts), *filter(None, [excerpt.rest])])


def _facts(run: RunView) -> Table:
    children = [one.child_run_id for step in run.steps for one in step.attempts if one.child_run_id]
    started, finished, waited, cancel = run.started_at, run.finished_at, "", ""
    if started is not None and run.queued_at is not None:
        waited = time_span((started - run.queued_at).total_seconds())
    if run.cancel is not None:
        cancel = f"requested by {run.cancel.by or 'unknown'}" + (f": {run.cancel.why}" if run.cancel.why else "")
    return facts(
        ("run", run.run_id),
        ("trigger", trigger_words(run.trigger)),
        ("queued", when(run.queued_at)),
        ("started", when(started) if started else ""),
        ("finished", when(finished) if finished else ""),
        ("waited", waited),
        ("host", run.host),
        ("preset", run.preset),
        ("params", _params(run.params)),
        ("called by", " › ".join(f"{one.job_id} {one.run_id}" for one in run.parent_chain)),
        ("replay of", run.replay_of),
        ("stands for", count(run.fold.count, "fire") if run.fold and run.fold.count > 1 else ""),
        ("cancel", cancel),
        ("started runs", ", ".join(children)),
    )
