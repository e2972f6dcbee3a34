"""Events as sentences: who did what to which run, job or host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import groupby
from typing import Any

from markupsafe import Markup

from nomaflow.client.values import EventView
from nomaflow_console.views.sentences import amount, counted, line, named, reason_text
from nomaflow_console.views.states import StateSign, sign_of

KINDS = (
    ("run", "runs"),
    ("attempt", "tries"),
    ("attempt.progress", "progress"),
    ("job", "jobs"),
    ("host", "hosts"),
    ("pause", "pauses"),
    ("kernel", "kernel"),
)
"""The kinds of events that the page offers as filters, and their words."""
_OF_TRIES = tuple(
    f"attempt.{what}" for what in ("pending", "dispatched", "started", "stopping", "finished", "late_result")
)
"""The events of a try but its progress, of which a step that runs may have one a second."""
_MOST_NAMES = 5
_CHANGES = (
    ("added_job_ids", "added_count", "new"),
    ("removed_job_ids", "removed_count", "gone"),
    ("stopped_schedules", "stopped_count", "fire no more"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Deed:
    """An event as a line of the page.

    :param what: what stands before the object's name: ``cancelled``; empty where the object did something itself
    :param then: what stands after the object's name, with the blank or the comma before it; may be empty
    :param detail: what else there is to say; may be empty
    """

    sign: StateSign
    what: str
    then: str = ""
    detail: str = ""


def _sign(sign: str, css: str) -> StateSign:
    return StateSign(sign=sign, word="", css=css)


def _text(event: EventView, key: str) -> str:
    found = event.data.get(key)
    return line(found) if isinstance(found, str) else ""


def _number(event: EventView, key: str) -> int:
    found = event.data.get(key)
    return found if isinstance(found, int) else 0


def _list(event: EventView, key: str) -> list[Any]:
    found = event.data.get(key)
    return list(found) if isinstance(found, list | tuple) else []


def _names(event: EventView, key: str, counted: str) -> str:
    """Return at most five names, and how many more there are: the event itself has at most 50."""
    listed = [str(name) for name in _list(event, key)]
    return named(listed[:_MOST_NAMES], max(len(listed), _number(event, counted)))


def _quoted(event: EventView) -> str:
    why = _text(event, "why")
    return f"“{why}”" if why else ""


def _reason(event: EventView) -> str:
    return line(reason_text(event.reason)) if event.reason is not None else ""


def _try(event: EventView) -> str:
    return f"{event.step}, try {event.attempt}," if event.step else "a try"


_WAYS = {"cli": "on the command line", "api": "through the API"}


def _queued(event: EventView) -> Deed:
    kind = _text(event, "trigger")
    verb = {"replay": "replayed", "cron": "fired", "call_job": "called"}.get(kind, "started")
    return Deed(sign=_sign("▷", "running"), what=verb, detail=_WAYS.get(kind, ""))


def _began(_: EventView) -> Deed:
    return Deed(sign=_sign("▶", "running"), what="", then=" began")


_ENDS = {
    "SUCCEEDED": "succeeded", "FAILED": "failed", "CANCELED": "was canceled", "SKIPPED": "was skipped",
    "MISSED": "was missed", "LOST": "was lost",
}  # fmt: skip


def _ended(state: str) -> str:
    return _ENDS.get(state) or f"ended {sign_of(state).word}"


def _finished(event: EventView) -> Deed:
    """Return the end of a run. A person is named where the run was over at once: by whoever wanted to start it."""
    rows = _number(event, "rows_affected")
    detail = _text(event, "error") or _reason(event) or (counted(rows, "row") if rows else "")
    then = f"{', which' if event.by else ''} {_ended(event.run_state)}{':' if detail else ''}"
    return Deed(sign=sign_of(event.run_state), what="started" if event.by else "", then=then, detail=detail)


def _attempt_finished(event: EventView) -> Deed:
    state = event.attempt_state
    return Deed(sign=sign_of(state), what=f"{_try(event)} {_ended(state)} in", detail=_text(event, "error"))


def _changes(event: EventView) -> str:
    parts = [f"generation {_number(event, 'generation')}", counted(_number(event, "jobs"), "job")]
    parts += [f"{word}: {_names(event, key, number)}" for key, number, word in _CHANGES if _list(event, key)]
    return " · ".join(parts)


def _refusal(event: EventView) -> str:
    first = next(
        (each["message"] for each in _list(event, "problems") if isinstance(each, dict) and "message" in each), ""
    )
    message, problem = _text(event, "message"), line(str(first))
    return message if problem in message else ": ".join(filter(None, [message, problem]))


def _changed(event: EventView) -> Deed:
    return Deed(sign=_sign("✎", "off"), what=f"job {_text(event, 'change') or 'changed'}:")


def _late(event: EventView) -> Deed:
    state = _text(event, "state").lower() or "not known"
    return Deed(sign=_sign("◷", "warning"), what=f"a result came late ({state}); the state stays:")


def _progress(event: EventView) -> Deed:
    told = event.data.get("progress")
    told = told if isinstance(told, dict) else {}
    message = told.get("message")
    if isinstance(message, str) and message:
        then, detail = ":", line(message)
    elif "done" in told and told.get("total"):
        then, detail = " reached", f"{_figure(told['done'])} of {_figure(told['total'])}"
    else:
        then, detail = " goes on", ""
    return Deed(sign=_sign("▶", "running"), what=f"{_try(event)} in", then=then, detail=detail)


def _figure(told: Any) -> str:
    return amount(told) if isinstance(told, int | float) else str(told)


def _version(event: EventView) -> str:
    return f"version {_text(event, 'version') or '?'}, epoch {_number(event, 'epoch')}"


def _process(event: EventView) -> str:
    machine = _text(event, "machine")
    return f"{machine}, pid {_number(event, 'pid')}" if machine else ""


def _cause(event: EventView) -> str:
    return _reason(event) or _text(event, "why") or _text(event, "what") or _text(event, "evidence")


_DEEDS: Mapping[str, Callable[[EventView], Deed]] = {
    "run.queued": _queued,
    "run.started": _began,
    "run.finished": _finished,
    "attempt.finished": _attempt_finished,
    "attempt.late_result": _late,
    "attempt.progress": _progress,
    "job.changed": _changed,
}
_PLAIN: Mapping[str, tuple[str, str, str, Callable[[EventView], str]]] = {
    "run.cancel_requested": ("⊘", "canceled", "asked to cancel", _quoted),
    "attempt.pending": ("◔", "waits", "{try} waits in", _cause),
    "attempt.dispatched": ("▷", "running", "{try} was sent to its host, in", _cause),
    "attempt.started": ("▶", "running", "{try} began in", _cause),
    "attempt.stopping": ("◑", "stopping", "{try} is being stopped in", _cause),
    "host.attached": ("✓", "ok", "an instance attached to", _process),
    "host.reattached": ("✓", "ok", "an instance came back to", _process),
    "host.detached": ("○", "off", "an instance left", _cause),
    "host.ended": ("✕", "failed", "declared the end of an instance of", _cause),
    "host.unreachable": ("◔", "waits", "an instance fell silent in", _cause),
    "host.manifest": ("✎", "off", "a new catalogue came from", _cause),
    "host.forgotten": ("⌫", "off", "forgot", _cause),
    "host.reloaded": ("✓", "ok", "reloaded", _changes),
    "host.reload_refused": ("✕", "failed", "tried to reload", _refusal),
    "job.refused": ("✕", "failed", "job refused:", _cause),
    "kernel.started": ("●", "ok", "a kernel started", _version),
    "kernel.leading": ("●", "ok", "a kernel took the lead", _version),
    "pause.set": ("‖", "paused", "paused", _quoted),
    "pause.cleared": ("▷", "ok", "resumed", _cause),
}
"""Of events that need no sentence of their own: sign, colour, words, and what makes the detail."""


def deed_of(event: EventView) -> Deed:
    """Return an event as a line of the page; for a kind that this version does not know, its name."""
    if (made := _DEEDS.get(event.kind)) is not None:
        return made(event)
    unknown = ("·", "off", event.kind.replace(".", " ").replace("_", " "), _cause)
    sign, css, what, detail = _PLAIN.get(event.kind, unknown)
    return Deed(sign=_sign(sign, css), what=what.replace("{try}", _try(event)), detail=detail(event))


def shown_kinds(chosen: Sequence[str]) -> list[str]:
    """Return the kinds of events that the page lists: progress only if it is chosen.

    :param chosen: the kinds in the page's address; none for every kind
    """
    found: list[str] = []
    for kind in chosen or [kind for kind, _ in KINDS if kind != "attempt.progress"]:
        found += _OF_TRIES if kind == "attempt" else (kind,)
    return found


def of_days(events: Iterable[EventView], zone: tzinfo) -> list[tuple[datetime, list[EventView]]]:
    """Return events by the day on the clock of a zone, each day with the time of its first one."""
    dated = [(event.at.astimezone(zone), event) for event in events if event.at is not None]
    days = [list(group) for _, group in groupby(dated, key=lambda pair: pair[0].date())]
    return [(day[0][0], [event for _, event in day]) for day in days]


def person(by: str) -> Markup:
    """Return who did something: the person, and after it the principal in whose name the call came.

    :param by: ``ann``, or ``owner (for ann)``
    """
    principal, _, rest = by.partition(" (for ")
    if not rest:
        return Markup("<b>{}</b>").format(by)
    return Markup('<b>{}</b> <span class="quiet">({})</span>').format(rest.removesuffix(")"), principal)
