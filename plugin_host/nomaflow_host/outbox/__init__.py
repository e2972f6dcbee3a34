"""Events of attempts on their way to the kernel: kept until it has acknowledged them."""

from __future__ import annotations

from nomaflow_host.outbox.batch import (
    MAX_BATCH_ATTEMPTS,
    MAX_BATCH_BYTES,
    MAX_EVENT_BYTES,
    AckKind,
    Batch,
    BatchGroup,
    HeldState,
)
from nomaflow_host.outbox.lane import Holding
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.outbox.spill import SpillStore

__all__ = [
    "MAX_BATCH_ATTEMPTS",
    "MAX_BATCH_BYTES",
    "MAX_EVENT_BYTES",
    "AckKind",
    "Batch",
    "BatchGroup",
    "HeldState",
    "Holding",
    "Outbox",
    "SpillStore",
]
