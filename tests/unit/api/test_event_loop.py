"""The event loop of kernel and host."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import uvloop

from nomaflow_api import event_loop

WITHOUT = """
import asyncio, sys
sys.modules["uvloop"] = None
from nomaflow_api import event_loop

async def kind():
    return type(asyncio.get_running_loop()).__module__

print(event_loop.run(kind()))
"""


def test_uvloop_runs_where_it_is_installed() -> None:
    """The coroutine's value comes back, and no policy is left behind for those who ask for a loop later."""

    async def running() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    found = event_loop.run(running())
    assert isinstance(found, uvloop.Loop)
    assert found.is_closed()
    assert isinstance(asyncio.get_event_loop_policy(), asyncio.DefaultEventLoopPolicy)


def test_asyncio_runs_where_uvloop_is_not_installed() -> None:
    """The extra is optional."""
    told = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("asyncio.")
