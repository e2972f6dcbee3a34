"""Telemetry of the processes: logs, dumps, metrics, traces, readiness. A leaf: it imports none of our packages."""
