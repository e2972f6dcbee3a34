"""The ``nomaflow`` command as ``python -m nomaflow_cli``."""

from __future__ import annotations

import sys

from nomaflow_cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
