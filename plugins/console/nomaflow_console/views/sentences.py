"""Sentences: why a run is where it is, and the way out. What a run says of itself comes from the kernel's reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from nomaflow.client.values import JobView, PauseView, ProblemView, ReasonView, RunView
from nomaflow_console.views.durations import between, took
from nomaflow_console.views.html_pieces import text as escaped
from nomaflow_console.views.times import until
from nomaflow_telemetry.visible_text import first_line

_OWNER = re.compile(r"owner \(for (.+)\)", re.DOTALL)
_COUNTDOWN = re.compile(r"(.* starts in )[0-9.]+ [a-z]+(?: [0-9]+ [a-z]+)?")
"""The sentence of a retry that waits, which ends with the time that was left when the kernel said so."""
_RUN_ID = re.compile(r"(?:\brun )?\b(run_[0-9a-z]{22}([0-9a-z]{4}))\b")
"""The id of a run in a sentence: whole it takes a line, and hides what is said of the run."""
_ENTRY = re.compile(r"jobs\[\d+\]\.?")
_PLAIN = ("step_failed", "canceled_by_user")
"""Reasons whose way out is the log, which every page offers beside them."""
_LONGEST = 300
"""The most characters of a sentence in a list; the run's page has it whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """A sentence about a run.

    :param fix: the way out; empty if there is none, or none is needed
    :param until: the time to which the text counts down at its end; None if it does not
    """

    text: str
    fix: str = ""
    until: datetime | None = None

    def __bool__(self) -> bool:
        return bool(self.text)


def line(text: str) -> str:
    """Return the first line of a text, at most 300 characters; controls and marks of direction are spelled out."""
    first = first_line(text)
    return first if len(first) <= _LONGEST else first[: _LONGEST - 1] + "…"


def problem_place(problem: ProblemView, job_id: str = "") -> str:
    """Return where a problem is: ``jobs.toml:7, job monthly, steps[0].callable``; empty if nothing says so.

    :param job_id: the job that has it, which is named in place of its number: nobody counts the jobs of a file
    """
    path = problem.path
    if job_id and (entry := _ENTRY.match(path)) is not None:
        path = ", ".join(filter(None, (f"job {job_id}", path[entry.end() :])))
    return ", ".join(filter(None, (line(problem.place), line(path))))


def amount(number: float | None) -> str:
    """Return a number with separators of thousands; ``–`` for None."""
    if number is None:
        return "–"
    return f"{number:,.2f}" if number % 1 else f"{int(number):,}"


def counted(number: int, noun: str, nouns: str = "") -> str:
    """Return ``1 run`` or ``2 runs``.

    :param nouns: the plural where it is not the noun with an ``s``
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {nouns or noun + 's'}"


def named(names: Sequence[str], number: int) -> str:
    """Return names, and how many there are beside them.

    :param number: of all
    """
    left = number - len(names)
    return ", ".join(names) + (f" and {left:,} more" if left > 0 else "")


def reason_text(reason: ReasonView) -> str:
    """Return why something is in its state. That it was skipped is what the state says."""
    return reason.message.removeprefix("skipped: ") or reason.code.replace("_", " ")


def reason_sentence(of: Any) -> Sentence:
    """Return the reason of a run or an attempt: its error if it has one, else the reason's sentence; with the fix."""
    reason = of.reason
    text = of.error or (reason_text(reason) if reason is not None else "")
    fix = reason.fix if reason is not None and reason.code not in _PLAIN else ""
    due = _due(of) if reason is not None and reason.code == "waiting_for_retry" and not of.error else None
    return Sentence(text=line(text), fix=line(fix), until=due)


def _due(of: Any) -> datetime | None:
    """Return when the back-off of an attempt, or of a run, ends; None if that is not known."""
    tries = [step.last for step in getattr(of, "steps", ())] or [of]
    return next((each.not_before for each in tries if each.state == "PENDING" and each.not_before is not None), None)


def with_runs(text: str) -> Markup:
    """Return a text as HTML in which the id of each run is short, and a link to its page."""
    return Markup(_RUN_ID.sub(r'<a href="/runs/\1">run …\2</a>', str(escaped(text))))  # noqa: S704  # escaped


@pass_context
def told(context: Context, sentence: Sentence) -> Markup:
    """Return a sentence as HTML. The page's script counts the time at the end of one that tells how long a wait is."""
    counts = _COUNTDOWN.fullmatch(sentence.text) if sentence.until is not None else None
    if counts is None:
        return with_runs(sentence.text)
    return Markup(f"{escaped(counts[1])}{until(context, sentence.until)}")  # noqa: S704  # escaped above


def run_sentence(run: RunView) -> Sentence:
    """Return the step a run is in, or why it is where it is: empty for one that succeeded, or just runs.

    Steps and attempts are used where the run has them.
    """
    why = reason_sentence(run)
    if run.state == "RUNNING":
        return _running(run, why)
    if run.state == "FAILED":
        return Sentence(text=f"{_failed_in(run)}{why.text}", fix=why.fix)
    if run.state == "CANCELED" and run.cancel is not None:
        return Sentence(text=_canceled(run))
    return why if run.state != "SUCCEEDED" else Sentence(text="")


def _running(run: RunView, why: Sentence) -> Sentence:
    if run.cancel is not None:
        return Sentence(text=f"{_asked(run)}; its code has not stopped yet")
    if why:
        return why
    step = line(run.current_step)
    if not step:
        return Sentence(text="")
    last = next((each.last for each in run.steps if each.name == run.current_step), None)
    told = last.progress if last is not None else None
    if told is None:
        return Sentence(text=step)
    if told.total:
        share = max(min(told.done / told.total, 1.0), 0.0)
        return Sentence(text=f"{step} {share:.0%}".replace("%", " %"))
    return Sentence(text=f"{step} {amount(told.done)}" + (f" {line(told.message)}" if told.message else ""))


def _failed_in(run: RunView) -> str:
    """Return ``score: ``, or ``score, try 2 of 3: ``; empty where no step failed, or steps are not known."""
    broken = next((each for each in run.steps if each.last.state in ("FAILED", "LOST")), None)
    if broken is None:
        return ""
    most = broken.max_attempts
    tries = f", try {broken.last.attempt} of {most}" if most > 1 and broken.last.attempt else ""
    return f"{line(broken.name)}{tries}: "


def who(by: str) -> str:
    """Return the person of a principal: of ``owner (for ann)``, which whoever owns the project is, ``ann``."""
    named = _OWNER.fullmatch(by)
    return line(named[1] if named else by)


def _asked(run: RunView) -> str:
    assert run.cancel is not None
    by, why = who(run.cancel.by) or "somebody", line(run.cancel.why)
    return f'{by}: "{why}"' if why else f"{by} asked for it"


def _canceled(run: RunView) -> str:
    assert run.cancel is not None
    seconds = between(run.cancel.requested_at, run.finished_at) if run.finished_at else None
    if run.started_at is None:
        return f"{_asked(run)}; it had not started"
    return f"{_asked(run)}; stopped in {took(seconds)}" if seconds is not None else _asked(run)


def pause_sentence(pause: PauseView) -> str:
    """Return ``paused by ann: "vendor freeze"``; says so where it is the host or everything."""
    what = f"host {line(pause.host)} " if pause.host else "" if pause.job_id else "everything "
    return f"{what}paused by {who(pause.by) or 'somebody'}" + (f': "{line(pause.why)}"' if pause.why else "")


def now_sentence(job: JobView) -> str:
    """Return why nothing of a job runs now, where something hinders it and it is no pause; else empty."""
    if job.removed:
        return "its host no longer brings it"
    if not job.valid:
        return f"disabled by {counted(sum(each.severity == 'error' for each in job.problems), 'problem')}"
    if job.held:
        return line(job.held)
    if not job.enabled:
        return "switched off: enabled = false"
    return line(job.why_not_running) if job.pause is None else ""


def usually(seconds: float, *, usual: float | None, p95: float | None) -> str:
    """Return how a time compares with the usual one: ``usually 2 min 05 s``, or that it is far over; empty if unknown.

    :param p95: None where too few runs tell it
    """
    if usual is None:
        return ""
    if p95 is not None and seconds > max(p95, usual):
        return f"usually {took(usual)}, longer than 19 of 20 runs"
    return f"usually {took(usual)}"
