"""A worker: the process that runs callables. Forked from a template, or started as ``-m nomaflow_host.worker``."""

from __future__ import annotations

from nomaflow_host.worker.capture import install_log_capture
from nomaflow_host.worker.process import WorkerChannels, run_worker
from nomaflow_host.worker.tracking import install_tracking
from nomaflow_host.worker.unawaited import install_unawaited_capture

__all__ = ["WorkerChannels", "install_log_capture", "install_tracking", "install_unawaited_capture", "run_worker"]
