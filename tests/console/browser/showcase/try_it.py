"""Runs the showcase and prints a link with a login; Ctrl-C or SIGTERM ends it."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from threading import Event

_TESTS = Path(__file__).parents[3]
sys.path[:0] = [str(_TESTS), str(_TESTS / "console"), str(_TESTS / "console" / "browser")]

from showcase.stage import running_showcase  # noqa: E402  # found by the line above


def main() -> None:
    """Run until Ctrl-C or SIGTERM, or until the terminal is closed."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory(prefix="nf-") as folder, running_showcase(Path(folder)) as made:
        cookie = made.cookie()
        print(made.link())
        print(f"{cookie['name']}={cookie['value']}  {made.base}", flush=True)
        try:
            Event().wait()
        except KeyboardInterrupt:
            print("ending")


if __name__ == "__main__":
    main()
