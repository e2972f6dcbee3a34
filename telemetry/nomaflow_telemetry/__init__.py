"""What the product tells of itself: logs, state dumps, metrics and traces. A leaf: it imports nothing of ours."""
