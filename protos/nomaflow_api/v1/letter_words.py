"""The words of the letters about attempts: states, kinds and actions."""

from __future__ import annotations

import enum


class Isolation(enum.StrEnum):
    """The kind of worker that an attempt gets."""

    BY_KIND = "by_kind"
    """Shared for async callables, exclusive for sync ones."""
    SHARED = "shared"
    EXCLUSIVE = "exclusive"


class TimeoutKind(enum.StrEnum):
    """The time limit that an attempt's deadline belongs to."""

    NONE = "none"
    STEP = "step"
    """The step's timeout_seconds; retried like any failure."""
    JOB = "job"
    """The job's timeout_seconds; not retried."""


class LogCodec(enum.IntEnum):
    """The packing of a chunk's body."""

    JSONL = 1
    """Lines as ``nomaflow_api.v1.log_lines`` writes them, each ended by a line feed."""
    JSONL_ZLIB = 2
    """The same, compressed in zlib's format."""


class FinishedState(enum.StrEnum):
    """The end of an attempt, as far as its host can know it."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


class AckStatus(enum.StrEnum):
    """The result of taking in reported events."""

    OK = "ok"
    """Committed up to the acknowledged number; known events were passed over."""
    GAP = "gap"
    """Events are missing; send from the acknowledged number + 1."""
    FENCED = "fenced"
    """The attempt is no longer this instance's, or has ended otherwise; forget it."""
    CONFLICT = "conflict"
    """Another outcome is recorded; the first stays, forget it."""
    INVALID = "invalid"
    """The events break the contract; the detail explains how."""


class VerdictAction(enum.StrEnum):
    """The action that an instance takes on an attempt of its inventory."""

    KEEP = "keep"
    """Go on, and resume reports after the acknowledged number."""
    CANCEL = "cancel"
    """Go on reporting, and stop the code."""
    FORGET = "forget"
    """The kernel wants no more reports of it."""
    KILL = "kill"
    """It no longer belongs to this host; stop the code at once. Its last events may still be reported."""
