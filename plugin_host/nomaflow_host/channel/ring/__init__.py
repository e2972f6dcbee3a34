"""The shared memory between a worker and its host: log lines that outlive the worker, and the cancel bytes."""
