"""Kinds of events: every one that a history may hold. ``docs/events.md`` is their table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from msgspec import Struct


class EventInfo(Struct, frozen=True):
    """The occasion for an event of a kind, and the keys of its ``data``."""

    when: str
    data: Mapping[str, str]


_TRIGGER = {
    "trigger": "what fired the run: cron, manual, api, cli, call_job, replay",
    "by": "who fired it",
}
_OUTCOME = {"rows_affected": "rows, or null", "error": "the error's text, or empty"}

_RUN_FACTS = {
    "host": "the host that the job belongs to",
    "preset": "the preset it was started with, or empty",
    "slot_us": "when its schedule wanted it to start, microseconds since the epoch, or null",
    "started_us": "when it became RUNNING, or null",
    "attempts": "tries of all its steps together",
    "failed_step": "the step that failed it, or empty",
}

CORE_EVENTS: Mapping[str, EventInfo] = {
    "run.queued": EventInfo("A trigger was accepted.", _TRIGGER),
    "run.started": EventInfo("The run's first step is about to be dispatched.", {}),
    "run.cancel_requested": EventInfo(
        "Somebody asked for a cancel; the run is not terminal yet. The reason says why.",
        {"by": "who asked", "why": "in their words, or empty"},
    ),
    "run.finished": EventInfo(
        "The run reached a terminal state, or was recorded as SKIPPED or MISSED.",
        {**_OUTCOME, **_RUN_FACTS, **{key: text + " (SKIPPED and MISSED only)" for key, text in _TRIGGER.items()}},
    ),
    "attempt.pending": EventInfo(
        "A try is due but waits: for a slot, for its back-off, or because its host refused it. The reason says which.",
        {"not_before_us": "when it may be dispatched, microseconds since the epoch, or null"},
    ),
    "attempt.dispatched": EventInfo(
        "The try was assigned to an instance of its host, and is about to be sent.",
        {"incarnation": "the instance"},
    ),
    "attempt.started": EventInfo(
        "The host called the callable, or a call_job step started its run.",
        {
            "worker_pid": "process id of the worker, 0 for call_job",
            "generation": "number of the code generation, 0 for call_job",
            "child_run_id": "the run that a call_job step started, else empty",
        },
    ),
    "attempt.progress": EventInfo(
        "The callable reported its progress.", {"progress": "what it reported: done, total, message"}
    ),
    "attempt.stopping": EventInfo(
        "The host took a rung of the ladder that stops the try: after a cancel, a timeout, or when it left work.",
        {
            "rung": "1 asked, 2 SIGTERM to children, 3 SIGTERM to worker, 4 SIGKILL; the first ones may be left out",
            "what": "what the host has done",
            "why": "why; for a later rung, why the one before was not enough",
            "at_us": "when, microseconds since the epoch, by the host's clock",
            "after_seconds": "seconds since the first rung",
            "next_at_us": "when the next rung follows if the code has not stopped by then, or null on the last",
        },
    ),
    "attempt.finished": EventInfo("The try reached a terminal state. Further keys describe its process.", _OUTCOME),
    "pause.set": EventInfo(
        "A job, a host or everything was paused; `job_id` or `host` says which.",
        {
            "scope": "job, host or all",
            "why": "in their words, or empty",
            "until_us": "when it ends by itself, microseconds since the epoch, or null",
        },
    ),
    "pause.cleared": EventInfo(
        "A pause ended: on request, or by itself (then `by` is empty).", {"scope": "job, host or all"}
    ),
}
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
