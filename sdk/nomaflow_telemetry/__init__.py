"""What the processes tell of themselves: logs, state dumps, metrics, traces, readiness. A leaf: imports nothing of ours."""
