"""A console whose streams have a heartbeat twice a second, so that its pages lose their patience soon."""

from __future__ import annotations

import sys

from nomaflow_console.__main__ import main
from nomaflow_console.live import stream

if __name__ == "__main__":
    stream._HEARTBEAT_SECONDS = 0.5
    sys.exit(main())
