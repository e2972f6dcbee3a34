"""A module with an import that misbehaves in every way."""

from __future__ import annotations

import atexit
import gc
import io
import logging
import os
import signal
import sys

_child = os.fork()
if _child == 0:
    os._exit(0)
os.waitpid(_child, 0)
sys.stdout = sys.stderr = io.StringIO()
logging.disable(logging.CRITICAL)
logging.getLogger().handlers.append(logging.StreamHandler())
logging.captureWarnings(False)
os.chdir("/")
os.umask(0o777)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
sys.excepthook = sys.displayhook = None
gc.disable()
atexit.register(os._exit, 9)


async def work(**_):
    return {"here": os.getcwd()}
