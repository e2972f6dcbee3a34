"""Texts of a run's page: its waits, the seal of its log, how it was stopped, a report to send on."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from nomaflow.client.values import AttemptView, FoldView, JobView, RunView, StepView, iso
from nomaflow_api.byte_sizes import byte_size
from nomaflow_console.views.durations import between, took
from nomaflow_console.views.sentences import Sentence, counted, line, reason_sentence, who
from nomaflow_console.views.times import Zone, city, when
from nomaflow_telemetry.visible_text import paragraph, printable

_SIGNS = "①②③④⑤⑥⑦⑧⑨"
_MOST_DIFFERENCE = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Seal:
    """The statement on a log's completeness.

    :param css: ``complete``, ``open``, ``dropped`` or ``lost``
    """

    sign: str
    text: str
    css: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """One rung of the ladder by which a run is stopped.

    :param sign: its number in a circle
    :param what: what was done
    :param why: why the rung before was not enough
    :param seconds: the time since the run was asked to stop; since the first rung, if nobody asked
    :param next_at: when the next one follows, if the code has not stopped by then
    """

    sign: str
    what: str
    why: str
    seconds: float
    next_at: datetime | None = None


def short_id(run_id: str) -> str:
    """Return a run's id as a person tells it from others: its last characters."""
    return f"…{run_id[-4:]}" if len(run_id) > 8 else run_id


def is_kept(attempt: AttemptView) -> bool:
    """Return whether a replay has kept the output of the step from the run before, and did not run it."""
    return attempt.reason is not None and attempt.reason.code == "reused"


def error_kind(error: str) -> str:
    """Return what kind of error it is, ``LookupError``; its first line if it does not begin with a name."""
    found = re.match(r"[A-Za-z_][\w.]*(?=: |$)", error)
    return found[0] if found is not None else line(error)


def title(run: RunView, sign: str) -> str:
    """Return the title of the tab: the state first, so that one sees it among many tabs."""
    return f"{sign} {line(run.job_id)} {short_id(run.run_id)}"


def trigger_words(run: RunView, timezone: str = "") -> str:
    """Return what fired a run, and who: ``cron 0 6 * * * Paris,``, ``replay by ann``.

    :param timezone: that of its schedule, an IANA name; empty if it is not known
    """
    kind, by = run.trigger.kind, who(run.trigger.by)
    if not by:
        return kind
    if kind == "cron" and timezone:
        return f"{kind} {by} {city(timezone)},"
    return f"{kind} by {by}" if run.trigger.has_caller else f"{kind} {by}"


def schedule_zone(job: JobView | None, preset: str) -> str:
    """Return the time zone of the schedule that starts a job with a preset; empty if it is not known."""
    if job is None:
        return ""
    presets = (job.definition or {}).get("presets") or ()
    return next((each.get("timezone") or "" for each in presets if each.get("name") == preset), "") or job.timezone


def waited_seconds(run: RunView) -> float | None:
    """Return how long a run waited to start, or waits; None if it never did."""
    if run.started_at is None and run.terminal:
        return None
    return between(run.queued_at, run.started_at)


def hindrance(run: RunView) -> tuple[Sentence, str]:
    """Return why a running run does not go on, in the kernel's words, and how its step's tries went so far.

    Both are empty for a run that goes on, or is being stopped.
    """
    if run.state != "RUNNING" or run.cancel is not None or run.reason is None:
        return Sentence(text=""), ""
    why = reason_sentence(run)
    step = next((each for each in run.steps if each.name == run.current_step), None)
    failed = [each for each in step.attempts if each.state in ("FAILED", "LOST")] if step is not None else []
    if step is None or not failed:
        return why, ""
    last = failed[-1]
    error = line(last.error) or (line(last.reason.message) if last.reason is not None else "") or last.state.lower()
    number = step.last.attempt + (step.last is last)
    return why, f"try {number} of {max(step.max_attempts, number)}; before: {error}"


def failed_try(run: RunView) -> tuple[StepView, AttemptView] | None:
    """Return the try that failed a run: the last one of the step that did not succeed."""
    for step in run.steps:
        if step.last.state in ("FAILED", "LOST"):
            return step, step.last
    return None


def seal_of(attempt: AttemptView, *, terminal: bool) -> Seal:
    """Return whether the log of a try is known to be whole.

    :param terminal: True if its run is over
    """
    log = attempt.log
    if attempt.state == "LOST":
        return Seal(sign="?", text="the host was lost: what it had not sent is missing", css="lost")
    lines = log.lines if log is not None else 0
    if log is not None and log.dropped_lines:
        dropped = counted(log.dropped_lines, "line")
        return Seal(sign="▲", text=f"{dropped} ({byte_size(log.dropped_bytes)}) dropped: max_log_bytes", css="dropped")
    if log is not None and log.lost_lines:
        return Seal(sign="?", text=f"{counted(log.lost_lines, 'line')} lost: the host could not read them", css="lost")
    if log is not None and log.complete:
        return Seal(sign="●", text=f"complete: {counted(lines, 'line')}, none missing", css="complete")
    if attempt.state in ("SKIPPED", "PENDING") or attempt.child_run_id or (terminal and not lines):
        return Seal(sign="○", text="it has no log", css="complete")
    return Seal(sign="◐", text=f"open: {counted(lines, 'line')} so far", css="open")


def seal_of_run(run: RunView) -> Seal:
    """Return whether the whole log of a run is known to be whole: as much as its worst try."""
    seals = [seal_of(attempt, terminal=run.terminal) for step in run.steps for attempt in step.attempts]
    for css in ("lost", "dropped"):
        found = next((seal for seal in seals if seal.css == css), None)
        if found is not None:
            return found
    if any(seal.css == "open" for seal in seals) or not run.terminal:
        return Seal(sign="◐", text=f"open: {counted(run.log_lines, 'line')} so far", css="open")
    return Seal(sign="●", text=f"complete: {counted(run.log_lines, 'line')}, none missing", css="complete")


def rungs(run: RunView, attempt: AttemptView) -> tuple[Rung, ...]:
    """Return the ladder by which a try was stopped, or is being stopped, with its end as the last rung."""
    stop = attempt.stop
    if stop is None or not stop.rungs:
        return ()
    first = stop.rungs[0]
    asked = run.cancel.requested_at if run.cancel is not None else None
    begun = asked if asked is not None and first.at is not None and asked <= first.at else first.at
    found = [
        Rung(
            sign=_SIGNS[min(rung.rung, len(_SIGNS)) - 1] if rung.rung > 0 else "·",
            what=line(rung.what),
            why="" if rung is first and run.cancel is not None else line(rung.why),
            seconds=_since(begun, rung.at, rung.after_seconds),
            next_at=rung.next_at if rung is stop.rungs[-1] and stop.stopped_at is None else None,
        )
        for rung in stop.rungs
    ]
    if stop.stopped_at is not None:
        found.append(Rung(sign="●", what="proven stopped", why="", seconds=_since(begun, stop.stopped_at, 0.0)))
    return tuple(found)


def _since(begun: datetime | None, at: datetime | None, otherwise: float) -> float:
    return max(0.0, (at - begun).total_seconds()) if begun is not None and at is not None else otherwise


def difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the lines in which two definitions differ, each with what it is: ``+``, ``-``, ``@`` or a blank."""
    old, new = (json.dumps(each, indent=2, sort_keys=True, ensure_ascii=False).splitlines() for each in (then, now))
    lines = difflib.unified_diff(old, new, lineterm="", n=2)
    return [(each[0], printable(each[1:])) for each in list(lines)[2 : 2 + _MOST_DIFFERENCE] if each]


def written_report(run: RunView, *, address: str, error_line: str) -> str:
    """Return what somebody else needs to know of a failed run, as text to send on.

    :param address: of the run's page
    :param error_line: the message with the traceback, if there is one
    """
    return "\n".join(_report(run, address, error_line)) + "\n"


def _report(run: RunView, address: str, error_line: str) -> Iterator[str]:
    yield f"{line(run.job_id)} {run.state.lower()}: {line(run.error or (run.reason.message if run.reason else ''))}"
    yield f"run      {run.run_id}"
    yield f"page     {address}"
    yield f"trigger  {trigger_words(run)}"
    yield f"queued   {iso(run.queued_at) or '-'}"
    yield f"finished {iso(run.finished_at) or '-'} after {took(between(run.started_at, run.finished_at))}"
    failed = failed_try(run)
    if failed is not None:
        step, attempt = failed
        yield f"step     {line(step.name)}, try {attempt.attempt} of {max(step.max_attempts, attempt.attempt)}"
        yield f"on       {attempt.host} pid {attempt.worker_pid}, generation {attempt.generation}"
        yield f"values   {printable(json.dumps(dict(attempt.kwargs), ensure_ascii=False))}"
    if run.params:
        yield f"params   {printable(json.dumps(dict(run.params), ensure_ascii=False))}"
    if error_line:
        yield ""
        yield paragraph(error_line, indent=0)


@pass_context
def clock(context: Context, at: datetime, timezone: str = "", *, days: int = 0) -> str:
    """Return a time of day in the page's zone, for an axis; with its day on one of several days."""
    zone: Zone = context["zone"]
    local = at.astimezone(zone.for_job(timezone)[0])
    return f"{local.day} {local:%b %H:%M}" if days else f"{local:%H:%M:%S}"


@pass_context
def fires_of(context: Context, fold: FoldView, timezone: str) -> Markup:
    """Return the fires that a run stands for, and when they were, to the second: several may be of one minute.

    It is empty for one fire: its time is that of the run.
    """
    if fold.count == 1:
        return Markup("")
    first, last = (when(context, at, timezone=timezone, seconds=True) for at in (fold.first, fold.last))
    return Markup("{} from {} to {}").format(counted(fold.count, "fire"), first, last)
