"""``python -P -m nomaflow_host.worker``: a worker in a fresh interpreter, for code that cannot be forked."""

from __future__ import annotations

from nomaflow_api.import_freeze import imports_frozen

with imports_frozen():
    from nomaflow_host.compat import install_liberty_aliases
    from nomaflow_host.worker.capture import install_log_capture
    from nomaflow_host.worker.process import WorkerChannels, run_worker
    from nomaflow_host.worker.tracking import install_tracking
    from nomaflow_host.worker.unawaited import install_unawaited_capture

install_log_capture()
install_tracking()
install_unawaited_capture()
install_liberty_aliases()
run_worker(WorkerChannels.inherited(), generation=None)
