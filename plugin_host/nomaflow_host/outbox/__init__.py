"""Events of attempts on their way to the kernel: kept until it has acknowledged them."""

from __future__ import annotations

from nomaflow_host.outbox.outbox import MAX_EVENT_BYTES, Outbox
from nomaflow_host.outbox.spill import SpillStore
from nomaflow_host.outbox.turns import MAX_BATCH_ATTEMPTS, MAX_BATCH_BYTES

__all__ = ["MAX_BATCH_ATTEMPTS", "MAX_BATCH_BYTES", "MAX_EVENT_BYTES", "Outbox", "SpillStore"]
