"""The sign, the word and the CSS class of each state. They always stand together: none of them carries it alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from markupsafe import Markup, escape

from nomaflow.client.values import AttemptView, RunView


@dataclass(frozen=True, kw_only=True, slots=True)
class StateSign:
    """The appearance of a state.

    :param css: the end of the class ``state-…``
    """

    sign: str
    word: str
    css: str


_WAITS = StateSign(sign="◔", word="waits", css="waits")
_RUNS = StateSign(sign="▶", word="running", css="running")
_SILENT = StateSign(sign="?", word="host silent", css="lost")
_STOPS = StateSign(sign="◑", word="stopping", css="stopping")

_SIGNS: Mapping[str, StateSign] = {
    "QUEUED": _WAITS,
    "PENDING": _WAITS,
    "DISPATCHED": _RUNS,
    "RUNNING": _RUNS,
    "SUCCEEDED": StateSign(sign="✓", word="ok", css="ok"),
    "FAILED": StateSign(sign="✕", word="failed", css="failed"),
    "CANCELED": StateSign(sign="⊘", word="canceled", css="canceled"),
    "SKIPPED": StateSign(sign="↷", word="skipped", css="skipped"),
    "MISSED": StateSign(sign="◌", word="missed", css="missed"),
    "LOST": StateSign(sign="?", word="lost: outcome not known", css="lost"),
}
_NOT_RUNNING = frozenset(
    {"waiting_for_retry", "waiting_for_host", "waiting_for_slot", "waiting_for_own_instance", "no_fitting_instance"}
)
"""Reasons of a RUNNING run whose step waits for its next try, or for a place to run."""
LOST = replace(_SIGNS["LOST"], word="lost")
"""For a place that says elsewhere that the outcome is not known, and has no room to say it twice."""
_LOST_CODES = frozenset({"host_lost", "outcome_lost"})
"""Reasons of a FAILED run of which nobody knows what its last step has done."""
NOT_REACHED = StateSign(sign="⤼", word="not reached", css="skipped")
_ENDED_BEFORE = ("earlier_step_failed", "run_canceled")
_UNKNOWN = StateSign(sign="·", word="", css="unknown")

RUN_STATES = ("RUNNING", "QUEUED", "FAILED", "CANCELED", "MISSED", "SKIPPED", "SUCCEEDED")
"""The states of a run in the order of a tally: what needs a look first."""


def sign_of(state: str) -> StateSign:
    """Return how a state looks; for one that this version does not know, its own name in lower case."""
    return _SIGNS.get(state) or replace(_UNKNOWN, word=state.lower())


def run_sign(run: RunView) -> StateSign:
    """Return how a run looks: *stopping* with the rung while it is cancelled, *missed ×3* for a row of three fires.

    A RUNNING run *waits* while no step of it runs, and its *host is silent* while nobody knows whether one does. A
    FAILED run is *lost* if nobody knows how its step ended.
    """
    if run.state == "RUNNING" and run.cancel is not None:
        return _stopping(max((_rung(each.last) for each in run.steps), default=0))
    code = run.reason.code if run.reason is not None else ""
    if run.state == "RUNNING" and code in _NOT_RUNNING:
        return _WAITS
    if run.state == "RUNNING" and code == "host_silent":
        return _SILENT
    if run.state == "FAILED" and code in _LOST_CODES:
        return LOST
    found, fold = sign_of(run.state), run.fold
    return replace(found, word=f"{found.word} ×{fold.count:,}") if fold is not None and fold.count > 1 else found


def attempt_sign(attempt: AttemptView) -> StateSign:
    """Return how an attempt looks: *stopping* with the rung while it is stopped, *not reached* where none began."""
    reason = attempt.reason
    if attempt.state == "SKIPPED" and reason is not None and reason.code in _ENDED_BEFORE:
        return NOT_REACHED
    stops = attempt.state == "RUNNING" and attempt.stop is not None
    return _stopping(_rung(attempt)) if stops else sign_of(attempt.state)


def _rung(attempt: AttemptView) -> int:
    stop = attempt.stop
    return stop.rungs[-1].rung if stop is not None and stop.rungs and stop.stopped_at is None else 0


def _stopping(rung: int) -> StateSign:
    return replace(_STOPS, word=f"stopping, stage {rung} of 4") if rung else _STOPS


def state_badge(of: RunView | AttemptView | StateSign) -> Markup:
    """Return the state of a run or an attempt, or a sign, as HTML: sign and word in its colour."""
    shown = run_sign(of) if isinstance(of, RunView) else attempt_sign(of) if isinstance(of, AttemptView) else of
    return _badge(shown)


@lru_cache(maxsize=256)
def _badge(shown: StateSign) -> Markup:
    sign = f'<span class="sign" aria-hidden="true">{escape(shown.sign)}</span>'
    return Markup(f'<span class="state state-{escape(shown.css)}">{sign} {escape(shown.word)}</span>')  # noqa: S704
