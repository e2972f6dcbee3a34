"""What one report carries, and what the kernel can say about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["MAX_BATCH_BYTES", "MAX_EVENT_BYTES", "AckKind", "Batch", "BatchGroup", "HeldState"]

MAX_BATCH_BYTES = 1 << 20
MAX_EVENT_BYTES = (2 << 20) - (16 << 10)


class AckKind(enum.Enum):
    """What the kernel says became of an attempt's events."""

    OK = "ok"
    GAP = "gap"
    FENCED = "fenced"
    CONFLICT = "conflict"
    INVALID = "invalid"


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldState:
    """One line of the inventory.

    :param state: ``DISPATCHED`` (accepted, not started), ``RUNNING``, or the outcome still to be acknowledged
    """

    attempt_key: str
    state: str
    last_seq: int
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchGroup:
    """Consecutive encoded events of one attempt.

    :param unknown: True answers a question for a key that was never accepted; there are no events then
    """

    attempt_key: str
    first_seq: int
    events: tuple[bytes, ...] = ()
    unknown: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What one report carries.

    :param size: its encoded bytes, counted generously
    """

    groups: tuple[BatchGroup, ...]
    size: int
