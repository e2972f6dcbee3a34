"""Runs the showcase and prints a link with a login; Ctrl-C or SIGTERM ends it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

_TESTS = Path(__file__).parents[3]
sys.path[:0] = [str(_TESTS), str(_TESTS / "console"), str(_TESTS / "console" / "browser")]

from console_system import run_until_ended  # noqa: E402  # found by the line above

from showcase.stage import running_showcase  # noqa: E402  # found by the line above

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="nf-") as folder:
        run_until_ended(running_showcase(Path(folder)))
