"""``python -P -m nomaflow_host.worker``: a worker in a fresh interpreter, for code that cannot be forked."""

from __future__ import annotations

from nomaflow_api.import_freeze import imports_frozen

with imports_frozen():
    from nomaflow_host.worker.process import WorkerChannels, prepare_for_plugins, run_worker

prepare_for_plugins()
run_worker(WorkerChannels.inherited(), generation=None)
