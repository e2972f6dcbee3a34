"""Observation of a kernel at work: its state on request, metrics and traces. Read-only."""

from __future__ import annotations

from nomaflow_kernel.observing.metrics import KERNEL_METRICS
from nomaflow_kernel.observing.observation import Observation
from nomaflow_kernel.observing.state_dump import CommitLog, kernel_state

__all__ = ["KERNEL_METRICS", "CommitLog", "Observation", "kernel_state"]
