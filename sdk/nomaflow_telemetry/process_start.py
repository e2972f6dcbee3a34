"""The beginning of a process of the platform, before the most of it is imported."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nomaflow_api.private_memory import keep_memory_private
from nomaflow_telemetry.process_log import write_error


def begin_process() -> None:
    """Keep other processes from this one's memory, and signals and gRPC from disturbing its start."""
    keep_memory_private()
    # A request for a reload or a dump must not end it. Not SIG_IGN: child processes would inherit it.
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    # Read when gRPC is loaded: otherwise its core writes lines of its own among ours whenever a peer goes away.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


@contextmanager
def parts_installed(name: str) -> Iterator[None]:
    """End the process with the way out where something that it imports below this is not installed.

    :param name: that of its command, and of the extra that brings all it needs
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("nomaflow"):
            raise
        write_error(f"nomaflow {name}: {error.name!r} is not installed; pip install 'nomaflow[{name}]'")
        sys.exit(os.EX_CONFIG)
