"""Execution of orders in the host's main process: workers, their logs, their limits, and the stop ladder."""
