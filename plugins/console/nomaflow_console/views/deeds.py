"""Events as sentences: who did what to which run, job or host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from nomaflow.client.values import EventView
from nomaflow_console.views.sentences import counted, line
from nomaflow_console.views.states import StateSign, sign_of

__all__ = ["KINDS", "Deed", "deed_of", "words"]

KINDS = (
    ("run", "runs"),
    ("attempt", "tries"),
    ("job", "jobs"),
    ("host", "hosts"),
    ("pause", "pauses"),
    ("kernel", "kernel"),
)
"""The kinds of events that the page offers as filters, and their words."""
_MOST_NAMES = 5
_CHANGES = (("added_job_ids", "new"), ("removed_job_ids", "gone"), ("stopped_schedules", "fire no more"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Deed:
    """An event as a line of the page.

    :param what: the verb and what follows before the object's name: ``cancelled``
    :param detail: what else there is to say; may be empty
    """

    sign: StateSign
    what: str
    detail: str = ""


def _sign(sign: str, css: str) -> StateSign:
    return StateSign(sign=sign, word="", css=css)


def names(found: Any) -> str:
    """Return at most five names, and how many more there are."""
    listed = [str(name) for name in found or ()]
    more = f" and {len(listed) - _MOST_NAMES} more" if len(listed) > _MOST_NAMES else ""
    return ", ".join(listed[:_MOST_NAMES]) + more


def _reason(event: EventView) -> str:
    return line(event.reason.message or event.reason.code.replace("_", " ")) if event.reason is not None else ""


def _queued(event: EventView) -> Deed:
    kind = str(event.data.get("trigger", ""))
    verb = {"replay": "replayed", "cron": "fired", "call_job": "called"}.get(kind, "started")
    return Deed(sign=_sign("▷", "running"), what=verb, detail="" if kind in ("manual", "") else f"by {kind}")


def _cancel(event: EventView) -> Deed:
    why = line(str(event.data.get("why", "")))
    return Deed(sign=_sign("⊘", "canceled"), what="asked to cancel", detail=f"“{why}”" if why else "")


def _finished(event: EventView) -> Deed:
    sign = sign_of(event.run_state)
    rows = event.data.get("rows_affected")
    said = line(str(event.data.get("error") or "")) or _reason(event)
    return Deed(sign=sign, what=f"ended {sign.word}:", detail=said or (f"{rows:,} rows" if rows else ""))


def _attempt_finished(event: EventView) -> Deed:
    sign = sign_of(event.attempt_state)
    return Deed(sign=sign, what=f"{_try(event)} {sign.word} in", detail=line(str(event.data.get("error") or "")))


def _try(event: EventView) -> str:
    return f"{event.step}, try {event.attempt}," if event.step else "a try"


def _reloaded(event: EventView) -> Deed:
    data = event.data
    parts = [f"generation {data.get('generation', '?')}", counted(int(data.get("jobs", 0)), "job")]
    parts += [f"{word}: {names(data[key])}" for key, word in _CHANGES if data.get(key)]
    return Deed(sign=_sign("✓", "ok"), what="reloaded", detail=" · ".join(parts))


def _refused(event: EventView) -> Deed:
    problems = event.data.get("problems") or ()
    first = f": {line(str(problems[0].get('message', '')))}" if problems else ""
    message = line(str(event.data.get("message", "")))
    return Deed(sign=_sign("✕", "failed"), what="tried to reload", detail=message + first)


def _paused(event: EventView) -> Deed:
    why = line(str(event.data.get("why", "")))
    return Deed(sign=_sign("‖", "paused"), what="paused", detail=f"“{why}”" if why else "")


def _changed(event: EventView) -> Deed:
    return Deed(sign=_sign("✎", "off"), what=f"job {event.data.get('change', 'changed')}:")


def _late(event: EventView) -> Deed:
    state = str(event.data.get("state", ""))
    return Deed(sign=_sign("◷", "warning"), what=f"a result came late ({state.lower()}); the state stays:")


_DEEDS: Mapping[str, Callable[[EventView], Deed]] = {
    "run.queued": _queued,
    "run.cancel_requested": _cancel,
    "run.finished": _finished,
    "attempt.finished": _attempt_finished,
    "attempt.late_result": _late,
    "host.reloaded": _reloaded,
    "host.reload_refused": _refused,
    "pause.set": _paused,
    "job.changed": _changed,
}
_PLAIN: Mapping[str, tuple[str, str, str]] = {
    "run.started": ("▶", "running", "began"),
    "attempt.pending": ("◔", "waits", "{try} waits in"),
    "attempt.dispatched": ("▷", "running", "{try} was sent to its host, in"),
    "attempt.started": ("▶", "running", "{try} began in"),
    "attempt.progress": ("▶", "running", "{try} went on in"),
    "attempt.stopping": ("◑", "stopping", "{try} is being stopped in"),
    "host.attached": ("✓", "ok", "an instance attached to"),
    "host.reattached": ("✓", "ok", "an instance came back to"),
    "host.detached": ("○", "off", "an instance left"),
    "host.unreachable": ("◔", "waits", "an instance fell silent in"),
    "host.manifest": ("✎", "off", "a new catalogue came from"),
    "host.forgotten": ("⌫", "off", "forgot"),
    "job.refused": ("✕", "failed", "job refused:"),
    "pause.cleared": ("▷", "ok", "resumed"),
    "kernel.started": ("●", "ok", "a kernel started"),
    "kernel.leading": ("●", "ok", "a kernel took the lead"),
}


def deed_of(event: EventView) -> Deed:
    """Return an event as a line of the page; for a kind that this version does not know, its name."""
    if (made := _DEEDS.get(event.kind)) is not None:
        return made(event)
    sign, css, what = _PLAIN.get(event.kind, ("·", "off", event.kind.replace(".", " ").replace("_", " ")))
    detail = _reason(event) or line(str(event.data.get("why", "") or event.data.get("what", "")))
    if event.kind.startswith("kernel."):
        detail = f"version {event.data.get('version', '?')}, epoch {event.data.get('epoch', '?')}"
    elif "machine" in event.data:
        detail = f"{event.data['machine']}, pid {event.data.get('pid', '?')}"
    elif "progress" in event.data:
        told = event.data["progress"] or {}
        detail = line(str(told.get("message") or "")) or f"{told.get('done', '?')} of {told.get('total', '?')}"
    return Deed(sign=_sign(sign, css), what=what.replace("{try}", _try(event)), detail=detail)


def person(by: str) -> Markup:
    """Return who did something: the person, and after it the principal in whose name the call came.

    :param by: ``ann``, or ``owner (for ann)``
    """
    principal, _, rest = by.partition(" (for ")
    if not rest:
        return Markup("<b>{}</b>").format(by)
    return Markup('<b>{}</b> <span class="quiet">({})</span>').format(rest.removesuffix(")"), principal)


def words() -> dict[str, Any]:
    """Return what templates call."""
    return {"deed_of": deed_of, "person": person}
