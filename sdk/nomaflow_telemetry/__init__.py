"""What the processes tell of themselves: logs, dumps, metrics, traces, readiness. A leaf: imports nothing of ours."""
