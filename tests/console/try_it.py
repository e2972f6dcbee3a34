"""Runs a kernel, a host and a console on a copy of the demo's project, and prints a link with a login.

By hand, from the top of the repository: ``python tests/console/try_it.py [PROJECT]``; Ctrl-C or SIGTERM ends it. The
second line that it prints is a session's cookie, for curl: ``curl -b 'COOKIE' URL``.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from threading import Event

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS / "console")]

from console_system import DEMO, running_console  # noqa: E402  # found by the line above


def main() -> None:
    """Run until Ctrl-C or SIGTERM, or until the terminal is closed."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    project = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    with tempfile.TemporaryDirectory(prefix="nf-") as folder, running_console(Path(folder), project=project) as made:
        cookie = made.cookie()
        print(made.link())
        print(f"{cookie['name']}={cookie['value']}  {made.base}", flush=True)
        try:
            Event().wait()
        except KeyboardInterrupt:
            print("ending")


if __name__ == "__main__":
    main()
