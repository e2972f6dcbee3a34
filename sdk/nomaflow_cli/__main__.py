"""``python -m nomaflow_cli`` is the ``nomaflow`` command."""

from __future__ import annotations

import sys

from nomaflow_cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
