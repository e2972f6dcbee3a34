"""The shared memory between a worker and its host: log lines that outlive the worker, and the cancel bytes."""

from __future__ import annotations

from nomaflow_host.channel.ring.page import DATA_BYTES, MAX_SLOTS, RingPage, create_ring_memory
from nomaflow_host.channel.ring.reader import RingReader
from nomaflow_host.channel.ring.writer import RingWriter

__all__ = ["DATA_BYTES", "MAX_SLOTS", "RingPage", "RingReader", "RingWriter", "create_ring_memory"]
