"""``python -P -m nomaflow_host.worker``: a worker in a fresh interpreter, for code that cannot be forked."""

from __future__ import annotations

from nomaflow_host.compat import install_liberty_aliases
from nomaflow_host.worker import (
    WorkerChannels,
    install_log_capture,
    install_tracking,
    install_unawaited_capture,
    run_worker,
)

install_log_capture()
install_tracking()
install_unawaited_capture()
install_liberty_aliases()
run_worker(WorkerChannels.inherited(), generation=None)
