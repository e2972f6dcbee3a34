"""``python -P -m nomaflow_host.secrets FD``: FD is the connection to the host's main process."""

from __future__ import annotations

import sys

from nomaflow_api.import_freeze import imports_frozen

with imports_frozen():
    from nomaflow_host.secrets.process import main

sys.exit(main(int(sys.argv[1])))
