"""Runs a kernel, a host and a console on a copy of the demo's project, and prints a link with a login.

By hand, from the top of the repository: ``python tests/console/try_it.py [PROJECT]``; Ctrl-C or SIGTERM ends it. The
second line that it prints is a session's cookie, for curl: ``curl -b 'COOKIE' URL``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS / "console")]

from console_system import DEMO, run_until_ended, running_console  # noqa: E402  # found by the line above

if __name__ == "__main__":
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    with tempfile.TemporaryDirectory(prefix="nf-") as folder:
        run_until_ended(running_console(Path(folder), project=given))
