"""A console that waits a minute for its kernel: on a busy machine, one that writes a million lines may be slow."""

from __future__ import annotations

import sys

from nomaflow_console import answering
from nomaflow_console.__main__ import main
from nomaflow_console.kernel import calls

if __name__ == "__main__":
    calls.PAGE_SECONDS = answering._READ_SECONDS = 60.0
    sys.exit(main())
