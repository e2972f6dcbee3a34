"""``python -m nomaflow_kernel``: run a kernel."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Read when gRPC is loaded: its C core would write lines of its own between ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from nomaflow_kernel.app import main

    sys.exit(main())
