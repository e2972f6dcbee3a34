"""Protects a process from changes that the import of a plugin makes to it."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = ("stdout", "stderr", "excepthook", "displayhook")


@contextlib.contextmanager
def restored_process() -> Iterator[None]:
    """Restore afterwards what decides how steps run: signals, directory, umask, collector, streams and hooks.

    An ignored SIGCHLD, for one, would hide the ends of all children. A process that an import forked and that returns
    here is ended, since only the original may continue.
    """
    process, directory, collecting = os.getpid(), _directory(), gc.isenabled()
    mask = os.umask(0o077)
    os.umask(mask)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    names = {name: getattr(sys, name) for name in _NAMES}
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(0)
        os.umask(mask)
        if directory:
            with contextlib.suppress(OSError):
                os.chdir(directory)
        (gc.enable if collecting else gc.disable)()
        for name, value in names.items():
            setattr(sys, name, value)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:  # None: set in C, not by an import
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(number, handler)


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""
