"""The contents of a report, and the kernel's possible answers to it."""

from __future__ import annotations

import enum

from nomaflow_api.value_class import value_class

__all__ = ["MAX_BATCH_ATTEMPTS", "MAX_BATCH_BYTES", "MAX_EVENT_BYTES", "AckKind", "Batch", "BatchGroup", "HeldState"]

MAX_BATCH_BYTES = 1 << 20
MAX_BATCH_ATTEMPTS = 64
"""More go into the next one, so that kernel, host and workers all have something to do at any time."""

MAX_EVENT_BYTES = (2 << 20) - (16 << 10)


class AckKind(enum.Enum):
    """The kernel's answer about an attempt's events."""

    OK = "ok"
    GAP = "gap"
    FENCED = "fenced"
    CONFLICT = "conflict"
    INVALID = "invalid"


@value_class
class HeldState:
    """One line of the inventory.

    :param state: ``DISPATCHED`` (accepted, not started), ``RUNNING``, or the outcome still to be acknowledged
    """

    attempt_key: str
    state: str
    last_seq: int
    epoch: int


@value_class
class BatchGroup:
    """Consecutive encoded events of one attempt.

    :param unknown: True if the group answers a question about a key that was never accepted; it has no events
    """

    attempt_key: str
    first_seq: int
    events: tuple[bytes, ...] = ()
    unknown: bool = False


@value_class
class Batch:
    """The contents of one report.

    :param size: its encoded bytes, rounded up
    """

    groups: tuple[BatchGroup, ...]
    size: int
