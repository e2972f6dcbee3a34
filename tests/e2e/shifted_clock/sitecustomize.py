"""Sets the wall clock of a Python process to another time: ``CLOCK_SHIFT_FILE`` has the seconds, read at each look.

Only ``time.time_ns`` is another one, which is what kernel, host and workers go by. gRPC works out its deadlines from
``time.time`` and compares them with a clock that Python code cannot set; both go on together, as on a real machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def _shift_clock(file: Path, real_ns: Callable[[], int]) -> None:
    time.time_ns = lambda: real_ns() + int(float(file.read_text() or 0) * 1e9)


if "CLOCK_SHIFT_FILE" in os.environ:
    _shift_clock(Path(os.environ["CLOCK_SHIFT_FILE"]), time.time_ns)
