"""Entry point of the command: quick answers first, everything else in the application."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    :param arguments: without the program's name; None means this process's own
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments is None and any(word.startswith("--store") for word in given):
            from nomaflow_project.reading.store_password import hide_store_password

            hide_store_password("nomaflow")
        if given in (["version"], ["--version"]):
            from nomaflow_api.version import VERSION

            try:
                os.write(1, f"nomaflow {VERSION}\n".encode())
                return 0
            except OSError:  # the application says why
                given = ["version"]
        from nomaflow_cli.application import run

        return run(given)
    except KeyboardInterrupt:  # while the modules were loading
        return 130
