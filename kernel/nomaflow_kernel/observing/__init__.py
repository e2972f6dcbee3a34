"""Observation of a kernel at work: its state on request, metrics and traces. Read-only."""
