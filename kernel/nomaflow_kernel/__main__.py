"""``python -m nomaflow_kernel``: run a kernel."""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__":
    # Read when gRPC is loaded: its C core would write lines of its own between ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Whoever asks for a reload or a dump while it starts does not end it. No SIG_IGN: that, children would inherit.
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    try:
        from nomaflow_kernel.app import main
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("nomaflow"):
            raise
        sys.stderr.write(f"nomaflow kernel: {error.name!r} is not installed; pip install 'nomaflow[kernel]'\n")
        sys.exit(78)

    sys.exit(main())
