"""``python -P -m nomaflow_host.template``: descriptors 3 and 4 are the host's main process and its reaper."""

from __future__ import annotations

import sys

from nomaflow_api.import_freeze import imports_frozen

with imports_frozen():
    from nomaflow_host.template.process import main

sys.exit(main())
