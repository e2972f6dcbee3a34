"""Observation of a host: its state on request, metrics and traces. It changes nothing."""
