"""Kinds of events: every one that a history may hold. ``docs/events.md`` says when each comes, and what it holds."""

from __future__ import annotations

from typing import Literal, get_args

CORE_EVENTS = (
    "run.queued",
    "run.started",
    "run.cancel_requested",
    "run.finished",
    "attempt.pending",
    "attempt.dispatched",
    "attempt.started",
    "attempt.progress",
    "attempt.stopping",
    "attempt.finished",
    "pause.set",
    "pause.cleared",
)
"""The kinds of the events that the store makes of transitions."""

NoticeKind = Literal[
    "attempt.late_result",
    "host.attached",
    "host.detached",
    "host.ended",
    "host.forgotten",
    "host.manifest",
    "host.reattached",
    "host.reload_refused",
    "host.reloaded",
    "host.unreachable",
    "job.changed",
    "job.refused",
    "kernel.leading",
    "kernel.started",
]
"""The kinds of the events that change no run."""

EVENT_KINDS = (*CORE_EVENTS, *get_args(NoticeKind))
"""Every kind."""
