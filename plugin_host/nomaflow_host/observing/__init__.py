"""Observation of a host: its state on request, metrics and traces. It changes nothing."""

from __future__ import annotations

from nomaflow_host.observing.metrics import HOST_METRICS
from nomaflow_host.observing.observation import HostObservation
from nomaflow_host.observing.state_dump import HostView

__all__ = ["HOST_METRICS", "HostObservation", "HostView"]
