"""Observation of a host: its state on request, metrics and traces. It changes nothing."""

from __future__ import annotations
